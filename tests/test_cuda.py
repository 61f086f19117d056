"""On an NVIDIA GPU: the gradient is the CPU's, a record gives the bits of what it recorded, a run repeats, and goes on
after a stop as if there had been none. Without one all of it is skipped; `tests/test_devices.py` is what can be tried
then."""

import pytest
import torch

from conftest import BRIEF, SMALL, assert_same, sets
from wearable_imagenet.augment import ALL_FAMILIES, augment, sample_augmentation
from wearable_imagenet.canvas import Pyramid
from wearable_imagenet.cli import main
from wearable_imagenet.core import generator
from wearable_imagenet.machine import use_precision
from wearable_imagenet.network import NETWORKS, gradient, init_theta, network
from wearable_imagenet.repeat import REPEATS
from wearable_imagenet.student import METHODS, Student, along, matching_loss, sample_steps, unroll
from wearable_imagenet.textures import Textures

CUDA = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


def step_gradient(device, dtype, family=ALL_FAMILIES, repeat=REPEATS["grid"], method="store", compiled=""):
    """Gradient of one distillation step in the levels of a pyramid, where it starts and α, on the CPU."""
    net, rng = network("convnet", 3, 4, 16, width=8, depth=2), generator(3, "cuda")
    net = net.compiled(translates=compiled == "translated") if compiled else net
    pyramid = Pyramid((4, 3, 32, 32), repeat, levels=3)
    levels = [level.to(device, dtype).requires_grad_() for level in pyramid.init(rng)]
    theta = init_theta(net, rng).to(device, dtype).requires_grad_()
    lr, y = torch.tensor(0.1, device=device, dtype=dtype, requires_grad=True), torch.arange(4).to(device)
    steps = sample_steps(4, 4, (32, 32), 16, rng, repeat, batch=3, families=family)
    with use_precision("float32", device):
        end = unroll(Student(net, pyramid.canvases(levels), y, lr, steps, 16, repeat), theta, method)
        grads = torch.autograd.grad(matching_loss(end, theta.detach(), theta.detach() + 0.01), [*levels, theta, lr])
    return torch.cat([g.flatten().cpu() for g in grads])


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("family", ALL_FAMILIES.split("_"))
@pytest.mark.parametrize("repeat", REPEATS.values(), ids=str)
def test_gradient_is_the_cpus(family, repeat):
    """In 64 bits, whichever way it is computed."""
    wanted = step_gradient(torch.device("cpu"), torch.float64, family, repeat)
    for method, compiled in (("store", ""), ("rebuild", ""), ("rebuild", "recorded"), (2, "recorded")):
        got = step_gradient(CUDA, torch.float64, family, repeat, method, compiled)
        assert distance(got, wanted) < 1e-9, (method, compiled)


def test_translated_gradient_is_the_cpus():
    """Translated by a compiler, then recorded."""
    wanted = step_gradient(torch.device("cpu"), torch.float64)
    assert distance(step_gradient(CUDA, torch.float64, method="rebuild", compiled="translated"), wanted) < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_gradient_repeats_to_the_bit(method):
    """In 32 bits, four times; and it is near that of 64 bits."""
    first, *others = (step_gradient(CUDA, torch.float32, method=method, compiled="recorded") for _ in range(4))
    assert all(torch.equal(first, other) for other in others)
    assert distance(first.double(), step_gradient(torch.device("cpu"), torch.float64)) < 1e-3


@pytest.mark.parametrize("kind", NETWORKS)
def test_record_gives_the_same_bits(kind):
    """Of gradients and of derivatives along a direction, for inputs that are not those of the record."""
    net, rng = network(kind, 3, 4, 64, width=8, depth=2), generator(5, "record")
    fast, theta = net.compiled(translates=False), init_theta(net, rng).to(CUDA)
    y = torch.arange(6, device=CUDA) % 4
    with use_precision("float32", CUDA):
        for k in range(3):
            x, λ = torch.randn(6, 3, 64, 64, generator=rng).to(CUDA), torch.randn(len(net), generator=rng).to(CUDA)
            for f, tensors in ((gradient, (theta, x, y)), (along, (theta, x, y, λ))):
                slow, quick = net.run(f, *tensors), fast.run(f, *tensors)
                assert all(torch.equal(a, b) for a, b in zip(slow, quick)), (f.__name__, k)
    assert fast.compiler.made and None not in fast.compiler.made.values()


@pytest.mark.parametrize("family", ALL_FAMILIES.split("_"))
def test_augmentation_repeats_and_is_the_cpus(family):
    """And its derivative."""
    x = torch.randn(6, 3, 32, 32, generator=generator(0, "images"), dtype=torch.float64)
    plan = sample_augmentation(6, (32, 32), generator(1, family), family)

    def there_and_back(device, dtype):
        seen = x.to(device, dtype).requires_grad_()
        with use_precision("float32", device):
            y = augment(seen, plan)
            return torch.cat([t.detach().cpu().flatten() for t in (y, torch.autograd.grad(y.square().sum(), seen)[0])])

    assert distance(there_and_back(CUDA, torch.float64), there_and_back(torch.device("cpu"), torch.float64)) < 1e-9
    assert torch.equal(there_and_back(CUDA, torch.float32), there_and_back(CUDA, torch.float32))


def run_of(folder, photos, stage="demo", **settings):
    how = sets(**SMALL | dict(device=CUDA.type) | settings)
    assert main([stage, "--run", str(folder), "--data", f"folder:{photos}", *how]) == 0


def test_a_run_repeats_and_goes_on(tmp_path, photos):
    """Two whole runs are the same files, to the last bit; so is one that was made in parts."""
    run_of(tmp_path / "one", photos)
    run_of(tmp_path / "two", photos)
    assert_same(tmp_path / "one", tmp_path / "two")
    for stage in ("experts", "distill", "demo"):
        run_of(tmp_path / "cut", photos, stage)
    assert_same(tmp_path / "one", tmp_path / "cut")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("compile", ["auto", "off"])
def test_experts_of_less_precision(tmp_path, photos, precision, compile):
    """Every stage runs with them, recorded or not."""
    run_of(tmp_path / "run", photos, **BRIEF | dict(expert_precision=precision, compile=compile))


def test_recorded_and_not_are_one_run(tmp_path, photos):
    """The setting changes the speed, and digits no more than rounding does."""
    made = []
    for compile in ("auto", "on", "off"):
        run_of(tmp_path / compile, photos, compile=compile, method="rebuild", distill_steps=8)
        made.append(Textures.load(tmp_path / compile / "textures.safetensors"))
    assert all(distance(t.canvases, made[0].canvases) < 1e-3 for t in made)
