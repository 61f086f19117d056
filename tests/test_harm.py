"""Harm: damaged files, hostile settings and arguments, commands at the same moment, disks that fill. Each command ends
within seconds in one line, or with the very result of the undamaged run.

`make test` tries every so many cases; `make test-long` (WEARABLE_IMAGENET_LONG=1) tries all of them. Twelve kinds of
fault were once seen; the test of each says which it is of: search for "kind 7".
"""

import contextlib
import dataclasses
import io
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import psutil
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save

from conftest import ROOT, SMALL, options_of, results, sets, tree
from wearable_imagenet import distill
from wearable_imagenet.cli import COMMANDS, find_command, main
from wearable_imagenet.cloth import gallery
from wearable_imagenet.core import UserError, content_digest
from wearable_imagenet.images.cache import entry_folder, load_data
from wearable_imagenet.images.known import open_source
from wearable_imagenet.run import Run
from wearable_imagenet.settings import DistillSettings, make_settings, settings_text

LONG = os.environ.get("WEARABLE_IMAGENET_LONG") == "1"
SECONDS, BYTES = 10, 2 * 10**9
ONE = ["--class", "grass", "--pixels", "24"]

# A kind of file → where one lies, and the commands that read it. What the cache keeps of the images is one, too.
KINDS = {
    "settings": ("run.json", "experts distill evaluate demo check fork share runs"),
    "epoch": ("experts/expert_001/epoch_002.safetensors", "experts distill demo check fork"),
    "latest": ("experts/expert_001/latest.safetensors", "experts distill demo check fork runs"),
    "checkpoint": ("checkpoint.safetensors", "distill evaluate demo check fork runs"),
    "frame": ("frames/step_000008.safetensors", "distill demo check fork"),
    "textures": ("textures.safetensors", "tile print evaluate distill gallery demo check share runs"),
    "result": ("evaluation/*", "evaluate demo check"),
    "seconds": ("seconds.json", "experts evaluate demo check"),
    "report": ("report.json", "evaluate gallery demo check share runs"),
    "data": ("cache/*/data.safetensors", "experts evaluate check fork"),
    "images": ("cache/*/train.bin", "experts evaluate check fork"),
}
# A command → what it makes. A damaged frame is made again by `check --repair`; `distill` draws the film without it.
MADE = {
    "experts": ("experts/",),
    "distill": ("textures.", "checkpoint.", "experts/"),
    "evaluate": ("evaluation/", "report.json"),
    "tile": ("tiling.",),
    "print": ("prints/",),
    "gallery": ("gallery.",),
    "share": ("shared.zip",),
    "check": ("experts/", "evaluation/", "frames/", "textures.", "run.json", "loss.", "tiling."),
    "demo": ("textures.", "checkpoint.", "experts/", "evaluation/", "report.json"),
    "fork": ("experts/", "checkpoint.", "run.json"),  # in another folder
    "runs": (),
}
READ_NO_RUN = {"printers", "settings", "studio"}
SLOW = {"demo", "distill", "gallery"}


# Damage


def about_of(path):
    with safe_open(path, "pt") as f:
        return {name: f.get_tensor(name) for name in f.keys()}, json.loads(f.metadata()["about"])


def rewritten(path, change):
    """A file whose contents were changed by a program that knows how to write digests."""
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        record.pop("sha256", None)
        record = change(record)
        text = dict(sha256=content_digest(record), **record) if isinstance(record, dict) else record
        return json.dumps(text).encode()
    tensors, about = about_of(path)
    about.pop("sha256", None)
    tensors, about = change(tensors, about)
    if isinstance(about, dict):
        about = about | dict(sha256=content_digest(about, tensors))
    return save(tensors, {"about": json.dumps(about)})


def flipped(data, rng):
    at, data = rng.randrange(len(data) * 8), bytearray(data)
    data[at // 8] ^= 1 << at % 8
    return bytes(data)


def tensor_changes(tensors, rng):
    """What no such file may hold."""
    for name in rng.sample(sorted(tensors), min(3, len(tensors))):
        yield from changes_of(name, tensors[name])
    yield lambda ts, a: (ts, {})
    yield lambda ts, a: (ts, [1, 2])
    yield lambda ts, a: (ts, None)
    yield lambda ts, a: (ts, {key: 10**30 for key in a})


def changes_of(name, t):
    nan = t.double().clone()
    nan.view(-1)[:1] = float("nan")
    yield lambda ts, a: ({n: v for n, v in ts.items() if n != name}, a)
    yield lambda ts, a: (ts | {name: t.unsqueeze(0)}, a)
    yield lambda ts, a: (ts | {name: nan}, a)
    yield lambda ts, a: (ts | {name: t.to(torch.complex64)}, a)
    yield lambda ts, a: (ts | {name: torch.full_like(t, -7) if name in ("y", "student_lr", "losses") else nan}, a)


JSON_CHANGES = (
    lambda r: [r],
    lambda r: 7,
    lambda r: {k: None for k in r},
    lambda r: {k: -1 for k in r},
    lambda r: {k: float("nan") for k in r},
    lambda r: {k: "\x1b[31m" for k in r},
    lambda r: {k: [[[]]] for k in r},
)


def damages(path, others, rng):
    """Name → how the file is damaged: its new contents, or a function of the path."""
    data = path.read_bytes()
    for i in range(24):
        yield f"bit {i}", flipped(data, rng)
    for i in range(8):
        yield f"cut {i}", data[: rng.randrange(len(data) - 8)]
    yield "empty", b""
    yield "noise", rng.randbytes(len(data))
    yield "more", data + b"\0" * 9
    yield "deep", b"[" * 10**5
    for other in others:
        yield f"taken from {other.name}", other.read_bytes()
    if path.suffix == ".json":
        for i, change in enumerate(JSON_CHANGES):
            yield f"values {i}", rewritten(path, change)
    elif path.suffix == ".safetensors":
        for i, change in enumerate(tensor_changes(about_of(path)[0], rng)):
            yield f"tensors {i}", rewritten(path, change)
    yield "a folder", lambda p: p.mkdir()
    yield "a pipe", lambda p: os.mkfifo(p)
    yield "a link to a device", lambda p: p.symlink_to("/dev/zero")
    yield "a link to itself", lambda p: p.symlink_to(p)


def file_of(run, kind):
    return sorted(run.glob(KINDS[kind][0]))[-1]


def damaged_files(seen):
    """Kind → what is done to its file, each in one way: the same in every process."""
    files = {kind: file_of(seen, kind) for kind in KINDS}
    same = lambda kind: [p for k, p in files.items() if k != kind and p.suffix == files[kind].suffix]
    return {kind: list(damages(path, same(kind), random.Random(f"13 {kind}"))) for kind, path in files.items()}


def file_cases(kind, made):
    """(damage, command): all of them, or one for every command that is quick."""
    cases = [(damage, name) for damage in made for name in KINDS[kind][1].split()]
    random.Random(f"13 {kind}").shuffle(cases)
    return cases if LONG else list({name: (damage, name) for damage, name in cases if name not in SLOW}.values())


# The commands


@contextlib.contextmanager
def limits():
    """At most so many seconds of work, six times as many of waiting, and so much more memory."""

    def late(*_):
        raise KeyboardInterrupt

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late), signal.signal(signal.SIGPROF, late)
    signal.alarm(6 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + BYTES, hard))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGPROF, before[1])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fork_of(run):
    return run.with_name(f"{run.name}-new")


def words_of(name, run):
    where = [run] if name in ("gallery", "check", "share", "fork", "runs") else ["--run", run]
    more = {"print": ONE, "check": ["--repair"], "fork": [fork_of(run), "--from", "checkpoint"]}
    more["share"] = ["--out", run / "shared.zip"]
    return [name, *map(str, [*where, *more.get(name, [])])]


def call(arguments):
    """Exit status, what was said in lines of the program's own, and all that was said."""
    out, err = io.StringIO(), io.StringIO()
    with limits(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as e:  # of the parser
            status = e.code
    said = [line.rsplit("\r", 1)[-1] for line in err.getvalue().splitlines()]
    return (
        status,
        [line for line in said if line.startswith(("wearable-imagenet", "stopped", "Traceback"))],
        out.getvalue() + err.getvalue(),
    )


def assert_told(status, lines, whole):
    assert status in (1, 2) and len(lines) >= 1, whole[-800:]
    assert "fault of the program" not in whole and "Traceback" not in whole, whole[-800:]
    assert all(c.isprintable() for c in lines[-1]) and lines[-1].startswith("wearable-imagenet"), lines


@pytest.fixture(scope="module", autouse=True)
def one_garment():
    """A gallery wears every texture, which takes its time; here, one small garment has to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "GARMENTS", gallery.GARMENTS[:1])
        patch.setattr(gallery, "_GARMENT_SIDE", 90)
        yield


@pytest.fixture(scope="module")
def seen(undisturbed, once, cache):
    """The run with all that commands make of it, and with the images that it has seen."""

    def make(folder):
        shutil.copytree(undisturbed, folder, dirs_exist_ok=True)
        for name in MADE:
            assert name == "fork" or main(words_of(name, folder)) == 0, name
        entry = entry_folder(open_source(Run(folder).settings.data), 8)
        shutil.copytree(entry, folder / "cache" / entry.name)

    return once("seen", make)


def linked(run, copy):
    """A copy that costs nothing: files are replaced, never changed in place."""
    shutil.copytree(run, copy, copy_function=os.link)
    for path in [copy / "prints", copy / "gallery.html", copy / "tiling.png", copy / "shared.zip"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return copy


@pytest.mark.skipif(os.name == "nt", reason="pipes, links and limits of Unix")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, seen, tmp_path, monkeypatch):
    """Kind 1: one line and a status, or the result of the undamaged run. What is damaged is found by `check`."""
    wanted, wrong, file = results(seen), [], file_of(seen, kind)
    for n, ((what, harm), name) in enumerate(file_cases(kind, damaged_files(seen)[kind])):
        run = linked(seen, tmp_path / str(n))
        monkeypatch.setenv("WEARABLE_IMAGENET_CACHE", str(run / "cache"))
        path = run / file.relative_to(seen)
        path.unlink()
        harm(path) if callable(harm) else path.write_bytes(harm)
        try:
            status, lines, said = call(["check", run] if name == "check" else words_of(name, run))
            if name == "check":
                assert status == 1 and (path.name in said or path.parent.name in said), said
            elif name == "runs":
                assert status == 0 and len(said.splitlines()) == 2, said
            elif status == 0:
                got = results(fork_of(run) if name == "fork" else run)
                names = [f for f in wanted if f.startswith(MADE[name])]
                assert [f for f in names if got.get(f) != wanted[f]] == [], said[-500:]
            else:
                assert_told(status, lines, said)
        except AssertionError as e:
            wrong.append(f"{what}, {name}: {e}")
        for path in run.rglob("*"):
            if path.is_fifo():
                path.unlink()
        shutil.rmtree(run)
        shutil.rmtree(fork_of(run), ignore_errors=True)
    assert not wrong, f"{len(wrong)} of {n + 1}:\n" + "\n".join(wrong[:30])


# What was sent


def zipped(members, **how):
    """A zip file, written as others would; `how` is of the first member."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in members:
            z.writestr(name, content, **how)
            how = {}
    return data.getvalue()


def changed(data, mark, at, value):
    """A zip file with some bytes of its (last) header changed."""
    data, at = bytearray(data), data.rfind(mark) + at
    data[at : at + len(value)] = value
    return bytes(data)


def sent_files(sent):
    """Name → a hostile file in the place of a shared one."""
    rng = random.Random(15)
    with zipfile.ZipFile(io.BytesIO(sent)) as z:
        whole = [(name, z.read(name)) for name in z.namelist()]
    textures = dict(whole)["textures.safetensors"]
    rest = [(name, content) for name, content in whole if name != "textures.safetensors"]
    yield "empty", b""
    yield "no members", zipped([])
    yield "text", b"hello"
    yield "noise", b"PK\3\4" + rng.randbytes(5000)
    for k in range(6 if LONG else 3):
        yield f"cut {k}", sent[: rng.randrange(len(sent) - 8)]
    yield "foreign", zipped([("letter.txt", b"hello")])
    yield "nested", zipped([("mine.zip", sent)])
    yield "a folder", zipped([("textures.safetensors/", b"")])
    yield "two", zipped([*whole, ("copy/textures.safetensors", textures)])
    yield "one bit", zipped([*rest, ("textures.safetensors", flipped(textures, rng))])
    yield "stored bit", sent.replace(textures, flipped(textures, rng))
    yield "half", zipped([*rest, ("textures.safetensors", textures[: len(textures) // 2])])
    yield "a bomb", zipped([("textures.safetensors", bytes(2**29 + 1))], compress_type=zipfile.ZIP_DEFLATED)
    yield "another method", zipped([("textures.safetensors", textures)], compress_type=zipfile.ZIP_BZIP2)
    alone = zipped([("textures.safetensors", textures)])
    yield "says 4 GB", changed(alone, b"PK\1\2", 24, b"\xfe\xff\xff\xff")
    yield "says more", changed(alone, b"PK\1\2", 24, (len(textures) + 9).to_bytes(4, "little"))
    yield "says less", changed(alone, b"PK\1\2", 24, b"\x09\0\0\0")
    yield "a password", changed(alone, b"PK\1\2", 8, b"\1")
    yield "elsewhere", changed(alone, b"PK\1\2", 42, b"\xff\xff\xff\x7f")
    yield "a long list", changed(alone, b"PK\5\6", 12, b"\0\0\0\x70")
    yield "a longer list", changed(alone, b"PK\5\6", 10, b"\xff\xff\xff\xff\xff\xff")


def test_hostile_shared_files(seen, tmp_path):
    """Every command that takes a shared file says one line about a bad one and writes nothing, nowhere."""
    assert call(["share", seen, "--out", tmp_path / "sent.zip"])[0] == 0
    sent, wrong = (tmp_path / "sent.zip").read_bytes(), []
    (tmp_path / "here").mkdir()
    for n, (what, data) in enumerate(sent_files(sent)):
        file = tmp_path / "here" / "sent.zip"
        file.write_bytes(data)
        names = ["tile", "print", "gallery", "evaluate", "share"]
        for name in names if LONG else names[n % 5 :][:2]:
            try:
                status, lines, said = call([name, file])
                assert_told(status, lines, said)
                assert len(lines) == 1 and "sent.zip" in lines[0] and [*file.parent.iterdir()] == [file], said
            except AssertionError as e:
                wrong.append(f"{what}, {name}: {e}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:30])


def test_members_that_lead_elsewhere_are_not_followed(seen, tmp_path):
    """Paths inside a zip file are names and nothing more; what is not asked for is not unpacked."""
    textures = (seen / "textures.safetensors").read_bytes()
    data = zipped([("../../textures.safetensors", textures), ("/etc/passwd", b"x"), ("../escaped", b"x")])
    (tmp_path / "in/here").mkdir(parents=True)
    (tmp_path / "in/here/sent.zip").write_bytes(data)
    assert call(["tile", tmp_path / "in/here/sent.zip"])[0] == 0
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"sent.zip", "sent.tiling.png"}


# Settings and arguments

VALUES = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e30",
    "1e400",
    "10" * 300,
    "2147483648",
    "1.5",
    "0x10",
    "x" * 10**5,
]
VALUES += [
    "\x1b[31m",
    "a\0b",
    "\ud800",
    "[1, 2]",
    "{}",
    "None",
    "True",
    "64x",
    "1e9",
    "64.5x64",
    "../../etc",
    "١٢",
    "🧵",
]


def test_hostile_settings():
    """Kind 9: every setting with every value, as text and as JSON: settings, or one line; no size that no machine can
    do."""
    count = 0
    for field in dataclasses.fields(DistillSettings):
        for value in [*VALUES, None, True, -1, 10**400, 1e308, [], {}, [64.5, 64], [1, 2, 3], b"x"]:
            count += 1
            try:
                s = make_settings(**{field.name: value})
            except UserError as e:
                assert "\n" not in str(e) and field.name.split("_")[0] in str(e) or field.name in ("repeat",), str(e)
                continue
            assert max(s.canvas_size) <= 8192 and s.experts <= 10**4 and s.levels <= 16 and s.student_steps <= 10**4
    assert count > 1000


def argument_cases():
    """(command, option, value): every argument of every command in the program's own table, with every value."""
    return [(name, option, v) for name in COMMANDS for option in options_of(name).values() for v in VALUES]


def option_cases():
    """(command, setting, value): every setting as an option of its own, with every value; commands take turns."""
    takers = [name for name in COMMANDS if getattr(find_command(name), "takes_settings", False)]
    names = [field.name for field in dataclasses.fields(DistillSettings) if field.name != "data"]
    cases = [(setting, value) for setting in names for value in VALUES]
    return [(takers[n % len(takers)], *case) for n, case in enumerate(cases)]


def typed(name, run, more, option=None, value=None):
    """What makes a command work on a run, with one argument as it is given."""
    words, given = [name], dict(run=run, new=fork_of(run), folder=run)
    own = options_of(name)
    for field, one in own.items():
        word = value if one == option else given.get(field)
        if one == "what" and option == "what":
            return [name, value]
        if word is not None:
            words += [word] if one.isidentifier() else [f"{one}={word}"]
    asked = name == "print" and option not in ("--class", "--inches", "--cm", "--pixels", "--for", "--proof")
    small = more if option == "--run" and "data" in own else []
    return [*words, *small, *(ONE if asked else [])]


@pytest.fixture
def served(monkeypatch):
    """The studio's server: what it was asked to serve."""
    server = mock.MagicMock()
    monkeypatch.setattr("wearable_imagenet.studio.serve._studio_voila", lambda: server)
    monkeypatch.setenv("WEARABLE_IMAGENET_STUDIO", "")
    return server


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
@pytest.mark.parametrize("name", COMMANDS)
def test_hostile_arguments(name, seen, tmp_path, photos, served, monkeypatch):
    """Kind 9: every argument with every value: one line, or a file that is what it says. First, all in order."""
    cases = [(None, None), *(case[1:] for case in argument_cases() if case[0] == name)]
    random.Random(f"14 {name}").shuffle(cases)
    cases.sort(key=lambda case: case[0] is not None)
    short = dict(experts=1, train_epochs=3, max_start_epoch=1, distill_steps=2, eval_networks=1, eval_epochs=2)
    wrong, more = [], ["--data", f"folder:{photos}", *sets(**SMALL | short)]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for n, (option, value) in enumerate(cases if LONG else cases[:5]):
        run = linked(seen, tmp_path / f"r{n}")
        before = {k: v for k, v in tree(run).items() if k.endswith(".safetensors")}
        served.reset_mock()
        if name == "check":
            os.link(seen / "tiling.png", run / "tiling.png")
        try:
            status, lines, said = call(typed(name, run, more, option, value))
            assert option or status == 0, f"{name} has no case: {said}"
            if status:
                assert_told(status, lines or [said.strip().splitlines()[-1]], said)
                assert not served.called
            elif name == "studio":
                asked = served.call_args.kwargs
                assert 0 < asked["port"] < 2**16 and served.return_value.start.called
                assert 2**24 < served.return_value.tornado_settings["websocket_max_message_size"] < 2**33
            after = {k: v for k, v in tree(run).items() if k.endswith(".safetensors")}
            assert after == before, "changed the run"
        except AssertionError as e:
            wrong.append(f"{name} {option}={(value or '')[:40]!r}: {e}")
        shutil.rmtree(run)
        shutil.rmtree(fork_of(run), ignore_errors=True)
    assert not wrong, f"{len(wrong)} of {n + 1}:\n" + "\n".join(wrong[:30])


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
def test_hostile_options(seen, tmp_path):
    """Kind 9: a setting's own option takes what its name takes elsewhere, and the run has it, or there is one line."""
    cases, wrong, text = option_cases(), [], settings_text(Run(seen).settings)
    for n, (name, setting, value) in enumerate(cases if LONG else cases[::61]):
        run, option = linked(seen, tmp_path / f"r{n}"), "--" + setting.replace("_", "-")
        words = [f"{option}={value}"] if n % 2 or value[:1] == "-" else [option, value]
        try:
            wanted = make_settings(**text | {setting: value})
        except UserError:
            wanted = None
        try:
            status, lines, said = call([*typed(name, run, []), *words])
            if status:
                assert_told(status, lines or [said.strip().splitlines()[-1]], said)
            else:
                assert Run(fork_of(run) if name == "fork" else run).settings == wanted, said
        except AssertionError as e:
            wrong.append(f"{name} {option}={value[:40]!r}: {e}")
        shutil.rmtree(run)
        shutil.rmtree(fork_of(run), ignore_errors=True)
    assert not wrong, f"{len(wrong)} of {n + 1}:\n" + "\n".join(wrong[:30])


def test_the_generator_leaves_nothing_out(seen):
    """Every command, argument and setting of the program is tried; so many inputs in all."""
    read = {name for _, readers in KINDS.values() for name in readers.split()}
    assert read == {*MADE} == {*COMMANDS} - READ_NO_RUN
    files = sum(map(len, damaged_files(seen).values()))
    arguments, options = len(argument_cases()), len(option_cases())
    settings = len(dataclasses.fields(DistillSettings)) * len(VALUES)
    print(f"{files} damaged files, {settings} settings, {arguments} arguments, {options} options of settings")
    assert files >= 500 and settings >= 1000 and arguments >= 1500 and options >= 1000


# Where to write

TARGETS = ["run/textures.safetensors", "run/run.json", "notes.png", "notes.html", "notes.txt", "link.png", "link.html"]
TARGETS += ["folder.png", "folder.html", "pipe.png", "pipe.html", "picture.jpg", "file/below.png", "file/below.html"]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of Unix")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["tile", "gallery"])
def test_out_overwrites_nothing(name, target, seen, tmp_path):
    """Kind 4: a run's own file, notes, a link and what it points to, a folder, a pipe: all stay, with --force too."""
    linked(seen, tmp_path / "run")
    for file in ("notes.png", "notes.html", "notes.txt", "file"):
        (tmp_path / file).write_text("mine")
    for end in ("png", "html"):
        (tmp_path / f"link.{end}").symlink_to(tmp_path / f"notes.{end}")
        (tmp_path / f"folder.{end}").mkdir()
        os.mkfifo(tmp_path / f"pipe.{end}")
    before = tree(tmp_path)
    for force in ([], ["--force"]):
        status, lines, said = call([*words_of(name, tmp_path / "run"), "--out", tmp_path / target, *force])
        assert_told(status, lines, said)
        assert tree(tmp_path) == before


# At the same moment

PAIRS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
from wearable_imagenet.cli import main
torch.optim.SGD([torch.zeros(1)], 1)   # loads what is slow to load
base, count, arguments = sys.argv[2], int(sys.argv[3]), sys.argv[4:]
assert main(["experts", "--run", f"{base}/warm", *arguments]) == 0   # loads kernels, for all that follow
for k in range(count):
    gate, pids = os.pipe(), []
    for seed in (1, 2):
        pids.append(os.fork())
        if not pids[-1]:
            os.close(gate[1])
            os.dup2(os.open(f"{base}/{k}.{seed}", os.O_WRONLY | os.O_CREAT), 2)
            os.read(gate[0], 1)   # until the parent has let go, for both at once
            stage = "distill" if k % 3 == 2 and count > 6 else "experts"
            os._exit(main([stage, "--run", f"{base}/run{k}", *arguments, "--set", f"seed={seed}"]))
    for end in gate: os.close(end)
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
"""


@pytest.mark.skipif(os.name == "nt", reason="forks of Unix")
def test_pairs_of_commands_on_one_folder(tmp_path, photos):
    """Kind 6: never two owners: one of two works, or they work one after the other; the run is that of one of them."""
    count, small = 20 if LONG else 6, sets(**SMALL | dict(experts=1, train_epochs=5, distill_steps=8))
    words = [sys.executable, "-c", PAIRS, str(ROOT), str(tmp_path), str(count), "--data", f"folder:{photos}", *small]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    pairs = [[int(code) for code in line.split()] for line in done.stdout.splitlines()]
    assert [sorted(codes) for codes in pairs] == [[0, 2]] * count, done.stderr[-800:]
    for k, codes in enumerate(pairs):
        loser = (tmp_path / f"{k}.{1 + codes.index(2)}").read_text()
        assert "is in use: process" in loser or "holds a run with seed" in loser, loser
        run = tmp_path / f"run{k}"
        assert json.loads((run / "run.json").read_text())["settings"]["seed"] == 1 + codes.index(0)
        assert not list(run.glob(".*"))


OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from wearable_imagenet.guard.lock import own_folder
run, (read, write) = sys.argv[2], os.pipe()
pid = os.fork()
if not pid:
    with own_folder(run):
        open(f"{run}/.tmp-0badcafe-half.png", "w").close()
        os.write(write, b"x")
        time.sleep(600)
os.read(read, 1)
try: own_folder(run).__enter__()
except ValueError as e: print(f"process {pid} " in str(e), e)
os.kill(pid, 9)
os.waitpid(pid, 0)
with own_folder(run): print("in")
print(os.listdir(run))
"""


@pytest.mark.skipif(os.name == "nt", reason="forks of Unix")
def test_a_killed_owner_leaves_no_lock(tmp_path):
    """Kinds 6 and 8: the lock dies with its owner, and what it left is swept."""
    words = [sys.executable, "-c", OWNER, str(ROOT), str(tmp_path / "run")]
    first, *then = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert first.startswith("True ") and "is in use: process" in first and then == ["in", "[]"]


# Disks

REMADE = {
    "experts": ["experts"],
    "distill": ["checkpoint.safetensors", "textures.safetensors"],
    "evaluate": ["evaluation"],
    "check": ["evaluation", "experts/expert_001", "loss.png"],
}


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
@pytest.mark.parametrize("name", ["experts", "distill", "evaluate", "tile", "print", "gallery", "check"])
def test_disks_that_fill(name, seen, tmp_path):
    """Kind 3: no room for files over so many bytes: one line that names one, and with room again the very same run."""
    wanted = results(seen)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (1, 50, 200, 500, 1000, 1500, 2500, 4000, 8000, 20000) if LONG else (1500,):
        run = linked(seen, tmp_path / str(size))
        for made in REMADE.get(name, []):
            shutil.rmtree(run / made) if (run / made).is_dir() else (run / made).unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            status, lines, said = call(words_of(name, run))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert status in (0, 1), said[-500:]
        assert status == 0 or len(lines) == 1 and str(run) in lines[0] and "program" not in lines[0], said[-500:]
        assert not list(run.rglob(".*"))
        if status:
            assert call([*words_of(name, run), *(["--force"] if name == "print" else [])])[0] == 0
        got = results(run)
        assert [f for f in wanted if f.startswith(MADE[name]) and got.get(f) != wanted[f]] == []


READ_ONLY = """
import sys
sys.path.insert(0, sys.argv[1])
from wearable_imagenet.cli import main
for words in sys.argv[2:]:
    print(main(words.split("|")), file=sys.stderr)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs mounts of its own: unshare, of Linux")
def test_a_folder_that_is_read_only(seen, tmp_path):
    """Kind 3: one line that names the place, within a moment; what only reads works."""
    run = linked(seen, tmp_path / "run")
    (run / "report.json").unlink()
    (run / "tiling.png").unlink(missing_ok=True)
    asked = [words_of(name, run) for name in ("experts", "distill", "evaluate", "tile", "print", "gallery", "check")]
    asked += [["fork", run, run.parent / "new", "--set", "pixel_lr=0.001"], ["check", run]]
    place = shlex.quote(str(tmp_path))
    closed = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    words = [sys.executable, "-c", READ_ONLY, ROOT, *("|".join(map(str, words)) for words in asked)]
    inside = ["unshare", "-m", "sh", "-c", f"{closed} || exit 77; {shlex.join(map(str, words))}"]
    before = tree(tmp_path)
    done = subprocess.run(inside, capture_output=True, text=True, timeout=120)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no mounts of one's own here: {done.stderr.strip()[-80:]}")
    said = [line.rsplit("\r", 1)[-1] for line in done.stderr.splitlines()]
    told = [line for line in said if line.startswith("wearable-imagenet: ")]
    assert [line for line in said if line.isdigit()] == ["1"] * 9, done.stderr
    assert len(told) == 8 and all("Read-only" in line and str(tmp_path) in line for line in told), told
    assert tree(tmp_path) == before


def test_a_run_that_is_removed(seen, tmp_path, photos, monkeypatch):
    """Kind 3: a folder that vanishes in the middle: one line; the same command again makes the very same run."""
    run, kept, left = linked(seen, tmp_path / "run"), distill.keep, [2]
    for name in ("checkpoint.safetensors", "textures.safetensors"):
        (run / name).unlink()

    def keep(*arguments):
        left[0] -= 1
        if not left[0]:
            shutil.rmtree(run)
        return kept(*arguments)

    monkeypatch.setattr(distill, "keep", keep)
    words = ["distill", "--run", run, "--data", f"folder:{photos}", *sets(**SMALL)]
    status, lines, said = call(words)
    assert_told(status, lines, said)
    assert call(words)[0] == 0
    wanted, got = results(seen), results(run)
    assert [f for f in wanted if f.startswith(MADE["distill"]) and got.get(f) != wanted[f]] == []


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_pipe_among_photographs(tmp_path, photos):
    """Kind 9: what is no picture is named and left out, and nothing waits for it."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    os.mkfifo(folder / "train" / "grass" / "pipe.jpg")
    small = sets(**SMALL | dict(experts=1, train_epochs=5))
    status, _, said = call(["experts", "--run", tmp_path / "run", "--data", f"folder:{folder}", *small])
    assert status == 0 and "grass/pipe.jpg" in said, said


@pytest.mark.skipif(not LONG, reason="a picture of 169 million pixels takes its time: make test-long")
def test_a_png_of_13000_pixels(tmp_path, photos):
    """Kind 9: six of them are read in less than 2 GB."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    Image.new("RGBA", (13000, 13000), (90, 140, 60, 255)).save(tmp_path / "big.png", compress_level=1)
    for i in range(6):
        os.link(tmp_path / "big.png", folder / "train" / "grass" / f"big{i}.png")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport resource\n"
    code += f"from wearable_imagenet.images.cache import load_data\nd = load_data('folder:{folder}', 8)\n"
    code += "print(len(d.train), d.skipped, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    count, skipped, size = done.stdout.split()
    assert (count, skipped) == ("30", "[]") and int(size) < BYTES, done.stdout


# What helps


def damaged(seen, copy, kinds, rng):
    """A run in which one file of each of these kinds has one bit turned."""
    run = linked(seen, copy)
    for kind in kinds:
        path = run / file_of(seen, kind).relative_to(seen)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(flipped(data, rng))
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_bit_is_found_and_mended(kind, seen, tmp_path):
    """Kinds 2 and 5: one bit of any file is noticed, and what is said to help does, to the same bytes."""
    wanted = results(seen)
    for k in range(10 if LONG else 1):
        run = damaged(seen, tmp_path / str(k), [kind], random.Random(f"{kind} {k}"))
        assert call(["check", run])[0] == 1
        status, _, said = call(["check", run, "--repair"])
        assert status == (kind == "checkpoint"), said
        if kind == "checkpoint":
            assert call(["distill", "--run", run])[0] == 0 and call(["check", run])[0] == 0
        got = results(run)
        names = [f for f in wanted if not f.startswith(("prints/", "gallery", "tiling", "shared", "cache/"))]
        assert call(["check", run])[0] == 0  # what was decoded lies in the cache once more, when it is asked for
        assert [f for f in names if got.get(f) != wanted[f]] == []
        assert not list(run.rglob("*.damaged")) or kind == "checkpoint"


def test_textures_of_another_moment(seen, tmp_path):
    """Kind 2: a file under another one's name is not taken for it."""
    run = linked(seen, tmp_path / "run")
    (run / "textures.safetensors").unlink()
    shutil.copy(run / "frames" / "step_000000.safetensors", run / "textures.safetensors")
    for name in ("evaluate", "tile"):
        status, lines, said = call(words_of(name, run))
        assert_told(status, lines, said)
        assert "was written as step_000000" in lines[-1]


OTHERS = {
    "settings": "experts distill evaluate fork share",
    "checkpoint": "distill evaluate fork",
    "textures": "tile print evaluate gallery share",
    "frame": "",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_another_run(kind, seen, tmp_path):
    """Kind 2: a whole file of a run with another seed is not taken for the run's own, and `check --repair` helps."""

    def change(*held):
        *tensors, about = json.loads(json.dumps(held)) if kind == "settings" else held
        about["of" if kind == "checkpoint" else "settings"]["seed"] = 7
        return (*tensors, about) if tensors else about

    run, file, wanted = linked(seen, tmp_path / "run"), file_of(seen, kind), results(seen)
    path = run / file.relative_to(seen)
    path.unlink()
    path.write_bytes(rewritten(file, change))
    for name in OTHERS[kind].split():
        status, lines, said = call(words_of(name, run))
        assert_told(status, lines, said)
        assert "it is of a run with seed" in lines[-1] and not fork_of(run).exists(), said
    status, _, said = call(["check", run, "--repair"])
    assert status == (kind == "checkpoint"), said
    if kind == "checkpoint":
        assert call(["distill", "--run", run])[0] == 0
    got = results(run)
    names = [f for f in wanted if not f.startswith(("prints/", "gallery", "tiling", "shared", "cache/"))]
    assert [f for f in names if got.get(f) != wanted[f]] == []


def retold(path, **of):
    """A file of an expert that says it is of a run with other settings; with none, as older versions wrote it."""

    def change(tensors, about):
        mark = about.pop("of")
        return tensors, about | (dict(of=mark | of) if of else {})

    data = rewritten(path, change)
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["epoch_002", "latest", "*"])
def test_experts_of_another_run(file, seen, tmp_path):
    """Kind 2: an epoch, a latest file, or all of an expert, from a run with another seed or other images, is not taken
    for the run's own, nor overwritten by training; `check --repair` helps."""
    wanted, other = results(seen), dict(seed=7) if file == "latest" else dict(data_fingerprint="0" * 64)
    run = linked(seen, tmp_path / "run")
    for path in run.glob(f"experts/expert_001/{file}.safetensors"):
        retold(path, **other)
    before = tree(run / "experts")
    for name in ("experts", "distill", "fork", *["evaluate"] * (file == "latest")):
        status, lines, said = call([*words_of(name, run)[:3], *(["--from", "experts"] if name == "fork" else [])])
        assert_told(status, lines, said)
        assert name == "fork" or f"it is of a run with {[*other][0]}" in lines[-1], said
        assert not fork_of(run).exists() and tree(run / "experts") == before
    status, _, said = call(["check", run, "--repair"])
    assert status == 0 and "made again: experts" in said, said
    got = results(run)
    names = [f for f in wanted if not f.startswith(("prints/", "gallery", "tiling", "shared", "cache/"))]
    assert [f for f in names if got.get(f) != wanted[f]] == [] and not list(run.rglob("*.damaged"))


def test_experts_that_do_not_say_of_which_run(undisturbed, tmp_path):
    """Kind 2: files of experts that an older version wrote have no mark, and are taken; a fork keeps marks valid."""
    run, new = linked(undisturbed, tmp_path / "run"), tmp_path / "new"
    for path in run.glob("experts/*/*"):
        retold(path)
    before = tree(run / "experts")
    status, lines, said = call(["fork", run, new, "--set", "pixel_lr=0.5", "--set", "levels=1", "--experts", "2"])
    assert status == 0 and not lines, said
    for folder in (run, new):
        assert call(["experts", "--run", folder])[0] == 0
    made = tree(new / "experts")
    assert tree(run / "experts") == before and made == {name: before[name] for name in made} and len(made) > 10
    assert (
        call(["fork", undisturbed, tmp_path / "other", "--set", "pixel_lr=0.5", "--set", "max_start_epoch=1"])[0] == 0
    )
    before = tree(tmp_path / "other/experts")
    status, _, said = call(["experts", "--run", tmp_path / "other"])
    assert status == 0 and "trained again" not in said and tree(tmp_path / "other/experts") == before


def follow(line):
    """The command that a line ends with, typed."""
    words = shlex.split(line.split(": wearable-imagenet ")[-1])
    assert words[0] == "fork", line
    assert call(words)[0] == 0, line
    return words[2]


def test_advice_is_followed_to_the_letter(undisturbed, tmp_path):
    """Kinds 5 and 7: a setting that a folder refuses, and step sizes that diverge: the command named leads on."""
    run = linked(undisturbed, tmp_path / "run")
    before, new = tree(run), run
    words = sets(parametrisation="pixels", shade_range=0, ema=0, pixel_lr=2000, eval_epochs=41)
    for attempt in range(6):
        status, lines, said = call(["distill", "--run", new, *(words if new == run else [])])
        if not status:
            break
        assert_told(status, lines, said)
        assert attempt == 0 or "Undone: the run goes on from step" in said and "undone 3 times" in lines[-1], said
        new = follow(lines[-1])
    assert Run(new).settings.eval_epochs == 41  # what else was typed came along
    assert status == 0 and attempt >= 2 and Run(new).textures.canvases.abs().max() < 1000
    assert tree(run) == before
    for setting, refused in (("distill_steps=20", "is fewer than"), ("seed=1", "holds a run with seed")):
        status, lines, said = call(["distill", "--run", run, "--set", setting])
        assert_told(status, lines, said)
        assert refused in lines[-1] and str(getattr(Run(follow(lines[-1])).settings, setting.split("=")[0])) in setting


def test_experts_that_stand_still(tmp_path, photos):
    """Kind 7: where experts do not move the step sizes of canvases are not blamed, and the command named leads on."""
    small = SMALL | dict(experts=1, train_epochs=5, distill_steps=4, expert_lr=1e-12, expert_storage="float16")
    words = ["distill", "--run", tmp_path / "run", "--data", f"folder:{photos}", *sets(**small)]
    status, lines, said = call(words)
    assert_told(status, lines, said)
    assert "did not move" in lines[-1] and "pixel_lr" not in lines[-1]
    assert Run(follow(lines[-1])).settings.expert_lr == 1e-11


def test_experts_that_run_away(tmp_path, photos):
    """Kind 7: where experts end at chance one command, as it is printed, begins again with a smaller step size."""
    small = SMALL | dict(experts=2, train_epochs=3, max_start_epoch=1, expert_lr=100)
    status, lines, said = call(["experts", "--run", tmp_path / "a run", "--data", f"folder:{photos}", *sets(**small)])
    assert status == 0 and len(lines) == 1 and "of 2 experts ended at chance" in lines[0], said
    assert Run(follow(lines[0])).settings.expert_lr == 10


def test_a_fork_that_needs_other_experts_names_one_command(undisturbed, tmp_path):
    """Kind 5: settings of experts, and experts of version 0.1.0, which had neither name nor digest."""
    run, new = linked(undisturbed, tmp_path / "run"), tmp_path / "new"
    status, lines, said = call(["fork", run, new, "--set", "levels=1", "--expert-lr", "0.5"])
    assert_told(status, lines, said)
    made = Run(follow(lines[-1])).settings
    assert (made.expert_lr, made.levels) == (0.5, 1)
    for path in run.glob("experts/*/*"):
        tensors, about = about_of(path)
        path.unlink()
        path.write_bytes(
            save(tensors, {"about": json.dumps({k: v for k, v in about.items() if k not in ("file", "sha256")})})
        )
    shutil.rmtree(new)
    status, lines, said = call(["fork", run, new])
    assert_told(status, lines, said)
    assert "were written by version 0.1.0" in lines[-1] and "damaged" not in said
    assert follow(lines[-1]) == str(new)
    before, (status, _, said) = tree(run), call(["check", run])
    assert status == 1 and "experts     old" in said and "damaged" not in said, said
    assert f"experts --run {shlex.quote(str(run))} trains them again" in said and tree(run) == before


def test_students_that_run_away(undisturbed, tmp_path):
    """Kind 7: where α is held still and far too large the run says so at its end, even to those who silence warnings."""
    new = tmp_path / "new"
    assert call(["fork", undisturbed, new, *sets(student_lr=9, student_lr_lr=0, distill_steps=4)])[0] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, lines, said = call(["distill", "--run", new])
    assert status == 0 and "the matching loss ended at" in lines[-1], said
    assert Run(follow(lines[-1])).settings.student_lr == 0.9


def test_reports_name_every_canvas(undisturbed, tmp_path):
    """Kind 10: two canvases of a class are two in the report and on the page."""
    some = ["canvases_per_class=2", "distill_steps=2", "eval_networks=1", "eval_epochs=2", "pixel_lr=0.5"]
    new = tmp_path / "new"
    assert call(["fork", undisturbed, new, *(word for s in some for word in ("--set", s))])[0] == 0
    assert call(["distill", "--run", new])[0] == call(["evaluate", "--run", new])[0] == 0
    names = [f"{name} ({n})" for name in ("cliff", "grass", "snow") for n in (1, 2)]
    report = Run(new).report
    assert [sorted(report[key]) for key in ("seams", "clipped", "seam_ratio")] == [names] * 3
    _, _, said = call(["print", "--run", new, "--pixels", "24", "--tone", "9"])
    assert "pixels that clipped" in said and all(name in said for name in names), said


def test_hostile_names(seen, tmp_path):
    """Kind 11: a class called all, two that a file system takes for one, and codes that would move the cursor."""
    t = Run(seen).textures
    t.classes = ["all", "a/b", "a:b\x1b[31m\0"]
    (tmp_path / "run").mkdir()
    t.save(tmp_path / "run" / "textures.safetensors", file="textures.safetensors")
    for name in ("tile", "gallery", "print"):
        status, _, said = call([*words_of(name, tmp_path / "run"), *(["--class", "all"] if name == "print" else [])])
        assert status == 0 and "\x1b" not in said, said
    assert [p.name for p in (tmp_path / "run" / "prints").iterdir()] == ["all_000.png"]
    page = (tmp_path / "run" / "gallery.html").read_text()
    assert "\x1b" not in page and len(set(re.findall(r'download="([^"]+)"', page))) >= 3
    for bad in ("", "\udcff", 7):
        t.classes[1] = bad
        with contextlib.suppress(UnicodeEncodeError):
            t.save(tmp_path / "run" / "textures.safetensors", file="textures.safetensors")
        status, lines, said = call(words_of("tile", tmp_path / "run"))
        assert status == 0 or not assert_told(status, lines, said)


def test_the_cache_is_compared_with_its_fingerprint(tmp_path, photos):
    """Kind 12: a turned bit in the cache, and a photograph of the same size and time with other contents."""
    folder, cache, rng = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "cache", random.Random(12)
    first = load_data(f"folder:{folder}", 8, cache)
    (images,) = cache.glob("*/train.bin")
    images.write_bytes(flipped(images.read_bytes(), rng))
    again = load_data(f"folder:{folder}", 8, cache)
    assert again.fingerprint == first.fingerprint and (again.train.x == load_data(f"folder:{photos}", 8).train.x).all()
    path, info = folder / "train/grass/000.jpg", (folder / "train/grass/000.jpg").stat()
    data = (folder / "train/snow/000.jpg").read_bytes()[: info.st_size]
    path.write_bytes(data + b"\0" * (info.st_size - len(data)))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert load_data(f"folder:{folder}", 8, cache).fingerprint != first.fingerprint


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
def test_a_system_that_is_out_of_files_is_no_damage(seen, tmp_path):
    """Kind 3: what cannot be opened now is whole: nothing says to take it away, and nothing does."""
    run = linked(seen, tmp_path / "run")
    before, (soft, hard) = tree(run), resource.getrlimit(resource.RLIMIT_NOFILE)
    for words in (["fork", run, tmp_path / "new"], ["evaluate", "--run", run], ["check", run, "--repair"]):
        next_one = os.open(os.devnull, os.O_RDONLY)
        os.close(next_one)
        for more in (1, 2, 3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + more, hard))
            try:
                status, _, said = call(words)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert "damaged" not in said and "fault of the program" not in said, said
            assert {name: held for name, held in tree(run).items() if name in before} == before
            shutil.rmtree(tmp_path / "new", ignore_errors=True)


@pytest.mark.skipif(os.name == "nt", reason="links of Unix")
@pytest.mark.parametrize("file", ["run.json", "checkpoint.safetensors"])
def test_links_that_lead_nowhere(file, seen, tmp_path):
    """Kind 1: what lies on a disk that is not there today is not taken for missing: one line, and nothing is begun."""
    run = linked(seen, tmp_path / "run")
    (run / file).unlink()
    (run / file).symlink_to(tmp_path / "away" / file)
    before = tree(tmp_path)
    for name in ("experts", "distill", "evaluate", "fork", *["share"] * (file == "run.json")):
        status, lines, said = call(words_of(name, run))
        assert_told(status, lines, said)
        assert file in lines[-1] and tree(tmp_path) == before, said


LOCKS = {
    "a pipe": os.mkfifo if os.name != "nt" else None,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to(path.parent.parent / "notes.txt"),
    "a link to nowhere": lambda path: path.symlink_to(path.parent.parent / "away"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of Unix")
@pytest.mark.parametrize("what", LOCKS)
def test_locks_that_are_no_files(what, seen, tmp_path):
    """Kind 6: what lies in the place of a lock is not followed, emptied or taken away: one line, or the usual result."""
    run = linked(seen, tmp_path / "run")
    (tmp_path / "notes.txt").write_text("mine")
    LOCKS[what](run / ".lock")
    before, kind = tree(run), os.lstat(run / ".lock").st_mode
    for name in MADE if LONG else ("experts", "tile", "print", "check", "fork", "runs"):
        status, lines, said = call(words_of(name, run))
        if status:
            assert_told(status, lines, said)
            assert ".lock is no ordinary file: take it away" in lines[-1], said
        else:
            assert name in ("fork", "runs", "share"), name
        after = tree(run)
        assert {k: after.get(k) for k in before} == before and os.lstat(run / ".lock").st_mode == kind
    assert (tmp_path / "notes.txt").read_text() == "mine" and not (tmp_path / "away").exists()


def test_folders_without_end(tmp_path):
    """Kind 3: a path that is longer than any system allows is told in a line."""
    for name in ("tile", "gallery", "check"):
        status, lines, said = call(words_of(name, Path("/".join(["deep"] * 1500))))
        assert_told(status, lines, said)
