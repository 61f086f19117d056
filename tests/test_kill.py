"""A stage that is killed goes on when it is run again, and nobody can tell from its files that it was.

All of this is about kind 8 of the faults in tests/test_harm.py: leftovers, and promises to go on.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from conftest import ROOT, SMALL, assert_same, command, results, run_command, sets, tree

# stage: all that it makes; a file that shows it is in the middle
STAGES = {
    "experts": (("run.json", "experts/"), "experts/expert_001/epoch_002.safetensors"),
    "distill": (
        ("frames/", "checkpoint.", "textures.", "tiling.", "loss.", "timelapse."),
        "frames/step_000008.safetensors",
    ),
    "evaluate": (("evaluation/", "report.json", "accuracy."), "evaluation/textures_convnet_40epochs_*_001.json"),
}


def prepare(run, stage, undisturbed):
    """A run in which every stage before this one is done."""
    shutil.rmtree(run, ignore_errors=True)
    for earlier in itertools.takewhile(lambda s: s != stage, STAGES):
        for name, content in results(undisturbed).items():
            if name.startswith(STAGES[earlier][0]):
                (run / name).parent.mkdir(parents=True, exist_ok=True)
                (run / name).write_bytes(content)


def interrupt(run, stage, undisturbed, arguments, number):
    """Send signal `number` in the middle of a stage.

    Where the machine was too busy to see the middle in time, once more.
    """
    middle = STAGES[stage][1]
    for _ in range(5):
        prepare(run, stage, undisturbed)
        # A test runner in the background may have been told to ignore signals, and its children inherit that.
        process = subprocess.Popen(
            command(*arguments),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in {signal.SIGINT, number} - {signal.SIGKILL}],
        )
        while process.poll() is None and not any(run.glob(middle)):
            time.sleep(0.01)
        process.send_signal(number)
        errors = process.communicate()[1]
        assert any(run.glob(middle)), errors
        if process.returncode:
            return process.returncode, errors
    pytest.fail(f"{stage} always ended before it could be interrupted")


def assert_whole(run):
    """What exists under its final name can be read to its end."""
    for path in run.rglob("[!.]*.safetensors"):
        with safe_open(path, "pt") as f:
            assert len(f.keys()) and json.loads(f.metadata()["about"]) is not None
            for name in f.keys():
                f.get_tensor(name)
    for path in run.rglob("[!.]*.json"):
        json.loads(path.read_text())


def assert_as_if_nothing_happened(run, stage, undisturbed):
    """All that the stage makes is there, and whatever is there equals the undisturbed run."""
    made, wanted = results(run), results(undisturbed)
    assert [name for name, content in made.items() if wanted.get(name) != content] == []
    assert [name for name in wanted if name.startswith(STAGES[stage][0]) and name not in made] == []


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_run_again(stage, tmp_path, photos, undisturbed):
    """SIGKILL leaves no time to tidy up: a power cut, the kernel out of memory, a closed laptop."""
    run = tmp_path / "run"
    arguments = [stage, "--run", run, "--data", f"folder:{photos}", *sets(**SMALL)]
    status, _ = interrupt(run, stage, undisturbed, arguments, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert_whole(run)
    run_command(*arguments)
    assert_as_if_nothing_happened(run, stage, undisturbed)


def test_stopped_with_ctrl_c(tmp_path, photos, undisturbed):
    """Ctrl-C is how people stop a run: one message, the status that shells expect, and it goes on later."""
    run = tmp_path / "run"
    arguments = ["experts", "--run", run, "--data", f"folder:{photos}", *sets(**SMALL)]
    status, errors = interrupt(run, "experts", undisturbed, arguments, signal.SIGINT)
    assert status == 130
    assert errors.splitlines()[-1] == "stopped; the same command goes on from here"
    assert errors.count("stopped") == 1 and "Traceback" not in errors and "experts:" in errors  # the bar was there
    assert_whole(run)
    run_command(*arguments)
    assert_as_if_nothing_happened(run, "experts", undisturbed)


# Every stage dies in its k-th attempt at its k-th file, whole under a temporary name and not yet renamed: the worst
# moment there is.
# Attempts are forked from one process, so that dozens of them cost no more than one start.
DIE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
from wearable_imagenet.cli import main
torch.optim.SGD([torch.zeros(1)], 1)   # loads what is slow to load
rename = os.replace
def attempt(arguments, k):
    left = k
    def replace(*names):
        nonlocal left
        left -= 1
        if not left: os.kill(os.getpid(), signal.SIGKILL)
        rename(*names)
    os.replace = replace
    os._exit(main(arguments))
run = sys.argv[sys.argv.index("--run") + 1]
for stage in ("experts", "distill", "evaluate"):
    left = set()
    for k in range(1, 1000):
        left |= {name for _, _, names in os.walk(run) for name in names if name.startswith(".tmp-")}
        pid = os.fork()
        if not pid: attempt([stage, *sys.argv[2:]], k)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != -signal.SIGKILL: break
    print(stage, k - 1, status, len(left))
"""


def test_killed_between_writing_and_renaming(tmp_path, photos, undisturbed):
    """All stages, dying again and again with a file half in place, end with the very files of the undisturbed run."""
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", DIE, ROOT, "--run", run, "--data", f"folder:{photos}", *sets(**SMALL)],
        capture_output=True,
        text=True,
    )
    deaths = [line.split() for line in done.stdout.splitlines()]
    assert [(stage, status) for stage, _, status, _ in deaths] == [(stage, "0") for stage in STAGES], done.stderr
    assert all(int(count) >= 3 and int(count) == int(left) for _, count, _, left in deaths), deaths
    assert [name for name in tree(run) if Path(name).name.startswith(".")] == []  # swept by the attempt that followed
    assert_whole(run)
    assert_same(run, undisturbed)


def test_a_killed_print_is_swept(tmp_path, undisturbed):
    """What a killed print left half written goes when the next command owns the folder."""
    run = shutil.copytree(undisturbed, tmp_path / "run")
    arguments = ["print", "--run", run, "--class", "grass"]
    process = subprocess.Popen(command(*arguments, "--sheet", "42x3600in"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((run / "prints").glob(".tmp-*")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list((run / "prints").glob(".tmp-*"))
    run_command(*arguments, "--pixels", "24")
    assert [p.name for p in (run / "prints").iterdir()] == ["grass_001.png"] and not list(run.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal(number, tmp_path, photos, undisturbed):
    """A batch system's request to end, and a terminal that is closed: as Ctrl-C."""
    run = tmp_path / "run"
    arguments = ["experts", "--run", run, "--data", f"folder:{photos}", *sets(**SMALL)]
    status, errors = interrupt(run, "experts", undisturbed, arguments, number)
    assert status == 128 + number and errors.splitlines()[-1] == "stopped; the same command goes on from here"
    assert not [name for name in tree(run) if Path(name).name.startswith(".")]


# Kills at random moments, each in a fork of one process: first an undisturbed run of every command, which says how long
# it takes and what it makes; then so many that are killed, and one that is not.
KILLS = """
import hashlib, os, random, shutil, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from wearable_imagenet.cli import main
from wearable_imagenet.cloth import gallery
torch.optim.SGD([torch.zeros(1)], 1)   # loads what is slow to load
gallery.GARMENTS = gallery.GARMENTS[:1]
run, count, rng = Path(sys.argv[2]), int(sys.argv[3]), random.Random(8)
own = ["--run", str(run)]
sheet = ["--class", "grass", "--pixels", "24", "--sheet", "40x100in"]
made = {
    "experts": ([*own, *sys.argv[4:]], ["experts"]),
    "distill": (own, ["frames", "checkpoint.safetensors", "textures.safetensors", "tiling.png"]),
    "evaluate": (own, ["evaluation", "report.json", "accuracy.png"]),
    "tile": (own, ["tiling.png"]),
    "print": ([*own, *sheet], ["prints"]),
    "gallery": ([str(run)], ["gallery.html"]),
}
def begin(name):
    pid = os.fork()
    if not pid: os._exit(main([name, *made[name][0]]))
    return pid
def end(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def contents(name):
    files = [p for top in made[name][1] for p in ([run / top] if (run / top).is_file() else (run / top).rglob("*"))]
    clock = {"report.json"}   # has the seconds
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file() and p.name not in clock}
def undo(name):
    for top in made[name][1]:
        path = run / top
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
for name in made:
    start = time.monotonic()
    assert end(begin(name)) == 0, name
    seconds, wanted, kills = time.monotonic() - start, contents(name), 0
    undo(name)
    while kills < count:
        pid = begin(name)
        time.sleep(rng.uniform(0, seconds / 2))
        os.kill(pid, signal.SIGKILL)
        status = end(pid)
        kills += status == -signal.SIGKILL
        if status == 0: undo(name)
    undone = contents(name) == wanted
    if undone: undo(name)
    assert end(begin(name)) == 0, name
    left = [str(p) for p in run.rglob(".*")]
    print(name, kills, len(wanted), contents(name) == wanted, left)
"""


@pytest.mark.skipif(os.environ.get("WEARABLE_IMAGENET_LONG") != "1", reason="120 kills take minutes: make test-long")
def test_killed_at_random_moments(tmp_path, photos):
    """120 kills over all stages, prints and galleries: no byte differs, and nothing is left over."""
    words = [sys.executable, "-c", KILLS, ROOT, tmp_path / "run", 20, "--data", f"folder:{photos}", *sets(**SMALL)]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    lines = [line.split(maxsplit=4) for line in done.stdout.splitlines() if line.count("[")]
    assert [(kills, same, left) for _, kills, _, same, left in lines] == [("20", "True", "[]")] * 6, (
        done.stdout + done.stderr[-800:]
    )
    assert all(int(count) >= 1 for _, _, count, _, _ in lines)
