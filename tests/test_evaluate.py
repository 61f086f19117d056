"""Textures that are one file, and plain distilled images, from the command line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from conftest import SMALL, sets
from wearable_imagenet.cli import main
from wearable_imagenet.core import generator
from wearable_imagenet.network import accuracy, init_theta, network
from wearable_imagenet.textures import Textures


@pytest.fixture
def alone(undisturbed, tmp_path):
    """The finished run's textures, sent to somebody else."""
    shutil.copy(undisturbed / "textures.safetensors", tmp_path / "sent.safetensors")
    return tmp_path / "sent.safetensors"


def test_one_file_gives_what_the_run_reported(alone, undisturbed, photos, capsys):
    """To the last digit, although nothing of the run's folder is there."""
    assert main(["evaluate", str(alone), "--data", f"folder:{photos}"]) == 0
    said, theirs = capsys.readouterr().out, json.loads((undisturbed / "report.json").read_text())
    ours = json.loads(alone.with_suffix(".report.json").read_text())
    assert set(ours["confusion"]) == {"textures", "mosaic", "real", "noise"}
    for arm, confusion in ours["confusion"].items():
        figures = ours[f"accuracy_{arm}"]
        assert figures == theirs[f"accuracy_{arm}"] and confusion == theirs["confusion"][arm]
        assert f"accuracy of {arm:8} {100 * figures['mean']:5.1f} ± {100 * figures['std']:.1f} %" in said
    assert "right of each class: cliff" in said and "most often taken:" in said


def test_a_result_belongs_to_what_was_evaluated(alone, photos):
    """Other canvases under the same name are trained on anew; the same ones are not."""
    arguments = ["evaluate", str(alone), "--data", f"folder:{photos}", "--set", "eval_epochs=3"]
    assert main(arguments) == 0
    made = {p: p.stat().st_mtime_ns for p in (alone.parent / "evaluation").iterdir()}
    assert main(arguments) == 0
    assert {p: p.stat().st_mtime_ns for p in (alone.parent / "evaluation").iterdir()} == made
    t = Textures.load(alone)
    t.canvases[0, 0, 0, 0] += 1
    t.save(alone)
    assert main(arguments) == 0
    assert len(list((alone.parent / "evaluation").iterdir())) == 2 * len(made)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--set", "crop_size=4"], ["not made with crop_size", "eval_epochs"]),
        (["--preset", "tiny"], ["leave out --preset"]),
        (["--data", "materials"], ["has the classes cliff, dirt", "needs cliff, grass, snow", "--data"]),
        (["--set", "eval_network=vgg11"], ["vgg11", "8 px"]),
    ],
)
def test_what_a_file_refuses(alone, photos, capsys, arguments, words):
    """One line, before anything is trained."""
    data = [] if "--data" in arguments else ["--data", f"folder:{photos}"]
    assert main(["evaluate", str(alone), *data, *arguments]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("wearable-imagenet:")]
    assert all(word in line for word in words), line
    assert not (alone.parent / "evaluation").exists()


def test_plain_images_are_one_setting_away(tmp_path, photos):
    """With the repeat none canvases are as large as a crop, begin as one photograph, and go through every stage."""
    run = tmp_path / "run"
    few = {k: v for k, v in SMALL.items() if k != "canvas_size"} | dict(distill_steps=4, eval_networks=1, eval_epochs=3)
    assert main(["demo", "--run", str(run), "--data", f"folder:{photos}", *sets(**few, repeat="none")]) == 0
    canvases = load_file(run / "textures.safetensors")["canvases"]
    assert canvases.shape == (3, 3, 8, 8)
    first = load_file(run / "frames/step_000000.safetensors")["canvases"]
    assert (canvases != first).flatten(1).any(1).all()
    assert json.loads((run / "report.json").read_text())["seams"] == dict.fromkeys(("cliff", "grass", "snow"), "none")
    for arguments in (["tile", "--run", str(run)], ["print", "--run", str(run)], ["gallery", str(run)]):
        assert main(arguments) == 0


def test_a_start_is_at_chance():
    """Before any training a network of every kind that evaluation knows is no better than guessing."""
    x = torch.randn(200, 3, 32, 32, generator=generator(0, "chance"))
    for kind in ("convnet", "alexnet", "vgg11"):
        net = network(kind, 3, 10, 32, width=8, depth=2)
        right = accuracy(net, init_theta(net, generator(1, "chance")), x, torch.arange(200) % 10)
        assert 0 <= right < 0.25
