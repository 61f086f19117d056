"""What a notebook cell cannot show about images: hostile files, several processes, full disks, fresh interpreters."""

import multiprocessing
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wearable_imagenet.core import UserError, generator, printable, read_json, write_json
from wearable_imagenet.images import split
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.images.dataset import held_groups, hold_out
from wearable_imagenet.images.known import SUBSETS
from wearable_imagenet.images.source import LEFT

resource = pytest.importorskip("resource", reason="limits and forks of Unix")

FORK = multiprocessing.get_context("fork")
ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT.parent / "shared" / "data" / "tiny-imagenet-10"
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WEARABLE_IMAGENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(path, size=(40, 40), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path, **kwargs)
    return path


@pytest.fixture
def pets(tmp_path):
    for cls in ("cat", "dog"):
        for i in range(6):
            noise(tmp_path / "pets" / cls / f"{i}.png")
    return tmp_path / "pets"


def refusal(*args, **kwargs):
    with pytest.raises(UserError) as e:
        load_data(*args, **kwargs)
    assert "\n" not in str(e.value)
    return str(e.value)


def forked(function, *args):
    "Run a function in a process of its own; `answer` tells what it returned or raised."
    mine, theirs = FORK.Pipe(duplex=False)

    def body():
        try:
            theirs.send(function(*args))
        except Exception as e:
            theirs.send(e)

    process = FORK.Process(target=body)
    process.start()
    process.answers = mine
    return process


def answer(process, timeout=120):
    assert process.answers.poll(timeout)
    result = process.answers.recv()
    process.join(timeout)
    return result


def load(spec):
    data = load_data(spec, 32)
    return data.fingerprint, len(data.train)


# hostile files


def damaged(whole, kind, r):
    "A damaged copy of a file's bytes."
    if kind == "cut":
        return whole[: r.randrange(len(whole))]
    if kind == "flipped":
        b = bytearray(whole)
        for _ in range(r.randrange(1, 20)):
            b[r.randrange(len(b))] ^= 1 << r.randrange(8)
        return bytes(b)
    if kind == "middle missing":
        return whole[: len(whole) // 3] + whole[len(whole) // 2 :]
    return bytes(r.randrange(256) for _ in range(200))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tif", "ppm"])
def test_damaged_files_are_skipped_by_name_or_read(pets, suffix):
    r, bad = random.Random(suffix), []
    for i in range(40):
        path = noise(pets / "cat" / f"bad{i}.{suffix}")
        path.write_bytes(damaged(path.read_bytes(), ["cut", "flipped", "middle missing", "noise"][i % 4], r))
        bad.append(f"cat/{path.name}")
    try:
        data = load_data(f"folder:{pets}", 32)
    except UserError as e:
        assert "smaller than the crop_size" in str(e) and "cat/bad" in str(e)  # its header now states another size
    else:
        skipped = {s.split(": ")[0] for s in data.skipped}
        assert skipped <= set(bad) and len(skipped) >= 8
        assert len(data.train) + len(data.test) + len(skipped) == 12 + 40
        assert all("\n" not in s for s in data.skipped)


def test_each_kind_of_damage_has_its_name(pets):
    whole = noise(pets / "cat" / "cut.jpg", size=(64, 64)).read_bytes()
    (pets / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pets / "cat" / "empty.png").write_bytes(b"")
    (pets / "cat" / "text.webp").write_text("no image")
    (pets / "dog" / "broken-link.jpg").symlink_to("nowhere.jpg")
    (pets / "dog" / "itself.jpg").symlink_to("itself.jpg")
    (pets / "dog" / "postscript.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    names = {
        "cat/cut.jpg",
        "cat/empty.png",
        "cat/text.webp",
        "dog/broken-link.jpg",
        "dog/itself.jpg",
        "dog/postscript.jpg",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(pets / "dog" / "pipe.jpg")
        names.add("dog/pipe.jpg")
    first = load_data(f"folder:{pets}", 32)
    assert {s.split(": ")[0] for s in first.skipped} == names
    assert len(first.train) + len(first.test) == 12
    assert load_data(f"folder:{pets}", 32).skipped == first.skipped  # the second start reports them too


def test_a_png_that_claims_to_be_huge_is_skipped(pets):
    path = noise(pets / "cat" / "bomb.png")
    b = bytearray(path.read_bytes())
    b[16:24] = struct.pack(">II", 60000, 60000)
    path.write_bytes(bytes(b))
    assert [s.split(": ")[0] for s in load_data(f"folder:{pets}", 32).skipped] == ["cat/bomb.png"]


def test_odd_folders(pets):
    noise(pets / "cat" / "folder.jpg" / "inside.png")  # a folder named like an image belongs to the class
    (pets / "cat" / "loop").symlink_to(pets)  # a way back up is not followed
    noise(pets / ".git" / "x.png"), noise(pets / "cat" / "._0.png")
    (pets / "README.txt").write_text("beside the classes")
    data = load_data(f"folder:{pets}", 32)
    assert data.classes == ["cat", "dog"] and len(data.train) + len(data.test) == 13
    assert data.skipped == ["cat/loop: a link to a folder, which is not followed", "README.txt: in no class folder"]
    assert data.notes == [f"{name}: {LEFT}" for name in ("cat/._0.png", ".git")]


@pytest.mark.parametrize(
    "name", ["été Ñandú", "写真", "two\nlines", "$(touch x); '\"", " spaced ", "-rf", "#hash:colon"]
)
def test_names_of_all_kinds(tmp_path, name):
    root = tmp_path / name
    for cls in (name, "other"):
        for i in range(2):
            noise(root / cls / f"{name}{i}.jpg")
    (root / name / f"{name}bad.jpg").write_bytes(b"bad")
    data = load_data(f"folder:{root}", 32)
    assert len(data.train) + len(data.test) == 4
    assert printable(name) in data.classes
    assert len(data.skipped) == 1 and "\n" not in data.skipped[0] and printable(name) in data.skipped[0]
    assert load_data(f"folder:{root}", 32).fingerprint == data.fingerprint


def test_a_name_that_is_no_text(tmp_path):
    for cls in (b"caf\xe9", b"tea"):
        for i in range(2):
            try:
                noise(tmp_path / "drinks" / os.fsdecode(cls) / f"{i}.png")
            except OSError:
                pytest.skip("this file system takes text only")
    assert load_data(f"folder:{tmp_path}/drinks", 32).classes == ["caf\ufffd", "tea"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_nothing_readable_left_is_an_error(pets):
    for path in (pets / "dog").iterdir():
        path.write_bytes(b"bad")
    message = refusal(f"folder:{pets}", 32)
    assert "class dog has no readable train image" in message and "dog/" in message
    assert not list((pets.parent / "cache").glob("*"))


def test_random_specs_are_refused_in_one_line(tmp_path):
    r = random.Random(0)
    kinds = [
        "",
        "materials:",
        "folder:",
        "imagenet:",
        "imagesquawk:",
        "tiny-imagenet:",
        "cifar10:",
        "fashion-mnist:",
        "photos:",
    ]
    for _ in range(300):
        spec = r.choice(kinds) + "".join(r.choice("ab/#,.:~\n\té n0123456789") for _ in range(r.randrange(12)))
        if spec.startswith("materials:") or spec.startswith("folder:"):
            spec = f"{spec.split(':')[0]}s:{spec}"
        message = refusal(spec, 32)
        assert "data " in message


def test_only_the_folders_of_the_subset_are_looked_into(tmp_path, monkeypatch):
    wnids = [w for w, _ in SUBSETS["imagefruit"]]
    for part in ("train", "val"):
        for w in wnids + ["n01440764", "n02102040"]:
            noise(tmp_path / "ilsvrc" / part / w / f"{w}_1.JPEG")
    walked, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda top, *rest, **how: walked.append(Path(top).name) or walk(top, *rest, **how))
    data = load_data(f"imagefruit:{tmp_path}/ilsvrc", 128)  # 40 px: ImageNet's small images are upsampled
    assert sorted(walked) == sorted(wnids * 2) and data.size == 128
    assert data.classes == [name for _, name in SUBSETS["imagefruit"]]


# processes and disks


def test_three_processes_fill_one_cache_at_once(pets, cache):
    for i in range(150):
        noise(pets / "cat" / f"more{i}.png")
    start = FORK.Barrier(3)

    def together():
        start.wait()
        return load(f"folder:{pets}")

    running = [forked(together) for _ in range(3)]
    assert len({answer(p) for p in running}) == 1
    assert len(list(cache.iterdir())) == 1  # one entry, nothing temporary


def test_a_fresh_interpreter_decodes_nothing_and_draws_the_same_numbers(pets):
    code = """
import sys
from PIL import Image
def gone(*args, **kwargs): raise SystemExit('an image was opened')
Image.open = gone
from wearable_imagenet.core import generator
from wearable_imagenet.images.cache import load_data
print(load_data(sys.argv[1], 32).fingerprint, generator(3, 'crop', 5).initial_seed())
"""
    first = load_data(f"folder:{pets}", 32)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code, f"folder:{pets}"], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == [first.fingerprint, str(generator(3, "crop", 5).initial_seed())]


def test_killed_while_decoding(pets, cache):
    def slowly(item, *args):
        time.sleep(0.2)
        return decode(item, *args)

    def target():
        split.try_decode = slowly
        load(f"folder:{pets}")

    decode, process = split.try_decode, forked(target)
    until = time.monotonic() + 60
    while not list(cache.glob(".tmp-*/train.bin")) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert [p.name[:5] for p in cache.iterdir()] == [".tmp-"]
    assert len(load_data(f"folder:{pets}", 32).train) == 10


def test_a_full_disk(pets, cache):
    def on_a_full_disk(spec):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return load(spec)

    refused = answer(forked(on_a_full_disk, f"folder:{pets}"))
    assert isinstance(refused, UserError) and "set WEARABLE_IMAGENET_CACHE" in str(refused)
    assert not list(cache.iterdir())
    assert answer(forked(on_a_full_disk, "materials"))[1] == 680  # these fit into memory


def test_a_cache_that_cannot_be_written(pets, cache, tmp_path):
    cache.mkdir()
    cache.chmod(0o500)
    if os.access(cache, os.W_OK):  # who is root may write everywhere
        cache.rmdir()
        cache.write_text("in the way")
    assert len(load_data("materials", 32).train) == 680
    assert "set WEARABLE_IMAGENET_CACHE" in refusal(f"folder:{pets}", 32)
    cache.chmod(0o700)


def test_a_filled_cache_may_be_read_only(pets, cache):
    first = load_data(f"folder:{pets}", 32)
    for path in [*cache.rglob("*"), cache]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    assert load_data(f"folder:{pets}", 32).fingerprint == first.fingerprint
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o700)


@pytest.mark.parametrize("name", ["data.safetensors", "train.bin", "test.bin"])
@pytest.mark.parametrize("how", ["missing", "empty", "half", "pickle"])
def test_a_damaged_entry_is_made_again(pets, cache, name, how):
    first = load_data(f"folder:{pets}", 32)
    path = next(cache.iterdir()) / name
    whole = path.read_bytes()
    path.unlink()
    if how == "empty":
        path.write_bytes(b"")
    if how == "half":
        path.write_bytes(whole[: len(whole) // 2])
    if how == "pickle":
        with open(path, "wb") as f:
            np.save(f, np.array([{"code": "anything"}], object), allow_pickle=True)
    assert load_data(f"folder:{pets}", 32).fingerprint == first.fingerprint
    assert path.read_bytes() == whole


def test_writing_from_many_processes_leaves_one_whole_file(tmp_path):
    def write(k):
        for _ in range(100):
            write_json(tmp_path / "one.json", [k] * 1000)

    running = [forked(write, k) for k in range(3)]
    while any(p.is_alive() for p in running):
        if (tmp_path / "one.json").exists():
            assert len(set(read_json(tmp_path / "one.json"))) == 1
    assert [answer(p) for p in running] == [None] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["one.json"]


# what is shipped, and real photographs


def test_materials_are_small_and_all_of_them_are_packaged():
    root = ROOT / "wearable_imagenet"
    files = {p for p in (root / "materials").rglob("*") if p.is_file()}
    assert sum(p.stat().st_size for p in files) < 5e6
    patterns = ["materials/*", "materials/*/*/*.jpg"]
    text = (ROOT / "setup.py").read_text()
    assert all(f'"{p}"' in text for p in patterns)
    assert files == {p for pattern in patterns for p in root.glob(pattern) if p.is_file()}
    assert {"LICENSE.txt", "ATTRIBUTION.txt", "README.md", "manifest.csv", "DROPPED.csv"} < {p.name for p in files}


def test_the_library_reads_no_pickle():
    text = "".join(path.read_text() for path in (ROOT / "wearable_imagenet").rglob("*.py"))
    assert "import pickle" not in text and "torch.load" not in text and "allow_pickle=True" not in text


def test_hold_out_never_shows_a_picture_twice():
    r = np.random.default_rng(1)
    for seed in range(50):
        n = int(r.integers(4, 80))
        group = r.integers(-1, max(1, n // 4), n)
        held = held_groups(group, float(r.uniform(0.05, 0.95)), generator(seed, "test"))
        assert held.any() and not held.all()
        if len(np.unique(np.where(group < 0, -1 - np.arange(n), group))) > 1:
            assert not {*group[held & (group >= 0)]} & {*group[~held & (group >= 0)]}


@pytest.mark.skipif(not TINY.is_dir(), reason="tiny-imagenet-10 does not lie beside the project")
def test_real_photographs():
    data = load_data(f"tiny-imagenet:{TINY}", 64)
    assert (len(data.train), len(data.test), data.skipped, data.size) == (5000, 500, [], 64)
    wnids = (TINY / "wnids.txt").read_text().split()
    annotations = [line.split("\t")[:2] for line in (TINY / "val" / "val_annotations.txt").read_text().splitlines()]
    assert data.test.y.tolist() == [wnids.index(w) for _, w in annotations]
    for i in (0, 123, 499):
        theirs = np.asarray(
            Image.open(TINY / "val" / "images" / annotations[i][0]).convert("RGB")
        )  # 64 px: nothing to resize
        assert (data.test.x[i] == theirs.transpose(2, 0, 1)).all()
    held = hold_out(data, 0.1, seed=0)
    assert np.bincount(held.test.y).tolist() == [50] * 10
