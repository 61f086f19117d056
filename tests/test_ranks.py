"""Several processes, one run: real ranks on this machine, which meet over loopback, end with the files of one process.

Ranks are forked from one process that has loaded everything, so that dozens of them cost no more than one start; one
test starts them with torchrun itself. `make test-long` (WEARABLE_IMAGENET_LONG=1) kills in every stage and goes on with
every number of ranks.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import ROOT, SMALL, assert_same, sets, tree
from test_kill import STAGES, assert_as_if_nothing_happened, assert_whole, prepare

LONG = os.environ.get("WEARABLE_IMAGENET_LONG") == "1"

# Reads one job a line, starts its ranks, harms them as the job says, and answers with what each said and how it ended.
SERVER = """
import glob, json, os, resource, signal, sys, time
os.environ["WORLD_SIZE"] = "1"   # as ranks are started: the package then keeps libraries quiet
sys.path.insert(0, sys.argv[1])
import torch
from wearable_imagenet.cli import main
from wearable_imagenet.ranks import team
torch.optim.SGD([torch.zeros(1)], 1)   # loads what is slow to load

def rank(job, number, out):
    os.environ.update(job["environment"][number])
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1); os.dup2(fd, 2)
    sys.stdout = sys.stderr = os.fdopen(fd, "w", buffering=1)
    team.SILENT, team.SECOND = job.get("silent", 45.0), 0.2
    if job.get("full") == number:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
    status = main(job["arguments"])
    sys.stdout.flush()
    os._exit(status)

for line in sys.stdin:
    job = json.loads(line)
    outs = [f"{job['out']}.{k}" for k in range(len(job["environment"]))]
    pids, ended, start, killed = [], {}, time.monotonic(), None
    for k, out in enumerate(outs):
        pid = os.fork()
        if not pid: rank(job, k, out)
        pids.append(pid)
    while len(ended) < len(pids):
        for k, pid in enumerate(pids):
            if k not in ended:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done: ended[k] = os.waitstatus_to_exitcode(status)
        if job.get("kill") and killed is None and glob.glob(job["kill"][1]):
            os.kill(pids[job["kill"][0]], job["kill"][2]); killed = time.monotonic()
        if time.monotonic() - start > 100:
            for k, pid in enumerate(pids):
                if k not in ended: os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    said = [open(out).read() for out in outs]
    print(json.dumps([[ended[k] for k in range(len(pids))], said, killed and time.monotonic() - killed]), flush=True)
"""


def torchrun(count):
    """What torchrun tells each of its ranks."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        meeting = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(s.getsockname()[1]), WORLD_SIZE=str(count))
    return [meeting | dict(RANK=str(k), LOCAL_RANK=str(k)) for k in range(count)] if count > 1 else [{}]


def srun(count):
    """What srun tells each of its tasks."""
    (first, *_) = torchrun(2)
    step = dict(SLURM_STEP_NUM_TASKS=str(count), SLURM_STEP_NODELIST="localhost", SLURM_JOB_ID="7", SLURM_STEP_ID="0")
    step |= dict(MASTER_PORT=first["MASTER_PORT"])
    return [step | dict(SLURM_PROCID=str(k), SLURM_LOCALID=str(k)) for k in range(count)]


class Ranks:
    """Jobs of several ranks."""

    def __init__(self, folder):
        self.out, self.count = folder / "out", 0
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, count, *arguments, environment=torchrun, **harm):
        self.count += 1
        job = dict(arguments=[*map(str, arguments)], environment=environment(count), out=f"{self.out}{self.count}")
        print(json.dumps(job | harm), file=self.server.stdin, flush=True)

    def __call__(self, count, *arguments, **how):
        """Exit statuses, what each rank said, and the seconds that it took after a kill."""
        self.begin(count, *arguments, **how)
        return json.loads(self.server.stdout.readline())

    def succeed(self, count, *arguments, **how):
        statuses, said, _ = self(count, *arguments, **how)
        assert statuses == [0] * count, said
        assert not any(said[1:]), said  # only the first is heard
        return said[0]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, cache):
    jobs = Ranks(tmp_path_factory.mktemp("ranks"))
    yield jobs
    jobs.server.stdin.close()
    jobs.server.wait(90)


def lines(said):
    """What ranks said, without progress bars."""
    return [line for text in said for line in text.replace("\r", "\n").splitlines() if "wearable-imagenet:" in line]


def arguments(stage, run, photos, **settings):
    return [stage, "--run", run, "--data", f"folder:{photos}", *sets(**SMALL | settings)]


@pytest.mark.parametrize("count", [2, *[4] * LONG])
def test_all_stages_on_several_ranks(count, ranks, tmp_path, photos, undisturbed):
    """Experts, textures, accuracies and the report are those of one process, bit for bit."""
    ranks.succeed(count, *arguments("demo", tmp_path / "run", photos))
    assert_same(tmp_path / "run", undisturbed)
    assert not [name for name in tree(tmp_path / "run") if name.startswith(".")]


SOME_CANVASES = dict(
    optimiser="adam", start="mosaic", pixel_lr=0.05, ema=0.9, label_lr=0.1, student_batch=1, student_steps=2
)


@pytest.mark.parametrize("trajectories, counts", [(3, (2,)), *[(4, (2, 3, 4)), (1, (3,))] * LONG])
@pytest.mark.parametrize("more", [SOME_CANVASES, *[{}, dict(ema=0.9, start="mosaic", canvases_per_class=2)] * LONG])
def test_draws_are_spread_over_ranks(trajectories, counts, more, ranks, tmp_path, photos, undisturbed):
    """One rank with K draws equals K ranks with one each, to the last bit: they are added in one order, and the ranks
    own canvases, of which a step draws some. With four ranks and three canvases one rank owns none."""
    for count in (1, *counts):
        prepare(tmp_path / f"{count}", "distill", undisturbed)
        (tmp_path / f"{count}/run.json").unlink()
        settings = more | dict(trajectories=trajectories, distill_steps=12)
        ranks.succeed(count, *arguments("distill", tmp_path / f"{count}", photos, **settings))
        assert_same(tmp_path / f"{count}", tmp_path / "1")


HARMED = {"experts": (1, 3), "distill": (1, 1), "evaluate": (0, 2)}  # stage: who is killed, how many go on
EVERY = [(stage, who, count) for stage in STAGES for who in (0, 1) for count in (1, 2, 3)]


@pytest.mark.parametrize("stage, who, count", EVERY if LONG else [(s, *how) for s, how in HARMED.items()])
def test_a_rank_is_killed(stage, who, count, ranks, tmp_path, photos, undisturbed):
    """The other rank ends within seconds, in one line; any number of ranks go on, as if nothing had happened."""
    run = tmp_path / "run"
    for _ in range(5):  # where the machine was too busy to see the middle in time, once more
        prepare(run, stage, undisturbed)
        job = arguments(stage, run, photos)
        statuses, said, seconds = ranks(2, *job, kill=[who, str(run / STAGES[stage][1]), signal.SIGKILL], silent=3.0)
        if seconds is not None and statuses[who] == -signal.SIGKILL and statuses[1 - who]:
            break
    else:
        pytest.fail(f"{stage} always ended before it could be harmed: {statuses}")
    assert statuses[1 - who] == 1 and seconds < 30, said
    assert len(lines(said)) == 1 and f"rank {1 - who} of 2: " in lines(said)[0], said
    assert "the same command goes on" in lines(said)[0], said
    assert_whole(run)
    ranks.succeed(count, *job, environment=srun if count == 3 else torchrun)
    assert_as_if_nothing_happened(run, stage, undisturbed)


def test_a_rank_has_no_room(ranks, tmp_path, photos, undisturbed):
    """What a disk refuses one rank is told once, with its number, and ends all; with room it goes on."""
    job = arguments("experts", tmp_path / "run", photos)
    statuses, said, _ = ranks(2, *job, full=1)
    assert statuses == [1, 1] and len(lines(said)) == 1, said
    assert "wearable-imagenet: rank 1 of 2: " in lines(said)[0] and "File too large" in lines(said)[0], said
    assert_whole(tmp_path / "run")
    ranks.succeed(2, *job)
    assert_as_if_nothing_happened(tmp_path / "run", "experts", undisturbed)


def test_two_jobs_on_one_folder(ranks, tmp_path, photos):
    """The second comes back with one line; the first does not notice, and goes on until it is killed."""
    run, other = tmp_path / "run", Ranks(tmp_path)
    job = arguments("experts", run, photos, train_epochs=4000, keep_epochs=5)
    other.begin(2, *job, kill=[1, str(tmp_path / "stop"), signal.SIGKILL], silent=3.0)
    while not any(run.glob("experts/*/latest*")):
        time.sleep(0.01)
    statuses, said, _ = ranks(2, *job)
    assert statuses == [2, 2] and len(lines(said)) == 1, said
    assert "rank 0 of 2: " in lines(said)[0] and "is in use: process" in lines(said)[0]
    (tmp_path / "stop").touch()
    assert json.loads(other.server.stdout.readline())[0] == [1, -signal.SIGKILL]
    other.server.stdin.close()
    other.server.wait(20)


def test_a_mistake_is_told_once(ranks, tmp_path, photos):
    """By the parser, by the settings, and by what looks at finished textures, of which there are none."""
    for job in (
        ["experts", "--fly"],
        arguments("demo", tmp_path / "run", photos, width=0),
        ["tile", "--run", tmp_path],
    ):
        statuses, said, _ = ranks(2, *job)
        assert statuses[0] == 2 and sum(text.count("wearable-imagenet:") for text in said) <= 1, said
        assert not said[1] or not said[0].count("wearable-imagenet:"), said
    assert not (tmp_path / "run").exists()


def test_torchrun(tmp_path, photos, undisturbed):
    """The command of the how-to page."""
    run = tmp_path / "run"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = [*start, "-m", "--", "wearable_imagenet", *map(str, arguments("experts", run, photos))]
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    done = subprocess.run(job, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert_as_if_nothing_happened(run, "experts", undisturbed)
    assert done.stderr.count("experts: 100%") >= 1
