"""README.md from nbs/index.ipynb: its prose, and its code without outputs. Prints to standard output: python tests/readme.py > README.md"""
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import RegexRemovePreprocessor
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]


def readme() -> str:
    """The text that README.md must have."""
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    hidden = RegexRemovePreprocessor(patterns=[r"#\| hide"])
    exporter = MarkdownExporter(config=Config(TemplateExporter=dict(exclude_output=True)))
    exporter.register_preprocessor(hidden, enabled=True)
    text, _ = exporter.from_notebook_node(notebook)
    return text.strip().replace("](images/", "](nbs/images/").replace('src="images/', 'src="nbs/images/') + "\n"


if __name__ == "__main__":
    print(readme(), end="")
