"""The presets from end to end on real photographs: a small ILSVRC-2012 tree, and the part of Tiny ImageNet that may
lie beside the project."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from conftest import ROOT, SHARED, sets
from wearable_imagenet.cli import main
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.repeat import parse_repeat
from wearable_imagenet.settings import make_settings
from wearable_imagenet.tile import Tile

TINY = SHARED / "data" / "tiny-imagenet-10"

# In label order, as the paper's authors use them.
IMAGESQUAWK = {
    "n01806143": "peacock",
    "n02007558": "flamingo",
    "n01818515": "macaw",
    "n02051845": "pelican",
    "n02056570": "king penguin",
    "n01614925": "bald eagle",
    "n01843383": "toucan",
    "n01518878": "ostrich",
    "n01860187": "black swan",
    "n01819313": "cockatoo",
}
SQUAWK_SMALL = dict(
    width=8,
    experts=2,
    train_epochs=3,
    expert_batch=16,
    expert_epochs=1,
    max_start_epoch=1,
    student_steps=2,
    distill_steps=2,
    eval_networks=2,
    eval_epochs=3,
)


def photographs():
    """Real photographs, one list a class; from the embedded data where no others lie beside the project."""
    folders = (
        sorted((TINY / "train").glob("n*/images"))
        if TINY.is_dir()
        else sorted((ROOT / "wearable_imagenet/materials/train").iterdir())
    )
    return [sorted(p for p in folder.iterdir() if p.is_file()) for folder in folders]


@pytest.fixture
def ilsvrc(tmp_path):
    """`train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`: class k of the subset has k + 2 training images of 160 × 140
    px, and one class is not in the subset."""
    pictures = photographs()
    assert len(pictures) == 10
    for k, wnid in enumerate(IMAGESQUAWK):
        chosen = pictures[k][: k + 4]
        assert len(chosen) == k + 4
        for i, path in enumerate(chosen):
            split = "val" if i < 2 else "train"
            target = tmp_path / "ILSVRC" / split / wnid / f"{wnid}_{i}.JPEG"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("RGB").resize((160, 140), Image.Resampling.BICUBIC).save(target, quality=95)
    for split in ("train", "val"):  # reading this one would show: its image is broken
        (tmp_path / "ILSVRC" / split / "n01440764").mkdir()
        (tmp_path / "ILSVRC" / split / "n01440764" / "n01440764_1.JPEG").write_bytes(b"no picture")
    return tmp_path / "ILSVRC"


def test_one_preset_holds_the_values_of_the_paper():
    """What is published for textures of ten ImageNet classes."""
    s = make_settings("paper")
    assert s.data.startswith("imagesquawk:") and (s.start, s.optimiser, s.expert_crop) == ("noise", "sgd", "none")
    assert (s.crop_size, tuple(s.canvas_size), s.width, s.depth) == (128, (256, 256), 128, 5)
    assert (s.student_steps, s.expert_epochs, s.max_start_epoch) == (20, 2, 10)
    assert (s.pixel_lr, s.student_lr, s.momentum, s.distill_steps) == (1000, 0.01, 0.5, 5000)
    assert (s.parametrisation, str(s.repeat), s.canvases_per_class) == ("pixels", "grid", 1)
    assert (s.experts, s.train_epochs, s.expert_lr, s.expert_batch) == (100, 50, 0.01, 256)
    assert (s.eval_networks, s.eval_epochs) == (5, 1000)
    assert set(s.augment.split("_")) == {"color", "crop", "cutout", "flip", "scale", "rotate"}


def test_imagesquawk_from_end_to_end(ilsvrc, tmp_path, capsys):
    """The preset as it stands, with fewer images, epochs, steps and filters: experts, distilling, tiling,
    evaluation."""
    run = tmp_path / "run"
    begin = ["--run", str(run), "--preset", "paper", "--data", f"imagesquawk:{ilsvrc}", *sets(**SQUAWK_SMALL)]
    assert main(["experts", *begin]) == 0
    assert sorted(p.relative_to(run / "experts").as_posix() for p in run.glob("experts/*/*")) == [
        f"expert_00{i}/{name}.safetensors"
        for i in range(2)
        for name in ("epoch_000", "epoch_001", "epoch_002", "latest")
    ]
    for stage in ("distill", "evaluate"):
        assert main([stage, "--run", str(run)]) == 0  # the run knows its settings
    assert main(["tile", "--run", str(run), "--out", str(tmp_path / "two.png"), "--tiles", "2"]) == 0
    assert "skipped" not in capsys.readouterr().err

    about = json.loads((run / "run.json").read_text())
    assert about["classes"] == list(IMAGESQUAWK.values())
    assert {k: about["settings"][k] for k in SQUAWK_SMALL} == SQUAWK_SMALL
    assert [about["settings"][k] for k in ("crop_size", "canvas_size", "depth")] == [128, "256x256", 5]

    result, noise = load_file(run / "textures.safetensors"), load_file(run / "frames/step_000000.safetensors")
    assert result["canvases"].shape == (10, 3, 256, 256) and result["y"].tolist() == list(range(10))
    assert np.isfinite(result["canvases"]).all() and (result["canvases"] != noise["canvases"]).any((1, 2, 3)).all()
    assert noise["canvases"].mean() == pytest.approx(0, abs=0.01) and noise["canvases"].std() == pytest.approx(
        1, abs=0.01
    )  # line 1: N(0, I)
    # 5 blocks of 8 filters and the linear layer on the 4 × 4 pixels that 128 px are halved to
    parameters = (3 * 9 + 1) * 8 + 4 * (8 * 9 + 1) * 8 + 5 * 2 * 8 + (8 * 4 * 4 + 1) * 10
    assert load_file(run / "experts/expert_001/epoch_002.safetensors")["theta"].shape == (parameters,)

    report = json.loads((run / "report.json").read_text())
    for arm in ("textures", "mosaic", "real", "noise"):
        values = report[f"accuracy_{arm}"]["values"]
        assert len(values) == 2 and all(
            v * 20 == pytest.approx(round(v * 20)) for v in values
        )  # of 20 validation images
        assert report[f"accuracy_{arm}"]["mean"] == pytest.approx(sum(values) / 2)
    for path in (run / "tiling.png", run / "loss.png", run / "accuracy.png", tmp_path / "two.png"):
        with Image.open(path) as image:
            assert image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 10, path.name


def test_labels_belong_to_their_folders(ilsvrc):
    """Label k is the k-th class of the subset, although the folders sort otherwise, and the other class of the tree
    is not read."""
    assert list(IMAGESQUAWK) != sorted(IMAGESQUAWK)
    data = load_data(f"imagesquawk:{ilsvrc}", 128)
    assert data.classes == list(IMAGESQUAWK.values())
    assert (
        np.bincount(data.train.y).tolist() == [k + 2 for k in range(10)]
        and np.bincount(data.test.y).tolist() == [2] * 10
    )
    for label, wnid in enumerate(IMAGESQUAWK):
        # The picture itself: shrunk with its aspect ratio kept, centre cropped, so the middle rows are whole rows of
        # the file, a little smaller
        file = sorted((ilsvrc / "train" / wnid).iterdir())[0]
        middle = np.asarray(
            Image.open(file).resize((146, 128), Image.Resampling.LANCZOS).crop((9, 0, 137, 128)), float
        ).transpose(2, 0, 1)
        mine = data.train.x[data.train.y == label].astype(float)
        distances = np.abs(mine - middle).mean((1, 2, 3))
        others = np.abs(data.train.x[data.train.y != label].astype(float) - middle).mean((1, 2, 3))
        assert distances.min() < 3 < others.min()


@pytest.mark.skipif(not TINY.is_dir(), reason="the Tiny ImageNet photographs do not lie beside the project")
def test_tiny_imagenet_from_end_to_end(tmp_path):
    """Tiny ImageNet in its own layout, all the way."""
    run = tmp_path / "run"
    few = dict(
        crop_size=16,
        canvas_size="32x24",
        width=4,
        depth=2,
        levels=2,
        experts=1,
        train_epochs=2,
        expert_batch=256,
        expert_epochs=1,
        min_start_epoch=0,
        max_start_epoch=1,
        student_steps=2,
        distill_steps=3,
        eval_networks=1,
        eval_epochs=2,
    )
    assert main(["demo", "--run", str(run), "--data", f"tiny-imagenet:{TINY}", *sets(**few)]) == 0
    names = dict(line.split("\t") for line in (TINY / "words.txt").read_text().splitlines())
    wanted = [names[wnid].split(",")[0] for wnid in (TINY / "wnids.txt").read_text().split()]
    assert json.loads((run / "run.json").read_text())["classes"] == wanted and len(wanted) == 10
    assert load_file(run / "textures.safetensors")["canvases"].shape == (10, 3, 24, 32)
    (value,) = json.loads((run / "report.json").read_text())["accuracy_textures"]["values"]
    images = len((TINY / "val/val_annotations.txt").read_text().splitlines())
    assert value * images == pytest.approx(round(value * images))


CLOTH_SMALL = dict(
    crop_size=16,
    canvas_size=64,
    width=6,
    depth=2,
    experts=1,
    train_epochs=5,
    expert_batch=64,
    expert_epochs=2,
    max_start_epoch=3,
    student_steps=4,
    distill_steps=4,
    eval_networks=1,
    eval_epochs=2,
)


def test_cloth_is_made_for_cloth():
    """A print has room, the repeat is that of apparel, colors stay in the range, and other shapes and repeats need
    no other setting."""
    s = make_settings("cloth")
    assert s.data == "materials" and str(s.repeat) == "half-drop" and s.parametrisation == "pyramid"
    assert tuple(side // s.crop_size for side in s.canvas_size) == (2, 2) and 0 < s.shade_range <= 1
    for size in ("256x512", "512x256", 256, 512):
        for repeat in ("grid", "half-brick", "mirror", "ribbon", "ribbon-down", "shift:0,1/4"):
            make_settings("cloth", canvas_size=size, repeat=repeat)


@pytest.mark.parametrize("changes", [{}, dict(canvas_size="128x64", repeat="ribbon")], ids=["as it is", "ribbon"])
def test_cloth_from_end_to_end(tmp_path, changes):
    """The preset with fewer images, epochs, steps and filters: nothing is clipped, and the tiles join in their
    repeat."""
    run = tmp_path / "run"
    assert main(["demo", "--run", str(run), "--preset", "cloth", *sets(**CLOTH_SMALL | changes)]) == 0
    report, s = json.loads((run / "report.json").read_text()), json.loads((run / "run.json").read_text())["settings"]
    assert len(report["clipped"]) == 10 and set(report["clipped"].values()) == {0.0}
    canvases = torch.from_numpy(load_file(run / "textures.safetensors")["canvases"])
    W, H = map(int, s["canvas_size"].split("x"))
    assert canvases.shape == (10, 3, H, W)
    plane = torch.stack([Tile(canvas, parse_repeat(s["repeat"])).tiling(2, 2) for canvas in canvases])
    for axis, n in ((2, H), (3, W)):
        steps = plane.diff(dim=axis).abs().mean((0, 1, 5 - axis))
        if len(steps) >= n:
            assert steps[n - 1] <= 1.1 * steps[torch.arange(len(steps)) != n - 1].quantile(0.95)
