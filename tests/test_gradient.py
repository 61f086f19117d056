"""The gradient through the student's steps against a second implementation, written from the paper.

It shares nothing with the library but the plan that was drawn: layers are torch's own modules, a crop is a slice of a
plane that was laid out tile by tile, augmentations are written from their definition (turning and stretching by hand,
pixel by pixel), and autograd goes through all of it in float64.
"""

import math

import pytest
import torch
from torch import nn

from wearable_imagenet.core import generator
from wearable_imagenet.network import init_theta, network
from wearable_imagenet.student import matching_loss, sample_steps, unroll

CROP, WIDTH, CLASSES, STEPS, BATCH = 8, 6, 5, 3, 3
FAMILIES = ["color", "crop", "cutout", "flip", "scale", "rotate", "none", "color_crop_cutout_flip_scale_rotate"]


class Student(nn.Module):
    """The ConvNet of the paper from torch's own layers.

    Its parameters can be replaced by tensors that have a history.
    """

    def __init__(self, channels, depth):
        super().__init__()
        layers = []
        for i in range(depth):
            layers += [
                nn.Conv2d(WIDTH if i else channels, WIDTH, 3, padding=1),
                nn.InstanceNorm2d(WIDTH, affine=True),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTH * (CROP // 2**depth) ** 2, CLASSES))
        self.double()
        self.places = [(module, name) for module in self.modules() for name in list(module._parameters)]
        self.shapes = [getattr(*place).shape for place in self.places]

    def put(self, theta):
        """Fill the layers, in order, with slices of one vector."""
        for (module, name), shape, piece in zip(
            self.places, self.shapes, theta.split([s.numel() for s in self.shapes])
        ):
            module._parameters.pop(name, None)
            setattr(module, name, piece.reshape(shape))

    def forward(self, x):
        return self.layers(x)


def plane(canvas, repeat):
    """Enough tiles of one canvas (C, H, W) for every crop: columns of tiles, each of them lower by half where the
    repeat says so."""
    H = canvas.shape[1]
    columns = [torch.cat([canvas] * 3, 1).roll(j * H // 2 if repeat == "half-drop" else 0, 1) for j in range(4)]
    return torch.cat(columns, 2)


def bilinear(image, y, x):
    """The value of an image (C, H, W) at one point between pixel centres; 0 outside."""
    total = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= col < image.shape[2]:
                total = total + image[:, row, col] * (1 - abs(y - row)) * (1 - abs(x - col))
    return total


def warp(image, matrix):
    """Look an image up at `matrix @ (x, y)`, measured from its centre in half sides."""
    side = image.shape[1]
    at = [(i + 0.5) * 2 / side - 1 for i in range(side)]
    values = []
    for v in at:
        for u in at:
            x, y = (row[0] * u + row[1] * v for row in matrix)
            values.append(bilinear(image, (y + 1) * side / 2 - 0.5, (x + 1) * side / 2 - 0.5))
    return torch.stack(values, 1).view_as(image)


def augment_one(image, family, amounts):
    """𝒜 for one image (C, side, side), from the definition of each family."""
    side = image.shape[1]
    if family == "color":
        brightness, saturation, contrast = amounts
        image = image + brightness
        gray = image.mean(0)
        image = torch.stack([gray + saturation * (channel - gray) for channel in image])
        return image.mean() + contrast * (image - image.mean())
    if family == "crop":
        down, right = map(int, amounts)
        room = torch.zeros(len(image), 3 * side, 3 * side, dtype=image.dtype)
        room[:, side : 2 * side, side : 2 * side] = image
        return room[:, side + down : 2 * side + down, side + right : 2 * side + right]
    if family == "cutout":
        keep = torch.ones(side, side, dtype=image.dtype)
        top, left = (int(a) - side // 4 for a in amounts)
        keep[max(0, top) : max(0, top + side // 2), max(0, left) : max(0, left + side // 2)] = 0
        return image * keep
    if family == "flip":
        return image[:, :, list(reversed(range(side)))] if amounts[0] else image
    if family == "scale":
        return warp(image, [[amounts[0], 0], [0, amounts[1]]])
    if family == "rotate":
        s, c = math.sin(amounts[0]), math.cos(amounts[0])
        return warp(image, [[c, -s], [s, c]])
    return image


def reference(theta, target, canvases, y, lr, steps, repeat, channels, depth):
    """Algorithm 1, lines 7–16, with the whole graph kept."""
    start, student = theta, Student(channels, depth)
    for step in steps:
        images = []
        for which, (top, left), amounts in zip(
            step.which.tolist(), step.offsets.tolist(), step.augmentation.amounts.double().tolist()
        ):
            crop = plane(canvases[which], repeat)[:, top : top + CROP, left : left + CROP]
            images.append(augment_one(crop, step.augmentation.family, amounts))
        student.put(theta)
        logits = student(torch.stack(images))
        loss = -logits.log_softmax(1)[torch.arange(len(images)), y[step.which]].mean()
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    return ((theta - target) ** 2).sum() / ((start.detach() - target) ** 2).sum()


def difference(a, b):
    """Relative distance of two tensors."""
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("repeat", ["grid", "half-drop"])
@pytest.mark.parametrize("families", FAMILIES)
def test_gradient_is_that_of_the_reference(families, repeat):
    """∂L/∂canvases, ∂L/∂α and ∂L/∂θ after three steps of mini-batches, canvases that are not square, both repeats."""
    channels, depth, rng = 3, 2, generator(0, "test", FAMILIES.index(families))
    net = network("convnet", channels, CLASSES, CROP, WIDTH, depth)
    canvases = torch.randn(CLASSES + 1, channels, 10, 14, generator=rng, dtype=torch.float64).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 4, 4])
    theta, target = (init_theta(net, rng).double() for _ in range(2))
    theta.requires_grad_()
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    steps = sample_steps(STEPS, len(y), (10, 14), CROP, rng, BATCH, repeat, families)
    assert len(steps) == STEPS and all(len(step.which) == BATCH for step in steps)

    wanted = reference(theta, target, canvases, y, lr, steps, repeat, channels, depth)
    found = matching_loss(unroll(net, theta, canvases, y, lr, steps, CROP, repeat), theta.detach(), target)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-10)
    for name, a, b in zip(
        ("canvases", "lr", "theta"),
        torch.autograd.grad(found, (canvases, lr, theta)),
        torch.autograd.grad(wanted, (canvases, lr, theta)),
    ):
        assert b.norm() > 0, name
        assert difference(a, b) < 1e-10, name


def test_reference_would_notice():
    """The comparison is sharp: a step size that is off by a millionth is four orders above the tolerance."""
    channels, depth, rng = 3, 2, generator(0, "test")
    net = network("convnet", channels, CLASSES, CROP, WIDTH, depth)
    canvases = torch.randn(CLASSES, channels, 10, 14, generator=rng, dtype=torch.float64).requires_grad_()
    y, (theta, target) = torch.arange(CLASSES), (init_theta(net, rng).double().requires_grad_() for _ in range(2))
    steps = sample_steps(STEPS, len(y), (10, 14), CROP, rng, BATCH, "grid", "none")
    lr = torch.tensor(0.3, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(reference(theta, target, canvases, y, lr, steps, "grid", channels, depth), canvases)
    (found,) = torch.autograd.grad(
        matching_loss(unroll(net, theta, canvases, y, lr * (1 + 1e-6), steps, CROP), theta.detach(), target.detach()),
        canvases,
    )
    assert difference(found, wanted) > 1e-7
