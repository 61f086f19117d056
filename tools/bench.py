"""How fast and how large the hot path is on this machine: python tools/bench.py [--quick]

Every comparison is a ratio from one run in which the candidates take turns; each figure is a median. Memory is that of
a fresh process per figure. Prints a table and writes runs/bench.json, from which a notebook draws its own (copy it to
nbs/bench.json). --quick is for tests: small sizes, seconds.
"""

import argparse
import contextlib
import ctypes
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

if "--plain" in sys.argv:
    os.environ["WEARABLE_IMAGENET_KEEP_MEMORY"] = "off"  # a process as PyTorch alone would have it
import wearable_imagenet  # noqa: F401  before PyTorch: its process is prepared

# isort: split
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from wearable_imagenet import block
from wearable_imagenet.augment import augment
from wearable_imagenet.cli import Listener
from wearable_imagenet.core import generator, write_json
from wearable_imagenet.experts import (
    ExpertTraining,
    TrajectoryBuffer,
    epoch_file,
    latest_file,
    sample_epoch,
    save_theta,
    train_epoch,
    train_experts,
)
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.images.dataset import Dataset
from wearable_imagenet.images.split import Split
from wearable_imagenet.machine import PRECISIONS, find_device, use_precision
from wearable_imagenet.network import gradient, init_theta, network
from wearable_imagenet.repeat import REPEATS, crop, sample_offsets
from wearable_imagenet.settings import make_settings
from wearable_imagenet.step import Distiller, distillation_loss
from wearable_imagenet.student import Student, matching_loss, sample_steps, unroll

RUNS = Path(__file__).resolve().parents[1] / "runs"
MIB = 2**20


def medians(repeats: int, **functions) -> dict[str, float]:
    """Median seconds of each function; the functions take turns, so that a slow spell of the machine hits all of
    them."""
    times = {name: [] for name in functions}
    for f in functions.values():
        f()
    for _ in range(repeats):
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
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
        self.net, self.crop_size, self.canvas, self.n = (
            network("convnet", 3, 10, crop_size, width, depth),
            crop_size,
            canvas,
            n,
        )
        self.compiled = self.net.compiled()
        rng, self.device = generator(0, "bench"), find_device()

        def here(t):
            return t.to(self.device, dtype)

        self.start = here(init_theta(self.net, rng))
        self.target = self.start + here(0.01 * torch.randn(len(self.net), generator=rng))
        self.canvases, self.lr = (
            here(torch.randn(10, 3, canvas, canvas, generator=rng)).requires_grad_(),
            here(torch.tensor(0.01)).requires_grad_(),
        )
        self.y = torch.arange(10, device=self.device)

    def plan(self, seed=0):
        size, rng = (self.canvas, self.canvas), generator(seed, "plan")
        return sample_steps(self.n, 10, size, self.crop_size, rng, REPEATS["grid"])

    def gradient(self, method, seed=0, compile=False, steps=None):
        net, steps = self.compiled if compile else self.net, steps or self.plan(seed)
        student = Student(net, self.canvases, self.y, self.lr, steps, self.crop_size, REPEATS["grid"])
        end = unroll(student, self.start, method)
        return torch.autograd.grad(matching_loss(end, self.start, self.target), [self.canvases, self.lr])


def exactness(width: int, many: int) -> list[dict]:
    """Rebuild against store, and both against the textbook's loop, which shares no line with them."""
    small = dict(width=min(width, 32), dtype=torch.float64)
    double, single = Case(**small), Case(width=width)
    book = double.gradient("store")
    rows = [
        row(
            "relative difference of gradients, rebuild against store, float64, N = 20",
            relative(double.gradient("rebuild"), book),
            bar="≤ 1e-10",
        ),
        row("the same, 7 steps stored and 13 rebuilt", relative(double.gradient(7), book), bar="≤ 1e-10"),
        row("the same, store against the textbook's loop", relative(book, Textbook(**small).gradient()), bar="≤ 1e-10"),
    ]
    draws = {how: [] for how in ("rebuild", "layers", "rounding")}
    for seed in range(many):
        book = single.gradient("store", seed)
        draws["rebuild"].append(relative(single.gradient("rebuild", seed), book))
        with layer_by_layer():
            draws["layers"].append(relative(single.gradient("store", seed), book))
    wide = Case(width=width, dtype=torch.float64)
    for seed in range(min(3, many)):
        draws["rounding"].append(relative(single.gradient("store", seed), wide.gradient("rebuild", seed)))
    return rows + [
        row(
            f"rebuild against store in float32, median of {many} draws",
            statistics.median(draws["rebuild"]),
            bar="≤ 1e-5",
        ),
        row(
            "store by kernels against layer by layer in float32 (other rounding, so other sides of ReLU's kinks)",
            statistics.median(draws["layers"]),
        ),
        row("for comparison: store in float32 against float64", statistics.median(draws["rounding"])),
    ]


@contextlib.contextmanager
def layer_by_layer():
    """Without the kernels."""
    block.BY_KERNELS = False
    try:
        yield
    finally:
        block.BY_KERNELS = True


def fill_buffer(folder: Path, net, epochs: int) -> TrajectoryBuffer:
    """Files as an expert would leave them."""
    theta = init_theta(net, generator(0, "expert"))
    for epoch in range(epochs + 1):
        save_theta(epoch_file(folder, 0, epoch), theta + 0.01 * epoch, {})
    save_theta(latest_file(folder, 0), theta, dict(figures=[]))
    return TrajectoryBuffer(folder)


SIZES = {
    "32 px, width 32": (32, 32, 3, 96),
    "32 px, width 128": (32, 128, 3, 96),
    "64 px, width 32": (64, 32, 4, 128),
    "128 px, width 64": (128, 64, 5, 256),
}  # crop, width, depth, canvas


class Textbook(Case):
    """The same gradient as the authors' program gets it: torch's own layers, group norm with one channel a group,
    crops by rolls, autograd through everything."""

    def __init__(self, width=128, depth=3, crop_size=32, canvas=96, n=20, dtype=torch.float32):
        super().__init__(width, depth, crop_size, canvas, n, dtype)
        layers = []
        for k in range(depth):
            layers += [
                torch.nn.Conv2d(width if k else 3, width, 3, padding=1),
                torch.nn.GroupNorm(width, width),
                torch.nn.ReLU(),
                torch.nn.AvgPool2d(2),
            ]
        self.module = torch.nn.Sequential(
            *layers, torch.nn.Flatten(), torch.nn.Linear(width * (crop_size >> depth) ** 2, 10)
        )
        self.names, self.shapes = zip(*((name, p.shape) for name, p in self.module.named_parameters()))

    def gradient(self, method="textbook", seed=0):
        theta, side = self.start.clone().requires_grad_(), self.crop_size
        at = theta
        for step in self.plan(seed):
            x = torch.stack(
                [
                    c.roll((-int(y), -int(x)), (1, 2))[:, :side, :side]
                    for c, (y, x) in zip(self.canvases[step.which], step.offsets)
                ]
            )
            views = {
                n: v.view(shape)
                for n, v, shape in zip(self.names, at.split([s.numel() for s in self.shapes]), self.shapes)
            }
            loss = F.cross_entropy(
                torch.func.functional_call(self.module, views, (augment(x, step.augmentation),)), self.y[step.which]
            )
            at = at - self.lr * torch.autograd.grad(loss, at, create_graph=True)[0]
        return torch.autograd.grad(matching_loss(at, theta, self.target), [self.canvases, self.lr])


class Convolutions:
    """The convolutions of one forward pass of a batch of ten, alone, as the layers of a network call them."""

    def __init__(self, width, depth, crop_size, canvas=0, n=1, batch=10):
        self.calls = [
            (
                torch.randn(batch, width if k else 3, crop_size >> k, crop_size >> k),
                torch.randn(width, width if k else 3, 3, 3),
            )
            for k in range(depth)
        ]

    def gradient(self, method="convolutions"):
        for x, w in self.calls:
            F.conv2d(x, w, padding=1)


class Experts:
    """A whole expert stage on images of noise, as many as ten classes of fruit have: 549 to train on, 477 to test
    on; three epochs of one expert."""

    def __init__(self, width, depth, crop_size, canvas=0, n=1):
        rng = generator(0, "bench")
        train, test = (
            Split(
                torch.randint(256, (k, 3, crop_size, crop_size), generator=rng, dtype=torch.uint8).numpy(),
                (torch.arange(k) % 10).numpy(),
                torch.full((k,), -1).numpy(),
            )
            for k in (549, 477)
        )
        self.data = Dataset(
            "noise", [str(k) for k in range(10)], train, test, torch.full((3,), 0.5), torch.full((3,), 0.3), "", []
        )
        self.net = network("convnet", 3, 10, crop_size, width, depth)

    def gradient(self, method="experts"):
        with tempfile.TemporaryDirectory() as folder:
            train_experts(self.net, self.data, Path(folder), 1, ExpertTraining(3, batch=32))


CANDIDATES = {"textbook": Textbook, "convolutions": Convolutions, "experts": Experts}


def serve(text: str) -> None:
    """In a process of its own: one gradient for every line that comes in, its CPU seconds for every line that goes
    out."""
    a = json.loads(text)
    torch.set_num_threads(1)
    block.BY_KERNELS = a.pop("kernels", True)
    method, compile = a.pop("method"), a.pop("compile", False)
    case = CANDIDATES.get(method, Case)(**a)

    def go():
        return case.gradient(method, compile=True) if compile else case.gradient(method)

    go()
    for _ in sys.stdin:
        start = time.process_time()
        go()
        print(time.process_time() - start, flush=True)


def turns(repeats: int, **candidates: dict) -> dict[str, float]:
    """Median CPU seconds of one thread.

    Each candidate is a process of its own, so that each has the memory switches its user would have; they take turns.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, a in candidates.items():
            plain = ["--plain"] if a.get("method") in ("textbook", "plain") or a.pop("plain", False) else []
            workers[name] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, __file__, "--serve", json.dumps(a), *plain],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
            )
        times = {name: [] for name in workers}
        for _ in range(repeats):
            for name, w in workers.items():
                print(file=w.stdin, flush=True)
                times[name].append(float(w.stdout.readline()))
        for w in workers.values():
            w.stdin.close()
    return {name: statistics.median(t) for name, t in times.items()}


def engine(repeats: int, sizes: dict, n: int) -> list[dict]:
    """One distillation step's gradient against the textbook's loop, and against its convolutions alone."""
    rows = []
    for name, (crop_size, width, depth, canvas) in sizes.items():
        shape, large = dict(crop_size=crop_size, width=width, depth=depth, canvas=canvas), crop_size >= 128
        t = turns(
            max(1, repeats // (2 if large else 1)),
            textbook=shape | dict(method="textbook", n=n),
            store=shape | dict(method="store", n=n),
            rebuild=shape | dict(method="rebuild", n=n),
            layers=shape | dict(method="store", n=n, kernels=False),
            plain=shape | dict(method="convolutions", plain=True),
            ours=shape | dict(method="convolutions"),
        )
        rows += [
            row(f"gradient of one distillation step, {name}, N = {n}, textbook", t["textbook"], "s"),
            row(
                "the same by kernels, as `method=auto` does it where memory allows (store), against the textbook",
                t["store"] / t["textbook"],
                "×",
                "≤ 0.45" if large else "≤ 0.6",
            ),
            row("the same by kernels, rebuild, against the textbook", t["rebuild"] / t["textbook"], "×"),
            row("the same layer by layer, store, against the textbook", t["layers"] / t["textbook"], "×"),
        ]
        if large:
            rows += [
                row(
                    f"rebuild, {name}, against 12 forward passes of its convolutions alone, in a process as PyTorch has it",
                    t["rebuild"] / n / 12 / t["plain"],
                    "×",
                    "≤ 1.15",
                ),
                row(
                    "the same, with the convolutions in our process, whose memory is kept",
                    t["rebuild"] / n / 12 / t["ours"],
                    "×",
                ),
                row("store against 9 forward passes, likewise", t["store"] / n / 9 / t["ours"], "×"),
            ]
    return rows


def expert_stage(repeats: int, width: int, sizes: tuple) -> list[dict]:
    """A whole expert stage, tests and files included, against three forward passes of its convolutions."""
    rows = []
    for side, depth in sizes:
        shape = dict(crop_size=side, width=width, depth=depth)
        t = turns(
            repeats,
            stage=shape | dict(method="experts"),
            plain=shape | dict(method="convolutions", plain=True, batch=32),
            ours=shape | dict(method="convolutions", batch=32),
        )
        passes = 3 * 3 * 549 / 32  # epochs, forward passes of a gradient, batches
        rows += [
            row(f"expert stage, {side} px, width {width}, an epoch of 549 images, tests included", t["stage"] / 3, "s"),
            row(
                "the same against the gradient's convolutions alone (3 forward passes), in a process as PyTorch has it",
                t["stage"] / passes / t["plain"],
                "×",
                "≤ 1.5",
            ),
            row("the same, with the convolutions in our process", t["stage"] / passes / t["ours"], "×"),
        ]
    return rows


def crop_sides(repeats: int, values: tuple, width: int, n: int) -> dict:
    """CPU seconds of a student step against the side of the crops."""
    result = {"width": width, "values": list(values), "seconds": {}}
    for side in values:
        shape = dict(crop_size=side, width=width, depth=side.bit_length() - 3, canvas=2 * side)
        t = turns(
            repeats,
            **{
                "textbook": shape | dict(method="textbook", n=n),
                "kernels, rebuild": shape | dict(method="rebuild", n=n),
                "kernels, store": shape | dict(method="store", n=n),
                "its convolutions alone (9 forward passes)": shape | dict(method="convolutions"),
            },
        )
        for name, seconds in t.items():
            result["seconds"].setdefault(name, []).append(9 * seconds if "alone" in name else seconds / n)
    return result


def through_torch_compile(repeats: int, size: tuple, n: int) -> list[dict]:
    """What `compile=on` does on this machine: both sweeps layer by layer through torch.compile."""
    crop_size, width, depth, canvas = size
    shape = dict(crop_size=crop_size, width=width, depth=depth, canvas=canvas, n=n, method="rebuild")
    t = turns(repeats, kernels=shape, layers=shape | dict(kernels=False), compiled=shape | dict(compile=True))
    return [
        row(
            f"torch.compile, {crop_size} px, width {width}: rebuild compiled against rebuild layer by layer",
            t["compiled"] / t["layers"],
            "×",
        ),
        row("the same against rebuild by kernels", t["compiled"] / t["kernels"], "×"),
    ]


def first_call() -> list[dict]:
    """The kernels in an empty cache, in a fresh process, then from the cache."""
    code = (
        "import time, torch; from wearable_imagenet.block import Block; net, x = Block(3, 8), torch.randn(2, 3, 8, 8, requires_grad=True); t = time.perf_counter(); "
        "g, = torch.autograd.grad(net(x).square().sum(), x, create_graph=True); g.square().sum().backward(); print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        first, again = (
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=os.environ | {"NUMBA_CACHE_DIR": cache},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(2)
        )
    return [
        row("the first step ever on a machine compiles the kernels, whatever the size", first, "s"),
        row("in every later process they are read", again, "s"),
    ]


def crops(repeats: int) -> list[dict]:
    """Ten canvases of 256 px at crop 128, forward and backward, against a loop of rolls."""
    canvases = torch.randn(10, 3, 256, 256, requires_grad=True)
    offsets = sample_offsets(10, (256, 256), generator(0, "bench"), REPEATS["grid"])
    g = torch.randn(10, 3, 128, 128)  # what comes back from the network

    def gather():
        torch.autograd.grad(crop(canvases, offsets, (128, 128), REPEATS["grid"]), canvases, g)

    def rolls():
        torch.autograd.grad(
            torch.stack([c.roll((-int(y), -int(x)), (1, 2))[:, :128, :128] for c, (y, x) in zip(canvases, offsets)]),
            canvases,
            g,
        )

    t = medians(repeats, gather=gather, rolls=rolls)
    return [
        row("crops of 10 canvases of 256 px at 128 px, there and back", 1e3 * t["gather"], "ms"),
        row("the same by a loop of rolls, against it", t["rolls"] / t["gather"], "×", "≥ 2"),
    ]


class Epoch:
    """One epoch of expert training on materials, 𝒜 included: ours, or PyTorch's own loop over a module of its own
    layers."""

    def __init__(self, width, batch, precision="float32"):
        data = load_data("materials", 32)
        self.data, self.lr, self.precision = data, 0.01, precision
        self.x, self.y = torch.from_numpy(data.train.x.copy()), torch.from_numpy(data.train.y.copy())
        self.plan = sample_epoch(len(self.x), (32, 32), batch, generator(0, "bench"))[: len(self.x) // batch]
        self.net, self.module, self.floats = (
            network("convnet", 3, 10, 32, width, 3),
            Textbook(width, 3).module,
            data.normalise(self.x),
        )
        self.theta, self.sgd = (
            init_theta(self.net, generator(0, "bench")),
            torch.optim.SGD(self.module.parameters(), lr=0.01),
        )

    def gradient(self, method):
        if method == "epoch":
            with use_precision(self.precision, torch.device("cpu")):
                train_epoch(self.net, self.theta, self.data, (self.x, self.y), self.plan, self.lr)
            return
        for which, augmentation in self.plan:
            self.sgd.zero_grad()
            F.cross_entropy(self.module(augment(self.floats[which], augmentation)), self.y[which]).backward()
            self.sgd.step()


CANDIDATES |= {"epoch": Epoch, "plain epoch": Epoch}


def experts(repeats: int, width: int, batch: int, bar: str = "") -> list[dict]:
    """Images a second of expert training, against PyTorch's plain loop in a process as PyTorch has it."""
    shape, images = dict(width=width, batch=batch), 680 // batch * batch
    t = turns(
        repeats,
        kernels=shape | dict(method="epoch"),
        plain=shape | dict(method="plain epoch", plain=True),
        bfloat16=shape | dict(method="epoch", precision="bfloat16"),
    )
    return [
        row(f"experts, width {width}, batch {batch}", images / t["kernels"], "images/s"),
        row("the same against PyTorch's plain loop", t["plain"] / t["kernels"], "×", bar),
        row("the same in bfloat16, layer by layer, against that loop", t["plain"] / t["bfloat16"], "×"),
    ]


def bytes_read() -> list[dict]:
    """What one distillation step reads of the experts' files, from a cold cache (Linux)."""
    if not (Path("/proc/self/io").exists() and hasattr(os, "posix_fadvise")):
        return []

    def read():
        return int(re.search(r"read_bytes: (\d+)", Path("/proc/self/io").read_text())[1])

    settings, data = (
        make_settings(width=128, student_steps=1, max_start_epoch=8, method="store"),
        load_data("materials", 32),
    )
    RUNS.mkdir(exist_ok=True)  # on a real disk, which a temporary folder may not be
    with tempfile.TemporaryDirectory(dir=RUNS) as folder:
        d = Distiller(settings, data, fill_buffer(Path(folder), network("convnet", 3, 10, 32, 128, 3), 10))
        distillation_loss(d, 0)  # the program's own pages are read now
        os.sync()
        for path in Path(folder).rglob("*.safetensors"):
            with open(path) as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = read()
        distillation_loss(d, 1)
        return [
            row(
                "bytes read from disk for one distillation step, against its two vectors",
                (read() - before) / (2 * 4 * len(d.net)),
                "×",
                "≤ 1.05",
            )
        ]


def memory(method: str, n: int, width=128, depth=3, crop_size=32, canvas=96) -> dict:
    """Peak of a fresh process: in all, and above what it held after a first, short unroll."""
    case = dict(width=width, depth=depth, crop_size=crop_size, canvas=canvas, n=n)
    command = [sys.executable, __file__, "--memory", json.dumps(dict(method=method, case=case))]
    # Large tensors are given back to the system at once: the peak is then that of the tensors, not of holes in the
    # heap.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    return json.loads(
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )


def measure_memory(method: str, case: dict) -> None:
    """In the fresh process."""

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    c = CANDIDATES.get(method, Case)(**case)
    n, c.n = c.n, 1
    c.gradient(method)
    if c.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = peak()
    c.n = n
    c.gradient(method)
    top = torch.cuda.max_memory_allocated() if c.device.type == "cuda" else peak()
    print(json.dumps(dict(peak=top, above=top - before, vectors=(n + 1) * 4 * len(c.net))))


def memories(width: int) -> list[dict]:
    """Peak memory of the methods."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    few, some, many = (memory("rebuild", n, width) for n in (10, 50, 100))
    textbook, store = memory("textbook", 50, width), memory("store", 50, width)
    return [
        row(f"peak above baseline, width {width}, N = 50, textbook", textbook["above"] / MIB, "MiB"),
        row("the same, store", store["above"] / MIB, "MiB"),
        row("the same, rebuild", some["above"] / MIB, "MiB"),
        row(
            "rebuild, N = 100 against N = 10, without the N + 1 vectors",
            (many["above"] - many["vectors"]) / (few["above"] - few["vectors"]),
            "×",
            "≤ 1.15",
        ),
        row("N = 50, textbook against rebuild", textbook["above"] / some["above"], "×", "≥ 8"),
        row("N = 50, store against rebuild", store["above"] / some["above"], "×", "≥ 8"),
    ]


def large() -> list[dict]:
    """ConvNetD5 at 128 px: what the paper trains."""
    shape = dict(width=128, depth=5, crop_size=128, canvas=256)
    return [
        row(
            "peak of the whole process, ConvNetD5, 128 px, width 128, N = 20, rebuild",
            memory("rebuild", 20, **shape)["peak"] / 1e9,
            "GB",
            "< 6",
        )
    ]


def flops(repeats: int, width: int, n: int) -> list[dict]:
    """How far from what the machine can do: PyTorch's own count of operations against the speed of a matrix product."""
    c, a = Case(width=width, n=n), torch.randn(2048, 2048, device=find_device())
    plan = c.plan()

    def count(f, *tensors):
        graph = make_fx(f)(*tensors)  # the operations alone: the counter does not follow derivatives within derivatives
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            graph(*tensors)
        return counter.get_total_flops()

    forward = count(c.net, c.start, torch.randn(10, 3, 32, 32, device=c.device))
    t = medians(repeats, store=lambda: c.gradient("store"), rebuild=lambda: c.gradient("rebuild"), matrix=lambda: a @ a)
    peak = 2 * 2048**3 / t["matrix"]
    rows = [
        row("matrix product of 2048², this machine", peak / 1e9, "GFLOP/s"),
        row(f"one forward pass, width {width}, batch 10", forward / 1e9, "GFLOP"),
    ]
    for method in ("store", "rebuild"):
        work = count(lambda _: c.gradient(method, steps=plan), c.start)
        rows += [
            row(f"work of a student step by {method}, there and back, in forward passes", work / c.n / forward, "×"),
            row(f"speed of {method}, against the matrix product", work / t[method] / peak, "×"),
        ]
    return rows


def prints(repeats: int, yards: tuple) -> list[dict]:
    """Sheets of cloth at 150 dpi: the whole command, imports included."""
    shown = Path(__file__).resolve().parents[1] / "nbs/results/materials.safetensors"
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(shown, Path(d) / "textures.safetensors")

        def sheet(n):
            arguments = [
                "print",
                "--run",
                d,
                "--class",
                "paving",
                "--inches",
                "12",
                "--repeat",
                "half-drop",
                "--sheet",
                f"42x{36 * n:g}in",
                "--force",
            ]
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import sys; from wearable_imagenet.cli import main; sys.exit(main({arguments!r}))",
                ],
                check=True,
                capture_output=True,
            )

        t = medians(repeats, **{f"{n:g}": partial(sheet, n) for n in yards})
    return [
        row(f"print {n} yard{'s' * (float(n) > 1)} of 42 in at 150 dpi, half-drop", s, "s", "< 10" if n == "1" else "")
        for n, s in t.items()
    ]


def ranks_at_work(processes: int, threads: int, run: Path, sizes: dict) -> dict[str, float]:
    """Seconds of the stages of a run on new ranks, without their start."""
    words = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "wearable_imagenet", "distill", "--preset", "plain", "--run", str(run), "--yes"]
    meet = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="29555", WORLD_SIZE=str(processes))
    env = os.environ | dict(OMP_NUM_THREADS=str(threads), PYTHONPATH=str(RUNS.parent)) | meet
    each = [
        subprocess.Popen([*command, *words], env=env | dict(RANK=str(k), LOCAL_RANK=str(k)), stderr=subprocess.DEVNULL)
        for k in range(processes)
    ]
    assert [p.wait() for p in each] == [0] * processes
    return json.loads((run / "seconds.json").read_text())


def ranks(sizes: dict, bar: str = "") -> list[dict]:
    """Experts and distillation by two processes of one thread, against one of two threads and one of one."""
    ways, rows = {"one": (1, 1), "two": (2, 1), "threads": (1, 2)}, []
    with tempfile.TemporaryDirectory() as folder:
        t = {name: ranks_at_work(*way, Path(folder) / name, sizes) for name, way in ways.items()}
    for stage in ("experts", "distill"):
        one, two, threads = (t[name][stage] for name in ways)
        rows += [
            row(f"{stage}, two processes of one thread against one of one thread", one / two, "×", bar),
            row("the same against one process of two threads", threads / two, "×"),
        ]
    return rows


SUM = """
import argparse, json, statistics, sys, time, torch
from pathlib import Path
from wearable_imagenet.ranks.sum import ordered_mean
from wearable_imagenet.ranks.team import all_ranks, this_team
with all_ranks(argparse.Namespace(again="", together=True)):
    like = [torch.randn(int(sys.argv[1]), 3, int(sys.argv[2]), int(sys.argv[2]))]
    status = Path("/proc/self/status")  # of Linux
    top = lambda: 1024 * int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else 0
    seconds, before = [], top()
    for _ in range(4):
        start = time.perf_counter()
        ordered_mean(lambda draw: (torch.zeros(()), like), 2, like)
        seconds.append(time.perf_counter() - start)
    print(json.dumps([statistics.median(seconds[1:]), (top() - before) / 1e9]), flush=True)
"""


def sums(classes: tuple, side: int, step: dict) -> list[dict]:
    """What two ranks on this machine need to add up the gradients of all canvases, by the side of a step."""
    case = Case(**step)
    t, rows = medians(1, step=lambda: case.gradient("store"))["step"], []
    rows += [row(f"gradient of one distillation step, {step}", t, "s")]
    for n in classes:
        meet = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="29556", WORLD_SIZE="2", PYTHONPATH=str(RUNS.parent))
        how = dict(stdout=subprocess.PIPE, text=True)
        words = [sys.executable, "-c", SUM, str(n), str(side)]
        each = [subprocess.Popen(words, env=os.environ | meet | dict(RANK=str(k)), **how) for k in range(2)]
        said = [p.communicate()[0] for p in each]
        if lost := [k for k, p in enumerate(each) if p.returncode]:
            sys.exit(f"bench: {n} canvases of {side} px: rank {lost[0]} ended with {each[lost[0]].returncode}")
        seconds, top = json.loads(said[0])
        rows += [
            row(f"sum of two gradients of {n} canvases of {side} px over two ranks", seconds, "s"),
            row("its share of a step", seconds / (seconds + t)),
            row("memory of a rank for it, above its gradient", top, "GB"),
        ]
    return rows


def gpu(repeats: int, sizes: dict, n: int) -> list[dict]:
    """Where there is an NVIDIA GPU: a distillation step's gradient and an expert's gradient, as they are and recorded."""
    if not torch.cuda.is_available():
        return []
    rows, device = [row(f"GPU: {torch.cuda.get_device_name()}, PyTorch {torch.__version__}", 1)], find_device("cuda")
    for name, (crop_size, width, depth, canvas) in sizes.items():
        case = Case(width, depth, crop_size, canvas, n)
        x, y = torch.randn(64, 3, crop_size, crop_size, device=device), torch.arange(64, device=device) % 10
        torch.cuda.reset_peak_memory_stats()
        with use_precision("float32", device):
            steps = medians(
                repeats,
                store=lambda: case.gradient("store"),
                rebuild=lambda: case.gradient("rebuild"),
                recorded=lambda: case.gradient("rebuild", 0, True),
            )
        rows += [
            row(f"GPU: gradient of one distillation step, {name}, N = {n}, store", steps["store"], "s"),
            row("the same, rebuild", steps["rebuild"], "s"),
            row("the same, rebuild, recorded", steps["recorded"], "s"),
            row("the largest peak of memory of the three", torch.cuda.max_memory_allocated() / MIB, "MiB"),
        ]
        for precision in PRECISIONS:
            recorded = case.net.compiled()  # a record keeps its precision
            with use_precision(precision, device):
                t = medians(
                    3 * repeats,
                    plain=lambda: case.net.run(gradient, case.start, x, y),
                    recorded=lambda: recorded.run(gradient, case.start, x, y),
                )
            figure = f"GPU: experts, {name}, batch 64, without 𝒜, {precision}"
            rows += [
                row(figure, 64 / t["plain"], "images/s"),
                row("the same, recorded", 64 / t["recorded"], "images/s"),
            ]
    return rows


METHODS = ("textbook", "store", "rebuild")


def curves(repeats: int, steps: tuple, sides: tuple, width: int, methods: tuple = METHODS) -> dict:
    """Time and memory against N, and against the side of the canvases."""
    result = {"width": width}
    for axis, values in (("n", steps), ("canvas", sides)):
        result[axis] = dict(values=list(values), seconds={m: [] for m in methods}, mib={m: [] for m in methods})
        for value in values:
            shape = dict(width=width, depth=3, crop_size=32, canvas=96, n=20) | {axis: value}
            t = turns(repeats, **{m: shape | dict(method=m) for m in methods})
            for m in methods:
                result[axis]["seconds"][m].append(t[m])
                result[axis]["mib"][m].append(memory(m, shape["n"], width, canvas=shape["canvas"])["above"] / MIB)
    return result


def full_parts() -> dict:
    """What people measure: a quarter of an hour."""
    return dict(
        exactness=lambda: exactness(128, 10),
        engine=lambda: engine(5, SIZES, 20),
        expert_stage=lambda: expert_stage(3, 32, ((64, 4), (128, 5))),
        memory=lambda: memories(128),
        experts=lambda: experts(9, 32, 32, "≥ 1.6") + experts(3, 128, 256, "≥ 1.6"),
        first_call=first_call,
        torch_compile=lambda: through_torch_compile(3, (128, 64, 5, 256), 2),
        crops=lambda: crops(28),
        bytes=bytes_read,
        large=large,
        flops=lambda: flops(5, 128, 20),
        prints=lambda: prints(3, (1, 10)),
        ranks=lambda: ranks(dict(experts=4, train_epochs=10, trajectories=2, distill_steps=36), "≥ 1.7"),
        sums=lambda: sums((10, 200, 1000), 256, dict(width=64, depth=5, crop_size=128, canvas=256)),
        gpu=lambda: gpu(5, SIZES, 40),
        sides=lambda: crop_sides(3, (32, 48, 64, 96, 128), 32, 4),
        curves=lambda: curves(3, (10, 20, 50, 100), (64, 128, 256, 512), 32),
    )


def quick_parts() -> dict:
    """The same, so small that a test can do it."""
    tiny = {"16 px, width 8": (16, 8, 2, 24)}
    return dict(
        exactness=lambda: exactness(8, 2),
        engine=lambda: engine(1, tiny, 2),
        memory=lambda: memories(8),
        first_call=first_call,
        crops=lambda: crops(4),
        bytes=bytes_read,
        flops=lambda: flops(1, 8, 2),
        prints=lambda: prints(1, (0.1,)),
        sums=lambda: sums((4,), 16, dict(width=8, depth=2, crop_size=16, canvas=24, n=2)),
        gpu=lambda: gpu(1, tiny, 2),
        curves=lambda: curves(1, (2,), (), 8, ("rebuild",)),
    )


PLOTS = ("sides", "curves")  # parts that are no rows of the table


def main() -> None:
    """Run all, print a table, write runs/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: for tests")
    parser.add_argument(
        "--only", help="one part of the table, or several with commas, again; the others stay as they are in the file"
    )
    parser.add_argument("--out", type=Path, default=RUNS / "bench.json", help="where to write (default: %(default)s)")
    for hidden in ("--memory", "--serve"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        return serve(a.serve)
    if a.memory:
        return measure_memory(**json.loads(a.memory))
    parts = quick_parts() if a.quick else full_parts()
    only = a.only.split(",") if a.only else list(parts)
    if unknown := [name for name in only if name not in parts]:
        parser.error(f"--only {unknown[0]!r} is not known: use one of {', '.join(parts)}")
    result = json.loads(a.out.read_text()) if a.only and a.out.exists() else dict(parts={})
    result |= dict(
        machine=platform.machine(),
        device=str(find_device()),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        quick=a.quick,
    )
    print(f"{result['machine']}, {result['device']}, {result['threads']} threads, torch {result['torch']}")
    for name in only:
        measured = result["parts"][name] = parts[name]()
        for r in [] if name in PLOTS else measured:
            print(f"{r['figure']:110} {r['value']:10.3g} {r['unit']:9} {r['bar']}", flush=True)
        write_json(a.out, result)  # what has been measured is not lost


if __name__ == "__main__":
    sys.stdout = Listener(sys.stdout)  # a terminal may lack ≤
    main()
