"""How fast the hot path is on this machine: python tests/bench.py [--full]

Every comparison is a ratio from one run, and each figure is the median of several. Prints a table and writes runs/bench.json.
"""
import argparse
import platform
import statistics
import time
from pathlib import Path

import torch

from wearable_imagenet.data import generator, load_data, write_json
from wearable_imagenet.experts import draw_epoch, train_epoch
from wearable_imagenet.models import cross_entropy, init_theta, network
from wearable_imagenet.repeat import crop, draw_offsets
from wearable_imagenet.unroll import draw_steps, matching_loss, unroll

RUNS = Path(__file__).resolve().parents[1] / "runs"


def medians(repeats: int, **functions) -> dict[str, float]:
    """Median seconds of each function; the functions take turns, so that a slow spell of the machine hits all of them."""
    times = {name: [] for name in functions}
    for f in functions.values(): f()
    for _ in range(repeats):
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def crops(repeats: int) -> dict:
    """Ten canvases of 256 px at crop 128, forward and backward, against a loop of rolls."""
    canvases = torch.randn(10, 3, 256, 256, requires_grad=True)
    offsets = draw_offsets(10, (256, 256), generator(0, "bench"))
    def gather(): torch.autograd.grad(crop(canvases, offsets, (128, 128)).sum(), canvases)
    def rolls(): torch.autograd.grad(torch.stack([c.roll((-int(y), -int(x)), (1, 2))[:, :128, :128] for c, (y, x) in zip(canvases, offsets)]).sum(), canvases)
    t = medians(repeats, gather=gather, rolls=rolls)
    return {"crops of 10 canvases of 256 px, gather, ms": 1e3 * t["gather"], "the same by a loop of rolls, ratio": t["rolls"] / t["gather"]}


def experts(repeats: int, width: int) -> dict:
    """Images a second of expert training, and what 𝒜 and the flat vector cost beside a plain module."""
    data = load_data("materials", 32)
    x, y = data.normalise(data.train.x)[:256], torch.from_numpy(data.train.y[:256].copy())
    net = network("convnet", 3, 10, 32, width, 3)
    theta, plan, module = init_theta(net, generator(0, "bench")), draw_epoch(256, (32, 32), 32, generator(0, "bench")), net.make()
    sgd = torch.optim.SGD(module.parameters(), lr=0.01)
    def plain():
        for which, _ in plan:
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(module(x[which]), y[which]).backward()
            sgd.step()
    t = medians(repeats, ours=lambda: train_epoch(net, theta, x, y, plan, 0.01), plain=plain)
    return {f"experts, width {width}, images a second": 256 / t["ours"], "a plain module without 𝒜, ratio": t["ours"] / t["plain"]}


def distillation(repeats: int, width: int) -> dict:
    """One distillation step: crops, 𝒜, N = 20, gradient; in units of twenty plain training steps."""
    net, y, rng = network("convnet", 3, 10, 32, width, 3), torch.arange(10), generator(0, "bench")
    theta, target, canvases = init_theta(net, rng), init_theta(net, rng), torch.randn(10, 3, 64, 64, generator=rng, requires_grad=True)
    steps, x = draw_steps(20, 10, (64, 64), 32, rng), torch.randn(10, 3, 32, 32)
    def gradient(method): return torch.autograd.grad(matching_loss(unroll(net, theta, canvases, y, torch.tensor(0.01), steps, 32, method=method), theta, target), canvases)[0]
    def plain():
        p = theta.clone().requires_grad_()
        for _ in range(20): torch.autograd.grad(cross_entropy(net, p, x, y), p)
    t = medians(repeats, store=lambda: gradient("store"), rebuild=lambda: gradient("rebuild"), plain=plain)
    stored, rebuilt = gradient("store"), gradient("rebuild")
    return {f"distillation step, width {width}, N = 20, store, seconds": t["store"], "in units of 20 plain gradients": t["store"] / t["plain"],
            "the same by rebuild, ratio of times": t["rebuild"] / t["store"], "their relative difference, float32": ((stored - rebuilt).norm() / stored.norm()).item()}


def main() -> None:
    """Run all, print a table, write runs/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="width 128 and more repeats")
    full = parser.parse_args().full
    repeats, width = (15, 128) if full else (5, 48)
    figures = crops(4 * repeats) | experts(repeats, width) | distillation(repeats, width)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    for name, value in figures.items(): print(f"{name:60} {value:12.3g}")
    write_json(RUNS / "bench.json", dict(figures=figures, threads=torch.get_num_threads(), torch=torch.__version__, full=full))


if __name__ == "__main__":
    main()
