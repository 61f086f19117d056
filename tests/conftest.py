"""What several tests share: one thread a worker, a cache of their own, a few real images, and one small run made in
peace."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # photographs that are no part of the project; may be absent
sys.path.insert(0, str(ROOT))  # the checkout is tested, whether or not it is installed

# Threads × workers stay within the cores. Set before torch is imported, and inherited by every process that a test
# starts.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_share = max(1, _cores // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
os.environ["OMP_NUM_THREADS"] = str(min(_share, int(os.environ.get("OMP_NUM_THREADS", _share))))

# The settings of a run in which every stage writes many files and ends within seconds.
SMALL = dict(
    crop_size=8,
    canvas_size="12x8",
    width=4,
    depth=2,
    levels=2,
    experts=3,
    train_epochs=12,
    expert_batch=2,
    student_steps=4,
    expert_epochs=2,
    decay="none",
    min_start_epoch=0,
    max_start_epoch=3,
    distill_steps=40,
    checkpoint_every=4,
    eval_networks=3,
    eval_epochs=40,
)


BRIEF = SMALL | dict(experts=1, train_epochs=2, expert_epochs=1, max_start_epoch=1, student_steps=1, distill_steps=2)
BRIEF |= dict(eval_networks=1, eval_epochs=2)
LONG = os.environ.get("WEARABLE_IMAGENET_LONG") == "1"


def sets(**settings) -> list[str]:
    """Settings as arguments of the command."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def options_of(name: str) -> dict[str, str]:
    """Field of a command's class → its option, or its own name where it is typed without one."""
    from wearable_imagenet.cli import find_command

    cls = find_command(name)
    hints, found = get_type_hints(cls, include_extras=True), {}
    for field in dataclasses.fields(cls):
        named = [m.name for m in getattr(hints[field.name], "__metadata__", ()) if getattr(m, "name", None)]
        option = "--" + (*named, field.name.replace("_", "-"))[0]
        found[field.name] = field.name if "Positional" in str(field.type) else option
    return found


def command(*arguments, before: str = "") -> list[str]:
    """The real command in a process of its own, from the checkout; `before` is Python that runs first."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{before}\nfrom wearable_imagenet.cli import main\nraise SystemExit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, arguments)]


def run_command(*arguments, before: str = "", **environment) -> subprocess.CompletedProcess:
    """Run the command to its end; fail with what it said if it did not succeed."""
    done = subprocess.run(
        command(*arguments, before=before), env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what is in it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def results(run: Path) -> dict[str, bytes]:
    """A run without what depends on the clock, or on a process that was killed while it wrote."""
    files = {
        name: content
        for name, content in tree(run).items()
        if not Path(name).name.startswith(".tmp-") and name != "seconds.json"
    }
    with contextlib.suppress(KeyError, ValueError, AttributeError):  # it may be damaged, or missing
        report = json.loads(files["report.json"])
        assert report.pop("seconds") and report.pop("sha256")
        files["report.json"] = json.dumps(report).encode()
    return files


def assert_same(run: Path, other: Path):
    """Two runs are the same, bit for bit. Names the files that differ instead of printing them."""
    a, b = results(run), results(other)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)`: a folder that `make(folder)` fills for the first worker that asks, and that all workers
    then read."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def get(name, make):
        with FileLock(base / f"{name}.lock"):
            if not (base / name).exists():
                shutil.rmtree(base / f"{name}.new", ignore_errors=True)
                (base / f"{name}.new").mkdir()
                make(base / f"{name}.new")
                (base / f"{name}.new").rename(base / name)
        return base / name

    return get


@pytest.fixture(scope="session", autouse=True)
def cache(once):
    """Decoded images go where the tests' other files go, never into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEARABLE_IMAGENET_CACHE", str(once("cache", lambda folder: None)))
        yield


@pytest.fixture(scope="session")
def photos(once):
    """Three classes of real images, eight to train on and four to test on, as a folder that anybody could have."""

    def make(folder):
        for split, count in (("train", 8), ("test", 4)):
            for name in ("cliff", "grass", "snow"):
                (folder / split / name).mkdir(parents=True)
                found = sorted((ROOT / "wearable_imagenet/materials" / split / name).glob("*.jpg"))[:count]
                assert len(found) == count
                for path in found:
                    shutil.copy(path, folder / split / name)

    return once("photos", make)


@pytest.fixture(scope="session")
def undisturbed(once, photos):
    """The run that others are compared with: every stage, in one process that nothing disturbed."""
    return once(
        "undisturbed", lambda folder: run_command("demo", "--run", folder, "--data", f"folder:{photos}", *sets(**SMALL))
    )


@pytest.fixture(scope="session")
def site(once):
    """The site, built from this checkout; a long test, for it takes half a minute."""
    if os.environ.get("WEARABLE_IMAGENET_LONG") != "1":
        pytest.skip("the site is built where WEARABLE_IMAGENET_LONG=1 asks for it: make test-long")
    pytest.importorskip("myst_nb", reason="what builds the site is missing: python -m pip install -e '.[docs]'")

    def make(folder):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/website.py", folder], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return once("site", make) / "html"
