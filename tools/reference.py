"""The reference of the site, from one source: what docstrings, comments of parameters and settings, and `--help` say."""

import ast
import io
import json
import os
import re
import textwrap
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from wearable_imagenet.cli import COMMANDS, main
from wearable_imagenet.guard.bounds import BOUNDS
from wearable_imagenet.settings import (
    PRESETS,
    CanvasSettings,
    DistillSettings,
    MachineSettings,
    make_settings,
    settings_text,
)

PACKAGE = Path(__file__).resolve().parents[1] / "wearable_imagenet"
DEFINITION = (ast.ClassDef, ast.FunctionDef)


class Module(NamedTuple):
    """An exported module, read and not run."""

    name: str
    lines: list[str]
    tree: ast.Module

    @property
    def public(self) -> list[str]:
        """Its `__all__`."""
        lists = [
            n.value for n in self.tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
        ]
        return ast.literal_eval(lists[0]) if lists else []

    def comment(self, node: ast.AST) -> str:
        """What the comment at the end of a parameter's, a field's or a result's lines says."""
        said = (re.search(r"\s#\s(.+)", line) for line in self.lines[node.lineno - 1 : node.end_lineno])
        return next((found[1] for found in said if found), "").replace("*", r"\*")


def modules() -> list[Module]:
    """Every module that exports a name of its own; what the package itself offers is `front`'s."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(("wearable_imagenet", *path.relative_to(PACKAGE).with_suffix("").parts))
        found.append(Module(name, text.splitlines(), ast.parse(text)))
    return [module for module in found if module.public and not module.name.endswith("__init__")]


def block(kind: str, signature: str, body: list[str], level: int = 0, **options: str) -> str:
    """A directive of Sphinx's Python domain."""
    fence = "`" * (6 - level)
    said = [f":{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in options.items()]
    return "\n".join([f"{fence}{{py:{kind}}} {signature}", *said, "", *body, fence, ""])


def parameters(module: Module, node: ast.FunctionDef) -> list[str]:
    """The comment of every parameter and of the result."""
    a = node.args
    every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
    named = [arg for arg in every if arg.arg not in ("self", "cls") and module.comment(arg)]
    said = [f":param {arg.arg}: {module.comment(arg)}" for arg in named]
    result = module.comment(node.returns) if node.returns else ""
    return ["", *said, *[f":returns: {result}"] * bool(result), ""]


def function(module: Module, node: ast.FunctionDef, level: int = 0) -> str:
    """A function or, one level down, a method."""
    how = {ast.unparse(d) for d in node.decorator_list} & {"property", "cached_property", "classmethod", "staticmethod"}
    kind = how.pop().removeprefix("cached_") if how else "method" if level else "function"
    body = [ast.get_docstring(node) or "", *parameters(module, node)]
    result = ast.unparse(node.returns) if node.returns else ""
    if kind == "property":
        return block(kind, node.name, body, level, **({"type": result} if result else {}))
    args = ast.unparse(node.args)
    args = re.sub(r"^(self|cls)(, )?", "", args) if kind in ("method", "classmethod") else args
    return block(kind, f"{node.name}({args})" + f" -> {result}" * bool(result), body, level)


def value(node: ast.Assign | ast.AnnAssign) -> dict[str, str]:
    """Type and value of a field or a constant, as far as they are said."""
    shown = textwrap.shorten(ast.unparse(node.value), 200, placeholder=" …") if node.value else ""
    kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    return {name: text for name, text in (("type", kind), ("value", shown)) if text}


def klass(module: Module, node: ast.ClassDef) -> str:
    """A class: how it is made, its fields, its public methods."""
    made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    args = "(" + re.sub(r"^self(, )?", "", ast.unparse(made.args)) + ")" if made else ""
    fields = [(n, ast.unparse(n.target)) for n in node.body if isinstance(n, ast.AnnAssign)]
    inner = [block("attribute", f, [module.comment(n)], 1, **value(n)) for n, f in fields if f[0] != "_"]
    inner += [function(module, n, 1) for n in node.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    body = [ast.get_docstring(node) or "", *(parameters(module, made) if made else [""]), *inner]
    return block("class", node.name + args, body)


def entry(module: Module, name: str) -> str:
    """A public name as the reference shows it."""
    for node in module.tree.body:
        if isinstance(node, DEFINITION) and node.name == name:
            return klass(module, node) if isinstance(node, ast.ClassDef) else function(module, node)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == name for target in targets if target for t in ast.walk(target)):
            return block("data", name, [module.comment(node)], **value(node))
    raise LookupError(f"{module.name} exports {name} and does not define it")


def module_page(module: Module) -> str:
    """The page of a module."""
    short, about = module.name.partition(".")[2], ast.get_docstring(module.tree)
    head = f"# {short}\n\n> {about}\n\n```{{py:module}} {module.name}\n```\n"
    return "\n".join([head, *(entry(module, name) for name in module.public)])


def setting(module: Module, node: ast.AnnAssign) -> str:
    """A setting: its words, its default, its bounds, and the presets that have another value."""
    name = ast.unparse(node.target)
    default = settings_text(DistillSettings())[name]
    facts = [f"default {default}" if default != "" else "empty by default"]
    facts += [f"bounds {BOUNDS[name]}"] if name in BOUNDS else []
    others: dict = {}
    for preset in PRESETS:
        others.setdefault(settings_text(make_settings(preset))[name], []).append(f"`{preset}`")
    facts += [f"{value} in {', '.join(presets)}" for value, presets in others.items() if value != default]
    return f"({name})=\n`{name}`\n: {module.comment(node)}\n: {'; '.join(facts)}\n"


def settings_page() -> str:
    """Every setting, in the groups that comments between them name."""
    (module,) = [m for m in modules() if m.name == "wearable_imagenet.settings"]
    page = [
        "# Settings",
        "",
        "> Every setting of a run, in the words of its own comment, with its default and its bounds.",
        "",
    ]
    page += [f"Then come the presets that have another value. There are {', '.join(f'`{p}`' for p in PRESETS)}.", ""]
    for owner in (DistillSettings, CanvasSettings, MachineSettings):
        (node,) = [n for n in module.tree.body if isinstance(n, ast.ClassDef) and n.name == owner.__name__]
        for before, n in zip(node.body, node.body[1:]):
            between = [line.strip() for line in module.lines[before.end_lineno : n.lineno - 1]]
            titles = [line[2].upper() + line[3:] for line in between if line.startswith("# ")]
            title = titles[0] if titles else ast.get_docstring(node) if n is node.body[1] else ""
            page += [f"## {title}", ""] if title else []
            page += [setting(module, n)]
    return "\n".join(page)


def help_text(*command: str) -> str:
    """What the program says when asked for help."""
    with redirect_stdout(io.StringIO()) as said, suppress(SystemExit), mock.patch.dict(os.environ, COLUMNS="90"):
        main([*command, "--help"])
    return said.getvalue().strip()


def commands_page() -> str:
    """Every command, with its own help."""
    top = help_text()
    page = ["# Commands", "", "> What `wearable-imagenet COMMAND --help` says.", "", "```text", top, "```", ""]
    for name in COMMANDS:
        page += [f"## {name}", "", "```text", help_text(name), "```", ""]
    return "\n".join(page)


def index_page() -> str:
    """The way to every module's page."""
    rows = [f"| [{m.name.partition('.')[2]}]({m.name}.md) | {ast.get_docstring(m.tree)} |" for m in modules()]
    pages = "\n".join(m.name for m in modules())
    return "\n".join(
        ["# Public names", "", "> Every name that a module exports.", "", "| module | |", "| --- | --- |", *rows, ""]
        + ["```{toctree}", ":hidden:", "", pages, "```", ""]
    )


def write_reference(folder: Path) -> None:
    """All of it, as Markdown."""
    folder.mkdir()
    pages = {"settings": settings_page(), "commands": commands_page(), "names": index_page()}
    pages |= {m.name: module_page(m) for m in modules()}
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
