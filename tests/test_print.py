"""Printing, as a maker and a printer meet it: the command in a process of its own, and other programs that read its
files."""

import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT, command, run_command, tree
from wearable_imagenet.cli import main
from wearable_imagenet.textures import Textures

DEMO = ROOT / "nbs/results/materials.safetensors"
CLASSES = ["dirt", "paving"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder that holds nothing but two textures: that is all printing needs."""
    folder, t = tmp_path_factory.mktemp("run"), Textures.load(DEMO)
    keep = [t.classes.index(name) for name in CLASSES]
    dataclasses.replace(t, canvases=t.canvases[keep], y=torch.arange(2), classes=CLASSES).save(
        folder / "textures.safetensors"
    )
    return folder


def print_to(out, run, *arguments, **how):
    """`wearable-imagenet print` into a folder; the files it made."""
    run_command("print", "--run", run, "--out", out, *arguments, **how)
    return sorted(out.iterdir())


def walk(path):
    """Every chunk of a PNG, its checksum tried, without any PNG library: {kind: [content, …]}."""
    data, at, found = path.read_bytes(), 8, {}
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + n]
        assert struct.unpack(">I", data[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + content)
        found.setdefault(kind.decode(), []).append(content)
        at += 12 + n
    assert kind == b"IEND"
    return found


def test_png_chunk_by_chunk(run, tmp_path):
    """A sheet in many strips, decoded by hand: header, size of a pixel, profile, texts, and every row of the right
    length."""
    (path,) = print_to(
        tmp_path, run, "--class", "paving", "--inches", "3", "--sheet", "21x14in", "--repeat", "half-drop"
    )
    found = walk(path)
    width, height, depth, color, *_ = struct.unpack(">IIBBBBB", found["IHDR"][0])
    assert (width, height, depth, color) == (3150, 2100, 8, 2) and len(found["IDAT"]) > 1
    assert struct.unpack(">IIB", found["pHYs"][0]) == (5906, 5906, 1)  # 150 dots an inch, in dots a metre
    name, profile = found["iCCP"][0].split(b"\0", 1)
    assert zlib.decompress(profile[1:])[36:40] == b"acsp" and list(found)[:2] == ["IHDR", "iCCP"]
    texts = dict(content.split(b"\0", 1) for content in found["tEXt"])
    assert (
        texts[b"Title"] == b"paving"
        and texts[b"Repeat"] == b"half-drop"
        and b"CC BY-SA 3.0" in texts[b"Copyright"]
        and len(texts[b"Run"]) == 12
    )
    rows = np.frombuffer(zlib.decompress(b"".join(found["IDAT"])), np.uint8).reshape(2100, 1 + 3 * 3150)
    assert (rows[:, 0] == 1).all()
    pixels = np.cumsum(rows[:, 1:].reshape(2100, 3150, 3), 1, dtype=np.uint8)  # undo "difference to the left"
    assert (pixels[:450, :450] == pixels[225:675, 450:900]).all() and (
        pixels[:450, :450] == pixels[450:900, :450]
    ).all()


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_another_program_reads_it(kind, run, tmp_path):
    """ExifTool and ImageMagick find size, resolution, profile, title and licence, and no chroma subsampling."""
    (path,) = print_to(
        tmp_path, run, "--class", "paving", "--cm", "5", "--dpi", "254", "--sheet", "10x8cm", "--format", kind
    )
    with Image.open(path) as im:
        im.load()
        assert im.size == (1000, 800) and round(im.info["dpi"][0]) == 254 and im.info["icc_profile"][36:40] == b"acsp"
    tools = [name for name in ("exiftool", "identify") if shutil.which(name)]
    if "exiftool" in tools:
        (told,) = json.loads(
            subprocess.run(["exiftool", "-json", path], capture_output=True, text=True, check=True).stdout
        )
        assert (told["ImageWidth"], told["ImageHeight"]) == (1000, 800) and told["ProfileDescription"].startswith(
            "sRGB"
        )
        assert round(told["PixelsPerUnitX"] * 0.0254 if kind == "png" else told["XResolution"]) == 254
        assert (
            "paving" in told["Title" if kind == "png" else "ImageDescription"]
            and "CC BY-SA 3.0" in told["Copyright"]
            and told["Software"] == "wearable-imagenet"
        )
        if kind == "jpeg":
            assert told["YCbCrSubSampling"].startswith("YCbCr4:4:4")
    if "identify" in tools:
        form = "%w %h %[resolution.x] %[units] %[icc:description] %[colorspace] %Q"
        width, height, dots, unit, *icc, space, quality = subprocess.run(
            ["identify", "-format", form, path], capture_output=True, text=True, check=True
        ).stdout.split()
        assert (width, height, space, icc[0]) == ("1000", "800", "sRGB", "sRGB")
        assert round(float(dots) * (2.54 if unit == "PixelsPerCentimeter" else 1)) == 254
        if kind == "jpeg":
            assert int(quality) >= 95
    if not tools:
        pytest.skip("neither exiftool nor ImageMagick is installed: only Pillow read the file")


PEAK = """
import atexit, re, sys
from pathlib import Path
atexit.register(lambda: print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024, file=sys.stderr))
"""


def print_and_watch(out, run, *arguments):
    """Print in a process of its own: its peak memory in bytes, and the file."""
    done = run_command("print", "--run", run, "--out", out, "--class", "paving", *arguments, before=PEAK)
    (path,) = out.iterdir()
    return int(done.stderr.splitlines()[-1]), path


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells a process's peak memory")
def test_a_yard_and_ten(run, tmp_path):
    """A yard at 150 dpi takes under 1 GB; ten yards take no more memory than one.

    (How long they take: `make bench`.)
    """
    memory, path = print_and_watch(
        tmp_path / "one", run, "--inches", "12", "--sheet", "42x36in", "--repeat", "half-drop"
    )
    assert memory < 1e9
    with Image.open(path) as im:
        assert im.size == (6300, 5400)
    ten, path = print_and_watch(tmp_path / "ten", run, "--inches", "4", "--sheet", "42x360in")
    assert ten < 1.05 * memory
    found = walk(path)
    assert struct.unpack(">II", found["IHDR"][0][:8]) == (6300, 54000)


def test_a_stopped_print_leaves_nothing(run, tmp_path):
    """Ctrl-C in the middle of a long sheet: exit status 130, and neither the file nor a part of it."""
    process = subprocess.Popen(
        command("print", "--run", run, "--out", tmp_path / "out", "--class", "dirt", "--sheet", "42x3600in"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    limit = time.monotonic() + 60
    while (
        time.monotonic() < limit and not (parts := list((tmp_path / "out").glob(".tmp-*"))) and process.poll() is None
    ):
        time.sleep(0.02)
    assert parts, "nothing was being written"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"stopped" in err and list((tmp_path / "out").iterdir()) == []


def test_no_name_leads_out_and_nothing_is_overwritten(run, tmp_path, capsys):
    """Hostile class names stay in the folder that was chosen; a second print is refused, with --force it replaces."""
    t = Textures.load(run / "textures.safetensors")
    bad = tmp_path / "bad"
    dataclasses.replace(t, classes=["../../../escaped", "a/../$x^$\n\0b"]).save(bad / "textures.safetensors")
    (tmp_path / "chosen").mkdir()
    args = list(map(str, ["print", "--run", bad, "--out", tmp_path / "chosen", "--inches"]))
    assert main([*args, "1", "--proof"]) == main([*args, "1"]) == 0
    files = list((tmp_path / "chosen").iterdir())
    assert len(files) == 4 and all(path.name == os.path.basename(path) and path.is_file() for path in files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "chosen"] and not list(
        tmp_path.parent.glob("escaped*")
    )
    before = tree(tmp_path)
    capsys.readouterr()
    assert main([*args, "2"]) == 2 and "--force" in capsys.readouterr().err and tree(tmp_path) == before
    assert main([*args, "2", "--force"]) == 0
    assert Image.open(tmp_path / "chosen/escaped_000.png").size == (300, 300)


def test_two_inks_for_gray_data(run, tmp_path):
    """Gray textures in two inks: all colors lie on the line between them."""
    t = Textures.load(run / "textures.safetensors")
    dataclasses.replace(t, canvases=t.canvases[:, :1], mean=t.mean[:1], std=t.std[:1]).save(
        tmp_path / "gray/textures.safetensors"
    )
    path = print_to(tmp_path / "out", tmp_path / "gray", "--inches", "1", "--tone", "0.8", "--inks", "#1b2a49,#f4efe6")[
        0
    ]
    pixels = np.asarray(Image.open(path)).astype(float)
    dark, light = np.array([0x1B, 0x2A, 0x49]), np.array([0xF4, 0xEF, 0xE6])
    share = (pixels[..., :1] - dark[0]) / (light - dark)[0]
    assert share.min() >= 0 and share.max() <= 1 and np.ptp(share) > 0.3
    assert np.abs(dark + share * (light - dark) - pixels).max() <= 1
