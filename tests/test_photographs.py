"""Folders of photographs as people have them, made at random: every file is a picture of the right class and split
in the right colors, or it is named as left out."""

import io
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photographs import SPACES, exif, icc_profile, lying, png_with_key, quarters, stored_in
from wearable_imagenet.core import UserError, printable
from wearable_imagenet.explore.folder import FolderExplorer
from wearable_imagenet.images.cache import load_data, say_files, say_repeated
from wearable_imagenet.images.known import open_source
from wearable_imagenet.images.photo import SUFFIXES, decode_file
from wearable_imagenet.images.source import LEFT

NAMES = [
    "cat",
    "Dog",
    "木材",
    "かべ",
    "Ba$$in",
    "US$ notes, CA$ notes",
    "x_1^2",
    "été",
    "e\u0301cole",
    "back\\slash",
    "it's",
    "-rf",
    "#tag",
    "a b",
    "train",
    "übung",
    "50%",
    "{brace}",
    "C:",
    "~home",
]
SPLITS = [
    ("train", "valid"),
    ("Train", "Test"),
    ("TRAINING", "Testing"),
    ("train", "validation"),
    ("seg_train", "seg_test"),
    ("training_set", "test_set"),
    ("train", "dev"),
    ("train_images", "val_images"),
    ("trn", "tst"),
]
CLUTTER = [
    ".DS_Store",
    "._photo.jpg",
    "Thumbs.db",
    "desktop.ini",
    "Icon\r",
    "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".ipynb_checkpoints/0-checkpoint.png",
    "__MACOSX/cat/._0.png",
    "#recycle/old.png",
    "$RECYCLE.BIN/$R1.jpg",
    "System Volume Information/IndexerVolumeGuid",
    "lost+found/x.png",
]
WHITE = np.array([255, 255, 255])


def rgb(rng, low=0, high=256):
    return rng.integers(low, high, 3)


# Each way to store a picture: (rng, path without suffix, width, height) -> (path, the four colors that a screen shows,
# how far off they may be)


def plain(suffix, tolerance=2, color=rgb, mode="RGB", **how):
    def make(rng, path, w, h):
        colors = [color(rng) for _ in range(4)]
        how_now = how | (
            {} if "format" in how or suffix.lower() in Image.registered_extensions() else dict(format="PNG")
        )
        Image.fromarray(quarters(colors, w, h)).convert(mode).save(path.with_name(path.name + suffix), **how_now)
        return path.with_name(path.name + suffix), colors, tolerance

    return make


def profiled(space, suffix, tolerance):
    def make(rng, path, w, h):
        colors = [rgb(rng, 60, 200) for _ in range(4)]  # inside every space
        path = path.with_name(path.name + suffix)
        Image.fromarray(quarters([stored_in(space, c) for c in colors], w, h)).save(
            path, icc_profile=icc_profile(space), **dict(quality=95, subsampling=0) if suffix == ".jpg" else {}
        )
        return path, colors, tolerance

    return make


def turned(orientation, *odd):
    def make(rng, path, w, h):
        colors = [rgb(rng) for _ in range(4)]
        path = path.with_name(path.name + ".jpg")
        Image.fromarray(np.ascontiguousarray(lying(quarters(colors, w, h), orientation))).save(
            path, quality=95, subsampling=0, exif=exif(orientation, *odd)
        )
        return path, colors, 6

    return make


def transparent(mode, suffix):
    def make(rng, path, w, h):
        bands = 1 if mode == "LA" else 3
        colors, alphas = [rng.integers(0, 256, bands) for _ in range(4)], rng.integers(0, 256, 4)
        Image.fromarray(quarters([[*c, a] for c, a in zip(colors, alphas)], w, h), mode).save(
            path.with_name(path.name + suffix), **dict(lossless=True, exact=True) if suffix == ".webp" else {}
        )
        return (
            path.with_name(path.name + suffix),
            [(c * (a / 255) + WHITE[:bands] * (1 - a / 255)).repeat(3 // bands) for c, a in zip(colors, alphas)],
            2,
        )

    return make


def keyed(bits):
    def make(rng, path, w, h):
        levels = rng.choice(2**bits, 4, replace=2**bits < 4)
        path = path.with_name(path.name + ".png")
        squares = np.empty((h, w), np.int64)
        for k, v in enumerate(levels):
            squares[(k // 2) * (h // 2) : h if k > 1 else h // 2, (k % 2) * (w // 2) : w if k % 2 else w // 2] = v
        path.write_bytes(png_with_key(squares, bits, int(levels[0])))
        return path, [WHITE if v == levels[0] else np.full(3, round(v * 255 / (2**bits - 1))) for v in levels], 1

    return make


def palette(rng, path, w, h):
    colors = [rgb(rng) for _ in range(4)]
    image = Image.fromarray(quarters([[k] for k in range(4)], w, h)[..., 0], "P")
    image.putpalette([int(v) for c in colors for v in c])
    image.save(path.with_name(path.name + ".png"), transparency=2)
    return path.with_name(path.name + ".png"), [WHITE if k == 2 else c for k, c in enumerate(colors)], 1


def inks(rng, path, w, h):
    inks = [rng.integers(0, 256, 4) for _ in range(4)]
    Image.fromarray(quarters(inks, w, h), "CMYK").save(path.with_name(path.name + ".tif"))
    return path.with_name(path.name + ".tif"), [(255 - c[:3]) * (255 - c[3]) / 255 for c in inks], 2


def deep(rng, path, w, h):
    levels = rng.integers(0, 65536, 4)
    Image.fromarray(np.kron(levels.reshape(2, 2), np.ones((h // 2, w // 2))).astype(np.uint16)).save(
        path.with_name(path.name + ".tiff")
    )
    return path.with_name(path.name + ".tiff"), [np.full(3, v / 257) for v in levels], 1


def moving(suffix):
    def make(rng, path, w, h):
        colors = [rgb(rng) for _ in range(4)]
        frames = [Image.fromarray(quarters(c, w, h)) for c in (colors, colors[::-1])]
        frames[0].save(
            path.with_name(path.name + suffix),
            save_all=True,
            append_images=frames[1:],
            **dict(lossless=True) if suffix == ".webp" else {},
        )
        return path.with_name(path.name + suffix), colors, 6 if suffix in (".gif", ".mpo") else 2

    return make


def gray(rng):
    return np.full(3, rng.integers(0, 256))


odd_resolution = b"\x01\x1a\0\x0a\0\0\0\1\0\0\0\x40"
PICTURES = (
    [plain(s) for s in (".png", ".PNG", ".bmp", ".tif", ".ppm", ".jp2", "", ".photo")]
    + [plain(s, 6, quality=95, subsampling=0, format="JPEG") for s in (".jpg", ".JPEG", ".jfif", ".jpe", ".png", "")]
    + [
        plain(".avif", 12),
        plain(".webp", lossless=True),
        plain(".jpg", format="PNG"),
        plain(".gif", 2),
        plain(".png", 1, gray, "L"),
        plain(".tif", 1, gray, "L"),
        plain(".jpg", 6, gray, "L", format="JPEG", quality=95),
    ]
    + [profiled(space, s, t) for space in SPACES for s, t in ((".png", 4), (".jpg", 10), (".tif", 4))]
    + [turned(k) for k in range(1, 9)]
    + [turned(6, odd_resolution), turned(3, b"\x01\x1a\0\2\0\0\0\4abc\0")]
    + [
        transparent("RGBA", ".png"),
        transparent("LA", ".png"),
        transparent("RGBA", ".webp"),
        transparent("RGBA", ".tif"),
    ]
    + [keyed(b) for b in (1, 2, 4, 8, 16)]
    + [palette, inks, deep, moving(".gif"), moving(".webp"), moving(".mpo"), moving(".apng")]
)


def not_a_picture(rng, path):
    """A file that cannot be read, or a link, under some name."""
    kind = rng.integers(7)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(buffer, "JPEG")
    name = path.name + [".txt", ".jpg", ".png", ".HEIC", ".xml", ".jpg", ""][kind]
    content = [
        b"label",
        buffer.getvalue()[:900],
        b"",
        b"\0\0\0\x18ftypheic",
        b"<a/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        bytes(rng.integers(0, 256, 50, dtype=np.uint8)),
    ][kind]
    if kind == 5 and rng.random() < 0.5:
        (path.parent / name).symlink_to("nowhere.jpg")
    else:
        (path.parent / name).write_bytes(content)


def make_folder(root, rng):
    """A folder of pictures in one of many layouts → {path: (class, split or None, colors, tolerance)}."""
    classes = [NAMES[i] for i in rng.choice(len(NAMES), rng.integers(2, 5), replace=False)]
    layout, made = rng.choice(["classes", "splits", "doubled", "inside"]), {}
    train, test = SPLITS[rng.integers(len(SPLITS))]
    base = root / "data set" if rng.random() < 0.3 else root
    for name in classes:
        for split, n in (("train", 4), ("test", 3)) if layout != "classes" else ((None, 6),):
            part = {"train": train, "test": test, None: ""}[split]
            folder = {
                "classes": base / name,
                "splits": base / part / name,
                "doubled": base / part / part / name,
                "inside": base / name / part,
            }[layout]
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                where = folder / "more" / "deeper" if rng.random() < 0.15 else folder
                where.mkdir(parents=True, exist_ok=True)
                w, h = 2 * rng.integers(20, 45, 2)
                path, colors, tolerance = PICTURES[rng.integers(len(PICTURES))](
                    rng, where / f"IMG {i:03}", int(w), int(h)
                )
                made[path] = unicodedata.normalize("NFC", name), split, colors, tolerance
            if rng.random() < 0.6:
                not_a_picture(rng, folder / f"bad {rng.integers(10**6)}")
    for name in rng.choice(CLUTTER, 4, replace=False):
        place = [root, base, folder][rng.integers(3)] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"\0\5\x16\7")
    if rng.random() < 0.4:
        (root / "README.md").write_text("read me")
    if layout in ("splits", "doubled") and rng.random() < 0.5:
        (base / "unlabelled").mkdir()
        for i in range(3):
            Image.new("RGB", (40, 40)).save(base / "unlabelled" / f"{i}.png")
    return made


def named(data, root):
    """The files and folders that were named as left out."""
    return {entry.split(": ", 1)[0] for entry in data.skipped + data.notes}


@pytest.mark.parametrize("seed", range(24))
def test_every_file_is_a_picture_or_is_named(tmp_path, seed):
    rng, root = np.random.default_rng(seed), tmp_path / "my photos"
    root.mkdir()
    made = make_folder(root, rng)
    data, source = load_data(f"folder:{root}", 32), open_source(f"folder:{root}")
    if source.by_name and len(data.test) + len(data.train) and data.skipped:
        assert {*data.classes} == {m[0] for m in made.values()}
    kept = {}
    for split, part in (("train", data.train), ("test", data.test)):
        items = [i for i in source.items if i.split == split and not i.why and i.name not in named(data, root)]
        assert len(items) == len(part)
        for item, x, y in zip(items, part.x, part.y):
            kept[Path(item.image)] = x, data.classes[y], split
    assert kept.keys() == made.keys(), [p for p in kept.keys() ^ made.keys()]
    for path, (x, name, split) in kept.items():
        wanted, part, colors, tolerance = made[path]
        assert name == wanted and part in (split, None), path
        for color, (i, j) in zip(colors, ((8, 8), (8, 24), (24, 8), (24, 24))):
            assert np.abs(x[:, i, j].astype(float) - color).max() <= tolerance, (path, x[:, i, j], color)
    told = named(data, root)
    for path in (p for p in root.rglob("*") if not p.is_dir() or p.is_symlink()):
        names = [printable(p.relative_to(root)) for p in (path, *path.parents) if p != root and root in p.parents]
        assert path in kept or {*names} & told, f"{path} is lost without a word"
        assert not (path in kept and {*names} & {e.split(": ")[0] for e in data.skipped})


def test_photographs_from_telephones(tmp_path):
    """Photographs of iPhones are read where their reader is installed, upright and in the colors of their profile."""
    pytest.importorskip("pillow_heif")
    assert ".heic" in SUFFIXES
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k, suffix in enumerate((".HEIC", ".heif", ".jpg", "")):
            colors = [rgb(rng, 60, 200) for _ in range(4)]
            x = quarters([stored_in("wide gamut", c) for c in colors], 64, 80)
            Image.fromarray(x).save(
                tmp_path / name / f"IMG_{k}{suffix}", format="HEIF", quality=95, icc_profile=icc_profile("wide gamut")
            )
            found = decode_file(tmp_path / name / f"IMG_{k}{suffix}", 32)
            for color, (i, j) in zip(colors, ((8, 8), (8, 24), (24, 8), (24, 24))):
                assert np.abs(found[:, i, j].astype(float) - color).max() <= 12
    data = load_data(f"folder:{tmp_path}", 32)
    assert (len(data.train) + len(data.test), data.skipped) == (8, [])


@pytest.fixture
def twice(tmp_path):
    """A photograph in training, and in the test folder once more: as it is, saved again, made smaller; and one that
    is only like it."""
    rng = np.random.default_rng(0)

    def photo():
        return Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            (160, 120), Image.Resampling.BICUBIC
        )

    for split, n in (("train", 6), ("valid", 4)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                photo().save(tmp_path / split / name / f"{i}.png")
    one = Image.open(tmp_path / "train/cat/2.png")
    one.save(tmp_path / "valid/cat/same.png")
    one.save(tmp_path / "valid/dog/again.jpg", quality=60)
    one.resize((80, 60), Image.Resampling.LANCZOS).save(tmp_path / "valid/cat/small.webp", quality=80)
    one.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "valid/cat/mirrored.png")
    return tmp_path


def test_photographs_in_training_and_test_are_told(twice):
    data = load_data(f"folder:{twice}", 32)
    assert data.repeated == [
        f"valid/{name} = train/cat/2.png" for name in ("cat/same.png", "cat/small.webp", "dog/again.jpg")
    ]
    assert "3 of 12 test images" in say_repeated(data) and "valid/cat/same.png" in say_repeated(data)
    look = FolderExplorer(str(twice))
    assert "3 of 12 test images" in look.describe()
    look.close()


def test_thousands_of_files_are_told_in_few_lines():
    lines = say_files([f"a/{i}.txt: no picture" for i in range(5000)] + ["b/x.jpg: truncated"])
    assert lines == ["a/0.txt, a/1.txt, a/2.txt and 4997 more: no picture", "b/x.jpg: truncated"]


def test_a_folder_in_a_folder_that_may_not_be_read(tmp_path):
    """What is closed is named, too."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    (tmp_path / "cat/closed").mkdir(mode=0o000)
    if os.access(tmp_path / "cat/closed", os.R_OK):
        pytest.skip("who is root may read everything")
    assert [s.split(":")[0] for s in load_data(f"folder:{tmp_path}", 32).skipped] == ["cat/closed"]


@pytest.mark.parametrize(
    "names, words", [(("train", "training", "test"), ["train/", "training/"]), (("train",), ["too few classes"])]
)
def test_splits_that_nobody_can_guess(tmp_path, names, words):
    for name in names:
        for cls in ("cat", "dog")[: 2 if len(names) > 1 else 1]:
            (tmp_path / name / cls).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / name / cls / "0.png")
    with pytest.raises(UserError) as e:
        load_data(f"folder:{tmp_path}", 32)
    assert all(word in str(e.value) for word in words) and LEFT
