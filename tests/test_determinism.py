"""One seed, one result: whatever else differs between two processes leaves no trace."""

import random
import re

import numpy as np
import torch

from conftest import SMALL, assert_same, results, run_command, sets
from wearable_imagenet.cli import main

# Numbers drawn from the global generators before the run begins, as a notebook or a plugin may do.
UNRELATED = "import random, numpy, torch; random.seed(5); numpy.random.seed(6); torch.manual_seed(7); torch.rand(3)"


def test_another_process_same_files(tmp_path, photos, undisturbed):
    """Another hash seed, other global generators, data decoded afresh into another cache: the same bits in every
    file."""
    run_command(
        "demo",
        "--run",
        tmp_path / "run",
        "--data",
        f"folder:{photos}",
        *sets(**SMALL),
        before=UNRELATED,
        PYTHONHASHSEED="4242",
        WEARABLE_IMAGENET_CACHE=str(tmp_path / "cache"),
    )
    assert_same(tmp_path / "run", undisturbed)


def test_another_seed_other_files(tmp_path, photos, undisturbed):
    """The seed reaches every stage: experts, first canvases, plans and evaluation."""
    run_command("demo", "--run", tmp_path / "run", "--data", f"folder:{photos}", *sets(**SMALL | {"seed": 1}))
    ours, others = results(tmp_path / "run"), results(undisturbed)
    plain = [{re.sub("_[0-9a-f]{8}_", "_", name) for name in made} for made in (ours, others)]  # without digests
    assert plain[0] == plain[1]
    assert {name for name in ours if "evaluation/" in name}.isdisjoint(others)
    tensors = [name for name in ours if name.endswith(".safetensors")]
    assert len(tensors) > 30
    assert [name for name in tensors if ours[name] == others[name]] == []
    assert ours["report.json"] != others["report.json"]


def test_global_generators_are_left_alone(tmp_path, photos):
    """A person's own random numbers in a notebook do not change because a run was made between them."""

    def seed():
        random.seed(1), np.random.seed(2), torch.manual_seed(3)

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    seed()
    wanted = draw()
    seed()
    few = SMALL | dict(
        experts=1, train_epochs=2, expert_epochs=1, max_start_epoch=1, distill_steps=2, eval_networks=1, eval_epochs=2
    )
    assert main(["demo", "--run", str(tmp_path / "run"), "--data", f"folder:{photos}", *sets(**few)]) == 0
    assert draw() == wanted
