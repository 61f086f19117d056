"""README.md from nbs/index.ipynb, printed: python tools/readme.py > README.md

The notebook's prose, and its code without outputs; links that start in nbs/ start at the root.
"""

import posixpath
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"""(\]\(|src="|href=")([^)"#\s]+)""")


def from_root(match: re.Match) -> str:
    """A link that starts in nbs/, as one that starts at the root."""
    before, link = match.groups()
    return match[0] if "://" in link else before + posixpath.normpath(posixpath.join("nbs", link))


def readme() -> str:
    """The text that README.md must have."""
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "#| hide" not in cell.source]
    exporter = MarkdownExporter(config=Config(TemplateExporter=dict(exclude_output=True)))
    notebook.metadata["language_info"] = {"name": "python"}
    text, _ = exporter.from_notebook_node(notebook)
    return LINK.sub(from_root, text.strip()).replace('("results/', '("nbs/results/') + "\n"


if __name__ == "__main__":
    print(readme(), end="")
