"""`make bench` measures what it says, and what does not depend on the clock is as it should be."""

import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The quick benchmark, in a process of its own."""
    target = tmp_path_factory.mktemp("bench") / "bench.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tools/bench.py", "--quick", "--out", target],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text()), done.stdout


def test_every_figure_is_printed_and_kept(bench):
    """The table and the file hold the same figures, all of them finite and positive."""
    result, printed = bench
    rows = [row for name, part in result["parts"].items() if name != "curves" for row in part]
    assert all(row["figure"] in printed for row in rows) and len(rows) > 20
    assert all(0 <= row["value"] < float("inf") for row in rows)
    assert len(result["parts"]["curves"]["n"]["mib"]["rebuild"]) == 1


def test_bars_that_no_clock_decides(bench):
    """Differences and bytes read are the same on every machine."""
    rows = [row for name in ("exactness", "bytes") for row in bench[0]["parts"][name] if row["bar"]]
    assert len(rows) >= 3
    for row in rows:
        assert row["value"] <= float(row["bar"].removeprefix("≤ ")), row
