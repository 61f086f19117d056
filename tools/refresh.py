"""Run notebooks from top to bottom, as nbdev_test does, and save their outputs: python tools/refresh.py
nbs/03_repeat.ipynb …"""

import sys
from pathlib import Path

from execnb.nbio import write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.process import NBProcessor


def refresh(path: Path) -> None:
    """Run one notebook and write it back; a cell that fails stops it, and the file stays as it was."""
    notebook = NBProcessor(path, process=False, rm_directives=False).nb
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # a cell that says nothing now must not keep what it said before
    left_out = set(get_config().tst_flags.split())

    def skip(cell) -> bool:
        directives = getattr(cell, "directives_", None) or {}
        return (
            cell.cell_type != "code"
            or bool(left_out & directives.keys())
            or "false" in directives.get("eval:", [])
            or "nbdev_export(" in cell.source
        )

    with working_directory(path.parent):
        CaptureShell(path).run_all(notebook, exc_stop=True, preproc=skip)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(still, cell.outputs) if output]
    write_nb(notebook, path)


def still(output):
    """What an output says when no kernel runs: of an explorer its picture, of a progress bar nothing."""
    data = output.get("data", {})
    lives = data.pop("application/vnd.jupyter.widget-view+json", None)
    return (
        None
        if output.get("name") == "stderr" or lives and not any(kind.startswith("image/") for kind in data)
        else output
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(Path(name).absolute())
        print("refreshed", name)
