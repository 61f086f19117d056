"""The front door, as a person in a notebook uses it: one form for all images, five lines, stopped and gone on with."""

import io
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder
from tqdm.auto import tqdm

from conftest import ROOT, SMALL, assert_same
from wearable_imagenet import Project, load_images
from wearable_imagenet.core import UserError
from wearable_imagenet.images.cache import load_data

QUIET = partial(tqdm, disable=True)
needs_arrow = pytest.mark.skipif(not find_spec("pyarrow"), reason="pyarrow (the extra hf) is not installed")
needs_datasets = pytest.mark.skipif(not find_spec("datasets"), reason="datasets (the extra hf) is not installed")
NAMES = ["bark", "moss", "rust"]


def given(*args, **how):
    return load_images(*args, progress=QUIET, **how)


@pytest.fixture(scope="module")
def made():
    """Torchvision's made-up images, in the order of their labels: the truth that all forms are compared with."""
    fake = FakeData(size=60, image_size=(3, 40, 52), num_classes=3, random_offset=7)
    pairs = sorted((fake[i] for i in range(60)), key=lambda pair: int(pair[1]))
    return [(image, int(label)) for image, label in pairs]


@pytest.fixture(scope="module")
def halves(made):
    """The same in a half to train on and a half to test with."""
    return made[::2], made[1::2]


@pytest.fixture(scope="module")
def folder(halves, tmp_path_factory):
    """The same as PNG files, one folder a class."""
    root = tmp_path_factory.mktemp("one_form")
    for split, pairs in zip(("train", "test"), halves, strict=True):
        for i, (image, label) in enumerate(pairs):
            (root / split / NAMES[label]).mkdir(parents=True, exist_ok=True)
            image.save(root / split / NAMES[label] / f"{i:03}.png")
    return root


def arrays(pairs):
    return np.stack([np.asarray(image) for image, _ in pairs]), np.array([label for _, label in pairs])


def tensors(pairs):
    x, y = map(torch.from_numpy, arrays(pairs))
    return TensorDataset(x.permute(0, 3, 1, 2), y)


class Own(Dataset):
    """A data set of somebody's own."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        return self.pairs[i]


FORMS = dict(
    pairs=list, arrays=arrays, tensors=tensors, own=Own, parts=lambda p: ConcatDataset([Subset(p, range(len(p)))])
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_folder(form, halves, folder):
    train, test = map(FORMS[form], halves)
    data, truth = load_data(given(train, test=test, classes=NAMES), 32), load_data(f"folder:{folder}", 32)
    assert data.fingerprint == truth.fingerprint and data.classes == NAMES
    middle = halves[0][7][0].resize((32, 32), Image.Resampling.LANCZOS, box=(6, 0, 46, 40))  # Pillow alone
    assert (data.train.x[7].transpose(1, 2, 0) == np.asarray(middle)).all()


def test_every_form_has_one_digest_and_one_split(made):
    found = [given(make(made), classes=NAMES) for make in FORMS.values()]
    assert len({source.spec for source in found}) == 1 and found[0].spec.startswith("python:")
    assert len({tuple((i.label, i.split, i.name) for i in source.items) for source in found}) == 1
    assert sum(item.split == "test" for item in found[0].items) == 12  # a fifth
    assert len({load_data(source, 24).fingerprint for source in found}) == 1
    assert given(made[::-1], classes=NAMES).spec != found[0].spec


def test_an_image_folder_is_the_folder_with_its_transforms_off(folder):
    dull = transforms.Compose([transforms.Resize(8), transforms.ToTensor()])
    train, test = (ImageFolder(folder / half, transform=dull) for half in ("train", "test"))
    source = given(train, test=test)
    assert load_data(source, 32).fingerprint == load_data(f"folder:{folder}", 32).fingerprint
    alone, named = given(train), load_images(folder / "train")
    assert [(i.name, i.split) for i in alone.items] == [(i.name, i.split) for i in named.items]
    assert load_data(alone, 32).fingerprint == load_data(named, 32).fingerprint


def test_gray_stays_gray(made):
    gray = [(image.convert("L"), label) for image, label in made]
    assert load_data(given(gray), 32).channels == 1
    assert load_data(given(gray[:30] + made[30:]), 32).channels == 3


def test_what_cannot_be_read_is_left_out_and_named(made, tmp_path):
    made[0][0].save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    data = load_data(given([(Image.open(tmp_path / "half.png"), 0), *made]), 32)
    assert [s.split(": ")[0].split("/")[-1] for s in data.skipped] == ["half.png"]
    assert len(data.train) + len(data.test) == 60


class Restless(Own):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return transforms.RandomCrop(36)(image), label


@pytest.mark.parametrize(
    "images, said",
    [
        (lambda made: Restless(made), "is another picture each time it is asked for"),
        (
            lambda made: Own([(transforms.ToTensor()(image), y) for image, y in made]),
            "is torch.float32, not bytes|is float32",
        ),
        (lambda made: [(image.resize((9, 9)), y) for image, y in made], "train image .* is 9×9 px, smaller than"),
        (lambda made: [image for image, _ in made], "train image 0 has no label"),
        (lambda made: 7, "int has no length"),
        (lambda made: (arrays(made)[0], np.zeros(60, int)), "all images are of one class"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(images, said, made):
    with pytest.raises(UserError) as e:
        load_data(given(images(made)), 32)
    assert re.search(said, str(e.value)) and "\n" not in str(e.value)


# Tables


def write_shards(root, halves):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir(parents=True)
    for split, pairs in zip(("train", "validation"), halves, strict=True):
        files = []
        for image, _ in pairs:
            image.save(file := io.BytesIO(), "PNG")
            files.append(dict(bytes=file.getvalue(), path=None))
        names = [NAMES[label] for _, label in pairs]
        for k, part in enumerate(np.array_split(np.arange(len(pairs)), 2)):
            table = pa.table(dict(image=[files[i] for i in part], label=[names[i] for i in part]))
            pq.write_table(table, root / f"{split}-{k:05}-of-00002.parquet", row_group_size=4)


@needs_arrow
def test_a_table_is_the_folder(halves, folder, tmp_path):
    write_shards(tmp_path / "shards" / "data", halves)
    data = load_data(f"hf:{tmp_path}/shards", 32)
    assert data.fingerprint == load_data(f"folder:{folder}", 32).fingerprint
    assert load_data(f"hf:{tmp_path}/shards#label", 32).fingerprint == data.fingerprint


@needs_datasets
def test_a_name_is_found_without_a_network_where_it_was_loaded(halves, folder, tmp_path):
    """The library's own cache, as a first visit to the hub leaves it, and a process that may not use a network."""
    write_shards(tmp_path / "pets" / "data", halves)
    prepare = f"""
import datasets
builder = datasets.load_dataset_builder({str(tmp_path / "pets")!r})
place = {str(tmp_path / "cache")!r} + "/someone___pets/default/0.0.0/" + 40 * "0"
builder.download_and_prepare(place)"""
    read = f"""
from wearable_imagenet.images.cache import load_data
print(load_data("hf:someone/pets", 32).fingerprint == load_data({f"folder:{folder}"!r}, 32).fingerprint)"""
    offline = dict(HF_HOME=str(tmp_path / "home"), HF_DATASETS_CACHE=str(tmp_path / "cache"), HF_HUB_OFFLINE="1")
    for code in (prepare, read):
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | offline, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("True")


# Memory


MEASURE = """
import numpy as np, torch
from PIL import Image
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.images.given import given_source

class Made(torch.utils.data.Dataset):
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def __getitem__(self, i):
        return Image.fromarray(np.random.default_rng(i).integers(0, 256, (400, 500, 3), dtype=np.uint8)), i % 2

for source in {sources}:
    load_data(source, 16)
    with open("/proc/self/status") as f:  # of this process alone; getrusage counts its parent's, too
        print(next(int(line.split()[1]) // 1024 for line in f if line.startswith("VmHWM")))
"""


def growth(few, many):
    """MB by which the peak of a process grows when it reads many images after few."""
    code = MEASURE.format(sources=f"({few}, {many})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    return after - before


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts in /proc")
def test_memory_does_not_grow_with_a_data_set():
    """400 images more, 240 MB of pixels."""
    assert growth("given_source(Made(100))", "given_source(Made(500))") < 60


@needs_arrow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts in /proc")
def test_memory_does_not_grow_with_a_table(tmp_path):
    """1300 rows more, 200 MB of files in row groups of 16 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Image.effect_noise((400, 400), 90).convert("RGB").save(file := io.BytesIO(), "JPEG", quality=95)
    for count in (200, 1500):
        (tmp_path / str(count)).mkdir()
        rows = [dict(bytes=file.getvalue() + i.to_bytes(4, "big"), path=None) for i in range(count)]
        table = pa.table(dict(image=rows, label=[i % 2 for i in range(count)]))
        pq.write_table(table, tmp_path / str(count) / "train.parquet", row_group_size=100, compression="none")
    assert 1300 * len(file.getvalue()) > 190e6
    assert growth(repr(f"hf:{tmp_path}/200"), repr(f"hf:{tmp_path}/1500")) < 60


# Five lines


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, wearable_imagenet; print([m for m in ('torch', 'matplotlib', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_five_lines_of_the_readme(photos, tmp_path):
    """Literally, in a folder with photographs."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## In Python")[1]
    lines = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line.strip()]) == 5
    (tmp_path / "photographs").symlink_to(photos)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{lines}\nprint(type(project.explore()).__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    prints = sorted((tmp_path / "runs/first/prints").glob("*.png"))
    assert [p.name for p in prints] == ["cliff_000.png", "grass_001.png", "snow_002.png"]
    assert {Image.open(p).size for p in prints} == {(600, 600)} and "TextureStudio" in done.stdout


class Stopping(tqdm):
    """A bar on which somebody presses stop, once in each stage."""

    stopped: set = set()

    def update(self, n=1):
        super().update(n)
        if self.desc and self.n > (self.total or 0) // 2 and self.desc not in self.stopped:
            self.stopped.add(self.desc)
            raise KeyboardInterrupt


def test_a_project_that_is_stopped_is_the_command_undisturbed(undisturbed, photos, tmp_path):
    """Every stage stopped on its way and called again, each time by a new project, gives the same bytes."""
    bar, stops = partial(Stopping, file=io.StringIO()), 0
    for stage in ("train_experts", "distill", "evaluate") * 4:
        project = Project(tmp_path / "run", f"folder:{photos}", progress=bar, **SMALL)
        try:
            getattr(project, stage)()
        except KeyboardInterrupt:
            stops += 1
        except UserError:
            assert stage == "evaluate" and not project.textures_file.exists()
    assert stops >= 3
    assert_same(tmp_path / "run", undisturbed)
    assert Project(tmp_path / "run").report == project.report


def test_a_run_on_given_images_and_the_commands(made, tmp_path):
    """A command cannot find what a program had; it says so, and what to do."""
    from wearable_imagenet.cli import main

    project = Project(tmp_path / "run", given(made, classes=NAMES), progress=QUIET, **SMALL)
    textures = project.distill()
    said = "are images that were given in Python: give the same ones there again"
    file = tmp_path / "mine.safetensors"
    textures.save(file)
    for arguments in (["distill", "--run", tmp_path / "run"], ["evaluate", file]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", heard := io.StringIO())
            assert main([str(a) for a in arguments]) == 2
        assert said in heard.getvalue() and heard.getvalue().count("\n") == 1


def test_a_project_comes_back_to_what_a_command_made(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    project = Project(tmp_path / "run", progress=QUIET)
    assert len(project.distill()) == 3 and project.report == Project(undisturbed).report
    assert "of networks trained on the textures" in repr(project) and "| networks trained on |" in repr(project.report)
    assert "40 of 40" in repr(project) and "data:image/jpeg" in project._repr_html_()
