"""The site, in _docs/html/: python tools/website.py [another folder]

Notebooks are dressed for reading and copied to _proc/ beside the reference and the gallery; Sphinx with MyST-NB makes
pages of them. No notebook is run: outputs are shown as they are stored.
"""

import html
import json
import posixpath
import re
import shutil
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout, whether or not it is installed

from tools.reference import write_reference  # noqa: E402
from wearable_imagenet.repeat import period  # noqa: E402
from wearable_imagenet.textures import Textures  # noqa: E402
from wearable_imagenet.tile import to_image  # noqa: E402

STAGE = ROOT / "_proc"
ALSO = ("CHANGELOG.md", "CONTRIBUTING.md")  # pages that do not lie in nbs/
GALLERY = ("flowers", "tiny64", "grocery", "materials")  # in nbs/results/
LINK = re.compile(r"""(\]\(|src="|href=")([^)"#\s]+)""")
config = ConfigParser(delimiters=["="])
config.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = config["DEFAULT"]
REPOSITORY = "{user}/{repo}/blob/{branch}".format(**SETTINGS)


def relink(text: str, page: str) -> str:
    """Links of a page, named by its place in the repository, as links of the site; to what is no page, as links to GitHub."""
    here = posixpath.dirname(page).removeprefix("nbs").lstrip("/") or "."

    def link(match: re.Match) -> str:
        before, target = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if place.startswith("nbs/") or place in ALSO:
            return before + posixpath.relpath(place.removeprefix("nbs/"), here)
        return f"{before}https://github.com/{REPOSITORY}/{place}"

    return LINK.sub(link, text)


def doors(page: str, module: str) -> str:
    """What stands under the title of a notebook: where a lesson can be run, or where a room's module is."""
    if module == "__main__":  # it has no names
        return "Module `wearable_imagenet.__main__`"
    if module:
        return f"Module [`wearable_imagenet.{module}`](/reference/wearable_imagenet.{module}.md)"
    if "/tutorials/" in page:
        blob, repo = f"github/{REPOSITORY}/{page}", "{user}/{repo}/{branch}".format(**SETTINGS)
        places = {
            "Colab": f"https://colab.research.google.com/{blob}",
            "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{REPOSITORY}/{page}",
            "Binder": f"https://mybinder.org/v2/gh/{repo}?urlpath=lab/tree/{page}",
        }
        return "Run this lesson: " + " ".join(f"[{name}]({url})" for name, url in places.items())
    return ""


def own_words(cell) -> str:
    """What a cell says of its picture: the words of `#| fig-alt:`, or an explorer's own; nothing if it has none."""
    said = [o.data["text/plain"] for o in cell.outputs if "data" in o and "text/plain" in o.data]
    own = [words for words in said if not words.startswith("<")]
    given = re.search(r"^#\| fig-alt: (.+)", cell.source, re.MULTILINE)
    return given[1] if given else own[-1] if own else ""


def alternative(cell, heading: str) -> str:
    """Words for the picture that a cell shows; in a room these may be where it stands and what draws it."""
    return own_words(cell) or f"{heading}: {cell.source.strip().splitlines()[-1].strip()}"


def dress(cell, heading: str):
    """A code cell without nbdev's directives, its pictures with words; None if readers are not to see it."""
    directives = re.findall(r"^#\| (.+)", cell.source, re.MULTILINE)
    alt = alternative(cell, heading)
    cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE).strip()
    cell.metadata = {"mystnb": {"image": {"alt": alt}}, "tags": []}
    cell.metadata["tags"] += ["remove-input"] * ("echo: false" in directives)
    return cell if cell.source and "hide" not in directives else None


def stage_notebook(path: Path) -> None:
    """A copied notebook, as the site shows it."""
    page = f"nbs/{path.relative_to(STAGE).as_posix()}"
    notebook, cells, heading = nbformat.read(path, as_version=4), [], ""
    module = re.search(r"#\| default_exp (\S+)", "\n".join(cell.source for cell in notebook.cells))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = ([heading] + re.findall(r"^#+ (.+)", cell.source, re.MULTILINE))[-1]
            cell.source = re.sub(r'<p align="center">(<img .*>)</p>', r"\1", relink(cell.source, page))
            cells.append(cell)
        elif dressed := dress(cell, heading):
            cells.append(dressed)
    if words := doors(page, module[1] if module else ""):
        title = re.sub(r"^(# .+\n+(?:>.*\n?)+)", lambda m: f"{m[1]}\n{{.doors}}\n{words}\n\n", cells[0].source)
        cells[0].source = title
    if page == "nbs/index.ipynb":
        cells.append(nbformat.v4.new_markdown_cell((ROOT / "docs/contents.md").read_text(encoding="utf-8")))
    notebook.cells = cells
    nbformat.write(notebook, path)


def swatches(name: str) -> str:
    """The textures of a result, each filling a square, and their figures."""
    textures = Textures.load(ROOT / f"nbs/results/{name}.safetensors")
    report = json.loads((ROOT / f"nbs/results/{name}.json").read_text(encoding="utf-8"))
    shown = []
    for k, tile in enumerate(textures):
        file, words = f"swatches/{name}_{k}.jpg", html.escape(tile.name)
        height, width = period(tile.size, tile.repeat)
        (STAGE / "extra/swatches").mkdir(parents=True, exist_ok=True)
        to_image(tile.window(0, 0, height, width).clamp(0, 1)).save(STAGE / "extra" / file, quality=90)
        style = f"background-image: url({file}); background-size: {width * 96 // tile.size[1]}px"
        shown.append(
            f'<figure><a href="{file}" style="{style}" role="img" aria-label="{words}, tiled"></a><figcaption>{words}</figcaption></figure>'
        )
    mean = {arm: f"{100 * report[f'accuracy_{arm}']['mean']:.1f} %" for arm in ("textures", "mosaic", "experts")}
    figures = f"Networks that saw nothing but crops of these textures recognize {mean['textures']} of real test images; {mean['mosaic']} with mosaics of equal size, {mean['experts']} with all real images."
    title = nbformat.read(ROOT / f"nbs/results/{name}.ipynb", as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
    grid = f'<div class="swatches">{"".join(shown)}</div>'
    return (
        f"## {title}\n\n{figures} [How, and how to check it](results/{name}.ipynb).\n\n```{{raw}} html\n{grid}\n```\n"
    )


def stage() -> None:
    """Everything that Sphinx reads, in _proc/."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "nbs", STAGE, ignore=shutil.ignore_patterns(".*", "_*"))
    for name in ("conf.py", "style.css"):
        shutil.copy(ROOT / "docs" / name, STAGE)
    for name in ALSO:
        (STAGE / name).write_text(relink((ROOT / name).read_text(encoding="utf-8"), name), encoding="utf-8")
    for path in sorted(STAGE.rglob("*.ipynb")):
        stage_notebook(path)
    gallery = "# Gallery\n\n> Each square is one canvas, tiled. A click opens the smallest picture that repeats.\n"
    (STAGE / "gallery.md").write_text("\n".join([gallery, *map(swatches, GALLERY)]), encoding="utf-8")
    write_reference(STAGE / "reference")


if __name__ == "__main__":
    from sphinx.cmd.build import main as sphinx  # the extra `docs`

    stage()
    target = Path(
        sys.argv[1] if len(sys.argv) > 1 else ROOT / SETTINGS["doc_path"]
    )  # MyST-NB leaves a folder there, too
    raise SystemExit(sphinx(["-q", "-E", "-a", "-W", "--keep-going", "-b", "html", str(STAGE), str(target / "html")]))
