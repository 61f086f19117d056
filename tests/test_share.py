"""One file to send, and files fitted to print services, as other programs see them."""

import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from conftest import ROOT, run_command, tree
from wearable_imagenet.cli import main
from wearable_imagenet.run import Run


def canvases(path):
    """Canvases of a file, read with safetensors alone."""
    with safe_open(path, "pt") as f:
        return f.get_tensor("canvases")


@pytest.fixture(scope="module")
def sent(undisturbed, tmp_path_factory):
    """The finished run, shared, and nothing else in the folder."""
    path = tmp_path_factory.mktemp("sent") / "sent.zip"
    assert main(["share", str(undisturbed), "--out", str(path), "--rights", "photographs by A. B."]) == 0
    return path


def test_zipfile_reads_it_and_its_bytes_are_the_same(sent, undisturbed, tmp_path):
    """Sums are right, pictures open, canvases are the run's in 16 bits, no path is told; another process on another
    day, in another time zone, writes the same bytes."""
    with zipfile.ZipFile(sent) as z:
        assert z.testzip() is None and {i.date_time for i in z.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        z.extractall(tmp_path / "out")
    names = {name for name in tree(tmp_path / "out") if not name.startswith("tilings/")}
    assert names == set("README.md RIGHTS.txt report.json run.json textures.safetensors tilings.jpg".split())
    assert len(list((tmp_path / "out/tilings").iterdir())) == 3
    for path in (tmp_path / "out").rglob("*.jpg"):
        with Image.open(path) as im:
            im.load()
    assert torch.equal(
        canvases(tmp_path / "out/textures.safetensors"), canvases(undisturbed / "textures.safetensors").half()
    )
    theirs = json.loads((undisturbed / "report.json").read_text())
    ours = json.loads((tmp_path / "out/report.json").read_text())
    whole = {k: v for k, v in theirs.items() if k not in ("sha256", "textures")}  # what is sent is in 16 bits
    assert {k: v for k, v in ours.items() if k != "sha256"} == whole
    page, mean = (tmp_path / "out/README.md").read_text(encoding="utf-8"), theirs["accuracy_textures"]["mean"]
    assert f"| textures | {100 * mean:.1f} ± " in page and "evaluate FILE --data folder:photos" in page
    assert "photographs by A. B." in (tmp_path / "out/RIGHTS.txt").read_text(encoding="utf-8")
    folder = json.loads((undisturbed / "run.json").read_text())["settings"]["data"].removeprefix("folder:")
    assert not any(folder.encode() in content for content in tree(tmp_path / "out").values())
    again = ["share", undisturbed, "--out", tmp_path / "again.zip", "--rights", "photographs by A. B."]
    run_command(*again, TZ="Pacific/Apia")
    assert (tmp_path / "again.zip").read_bytes() == sent.read_bytes()


def test_every_command_takes_it(sent, photos, tmp_path, capsys):
    """What is made of the shared file is what is made of its textures alone, and of the folder it was unpacked to."""
    (tmp_path / "by hand").mkdir()
    with zipfile.ZipFile(sent) as z:
        (tmp_path / "alone.safetensors").write_bytes(z.read("textures.safetensors"))
        z.extractall(tmp_path / "by hand")
    shutil.copy(sent, tmp_path / "sent.zip")
    given = {name: tmp_path / name for name in ("sent.zip", "alone.safetensors", "by hand")}
    made = {name: [] for name in given}
    for name, file in given.items():
        run = Run(file)
        assert main(["tile", str(file), "--tiles", "2", "--out", str(tmp_path / "t.png"), "--force"]) == 0
        assert main(["print", str(file), "--inches", "1", "--class", "grass"]) == 0
        made[name] = [(tmp_path / "t.png").read_bytes(), (run.place("prints") / "grass_001.png").read_bytes()]
    assert made["sent.zip"] == made["alone.safetensors"] == made["by hand"]
    capsys.readouterr()
    assert main(["evaluate", str(given["sent.zip"]), "--data", f"folder:{photos}", "--set", "eval_networks=2"]) == 0
    assert "accuracy of textures" in capsys.readouterr().out
    with zipfile.ZipFile(sent) as z:
        before = json.loads(z.read("report.json"))
    now = json.loads((tmp_path / "sent.report.json").read_text())
    assert now["accuracy_real"]["values"] == before["accuracy_real"]["values"][:2]  # the same images, networks, seeds
    assert Run(given["sent.zip"]).figures["accuracy_textures"] == now["accuracy_textures"]


# What a printer gets, by hand from its page: format, dots an inch, width and height of a tile of 4 inches, half-drop.
WANTED = {
    "spoonflower": ("PNG", 150, 600, 600, "choose Half-Drop there"),
    "caspar": ("JPEG", 150, 1200, 600, "a block of 2×1 tiles"),
    "printful": ("JPEG", 150, 1200, 600, "a block of 2×1 tiles"),
    "spod": ("PNG", 200, 1600, 800, "a block of 2×1 tiles"),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_file_for_a_printer(name, tmp_path, capsys):
    """Pillow and ExifTool find what the printer asks for; inches times dots are pixels; a block is the same cloth."""
    file, (kind, dpi, width, height, said) = ROOT / "nbs/pictures/cloth.safetensors", WANTED[name]
    assert main(["print", str(file), "--class", "pebbles", "--for", name, "--out", str(tmp_path / "a")]) == 0
    first, line, *_ = capsys.readouterr().out.splitlines()
    assert line.startswith("for ") and said in line and "than ordered" not in first
    (path,) = (tmp_path / "a").iterdir()
    with Image.open(path) as im:
        assert (im.format, im.mode, im.size, round(im.info["dpi"][0])) == (kind, "RGB", (width, height), dpi)
        assert im.info["icc_profile"] and abs(4 * im.info["dpi"][0] * (2 if width > height else 1) - width) < 0.1
        block = np.asarray(im).astype(int)
    if shutil.which("exiftool"):
        run = subprocess.run(["exiftool", "-json", path], capture_output=True, text=True, check=True)
        (told,) = json.loads(run.stdout)
        assert told["ProfileDescription"].startswith("sRGB") and (told["ImageWidth"], told["ImageHeight"]) == (
            width,
            height,
        )
    plain = ["print", str(file), "--class", "pebbles", "--dpi", str(dpi), "--out", str(tmp_path / "b")]
    assert main(plain) == 0
    (path,) = (tmp_path / "b").iterdir()
    tile = np.asarray(Image.open(path)).astype(int)
    cloth = np.concatenate([tile, np.roll(tile, height // 2, 0)], 1)[:, :width]
    assert np.abs(block - cloth).max() == 0 if kind == "PNG" else np.abs(block - cloth).mean() < 4
