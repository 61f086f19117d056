"""The site: its reference agrees with the program, its how-to pages run, and lessons install what they need.

The site itself is built, and looked at in a browser, where WEARABLE_IMAGENET_LONG=1 asks for it (`make test-long`).
"""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import textwrap
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from conftest import BRIEF, LONG, ROOT, sets
from tools.reference import commands_page, module_page, modules, settings_page
from tools.website import own_words
from wearable_imagenet import commands
from wearable_imagenet.cli import COMMANDS, main, read_command
from wearable_imagenet.commands import find_settings
from wearable_imagenet.settings import PRESETS, DistillSettings, make_settings

LESSONS = sorted((ROOT / "nbs/tutorials").glob("*.ipynb"))
HOWTO = sorted((ROOT / "nbs/howto").glob("*.md"))
ENTRY = re.compile(r"^`{6}\{py:(class|function|data)\} (\w+)(\((.*)\))?", re.MULTILINE)
CLONE = "git clone --quiet --depth 1 https://github.com/wearable-imagenet/wearable-imagenet"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_every_public_name_stands_in_the_reference(module):
    """What is imported has the names, the kinds, the parameters and the first words that its page says."""
    page, live = module_page(module), importlib.import_module(module.name)
    entries = {name: kind for kind, name, *_ in ENTRY.findall(page)}
    assert list(entries) == live.__all__
    for name, kind in entries.items():
        value = getattr(live, name)
        is_kind = {"class": inspect.isclass, "function": callable, "data": lambda v: not inspect.isfunction(v)}
        assert is_kind[kind](value), name
        if inspect.isfunction(value):
            said = next(given for _, n, _, given in ENTRY.findall(page) if n == name)
            a = ast.parse(f"def f({said}): pass").body[0].args
            drawn = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if arg]
            assert sorted(drawn) == sorted(inspect.signature(value).parameters), name
        if kind != "data" and value.__doc__:
            assert inspect.cleandoc(value.__doc__).splitlines()[0] in page, name


def test_every_setting_stands_in_the_reference():
    """Each with words, its default, and its value in every preset that has another."""
    page = settings_page()
    entries = {part.partition(")=")[0]: part for part in re.split(r"^\((?=\w+\)=)", page, flags=re.MULTILINE)[1:]}
    assert sorted(entries) == sorted(field.name for field in dataclasses.fields(DistillSettings))
    for name, text in entries.items():
        words, facts = re.findall(r"^: (.*)", text, re.MULTILINE)
        default = getattr(DistillSettings(), name)
        assert len(words) > 5 and (not isinstance(default, (int, float)) or f"default {default}" in facts), name
        for preset in PRESETS:
            value = getattr(make_settings(preset), name)
            if isinstance(value, (int, float)) and value != default:
                assert re.search(rf"; {re.escape(str(value))} in [^;]*`{preset}`", facts), (name, preset)


def test_every_command_stands_in_the_reference(capsys):
    """Those that the help of the program lists, and every `command_…` of the package; each has its own help."""
    names = re.findall(r"^## (\S+)", commands_page(), re.MULTILINE)
    known = {n.removeprefix("command_") for n in commands.__all__ if n.startswith("command_")} - {"stage"}
    assert known <= set(names) and names == list(COMMANDS)
    for name in names:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0 and f"wearable-imagenet {name}" in capsys.readouterr().out


BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(path, kind: str) -> list[str]:
    """The fenced blocks of a page or notebook in one language."""
    cells = nbformat.read(path, as_version=4).cells if path.suffix == ".ipynb" else []
    text = (
        "\n".join(c.source for c in cells if c.cell_type == "markdown") if cells else path.read_text(encoding="utf-8")
    )
    return [textwrap.dedent(inner) for found, inner in BLOCK.findall(text) if found == kind]


@pytest.mark.parametrize("page", HOWTO, ids=lambda page: page.stem)
def test_commands_of_how_to_pages_run(page, photos, tmp_path, monkeypatch, capsys):
    """One after the other, on a few photographs and at a small size."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines and {line.split()[0] for line in lines} == {"wearable-imagenet"}
    for line in lines if LONG else [line for line in lines if " gallery" not in line]:  # garments take a while
        words = [word.replace("path/to/photographs", str(photos)) for word in shlex.split(line)[1:]]
        small = sets(**BRIEF) if words[0] in ("demo", "distill") else []
        small += ["--data", f"folder:{photos}"] if words[0] == "distill" else []
        assert main(words + small) == 0, capsys.readouterr().err
    for block in blocks(page, "python"):
        exec(block, {})


def test_the_command_of_the_results_runs(tmp_path, monkeypatch, capsys):
    """On a copy of the file, with one network that is hardly trained."""
    (block,) = blocks(ROOT / "nbs/results.md", "sh")
    command, *words = shlex.split(block)
    assert command == "wearable-imagenet"
    (tmp_path / words[1]).parent.mkdir(parents=True)
    shutil.copy(ROOT / words[1], tmp_path / words[1])
    monkeypatch.chdir(tmp_path)
    assert main([*words, *sets(eval_networks=1, eval_epochs=1)]) == 0, capsys.readouterr().err
    assert "accuracy of textures" in capsys.readouterr().out


def test_commands_for_many_machines_are_read():
    """Those of the notebook about them, whoever starts them: `tests/test_ranks.py` runs such ones."""
    text = " ".join(blocks(ROOT / "nbs/notes/machines.ipynb", "sh")).replace("\\\n", " ")
    found = re.findall(r"wearable[-_]imagenet ((?:demo|experts|distill|evaluate) .*)", text)
    assert len(found) >= 4
    for line in found:
        a = read_command(shlex.split(line))
        find_settings("nowhere", a.preset, a.settings, a.data, a.set)


def test_no_block_of_a_how_to_page_is_left_out():
    """Pages under "How to" have blocks in these languages alone, and the tests above run them."""
    for page in (*HOWTO, ROOT / "nbs/results.md"):
        kinds = [kind for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))]
        assert set(kinds) <= {"sh", "python", "text"}, page


def install_cell(path) -> str:
    """The first cell of a lesson that is code."""
    return next(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_lessons_install_what_they_need(there, fails, tmp_path, monkeypatch):
    """One cell in all lessons: where the package cannot be imported it is fetched and installed, which may fail. It goes
    to the folder of the lessons, after a restart too, when there is nothing left to install."""
    (cell,) = {install_cell(path) for path in LESSONS}
    lessons, done, found = tmp_path / "wearable-imagenet/nbs/tutorials", [], [object()] * there

    class Shell:
        def system(self, command):
            done.append(command)
            if not fails:
                found.append(object())

    if not fails:
        lessons.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[-1] if found else None)
    with pytest.raises(AssertionError, match="not installed") if fails and not there else nullcontext():
        exec(TransformerManager().transform_cell(cell), {"get_ipython": Shell})
    assert done == ([] if there else [CLONE, "{sys.executable} -m pip install --quiet ./wearable-imagenet"])
    assert Path.cwd() == (tmp_path if fails else lessons)


READ = sorted(path for kind in ("tutorials", "results", "notes") for path in (ROOT / "nbs" / kind).glob("*.ipynb"))


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_pictures_of_lessons_results_and_notes_say_what_is_seen(path):
    """In words of their own, which are neither code nor a file's name, and are said of no other picture of the page."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        shown = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
        if any(kind.startswith("image/") for kind in shown) and "#| hide" not in cell.source:
            words = own_words(cell)
            assert len(words.split()) > 5 and not re.search(r"\w\(|^\S+\.(png|jpe?g)$", words), (cell.id, words)
            found.append(words)
    assert len(set(found)) == len(found), found


# The built site


@pytest.fixture(scope="module")
def pages(site) -> dict:
    """Every page of the site, read."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


class Page(HTMLParser):
    """What a page refers to, what can be referred to in it, and its pictures."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loads, self.silent = [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given["href"]] if tag == "a" and given.get("href") else []
        self.loads += [given[n] for n in ("src", "href") if tag in ("img", "script", "link", "iframe") and given.get(n)]
        words = given.get("alt", "").strip()
        if tag == "img" and (not words or re.fullmatch(r"\S+\.(png|jpe?g|svg|gif|webp)", words)):
            self.silent += [given["src"]]


def test_no_link_is_dead(site, pages):
    """Every link inside leads to a file that is there, and to a place in it that is there. Nothing is loaded from
    elsewhere."""
    assert len(pages) > 130 and sum(len(page.links) for page in pages.values()) > 3000
    dead = set()
    for name, page in pages.items():
        for link in page.links + page.loads:
            url = urlsplit(link)
            if url.scheme in ("data", "mailto") or link in page.links and url.scheme:
                continue
            target = (site / name).parent / unquote(url.path) if url.path else site / name
            place = os.path.relpath(target / "index.html" if target.is_dir() else target, site)
            gone = url.scheme or not (site / place).is_file()
            lost = place in pages and url.fragment and unquote(url.fragment) not in pages[place].anchors
            if (gone or lost) and name not in ("search.html", "genindex.html", "py-modindex.html"):
                dead.add((name, link))
    assert not dead, sorted(dead)


def test_every_picture_has_words(pages):
    """No alternative text is empty, or the name of a file."""
    assert {name: page.silent for name, page in pages.items() if page.silent} == {}


def test_nothing_of_the_workshop_shows(site):
    """No directive of nbdev, no table that stayed text, no path of the machine that built it, no traceback."""
    shown = {"#| ": [], "| :—": [], str(ROOT): [], "Traceback (most recent": []}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for word, where in shown.items():
            where += [path.name] if word in text else []
    assert shown == dict.fromkeys(shown, [])
