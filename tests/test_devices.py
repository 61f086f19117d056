"""What must work on a GPU, tried without one: PyTorch's meta device computes shapes only, but refuses to be mixed
with the CPU as a GPU does."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wearable_imagenet.augment import ALL_FAMILIES, augment, sample_augmentation
from wearable_imagenet.canvas import Pyramid
from wearable_imagenet.core import generator
from wearable_imagenet.evaluate import Protocol, pool_source, texture_source, train_on
from wearable_imagenet.experts import sample_epoch, train_epoch
from wearable_imagenet.images.dataset import Dataset, normalise
from wearable_imagenet.network import gradient, init_theta, network
from wearable_imagenet.repeat import REPEATS
from wearable_imagenet.student import Student, matching_loss, sample_steps, unroll


def elsewhere(t):
    """A leaf like `t` that is not on the CPU."""
    return t.detach().to("meta").requires_grad_(t.is_floating_point())


@pytest.mark.parametrize("family", ALL_FAMILIES.split("_"))
@pytest.mark.parametrize("repeat", REPEATS.values(), ids=str)
def test_gradient_stays_on_its_device(family, repeat):
    """Plans are drawn on the CPU; levels, crops, 𝒜, both sweeps and the gradient of everything are elsewhere."""
    net, rng = network("convnet", 3, 4, 8, width=4, depth=2), generator(0, "elsewhere")
    pyramid = Pyramid((4, 3, 16, 16), repeat, levels=2)
    levels, theta = [elsewhere(level) for level in pyramid.init(rng)], elsewhere(init_theta(net, rng))
    y, lr = elsewhere(torch.arange(4)), elsewhere(torch.tensor(0.1))
    steps = sample_steps(3, 4, (16, 16), 8, rng, repeat, batch=3, families=family)
    for method in ("store", "rebuild", 1):
        end = unroll(Student(net, pyramid.canvases(levels), y, lr, steps, 8, repeat), theta, method)
        grads = torch.autograd.grad(matching_loss(end, theta.detach(), theta.detach() + 1), [*levels, theta, lr])
        assert [g.device.type for g in grads] == ["meta"] * 4


@pytest.mark.parametrize("family", ALL_FAMILIES.split("_"))
def test_expert_batch_stays_on_its_device(family):
    """Bytes to colors, 𝒜, gradient."""
    net, rng = network("convnet", 3, 4, 8, width=4, depth=2), generator(0, "elsewhere")
    plan, x = sample_augmentation(6, (8, 8), rng, family), elsewhere(torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    g, loss = gradient(
        net,
        elsewhere(init_theta(net, rng)),
        augment(normalise(x, torch.zeros(3), torch.ones(3)), plan),
        elsewhere(torch.arange(6) % 4),
    )
    assert (g.device.type, loss.device.type) == ("meta", "meta")


def test_mixing_would_show():
    """The device does what this file relies on."""
    with pytest.raises(RuntimeError, match="(?i)device"):
        elsewhere(torch.ones(3)) + torch.ones(3)


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")  # for the device, or more


class Watch(TorchDispatchMode):
    """What is done elsewhere: operations that wait for the device, and numbers of 64 bits that are made there."""

    def __init__(self):
        super().__init__()
        self.count, self.waits, self.doubles, self.back = 0, [], [], []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        given = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        name, there = f.overloadpacket.__name__, any(t.is_meta for t in given)
        if there and name in WAITS:
            self.waits.append(name)
        if there and name == "_to_copy" and torch.device((kwargs or {}).get("device") or "meta").type != "meta":
            self.back.append(name)
        result = f(*args, **(kwargs or {}))
        made = [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor) and t.is_meta]
        self.count += bool(made)
        self.doubles += [name for t in made if t.dtype in (torch.float64, torch.complex128)]
        return result

    def check(self):
        assert self.count > 20 and not (self.waits or self.doubles or self.back), (self.waits, self.doubles, self.back)


class Elsewhere(Dataset):
    """Its colors, of no images."""

    def __init__(self):
        self.mean, self.std = torch.full((3,), 0.5), torch.full((3,), 0.25)


def test_a_distillation_step_does_not_wait():
    """From the pyramid's levels to their gradient, by every method and all of 𝒜."""
    net, rng = network("convnet", 3, 4, 8, width=4, depth=2), generator(0, "waits")
    pyramid = Pyramid((4, 3, 16, 16), REPEATS["half-drop"], levels=2)
    levels, theta = [elsewhere(level) for level in pyramid.init(rng)], elsewhere(init_theta(net, rng))
    y, lr = elsewhere(torch.arange(4)), elsewhere(torch.tensor(0.1))
    steps = sample_steps(3, 4, (16, 16), 8, rng, REPEATS["half-drop"], batch=3)
    for method in ("store", "rebuild", 1):
        with Watch() as watch:
            end = unroll(Student(net, pyramid.canvases(levels), y, lr, steps, 8, REPEATS["half-drop"]), theta, method)
            torch.autograd.grad(matching_loss(end, theta.detach(), theta.detach() + 1), [*levels, lr])
        watch.check()


def test_an_expert_does_not_wait():
    """A whole epoch, with circular crops of the bytes and all of 𝒜, of images that are there and of images that are
    brought one mini-batch at a time."""
    net, rng = network("convnet", 3, 4, 8, width=4, depth=2), generator(0, "waits")
    x, y, shifts = torch.zeros(6, 3, 8, 8, dtype=torch.uint8), elsewhere(torch.arange(6) % 4), torch.ones(6, 2).long()
    plan, theta = sample_epoch(6, (8, 8), 3, rng), elsewhere(init_theta(net, rng)).detach()
    for images in (elsewhere(x), x.numpy()):
        with Watch() as watch:
            after = train_epoch(net, theta, Elsewhere(), (images, y, shifts), plan, 0.1)
        assert after.is_meta
        watch.check()


@pytest.mark.parametrize("labels", [torch.arange(4), torch.full((4, 4), 0.25)])
def test_an_evaluation_does_not_wait(labels):
    """Epochs of one mini-batch each: a wait for each would be a wait for every batch."""
    net, y = network("convnet", 3, 4, 8, width=4, depth=2), elsewhere(labels).detach()
    canvases, pool = elsewhere(torch.zeros(4, 3, 12, 12)).detach(), elsewhere(torch.zeros(2, 4, 3, 8, 8)).detach()
    for source in (texture_source(canvases, y, 8, REPEATS["grid"]), pool_source(pool, y)):
        with Watch() as watch:
            theta = train_on(net, source, Protocol(0.1, 3, 0, torch.device("meta")))
        assert theta.is_meta
        watch.check()


def test_a_wait_would_show():
    """The watch sees what this file relies on."""
    with Watch() as watch:
        for f in (lambda t: t.nonzero(), lambda t: t.double(), lambda t: t.sum().item(), lambda t: t.cpu()):
            with contextlib.suppress(RuntimeError, NotImplementedError):
                f(elsewhere(torch.ones(3)))
    assert watch.waits == ["nonzero", "_local_scalar_dense"] and watch.doubles == ["_to_copy"] and watch.back
