"""Run the suite as on other people's machines: python tools/hostile.py [arguments of pytest]

A copy of the checkout, in a folder with spaces and a quote in its name; matplotlib set up for somebody who writes papers;
a terminal that knows ASCII only; files that nobody else may read; no home.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (
    ".git",
    ".venv",
    "runs",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
    ".coverage*",
    ".ipynb_checkpoints",
)
MATPLOTLIBRC = "text.usetex: True\nimage.origin: lower\nsavefig.dpi: 300\n"


def main(arguments: list[str]) -> int:
    """Copy, change the surroundings, test; the exit status is pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "other people's machines"
        shutil.copytree(ROOT, place / "the project", ignore=shutil.ignore_patterns(*LEFT_OUT))
        if (ROOT.parent / "shared").is_dir():
            (place / "shared").symlink_to(ROOT.parent / "shared")
        (place / "matplotlibrc").write_text(MATPLOTLIBRC, encoding="ascii")
        os.umask(0o077)
        env = {
            k: v
            for k, v in os.environ.items()
            if k not in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHONPATH", "WEARABLE_IMAGENET_CACHE")
        }
        env |= dict(MATPLOTLIBRC=str(place / "matplotlibrc"), PYTHONIOENCODING="ascii", OMP_NUM_THREADS="1")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "tests", "--basetemp", place / "made by tests", *arguments],
            cwd=place / "the project",
            env=env,
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
