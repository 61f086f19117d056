"""The house's rules, counted: how large rooms are, how long lines, how much prose, what is documented and tested.

What is counted is said where it is counted. A message names the offenders, so that nobody has to search.
"""

import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

from conftest import ROOT
from tools.rooms import draw

PACKAGE, NBS = ROOT / "wearable_imagenet", ROOT / "nbs"
EXPORT = re.compile(r"^#\s*\|\s*exports?\b", re.MULTILINE)
HOME = re.compile(r"^#\s*\|\s*default_exp\s+(\S+)", re.MULTILINE)
TESTED = re.compile(r"\bassert\b|\btest_\w+\(|\bexpect_fail\(|\braises\(")
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
UNNAMED = {"self", "cls", "ctx", "context"}  # parameters that need no word


# What there is


class Source(NamedTuple):
    """A file, or a cell of one, that is Python."""

    name: str
    text: str


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python(*folders: Path) -> list[Path]:
    """Python files that people wrote, or a notebook for them: nbdev's index of names is neither."""
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if path.name != "_modidx.py"]


def read(path: Path) -> Source:
    return Source(name(path), path.read_text(encoding="utf-8"))


@cache
def cells(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def is_code(cell) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def is_export(cell) -> bool:
    return is_code(cell) and bool(EXPORT.search(cell.source))


def parse(cell) -> ast.Module:
    """A cell's syntax, its magics left out."""
    return ast.parse(re.sub(r"^\s*[%!].*", "", cell.source, flags=re.MULTILINE))


def home(path: Path) -> str | None:
    """The module that a notebook exports."""
    return next((found[1] for cell in cells(path) if is_code(cell) and (found := HOME.search(cell.source))), None)


MODULES = [path for path in python(PACKAGE) if path.name != "__init__.py"]
NOTEBOOKS = [p for p in sorted(NBS.rglob("*.ipynb")) if not any(part[0] in "._" for part in p.relative_to(NBS).parts)]
ROOMS = [path for path in NOTEBOOKS if home(path)]
TRUNK = [path for path in NOTEBOOKS if path.parent == NBS and path.name[0].isdigit()]
KINDS = {
    "modules": [read(path) for path in MODULES],
    "notebooks": [Source(f"{name(p)}#{c.id}", c.source) for p in NOTEBOOKS for c in cells(p) if is_code(c)],
    "tests and tools": [read(path) for path in python(ROOT / "tests", ROOT / "tools")],
}
each_module = pytest.mark.parametrize("path", MODULES, ids=name)
each_room = pytest.mark.parametrize("path", ROOMS, ids=name)
each_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(read(path).text)


def public(path: Path) -> list[str]:
    """A module's `__all__`."""
    lists = [n.value for n in tree(path).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return ast.literal_eval(lists[0]) if lists else []


def functions(path: Path) -> list[tuple[str, ast.FunctionDef, ast.ClassDef | None]]:
    """Functions of a module and methods of its classes, private ones too: dotted name, definition, class."""
    found = [(node.name, node, None) for node in tree(path).body if isinstance(node, FUNCTION)]
    for owner in (node for node in tree(path).body if isinstance(node, ast.ClassDef)):
        found += [(f"{owner.name}.{node.name}", node, owner) for node in owner.body if isinstance(node, FUNCTION)]
    return found


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    """What a caller may name: neither self nor *, ** and context."""
    a = node.args
    return [arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs) if arg.arg not in UNNAMED]


def lines_of_code(text: str) -> int:
    """Lines that are neither blank nor only a comment."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())


def test_the_house_is_found():
    """Rules about nothing would all hold: every module has a notebook, and the trunk is there."""
    assert len(TRUNK) >= 8 and len(MODULES) > 10
    dotted = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES]
    assert sorted(home(path) for path in ROOMS) == sorted(dotted)


# Size


@each_module
def test_a_room_has_at_most_300_lines(path):
    assert len(read(path).text.splitlines()) <= 300


@each_kind
def test_under_one_line_in_a_hundred_is_over_120_columns(kind):
    lines = [(source.name, line) for source in KINDS[kind] for line in source.text.splitlines()]
    long = Counter(where for where, line in lines if len(line) > 120)
    assert long.total() < 0.01 * len(lines), f"{long.total()} of {len(lines)} lines, most in {long.most_common(8)}"


@each_kind
def test_no_statement_ends_with_a_semicolon(kind):
    found = []
    for source in KINDS[kind]:
        text = re.sub(r"^\s*[%!].*", "", source.text, flags=re.MULTILINE)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        found += [
            f"{source.name}:{token.start[0]}" for token in tokens if token.type == tokenize.OP and token.string == ";"
        ]
    assert not found, f"{len(found)}: {found}"


def test_under_two_functions_in_a_hundred_take_more_than_six_parameters():
    every = [
        (f"{name(path)}:{dotted}", len(parameters(node))) for path in MODULES for dotted, node, _ in functions(path)
    ]
    many = [f"{dotted} ({count})" for dotted, count in every if count > 6]
    assert len(many) < 0.02 * len(every), f"{len(many)} of {len(every)}: {many}"


# Words


@pytest.mark.parametrize("path", TRUNK, ids=name)
def test_four_words_of_prose_a_line_of_code(path):
    """Words of all markdown cells, for each exported line of code; where nothing is exported, for each line of code."""
    words = sum(len(cell.source.split()) for cell in cells(path) if cell.cell_type == "markdown")
    chosen = [c for c in cells(path) if is_export(c)] or [c for c in cells(path) if is_code(c)]
    lines = sum(lines_of_code(cell.source) for cell in chosen)
    assert words >= 4 * lines, f"{words} words, {lines} lines: {words / max(1, lines):.1f}"


@each_room
def test_prose_stands_before_nine_definitions_of_ten(path):
    """A definition has prose if markdown that is more than a heading stands between its cell and the export before."""
    prose, bare, count = False, [], 0
    for cell in cells(path):
        if cell.cell_type == "markdown":
            prose |= any(line.strip() and not line.startswith("#") for line in cell.source.splitlines())
        elif is_export(cell):
            defined = [node.name for node in parse(cell).body if isinstance(node, DEFINITION)]
            count, bare, prose = count + len(defined), bare + (not prose) * defined, False
    assert len(bare) <= 0.1 * count, f"{len(bare)} of {count}: {bare}"


def undocumented(path: Path) -> list[str]:
    """Parameters of public functions and methods that no comment on their line, or on lines of its own above it, and no
    docstring (as `name` or name:) speaks of. A comment where the signature ends is about what is returned.
    """
    found, text = [], read(path).text
    comments = {
        t.start[0]: t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT
    }
    for dotted, node, owner in functions(path):
        if any(part.startswith("_") and part not in ("__init__", "__call__") for part in dotted.split(".")):
            continue
        last = end_of_signature(text, node)
        words = (ast.get_docstring(node) or "") + (ast.get_docstring(owner) or "" if owner else "")
        for arg in parameters(node):
            own_line = comments.get(arg.lineno - 1)
            above = own_line and own_line.line.lstrip().startswith("#") and arg.lineno - 1 > node.lineno
            beside = arg.lineno in comments and arg.lineno < last
            if not (above or beside or re.search(rf"`{arg.arg}`|\b{arg.arg}:", words)):
                found.append(f"{dotted}({arg.arg})")
    return found


def end_of_signature(text: str, node: ast.FunctionDef) -> int:
    """The line of the colon after which the body begins."""
    lines = "".join(text.splitlines(keepends=True)[node.lineno - 1 :])
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(lines).readline):
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if depth == 0 and token.type == tokenize.OP and token.string == ":":
            return node.lineno + token.start[0] - 1


@each_module
def test_every_parameter_of_what_is_public_is_documented(path):
    found = undocumented(path)
    assert not found, f"{len(found)}: {found}"


@each_room
def test_a_test_cell_for_every_exported_cell(path):
    exported = sum(is_export(cell) for cell in cells(path))
    tests = sum(is_code(c) and not is_export(c) and bool(TESTED.search(c.source)) for c in cells(path))
    assert tests >= exported, f"{tests} cells with an assertion, {exported} exported cells"


def rows(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("page", ["README.md", "nbs/index.ipynb"])
def test_a_table_says_what_every_room_is_for(page):
    """A row links to the room's notebook, or names its module in backticks."""
    path = ROOT / page
    text = read(path).text if path.suffix == ".md" else "\n".join(c.source for c in cells(path))
    missing = [
        name(p) for p in ROOMS if not re.search(rf"[(/]{re.escape(p.name)}\)|`{re.escape(home(p))}`", rows(text))
    ]
    assert not missing, missing


# Names


def test_nothing_exported_looks_like_a_test():
    assert [f"{name(path)}:{word}" for path in MODULES for word in public(path) if word.startswith("test_")] == []


def test_no_name_is_defined_in_two_modules():
    """Names without a leading underscore that a module defines at its top level."""
    places = defaultdict(list)
    for path in MODULES:
        defined = {node.name for node in tree(path).body if isinstance(node, DEFINITION)} | set(public(path))
        for word in defined:
            places[word].append(name(path))
    twins = {word: where for word, where in places.items() if len(where) > 1 and not word.startswith("_")}
    assert not twins, twins


def test_no_method_is_assigned_onto_a_class():
    found = []
    for path in MODULES:
        for node in (n for n in tree(path).body if isinstance(n, ast.Assign)):
            targets = [t for t in node.targets if isinstance(t, ast.Attribute) and ast.unparse(t.value)[:1].isupper()]
            found += [f"{name(path)}:{node.lineno} {ast.unparse(target)}" for target in targets]
    assert not found, found


@each_module
def test_all_names_only_what_is_public(path):
    assert [word for word in public(path) if word.startswith("_")] == []


def test_no_six_lines_stand_in_two_places():
    """Six lines of code in a row, without imports and `__all__`, that are the same elsewhere in the package."""
    places = defaultdict(set)
    for path in MODULES:
        nodes = [n for n in tree(path).body if not isinstance(n, (ast.Import, ast.ImportFrom, ast.Assign))]
        kept = [
            (k, line.strip())
            for n in nodes
            for k, line in enumerate(read(path).text.splitlines()[n.lineno - 1 : n.end_lineno], n.lineno)
        ]
        kept = [(k, line) for k, line in kept if line and not line.startswith("#")]
        for i in range(len(kept) - 5):
            places[tuple(line for _, line in kept[i : i + 6])].add(f"{name(path)}:{kept[i][0]}")
    twice = [sorted(where) for where in places.values() if len(where) > 1]
    assert not twice, twice


def test_25_names_are_drawn():
    """`tools/rooms.py` draws for the reader who guesses rooms from the table's words: the same for one seed, all public."""
    drawn = draw(25, seed=7)
    assert len(set(drawn)) == 25 and drawn == draw(25, seed=7) != draw(25, seed=8)
    places = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): public(path) for path in MODULES}
    assert all(word in places[module] for word, module in drawn)
