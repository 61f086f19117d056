"""Every notebook runs, is in step with the library, and is fit to be committed.

One test a notebook, so that one runner counts everything.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import matplotlib
import nbformat
import pytest
import torch
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb as run_nb

from conftest import ROOT

with working_directory(ROOT):
    NOTEBOOKS = sorted(path.absolute() for path in nbglob(as_path=True))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").as_posix())


def test_notebooks_are_found():
    """nbdev's own list holds the stages: with none eligible, nbdev would call it a success."""
    wanted = [
        "00_algorithm",
        "07_network",
        "13_student",
        "17_step",
        "19_evaluate",
        "images/10_cache",
        "cloth/5_fabric",
        "explore/1_explorer",
    ]
    assert [name for name in wanted if ROOT / f"nbs/{name}.ipynb" not in NOTEBOOKS] == []
    assert NOTEBOOKS == sorted(
        path
        for path in (ROOT / "nbs").rglob("*.ipynb")
        if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT / "nbs").parts)
    )


@pytest.fixture
def clean_process():
    """Workers are reused: what a notebook changes for itself must not reach the next test."""
    threads, dtype, path = torch.get_num_threads(), torch.get_default_dtype(), sys.path[:]
    with mock.patch.dict(os.environ, IN_TEST="1"), working_directory(ROOT), matplotlib.rc_context():
        yield
    torch.set_num_threads(threads), torch.set_default_dtype(dtype), torch.set_grad_enabled(True)
    sys.path[:] = path


@each_notebook
def test_notebook_runs(path, clean_process):
    """Its cells run from top to bottom, as `nbdev_test` runs them, and every assertion in them holds."""
    ran, seconds = run_nb(path, skip_flags=get_config(path=ROOT).tst_flags.split(), basepath=ROOT)
    assert ran, "a cell failed: its traceback is in the captured stderr"
    assert seconds, "nbdev skipped the notebook"


@each_notebook
def test_notebook_is_fit_to_commit(path):
    """Small, with stable cell ids, without a saved error, and opening with what it is about."""
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    first, *_ = notebook.cells
    title, subtitle, *_ = [line for line in first.source.splitlines() if line.strip()]
    assert first.cell_type == "markdown" and title.startswith("# ") and subtitle.startswith("> ")
    assert [
        cell.id for cell in notebook.cells[1:] if cell.cell_type == "markdown" and cell.source.startswith("# ")
    ] == [], "one H1 a notebook"
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.ename for output in outputs if output.output_type == "error"] == []


def modules(root: Path) -> dict[str, bytes]:
    """Every Python file of the package."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted((root / "wearable_imagenet").rglob("*.py"))}


def test_library_is_what_the_notebooks_export(tmp_path):
    """Export never deletes, so it starts from nothing: no module is stale, edited by hand, or without a notebook."""
    shutil.copy(ROOT / "settings.ini", tmp_path)
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (tmp_path / "wearable_imagenet").mkdir()
    shutil.copy(ROOT / "wearable_imagenet/__init__.py", tmp_path / "wearable_imagenet")
    done = subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, there = modules(tmp_path), modules(ROOT)
    assert len(made) > 10 and made.keys() == there.keys()
    assert [name for name in made if made[name] != there[name]] == [], (
        "run nbdev_export, or nbdev_update after an edit by hand"
    )


def test_export_would_notice(tmp_path):
    """The comparison above depends on nothing outside the tree: one changed cell is one changed module."""
    shutil.copy(ROOT / "settings.ini", tmp_path)
    (tmp_path / "nbs").mkdir()
    text = (ROOT / "nbs/09_repeat.ipynb").read_text(encoding="utf-8")
    assert text.count("def plane_to_canvas(") == 1
    (tmp_path / "nbs/09_repeat.ipynb").write_text(
        text.replace("def plane_to_canvas(", "def plane_to_canvases("), encoding="utf-8"
    )
    done = subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "wearable_imagenet/repeat.py").read_text(encoding="utf-8")
    assert "def plane_to_canvases(" in made and made != (ROOT / "wearable_imagenet/repeat.py").read_text(
        encoding="utf-8"
    )
