"""Sphinx, for the site that tools/website.py builds: `make docs`."""

import re
import unicodedata

import latex2mathml.converter
from docutils import nodes
from sphinx.util.nodes import make_refnode

project = "wearable-imagenet"
html_title = project
extensions = ["myst_nb"]
nb_execution_mode = "off"  # outputs are shown as they are stored
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables that a cell makes
myst_enable_extensions = ["attrs_block", "deflist", "dollarmath", "fieldlist", "html_image"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # sections may skip a level
maximum_signature_line_length = 60
python_use_unqualified_type_names = True
add_module_names = False
pygments_dark_style = "github-dark"
html_theme = "furo"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_favicon = "extra/swatches/flowers_2.jpg"  # daisies
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False  # licences stand on the start page
html_math_renderer = "mathml"


def script(letter):
    """A capital as LaTeX's \\mathcal draws it; browsers leave MathML's own way out."""
    kind = "" if letter in "BEFHILMR" else "MATHEMATICAL "
    return unicodedata.lookup(f"{kind}SCRIPT CAPITAL {letter}")


def mathml(translator, node):
    """A formula as MathML, which browsers draw by themselves: neither a script nor a network."""
    tex = re.sub(r"\\mathcal\s*\{?([A-Z])\}?", lambda match: script(match[1]), node.astext())
    display = "inline" if isinstance(node, nodes.math) else "block"
    translator.body.append(latex2mathml.converter.convert(tex, display=display))
    raise nodes.SkipNode


def link_names(app, doctree, page):
    """A public name or a setting that a text mentions leads to the reference; a word that is both leads nowhere."""
    known = {}
    for full, entry in app.env.get_domain("py").objects.items():
        if entry.objtype in ("class", "data", "function"):
            known.setdefault(full.rpartition(".")[2], []).append((entry.docname, entry.node_id))
    for name, (document, anchor) in app.env.get_domain("std").anonlabels.items():
        if document == "reference/settings":
            known.setdefault(name, []).append((document, anchor))
    for literal in list(doctree.findall(nodes.literal)):
        found = known.get(literal.astext().removesuffix("()"), [])
        if len(found) == 1 and isinstance(literal.parent, nodes.paragraph) and found[0][0] != page:
            literal.replace_self(make_refnode(app.builder, page, *found[0], literal.deepcopy()))


def setup(app):
    """What is registered with Sphinx: the two above."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("doctree-resolved", link_names)
