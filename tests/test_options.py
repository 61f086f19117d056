"""The command line, compared with what the program knows by itself: fields of dataclasses, presets, the front page."""

import dataclasses
import io
import re
import shlex
import shutil
import subprocess
import sys
from unittest import mock

import pytest

from conftest import ROOT, command, options_of
from wearable_imagenet.cli import COMMANDS, main, read_command
from wearable_imagenet.commands import find_settings
from wearable_imagenet.guard.bounds import BOUNDS
from wearable_imagenet.settings import CHOICES, PRESETS, DistillSettings, make_settings, settings_text
from wearable_imagenet.shell.runs import glance_at_run

STAGES = ["demo", "experts", "distill", "evaluate"]
NAMES = [field.name for field in dataclasses.fields(DistillSettings)]


def help_of(capsys, *words):
    """What help says, as one line of single spaces."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    out, err = capsys.readouterr()
    assert end.value.code == 0 and err == ""
    return " ".join(out.split())


def option_of(name):
    return "--" + name.replace("_", "-")


def help_by_option(text):
    """Option → what is said about it, up to the next one."""
    parts = re.split(r"(?<=\s)(--[a-z][a-z-]+)(?=\s)", text.partition("common options")[2])
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_of_a_command_is_an_option_with_a_word_of_help(name, capsys):
    """Options are the fields of the command's class; positional ones are named by what they are."""
    said = help_of(capsys, name, "--help")
    assert said.startswith(f"usage: wearable-imagenet {name} ")
    for option in options_of(name).values():
        after = re.search(rf"{option} +(?!--)(\S+ ){{3}}", said)
        assert after or option.isidentifier(), f"{name} {option}"


@pytest.mark.parametrize("preset", [None, "paper", "cloth"])
def test_every_setting_is_in_help_with_its_value_in_the_preset(preset, capsys):
    """Name, value, bounds or choices, and the comment beside the field, read from the source here by other means."""
    source = "".join(
        (ROOT / "wearable_imagenet/settings.py").read_text(encoding="utf-8").partition("class MachineSettings")[1:]
    )
    said = help_of(capsys, "distill", *(["--preset", preset] if preset else []), "--help-all")
    values, options = settings_text(make_settings(preset or "materials")), help_by_option(said)
    for name in NAMES:
        comment = re.search(rf"^    {name}: [^#]*?# (.*)$", source, re.MULTILINE)[1]
        if name == "data":  # an option of every such command, which says what there is
            continue
        text = options[option_of(name)]
        assert comment in text, (name, comment, text)
        value = values[name]
        assert (
            value == "" or f"({preset or 'materials'}: {value:g}" if isinstance(value, float) else f": {value}" in text
        )
        if name in CHOICES:
            assert "".join(f"{{{','.join(CHOICES[name])}}}".split()) in text.replace(" ", "")
        elif name in BOUNDS:
            assert f"{BOUNDS[name]}" in text


def test_plain_help_is_short(capsys):
    """Forty settings come only when they are asked for."""
    for name in STAGES:
        few = help_of(capsys, name, "--help")
        assert "--help-all" in few and "--student-lr" not in few and len(few) < 1500
        everything = help_of(capsys, name, "--help-all")
        assert [n for n in NAMES if f"{option_of(n)} " not in everything] == []


# A value for every setting, other than that of the preset where there is another, and all of them fit together.
VALUES = dict(
    device="cpu",
    canvas_size="128x64",
    parametrisation="pyramid",
    levels="3",
    shade_range="0.5",
    repeat="half-brick",
    begin="a.safetensors",
    data="folder:x",
    crop_size="16",
    hold_out="0.25",
    depth="2",
    train_epochs="60",
    keep_epochs="50",
    augment="flip",
    max_start_epoch="30",
    expert_epochs="5",
    momentum="0.25",
    ema="0.25",
)


def test_an_option_is_the_same_as_set(tmp_path):
    """The same settings, whichever way values are given."""
    plain, values = make_settings("materials"), {}
    for name in NAMES:
        others = [word for word in CHOICES.get(name, ()) if word != getattr(plain, name)]
        values[name] = VALUES.get(name) or (others[-1] if others else "7")
    found = []
    for way in (
        [word for name, value in values.items() for word in ("--set", f"{name}={value}")],
        [word for name, value in values.items() for word in (option_of(name), value)],
        [f"{option_of(name)}={value}" for name, value in values.items()],
    ):
        a = read_command(["distill", "--run", str(tmp_path), *way])
        found.append(find_settings(a.run, a.preset, a.settings, a.data, a.set))
    assert found[0] == found[1] == found[2] == make_settings("materials", **values)
    same = [name for name in NAMES if getattr(found[0], name) == getattr(plain, name)]
    assert same == ["parametrisation"]


def test_what_overrides_what(tmp_path):
    """Preset, file, --data, --set, and last a setting's own option, even if its value is the preset's."""
    (tmp_path / "mine.json").write_text('{"width": 5, "depth": 2, "seed": 5, "data": "folder:file"}')
    words = ["distill", "--run", str(tmp_path), "--settings", str(tmp_path / "mine.json"), "--preset", "cloth"]
    a = read_command([*words, *"--set seed=6 --set width=6 --width 32 --data folder:option".split()])
    s = find_settings(a.run, a.preset, a.settings, a.data, a.set)
    assert (str(s.repeat), s.depth, s.data, s.seed, s.width) == ("half-drop", 2, "folder:option", 6, 32)


# What is typed wrongly → what the one line must hold.
MISTAKES = {
    "": "COMMAND is missing",
    "dmeo": "'dmeo' is no command: use one of demo",
    "--settings": "'--settings' is no command",
    "demo --experst 4": "--experts",
    "demo --decay linear": "'linear'",
    "demo --experts many": "experts 'many'",
    "demo --experts": "'--experts'",
    "demo --experts 0": "experts 0 must be more than zero",
    "demo --canvas-size 8": "canvas_size 8×8",
    "demo here": "here",
    "settings plainer": "'plainer'",
    "runs nowhere": "nowhere is no folder",
    "print --tone soft": "'soft' is not a number",
    "tile --tiles 3.5": "'3.5' is not a whole number",
    "tile --run=a\0b": "no path can",
    "--print-completion": "bash, zsh, fish or tcsh",
}


@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: repr(words[:20]))
@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_mistake_is_one_line(words, columns, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", columns)
    try:
        status = main(words.split())
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith("wearable-imagenet: ")
    assert MISTAKES[words] in err and not list(tmp_path.iterdir())


def test_completion_is_a_script_that_completes(capsys):
    """bash accepts it, and finds commands, options and choices in it."""
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert end.value.code == 0
    if not shutil.which("bash"):
        pytest.skip("no bash")
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    for typed, wanted in {
        "wearable-imagenet dist": ["distill"],
        "wearable-imagenet distill --canvas-s": ["--canvas-size"],
        "wearable-imagenet distill --decay co": ["cosine"],
        "wearable-imagenet settings --mark": ["--markdown"],
    }.items():
        words = typed.split()
        ask = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT={len(typed)}"
        call = f'{script}\n{ask}\n$(complete -p wearable-imagenet | sed "s/.*-F \\([^ ]*\\).*/\\1/"); echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
        assert done.stdout.split() == wanted, (typed, done)


def lines_of(text):
    """Command lines in the blocks of a page."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("wearable-imagenet ")]


@pytest.mark.parametrize("line", lines_of((ROOT / "README.md").read_text(encoding="utf-8")))
def test_command_lines_of_the_front_page_parse(line, capsys):
    words = shlex.split(re.split(r" > ", line)[0], comments=True)[1:]
    try:
        a = read_command(words)
    except SystemExit as end:
        assert end.code == 0 and capsys.readouterr().out
        return
    if words[0] in STAGES:
        find_settings("nowhere", a.preset, a.settings, a.data, a.set)


def test_there_are_such_lines():
    assert len(lines_of((ROOT / "README.md").read_text(encoding="utf-8"))) >= 5


def test_a_real_run_is_listed(undisturbed, capsys):
    """The run that other tests compare with."""
    seen = glance_at_run(undisturbed)
    assert (seen.state, seen.experts, seen.steps) == ("evaluated", (3, 3), (40, 40)), seen
    assert main(["runs", str(undisturbed)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"evaluated +3/3 +40/40 +[\d.]+ +[\d.]+ ± [\d.]+ %, loss [\d.]+ +folder:", out), out


@pytest.mark.parametrize("words", [["--help"], ["dmeo"], ["--version"], ["runs", "."]], ids=" ".join)
def test_what_needs_no_tensors_loads_no_pytorch(words, tmp_path):
    """Seconds are saved where nothing is computed."""
    before = "import atexit, os; atexit.register(lambda: os._exit(9 if 'torch' in sys.modules else 3))"
    done = subprocess.run(command(*words, before=before), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize(
    "e, status, said",
    [(KeyboardInterrupt(), 130, "stopped; nothing was begun"), (ImportError("no\nlibgomp"), 1, "no libgomp")],
    ids=["Ctrl-C", "a broken library"],
)
def test_stopped_while_libraries_are_loaded(e, status, said, capsys, monkeypatch):
    """One line, in a command's own module too."""
    monkeypatch.setattr("wearable_imagenet.cli.import_module", mock.Mock(side_effect=e))
    with pytest.raises(SystemExit) as end:
        main(["demo"])
    err = capsys.readouterr().err.strip()
    assert end.value.code == status and said in err and "\n" not in err


def test_help_on_a_terminal_keeps_to_its_width(monkeypatch):
    """A terminal of 72 columns, with and without colors."""

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    for no_color in ("", "1"):
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        for name, value in (("COLUMNS", "72"), ("TERM", "xterm"), ("NO_COLOR", no_color)):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main(["tile", "--help"])
        text = out.getvalue()
        assert ("\x1b[" in text, "╭" in text) == (not no_color, not no_color)
        lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
        assert max(len(line) for line in lines[3:]) <= 72


def test_every_preset_is_offered(capsys):
    said = help_of(capsys, "distill", "--help").replace(" ", "")
    assert f"{{{','.join(PRESETS)}}}" in said
