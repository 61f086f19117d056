"""What a distillation step costs does not grow with the number of classes, where `student_batch` is fixed.

Not by a clock: every operation that PyTorch carries out is seen, and the numbers that it reads and writes are counted.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wearable_imagenet import step
from wearable_imagenet.core import generator
from wearable_imagenet.images.dataset import Dataset
from wearable_imagenet.images.split import Split
from wearable_imagenet.network import init_theta
from wearable_imagenet.settings import make_settings, settings_network

MANY, FEW = 1000, 10
CANVAS = 3 * 64 * 64  # numbers of one
PICKS = ("aten::index", "aten::index_select", "aten::gather")  # read as much as they write
PUTS = ("aten::index_put_", "aten::_index_put_impl_")  # write as much as they are given


class Touched(TorchDispatchMode):
    """Numbers that operations read and write; views cost nothing."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out, name = func(*args, **(kwargs or {})), func._schema.name
        aliases = [r.alias_info for r in func._schema.returns]
        if any(a is not None and not a.is_write for a in aliases):
            return out
        read, written = list(args) + list((kwargs or {}).values()), [out]
        if name in PICKS + PUTS:
            read = read[1:]
        if name in PUTS:
            written = []
        self.numbers += sum(t.numel() for t in tree_leaves([read, written]) if isinstance(t, torch.Tensor))
        return out


class Experts:
    """Experts that nobody trained, of which a step reads two vectors."""

    epochs = 2

    def __init__(self, net):
        self.theta = init_theta(net, generator(0, "expert"))

    def __len__(self):
        return 1

    def __getitem__(self, at):
        return self.theta + 0.01 * at[1]


def touched(classes, each, **settings):
    """Numbers that the second of two steps touches."""
    x = torch.randint(256, (classes, 3, 8, 8), generator=generator(0, "images"), dtype=torch.uint8).numpy()
    split = Split(x, torch.arange(classes).numpy(), None)
    data = Dataset("none", [str(k) for k in range(classes)], split, split, torch.zeros(3), torch.ones(3), "", [])
    shape = dict(crop_size=8, canvas_size=64, canvases_per_class=each, width=4, depth=2, levels=3, decay="none")
    walk = dict(student_steps=2, student_batch=5, method="store", max_start_epoch=1, min_start_epoch=0, expert_epochs=1)
    s = make_settings(**shape | walk | settings)
    d = step.Distiller(s, data, Experts(settings_network(s, data)))
    step.distillation_step(d)
    with Touched() as counter:
        step.distillation_step(d)
    return counter.numbers, int((d.drawn > 0).sum())


KINDS = {"sgd": {}, "everything": dict(optimiser="adam", pixel_lr=0.05, ema=0.9, label_lr=0.1)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_costs_the_same(kind):
    """A hundred times the canvases cost a few numbers for each, which say which ones are drawn. A hundred times the
    classes cost the larger classifier besides, far less than to look at every canvas once."""
    few, canvases, classes = (touched(*n, **KINDS[kind]) for n in ((FEW, 1), (FEW, MANY // FEW), (MANY, 1)))
    assert few[1] == FEW and canvases[1] == classes[1] <= 2 * FEW  # two steps of ten canvases
    assert few[0] > 20 * FEW * CANVAS
    assert canvases[0] - few[0] < 20 * MANY
    assert classes[0] - few[0] < MANY * CANVAS / 2


def all_canvases(d, number):
    """`drawn_canvases` without a choice."""
    return torch.arange(len(d.y))


def move_all(d, numbers, grads, move=step.move_rows):
    """`move_rows`, after which every running mean is touched."""
    move(d, numbers, grads)
    for a in d.averages:
        a.mul_(1)


@pytest.mark.parametrize("name, fault", [("drawn_canvases", all_canvases), ("move_rows", move_all)])
def test_the_count_sees_what_it_looks_for(name, fault, monkeypatch):
    """A step that handles all canvases, and one that only moves all running means, are found out."""
    sound = touched(FEW, 1, **KINDS["everything"])[0]
    monkeypatch.setattr(step, name, fault)
    assert touched(MANY, 1, **KINDS["everything"])[0] - sound > MANY * CANVAS
