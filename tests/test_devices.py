"""What must work on a GPU, tried without one: PyTorch's meta device computes shapes only, but refuses to be mixed
with the CPU as a GPU does."""

import pytest
import torch

from wearable_imagenet.augment import ALL_FAMILIES, augment, sample_augmentation
from wearable_imagenet.canvas import Pyramid
from wearable_imagenet.core import generator
from wearable_imagenet.images.dataset import normalise
from wearable_imagenet.network import gradient, init_theta, network
from wearable_imagenet.repeat import REPEATS
from wearable_imagenet.student import matching_loss, sample_steps, unroll


def elsewhere(t):
    """A leaf like `t` that is not on the CPU."""
    return t.detach().to("meta").requires_grad_(t.is_floating_point())


@pytest.mark.parametrize("family", ALL_FAMILIES.split("_"))
@pytest.mark.parametrize("repeat", REPEATS)
def test_gradient_stays_on_its_device(family, repeat):
    """Plans are drawn on the CPU; levels, crops, 𝒜, both sweeps and the gradient of everything are elsewhere."""
    net, rng = network("convnet", 3, 4, 8, width=4, depth=2), generator(0, "elsewhere")
    pyramid = Pyramid((4, 3, 16, 16), levels=2, repeat=repeat)
    levels, theta = [elsewhere(level) for level in pyramid.init(rng)], elsewhere(init_theta(net, rng))
    y, lr = elsewhere(torch.arange(4)), elsewhere(torch.tensor(0.1))
    steps = sample_steps(3, 4, (16, 16), 8, rng, batch=3, repeat=repeat, families=family)
    for method in ("store", "rebuild", 1):
        end = unroll(net, theta, pyramid.canvases(levels), y, lr, steps, 8, repeat, method)
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
