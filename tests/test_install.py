"""What people get from `pip install`: a package that works outside the checkout, with its data, and with nothing
that belongs to the workshop."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement

from conftest import ROOT, sets
from tools.hostile import LEFT_OUT
from tools.release import PLACES, find_faults

TINY_DEMO = dict(
    crop_size=8,
    canvas_size=8,
    width=4,
    depth=2,
    levels=2,
    experts=1,
    train_epochs=1,
    expert_batch=256,
    expert_epochs=1,
    min_start_epoch=0,
    max_start_epoch=0,
    student_steps=1,
    distill_steps=1,
    eval_networks=1,
    eval_epochs=1,
)


def run(*words, **how):
    """Run a program to its end, and fail with what it said."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings():
    """`settings.ini`, which says what the package is."""
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


@pytest.fixture(scope="module")
def built(once):
    """A source archive, a wheel of the checkout, and a wheel of the source archive.

    In a copy: building leaves folders behind.
    """

    def make(folder):
        shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*LEFT_OUT))
        wheel = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--quiet",
            "--wheel-dir",
        ]
        run(*wheel, folder / "wheel", ".", cwd=folder / "tree")
        run(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", folder / "sdist", cwd=folder / "tree")
        (archive,) = (folder / "sdist").iterdir()
        run(*wheel, folder / "wheel_of_sdist", archive, cwd=folder)
        shutil.rmtree(folder / "tree")

    return once("built", make)


def contents(wheel_folder):
    """name → content of the one wheel in a folder."""
    (path,) = wheel_folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_wheel_holds_the_package_and_nothing_else(built):
    """Small; every module and every embedded image with its licence; no notebooks, no tests."""
    (path,) = (built / "wheel").glob("*.whl")
    assert path.stat().st_size < 5_000_000
    found = contents(built / "wheel")
    package = {name: content for name, content in found.items() if ".dist-info/" not in name}
    wanted = {
        p.relative_to(ROOT).as_posix(): p.read_bytes()
        for p in (ROOT / "wearable_imagenet").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert {
        "wearable_imagenet/materials/LICENSE.txt",
        "wearable_imagenet/materials/ATTRIBUTION.txt",
        "wearable_imagenet/materials/manifest.csv",
    } <= wanted.keys()
    assert sum(name.endswith(".jpg") for name in wanted) > 500
    assert package.keys() == wanted.keys()
    assert [name for name in wanted if package[name] != wanted[name]] == []
    licences = {name.partition(".dist-info/licenses/")[2] for name in found}
    assert {"LICENSE", "wearable_imagenet/materials/LICENSE.txt"} <= licences, (
        "the package's own and that of the images"
    )


def test_source_archive_builds_the_same_wheel(built):
    """The source archive is complete: the wheel made from it alone holds the same files."""
    direct, detour = contents(built / "wheel"), contents(built / "wheel_of_sdist")
    assert direct.keys() == detour.keys()
    assert [name for name in direct if direct[name] != detour[name] and not name.endswith("RECORD")] == []
    (archive,) = (built / "sdist").iterdir()
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"setup.py", "settings.ini", "README.md", "LICENSE", "constraints.txt"} <= names
    assert "wearable_imagenet/materials/LICENSE.txt" in names


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A new environment with the wheel in it.

    What the package needs is lent by the present environment: nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    (wheel,) = (built / "wheel").glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    with open(f"{site}/lent.pth", "w") as f:
        f.write(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder far from the checkout, with nothing that leads back to it."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_installed_demo(installed, empty):
    """`wearable-imagenet demo` works from the wheel alone, on the embedded images, in an empty folder."""
    where = run(installed / "bin/python", "-c", "import wearable_imagenet; print(wearable_imagenet.__file__)").strip()
    assert where.startswith(f"{installed}/")
    shown = run(installed / "bin/wearable-imagenet", "demo", *sets(**TINY_DEMO))
    assert "accuracy of textures" in shown and "runs/demo/tiling.png" in shown
    assert [p.name for p in empty.iterdir()] == ["runs"]
    about = json.loads((empty / "runs/demo/run.json").read_text())
    assert about["settings"]["data"] == "materials" and len(about["classes"]) == 10
    assert about["versions"]["wearable_imagenet"] == settings()["version"]
    report = json.loads((empty / "runs/demo/report.json").read_text())
    for arm in ("textures", "mosaic", "real", "noise"):
        assert (
            report[f"accuracy_{arm}"].keys() == {"mean", "std", "values"}
            and 0 <= report[f"accuracy_{arm}"]["mean"] <= 1
        )
    assert report["matching_loss_first"] > 0 and report["matching_loss_last"] > 0
    assert {"experts", "distill", "evaluate"} <= report["seconds"].keys()


def test_installed_version(installed, empty):
    """One version everywhere: settings.ini, the module, the installed package and the command."""
    version = settings()["version"]
    assert run(installed / "bin/wearable-imagenet", "--version").strip() == version
    assert (
        run(installed / "bin/python", "-c", "import wearable_imagenet; print(wearable_imagenet.__version__)").strip()
        == version
    )


def test_every_import_is_required():
    """A clean environment has what `requirements` names and no more, so whatever the library imports must be named
    there, or in an extra."""
    imported = set()
    for path in (ROOT / "wearable_imagenet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    owners = {
        "pillow_heif": ["pillow-heif"],
        "datasets": ["datasets"],
        "pyarrow": ["pyarrow"],
        "voila": ["voila"],
        "jupyter_server": ["jupyter-server"],
    } | importlib.metadata.packages_distributions()  # extras may not be installed
    needed = {
        owners[name][0].lower().replace("_", "-")
        for name in imported - set(sys.stdlib_module_names)
        if name != "wearable_imagenet"
    }
    extras = ("", "heic_", "hf_", "studio_")
    words = " ".join(settings()[f"{extra}requirements"] for extra in extras).split()
    required = {re.split(r"[<>=!~;\[]", word)[0].lower() for word in words}
    assert {"torch", "numpy", "pillow", "safetensors"} <= needed
    assert needed - required == set()


def test_constraints_are_versions_that_the_requirements_allow():
    """`constraints.txt` has one version of everything that is required by name, and it is within the open range."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    words = " ".join(settings()[f"{extra}requirements"] for extra in ("", "dev_", "docs_", "heic_")).split()
    for requirement in map(Requirement, words):
        assert requirement.specifier.contains(tried[requirement.name.lower()], prereleases=True), requirement
    assert len(tried) == len({Requirement(word).name for word in words})


def test_this_version_can_be_released(tmp_path):
    """By the rule that the workflow asks. Without a day, with a day that is none, or with another version in any place,
    it says which file is at fault."""
    version = settings()["version"]
    assert find_faults(f"v{version}") == []
    assert find_faults(version) and find_faults("v9.9") and len(find_faults("v9.9.9")) == len(PLACES)
    for name, (before, after) in {
        "CITATION.cff": (version, "0.0.1"),
        "CHANGELOG.md": (rf"## {version} \(.*\)", f"## {version} (unreleased)"),
        "settings.ini": (f"version = {version}", f"version = {version}0"),
    }.items():
        for place in PLACES:
            (tmp_path / place).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / place, tmp_path / place)
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub(before, after, text), encoding="utf-8")
        assert [fault.split()[0] for fault in find_faults(f"v{version}", tmp_path)] == [name]
