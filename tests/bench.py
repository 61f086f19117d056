"""How fast and how large the hot path is on this machine: python tests/bench.py [--quick]

Every comparison is a ratio from one run in which the candidates take turns; each figure is a median. Memory is that of a fresh process per figure.
Prints a table and writes runs/bench.json, from which notebook 05 draws its own (copy it to nbs/bench.json). --quick is for tests: small sizes, seconds.
"""
import argparse
import ctypes
import dataclasses
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")   # as the command sets it, see notebook 10
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from wearable_imagenet.augment import augment
from wearable_imagenet.data import generator, load_data, write_json
from wearable_imagenet.distill import Distiller, distillation_loss, distillation_step, make_settings
from wearable_imagenet.experts import TrajectoryBuffer, draw_epoch, epoch_file, latest_file, save_tensors, train_epoch
from wearable_imagenet.models import compiled, cross_entropy, find_device, gradient, init_theta, network, use_precision
from wearable_imagenet.repeat import crop, draw_offsets
from wearable_imagenet.unroll import draw_steps, matching_loss, unroll

RUNS = Path(__file__).resolve().parents[1] / "runs"
MIB = 2**20


def medians(repeats: int, **functions) -> dict[str, float]:
    """Median seconds of each function; the functions take turns, so that a slow spell of the machine hits all of them."""
    times = {name: [] for name in functions}
    for f in functions.values(): f()
    for _ in range(repeats):
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            if torch.cuda.is_available(): torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def row(figure: str, value: float, unit: str = "", bar: str = "") -> dict:
    """One line of the table."""
    return dict(figure=figure, value=value, unit=unit, bar=bar)


def relative(a, b) -> float:
    """The largest relative difference, in norm, of tensors that should be equal: canvases and step size."""
    return max(((s.double() - t.double()).norm() / t.double().norm()).item() for s, t in zip(a, b))


class Case:
    """One distillation step's gradient at a given size, with random vectors for an expert."""
    def __init__(self, width=128, depth=3, crop_size=32, canvas=96, n=20, dtype=torch.float32):
        self.net, self.crop_size, self.canvas, self.n = network("convnet", 3, 10, crop_size, width, depth), crop_size, canvas, n
        rng, self.device = generator(0, "bench"), find_device()
        def here(t): return t.to(self.device, dtype)
        self.start = here(init_theta(self.net, rng))
        self.target = self.start + here(0.01 * torch.randn(len(self.net), generator=rng))
        self.canvases, self.lr = here(torch.randn(10, 3, canvas, canvas, generator=rng)).requires_grad_(), here(torch.tensor(0.01)).requires_grad_()
        self.y = torch.arange(10, device=self.device)

    def plan(self, seed=0): return draw_steps(self.n, 10, (self.canvas, self.canvas), self.crop_size, generator(seed, "plan"))

    def gradient(self, method, seed=0, compile=False, steps=None):
        self.net.compile, steps = compile, steps or self.plan(seed)
        end = unroll(self.net, self.start, self.canvases, self.y, self.lr, steps, self.crop_size, method=method)
        return torch.autograd.grad(matching_loss(end, self.start, self.target), [self.canvases, self.lr])


def exactness(width: int, many: int) -> list[dict]:
    """Rebuild against store."""
    double, single = Case(width=min(width, 32), dtype=torch.float64), Case(width=width)
    book = double.gradient("store")
    rows = [row("relative difference of gradients, rebuild against store, float64, N = 20", relative(double.gradient("rebuild"), book), bar="≤ 1e-10"),
            row("the same, 7 steps stored and 13 rebuilt", relative(double.gradient(7), book), bar="≤ 1e-10")]
    draws = {how: [] for how in ("rebuild", "compiled", "rounding")}
    for seed in range(many):
        book = single.gradient("store", seed)
        draws["rebuild"].append(relative(single.gradient("rebuild", seed), book))
        draws["compiled"].append(relative(single.gradient("rebuild", seed, compile=True), book))
    wide = Case(width=width, dtype=torch.float64)
    for seed in range(min(3, many)): draws["rounding"].append(relative(single.gradient("store", seed), wide.gradient("rebuild", seed)))
    return rows + [row(f"the same in float32, median of {many} draws", statistics.median(draws["rebuild"]), bar="≤ 1e-5"),
                   row("the same, compiled (other rounding, so other sides of ReLU's kinks)", statistics.median(draws["compiled"])),
                   row("for comparison: store in float32 against float64", statistics.median(draws["rounding"]))]


def fill_buffer(folder: Path, net, epochs: int) -> TrajectoryBuffer:
    """Files as an expert would leave them."""
    theta = init_theta(net, generator(0, "expert"))
    for epoch in range(epochs + 1): save_tensors(epoch_file(folder, 0, epoch), {"theta": theta + 0.01 * epoch}, {})
    save_tensors(latest_file(folder, 0), {"theta": theta}, dict(figures=[]))
    return TrajectoryBuffer(folder)


def whole_step(repeats: int, width: int) -> list[dict]:
    """One whole distillation step: reading, crops, 𝒜, N = 20, gradient, update."""
    data, rows = load_data("materials", 32), []
    for w in sorted({min(32, width), width}):
        settings = make_settings(width=w, pixel_lr=1e-3, student_lr_lr=1e-6)
        with tempfile.TemporaryDirectory() as folder:
            d = {}
            for name, method, compile in (("store", "store", "off"), ("rebuild", "rebuild", "off"), ("compiled", "rebuild", "on")):
                s = dataclasses.replace(settings, method=method, compile=compile)
                d[name] = Distiller(s, data, fill_buffer(Path(folder), network("convnet", 3, 10, 32, w, 3), s.max_start_epoch + s.expert_epochs))
            start = time.perf_counter()
            distillation_step(d["compiled"])
            first = time.perf_counter() - start
            t = medians(repeats, **{name: (lambda x=x: distillation_step(x)) for name, x in d.items()})
        rows += [row(f"one distillation step, width {w}, N = 20, store", t["store"], "s"),
                 row("the same, rebuild compiled against store eager", t["compiled"] / t["store"], "×", "≤ 1.0" if w == width else ""),
                 row("the same, rebuild eager against store eager", t["rebuild"] / t["store"], "×", "≤ 1.4" if w == width else ""),
                 row("the first compiled step", first, "s")]
    return rows


def crops(repeats: int) -> list[dict]:
    """Ten canvases of 256 px at crop 128, forward and backward, against a loop of rolls."""
    canvases = torch.randn(10, 3, 256, 256, requires_grad=True)
    offsets = draw_offsets(10, (256, 256), generator(0, "bench"))
    g = torch.randn(10, 3, 128, 128)   # what comes back from the network
    def gather(): torch.autograd.grad(crop(canvases, offsets, (128, 128)), canvases, g)
    def rolls(): torch.autograd.grad(torch.stack([c.roll((-int(y), -int(x)), (1, 2))[:, :128, :128] for c, (y, x) in zip(canvases, offsets)]), canvases, g)
    t = medians(repeats, gather=gather, rolls=rolls)
    return [row("crops of 10 canvases of 256 px at 128 px, there and back", 1e3 * t["gather"], "ms"), row("the same by a loop of rolls, against it", t["rolls"] / t["gather"], "×", "≥ 2")]


def experts(repeats: int, width: int, batch: int, bar: str = "") -> list[dict]:
    """Images a second of expert training: 𝒜 included, against PyTorch's own loop over a module."""
    data = load_data("materials", 32)
    x, y = torch.from_numpy(data.train.x.copy()), torch.from_numpy(data.train.y.copy())
    net, n = network("convnet", 3, 10, 32, width, 3), len(x) // batch * batch
    plan = draw_epoch(len(x), (32, 32), batch, generator(0, "bench"))[:n // batch]
    theta, module, floats = init_theta(net, generator(0, "bench")), net.make(), data.normalise(x)
    sgd = torch.optim.SGD(module.parameters(), lr=0.01)
    def plain():
        for which, augmentation in plan:
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(module(augment(floats[which], augmentation)), y[which]).backward()
            sgd.step()
    def ours(compile, precision="float32"):
        net.compile = compile
        with use_precision(precision, torch.device("cpu")): train_epoch(net, theta, data, x, y, plan, 0.01)
    t = medians(repeats, compiled=lambda: ours(True), eager=lambda: ours(False), plain=plain)
    net.graphs.clear()   # a compiled function keeps the precision it was traced with
    t |= medians(max(1, repeats // 2), bfloat16=lambda: ours(True, "bfloat16"))
    return [row(f"experts, width {width}, batch {batch}, compiled", n / t["compiled"], "images/s"),
            row("the same against PyTorch's plain eager loop", t["plain"] / t["compiled"], "×", bar),
            row("the same, not compiled, against that loop", t["plain"] / t["eager"], "×"),
            row("the same, compiled, in bfloat16, against that loop (another spell)", t["plain"] / t["bfloat16"], "×")]


def stacked(repeats: int, width: int, count: int = 4) -> list[dict]:
    """Several experts as one batched computation against one by one, compiled and not."""
    net, rng = network("convnet", 3, 10, 32, width, 3), generator(0, "bench")
    thetas = torch.stack([init_theta(net, rng) for _ in range(count)]).to(find_device())
    x, y = torch.randn(count, 32, 3, 32, 32).to(thetas), torch.randint(10, (count, 32), device=thetas.device)
    def one(theta, x, y): return gradient(net, theta, x, y)[0]
    together = torch.func.vmap(torch.func.grad(lambda theta, x, y: cross_entropy(net, theta, x, y)))
    fast_one, fast_together = compiled(one, (thetas[0], x[0], y[0])), compiled(together, (thetas, x, y))
    t = medians(repeats, one=lambda: [one(*a) for a in zip(thetas, x, y)], together=lambda: together(thetas, x, y),
                fast_one=lambda: [fast_one(*a) for a in zip(thetas, x, y)], fast_together=lambda: fast_together(thetas, x, y))
    return [row(f"{count} experts of width {width}, stacked, against one by one, eager: speed", t["one"] / t["together"], "×"),
            row("the same, compiled", t["fast_one"] / t["fast_together"], "×")]


def bytes_read() -> list[dict]:
    """What one distillation step reads of the experts' files, from a cold cache (Linux)."""
    if not (Path("/proc/self/io").exists() and hasattr(os, "posix_fadvise")): return []
    def read(): return int(re.search(r"read_bytes: (\d+)", Path("/proc/self/io").read_text())[1])
    settings, data = make_settings(width=128, student_steps=1, max_start_epoch=8, method="store"), load_data("materials", 32)
    RUNS.mkdir(exist_ok=True)   # on a real disk, which a temporary folder may not be
    with tempfile.TemporaryDirectory(dir=RUNS) as folder:
        d = Distiller(settings, data, fill_buffer(Path(folder), network("convnet", 3, 10, 32, 128, 3), 10))
        distillation_loss(d, 0)   # the program's own pages are read now
        os.sync()
        for path in Path(folder).rglob("*.safetensors"):
            with open(path) as f: os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = read()
        distillation_loss(d, 1)
        return [row("bytes read from disk for one distillation step, against its two vectors", (read() - before) / (2 * 4 * len(d.net)), "×", "≤ 1.05")]


def memory(method: str, n: int, compile: bool, width=128, depth=3, crop_size=32, canvas=96) -> dict:
    """Peak of a fresh process: in all, and above what it held after a first, short unroll."""
    case = dict(width=width, depth=depth, crop_size=crop_size, canvas=canvas, n=n)
    command = [sys.executable, __file__, "--memory", json.dumps(dict(method=method, compile=compile, case=case))]
    # Large tensors are given back to the system at once: the peak is then that of the tensors, not of holes in the heap.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure_memory(method: str, compile: bool, case: dict) -> None:
    """In the fresh process."""
    def peak(): return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    c = Case(**case)
    n, c.n = c.n, 1
    c.gradient(method, compile=compile)
    if c.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")   # the peak so far is forgotten
        before = peak()
    c.n = n
    c.gradient(method, compile=compile)
    top = torch.cuda.max_memory_allocated() if c.device.type == "cuda" else peak()
    print(json.dumps(dict(peak=top, above=top - before, vectors=(n + 1) * 4 * len(c.net))))


def memories(width: int) -> list[dict]:
    """Peak memory of the methods."""
    if not Path("/proc/self/clear_refs").exists(): return []
    rows, store = [], memory("store", 50, False, width)
    for name, compile in (("rebuild", False), ("rebuild compiled", True))[:1 if width < 32 else 2]:
        few, some, many = (memory("rebuild", n, compile, width) for n in (10, 50, 100))
        rows += [row(f"peak above baseline, width {width}, {name}, N = 50", some["above"] / MIB, "MiB"),
                 row("the same, N = 100 against N = 10, without the N + 1 vectors", (many["above"] - many["vectors"]) / (few["above"] - few["vectors"]), "×", "≤ 1.15"),
                 row(f"peak above baseline at N = 50, store against {name}", store["above"] / some["above"], "×", "≥ 8")]
    return [row(f"peak above baseline, width {width}, store, N = 50", store["above"] / MIB, "MiB")] + rows


def large() -> list[dict]:
    """ConvNetD5 at 128 px: what the paper trains."""
    shape = dict(width=128, depth=5, crop_size=128, canvas=256)
    return [row(f"peak of the whole process, ConvNetD5, 128 px, width 128, N = 20, {name}", memory("rebuild", 20, compile, **shape)["peak"] / 1e9, "GB", "< 6")
            for name, compile in (("rebuild", False), ("rebuild compiled", True))]


def flops(repeats: int, width: int, n: int) -> list[dict]:
    """How far from what the machine can do: PyTorch's own count of operations against the speed of a matrix product."""
    c, a = Case(width=width, n=n), torch.randn(2048, 2048, device=find_device())
    plan = c.plan()
    def count(f, *tensors):
        graph = make_fx(f)(*tensors)   # the operations alone: the counter does not follow derivatives within derivatives
        with FlopCounterMode(display=False) as counter, torch.no_grad(): graph(*tensors)
        return counter.get_total_flops()
    forward = count(c.net, c.start, torch.randn(10, 3, 32, 32, device=c.device))
    t = medians(repeats, store=lambda: c.gradient("store"), compiled=lambda: c.gradient("rebuild", compile=True), matrix=lambda: a @ a)
    peak = 2 * 2048**3 / t["matrix"]
    rows = [row("matrix product of 2048², this machine", peak / 1e9, "GFLOP/s"), row(f"one forward pass, width {width}, batch 10", forward / 1e9, "GFLOP")]
    for name, method in (("store", "store"), ("compiled", "rebuild")):
        work = count(lambda _: c.gradient(method, steps=plan), c.start)
        rows += [row(f"work of a student step by {method}, there and back, in forward passes", work / c.n / forward, "×"),
                 row(f"speed of {'store eager' if name == 'store' else 'rebuild compiled'}, against the matrix product", work / t[name] / peak, "×")]
    return rows


def prints(repeats: int, yards: tuple) -> list[dict]:
    """Sheets of cloth at 150 dpi: the whole command, imports included."""
    shown = Path(__file__).resolve().parents[1] / "nbs/images/materials.safetensors"
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(shown, Path(d) / "textures.safetensors")
        def sheet(n):
            arguments = ["print", "--run", d, "--class", "paving", "--inches", "12", "--repeat", "half-drop", "--sheet", f"42x{36 * n:g}in", "--force"]
            subprocess.run([sys.executable, "-c", f"import sys; from wearable_imagenet.cli import main; sys.exit(main({arguments!r}))"], check=True, capture_output=True)
        t = medians(repeats, **{f"{n:g}": partial(sheet, n) for n in yards})
    return [row(f"print {n} yard{'s' * (float(n) > 1)} of 42 in at 150 dpi, half-drop", s, "s", "< 10" if n == "1" else "") for n, s in t.items()]


METHODS = {"store": ("store", False), "rebuild": ("rebuild", False), "rebuild compiled": ("rebuild", True)}


def curves(repeats: int, steps: tuple, sides: tuple, width: int, methods: tuple = tuple(METHODS)) -> dict:
    """Time and memory against N, and against the side of the canvases."""
    result = {"width": width}
    for axis, values in (("n", steps), ("canvas", sides)):
        result[axis] = dict(values=list(values), seconds={m: [] for m in methods}, mib={m: [] for m in methods})
        for value in values:
            c = Case(width=width, **{axis: value})
            t = medians(repeats, **{name: (lambda method=method, compile=compile: c.gradient(method, compile=compile)) for name in methods for method, compile in [METHODS[name]]})
            for name in methods:
                method, compile = METHODS[name]
                result[axis]["seconds"][name].append(t[name])
                result[axis]["mib"][name].append(memory(method, value if axis == "n" else 20, compile, width, canvas=96 if axis == "n" else value)["above"] / MIB)
    return result


def full_parts() -> dict:
    """What people measure: minutes."""
    return dict(exactness=lambda: exactness(128, 10), memory=lambda: memories(128), step=lambda: whole_step(7, 128), experts=lambda: experts(9, 32, 32, "≥ 1.6") + experts(3, 128, 256, "≥ 1.6"),
                stacked=lambda: stacked(7, 32), crops=lambda: crops(28), bytes=bytes_read, large=large, flops=lambda: flops(7, 128, 20), prints=lambda: prints(3, (1, 10)),
                curves=lambda: curves(3, (10, 20, 50, 100, 200), (64, 128, 256, 512), 32))


def quick_parts() -> dict:
    """The same, so small that a test can do it."""
    return dict(exactness=lambda: exactness(8, 2), memory=lambda: memories(8), step=lambda: whole_step(1, 8), experts=lambda: experts(1, 8, 32),
                stacked=lambda: stacked(1, 8), crops=lambda: crops(4), bytes=bytes_read, flops=lambda: flops(1, 8, 2), prints=lambda: prints(1, (0.1,)), curves=lambda: curves(1, (2,), (), 8, ("rebuild",)))


def main() -> None:
    """Run all, print a table, write runs/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: for tests")
    parser.add_argument("--only", help="one part of the table again; the others stay as they are in the file")
    parser.add_argument("--out", type=Path, default=RUNS / "bench.json", help="where to write (default: %(default)s)")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.memory: return measure_memory(**json.loads(a.memory))
    parts = quick_parts() if a.quick else full_parts()
    if a.only and a.only not in parts: parser.error(f"--only {a.only!r} is not known: use one of {', '.join(parts)}")
    result = json.loads(a.out.read_text()) if a.only else dict(parts={})
    result |= dict(machine=platform.machine(), device=str(find_device()), threads=torch.get_num_threads(), torch=torch.__version__, quick=a.quick)
    print(f"{result['machine']}, {result['device']}, {result['threads']} threads, torch {result['torch']}")
    for name in [a.only] if a.only else parts:
        measured = result["parts"][name] = parts[name]()
        for r in [] if name == "curves" else measured: print(f"{r['figure']:82} {r['value']:10.3g} {r['unit']:9} {r['bar']}", flush=True)
        write_json(a.out, result)   # what has been measured is not lost


if __name__ == "__main__":
    main()
