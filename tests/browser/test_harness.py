"""The hands and eyes of the other browser tests, tried on notebooks so small that one knows what they must find."""

import nbformat
import pytest

from .lesson import Lesson, png

# A square that follows a slider, a list and a button, in the shape of the library's explorers.
EXPLORER = """
import base64, io, ipywidgets as widgets
from PIL import Image
number = widgets.IntSlider(description="number n", min=0, max=50, continuous_update=False)
twice = widgets.IntSlider(description="number n twice", min=0, max=100)
color = widgets.Dropdown(description="color", options=["red", "blue"])
reset = widgets.Button(description="reset")
reset.on_click(lambda _: setattr(number, "value", 0))
view = widgets.HTML()
def show(_=None):
    png = io.BytesIO()
    Image.new("RGB", (100 + number.value, 50), color.value).save(png, "png")
    view.value = f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"><figcaption>{color.value}, n = {number.value}.</figcaption></figure>'
for control in (number, color): control.observe(show, "value")
show()
box = widgets.VBox([number, twice, color, reset, view])
box.add_class("wearable-explorer")
box
"""


@pytest.fixture
def open_cells(browser, server):
    """`open_cells(name, *cells)`: a notebook of these cells, open and run."""

    def open_(name, *cells):
        notebook = nbformat.v4.new_notebook(
            cells=list(map(nbformat.v4.new_code_cell, cells)),
            metadata=dict(kernelspec=dict(name="python3", display_name="python3")),
        )
        nbformat.write(notebook, server.root / name)
        lesson = Lesson(browser.new_page(), server, name)
        lesson.run_all()
        return lesson

    return open_


def test_hands_and_eyes(open_cells):
    """Keys, mouse, lists and buttons arrive in the kernel; what the kernel shows is what is read from the page."""
    with open_cells("explorer.ipynb", EXPLORER) as lesson:
        assert (lesson.errors(), lesson.console, lesson.alerts()) == ([], [], [])
        assert lesson.caption() == "red, n = 0."
        lesson.press("number n", "ArrowRight", 7)
        assert (
            lesson.caption(says="n = 7.") == "red, n = 7."
            and lesson.value("number n") == lesson.python("number.value") == "7"
        )
        lesson.drag("number n", 1)
        assert (
            lesson.caption(says="n = 50.")
            and lesson.value("number n") == "50"
            and lesson.value("number n twice") == "0"
        )
        lesson.dropdown("color").select_option("blue")
        assert lesson.caption(says="blue") == "blue, n = 50."
        assert lesson.picture() == png(lesson.python("view.value"))
        lesson.screenshot("harness", n=0)
        lesson.button("reset").click()
        assert lesson.caption(says="n = 0.") == "blue, n = 0."


def test_harness_would_notice(open_cells):
    """A cell that fails, the cell after it, an error in the page, and an explorer that refuses do not go unseen."""
    alert = "import ipywidgets\nbox = ipywidgets.VBox([ipywidgets.HTML('<p role=alert>no</p>')]).add_class('wearable-explorer')\nbox"
    with open_cells(
        "wrong.ipynb",
        alert,
        "from IPython.display import Javascript\nJavascript('console.error(\"seen\")')",
        "1 / 0",
        "2",
    ) as lesson:
        assert lesson.errors() == ["cell 2: ZeroDivisionError: division by zero", "cell 3: did not run"]
        assert lesson.console == ["seen"]
        assert lesson.alerts() == ["no"]
        with pytest.raises(AssertionError, match="NameError"):
            lesson.python("missing")


def test_dead_kernel_is_noticed(open_cells):
    """A kernel that dies raises nothing in any cell."""
    with open_cells("dead.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "1") as lesson:
        assert lesson.errors() == ["cell 0: did not run", "cell 1: did not run"]
