"""Coverage of notebooks: a plugin of pytest, `-p tools.cells`, with which exported cells run as lines of their modules.

A notebook defines what it exports a second time, in its own cells. Without this, a module that only its notebook tries
would seem never to run; with it, a cell is compiled under its module's name and line numbers.
"""

import ast
import re
from pathlib import Path

from IPython.core.compilerop import CachingCompiler

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^# %% \S+\.ipynb\b.*\n", re.MULTILINE)  # nbdev writes one before every exported cell


def exported_cells() -> dict[str, tuple[str, int]]:
    """Text of every exported cell -> its module's path, and how many lines of the module stand before it."""
    cells = {}
    for path in sorted((ROOT / "wearable_imagenet").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        starts = [match.end() for match in MARKER.finditer(text)]
        for start, end in zip(starts, [match.start() for match in MARKER.finditer(text)][1:] + [len(text)]):
            cells[text[start:end].strip()] = str(path), text[:start].count("\n")
    return cells


def pytest_configure():
    """From here on, IPython compiles exported cells as their modules."""
    cells, modules = exported_cells(), {}
    parse, call = CachingCompiler.ast_parse, CachingCompiler.__call__

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        tree = parse(self, source, filename, symbol)
        if found := cells.get(source.strip()):
            modules[filename], before = found
            blank = len(source) - len(source.lstrip("\n"))
            ast.increment_lineno(tree, before - blank)
        return tree

    def compile_cell(self, source, filename, symbol, **flags):
        return call(self, source, modules.get(filename, filename), symbol, **flags)

    CachingCompiler.ast_parse, CachingCompiler.__call__ = ast_parse, compile_cell
