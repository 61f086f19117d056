"""A notebook in JupyterLab, and the hands and eyes of somebody who works with it."""

import ast
import base64
import os
import re
from pathlib import Path

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parent / "screenshots"))
WINDOW = dict(width=1280, height=1100)
TALLEST = 16000  # pixels; Chromium paints no taller picture
PANEL = "window.findPanel = path => [...(window.jupyterapp?.shell.widgets('main') ?? [])].find(widget => widget.context?.path === path)"
IDLE = "path => { const session = findPanel(path)?.sessionContext; return session?.isReady && session.session?.kernel?.status === 'idle' }"
RUN = "() => { window.ran = false; jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ran = true }) }"
RAN = "path => window.ran && findPanel(path).sessionContext.session?.kernel?.status === 'idle'"
ERRORS = """path => findPanel(path).content.widgets.flatMap((cell, number) => {
    if (cell.model.type !== 'code' || !cell.model.sharedModel.source.trim()) return []
    const said = cell.model.outputs.toJSON().filter(output => output.output_type === 'error').map(output => `${output.ename}: ${output.evalue}`)
    if (cell.model.executionCount === null) said.push('did not run')
    return said.map(text => `cell ${number}: ${text}`)
})"""
ASK = """async ([path, code]) => {
    const kernel = findPanel(path).sessionContext.session.kernel
    const reply = await kernel.requestExecute({code: '', silent: true, store_history: false, user_expressions: {value: code}}).done
    return reply.content.user_expressions.value
}"""
BELOW = """async path => {
    const {outerNode, widgets} = findPanel(path).content
    outerNode.scrollTop = 0
    for (const frame of [1, 2]) await new Promise(requestAnimationFrame)
    return Math.ceil(widgets.at(-1).node.getBoundingClientRect().bottom - outerNode.getBoundingClientRect().bottom)
}"""


def png(shown: str) -> bytes:
    """The picture in a piece of HTML, or in the address of an image."""
    return base64.b64decode(re.search(r"data:image/\w+;base64,([\w+/=]+)", shown)[1])


class Lesson:
    """An open notebook. Controls are found by their label, explorers by their number."""

    def __init__(self, page, server, path: str, seconds: float = 60):
        """Open a notebook and wait for its kernel."""
        self.page, self.path, self.console = page, path, []
        page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.set_default_timeout(1000 * seconds)
        page.set_viewport_size(WINDOW)
        page.add_init_script(PANEL)
        page.goto(f"{server.url}/lab/tree/{path}?token={server.token}&reset")
        page.wait_for_function(IDLE, arg=path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Shut the kernel down and close the page."""
        self.page.evaluate("path => findPanel(path).sessionContext.shutdown()", self.path)
        self.page.close()

    def run_all(self, seconds: float = 600):
        """Run every cell and wait until the last has run, or one has failed."""
        self.page.evaluate(RUN)
        self.page.wait_for_function(RAN, arg=self.path, timeout=1000 * seconds)

    def errors(self) -> list[str]:
        """What went wrong in cells, and which did not run."""
        return self.page.evaluate(ERRORS, self.path)

    def alerts(self) -> list[str]:
        """What explorers say instead of showing a picture."""
        return self.page.locator(".wearable-explorer [role=alert]").all_inner_texts()

    def python(self, code: str) -> str:
        """An expression's value in the notebook's own kernel, as a string."""
        value = self.page.evaluate(ASK, [self.path, f"str({code})"])
        assert value["status"] == "ok", f"{code}: {value['ename']}: {value['evalue']}"
        return ast.literal_eval(value["data"]["text/plain"])

    def explorer(self, n: int = 0):
        """The n-th explorer."""
        return self.page.locator(".wearable-explorer").nth(n)

    def control(self, text: str, n: int = 0):
        """The control with this label."""
        label = self.page.locator(".widget-label", has_text=re.compile(rf"^\s*{re.escape(text)}\s*$"))
        return self.explorer(n).locator(".widget-inline-hbox", has=label)

    def slider(self, text: str, n: int = 0):
        """The handle of the slider with this label."""
        return self.control(text, n).get_by_role("slider")

    def dropdown(self, text: str, n: int = 0):
        """The list of choices with this label."""
        return self.control(text, n).get_by_role("combobox")

    def button(self, text: str, n: int = 0):
        """The button that says this."""
        return self.explorer(n).get_by_role("button", name=text)

    def value(self, text: str, n: int = 0) -> str:
        """The number beside a slider."""
        return self.control(text, n).locator(".widget-readout").inner_text()

    def press(self, text: str, key: str, times: int = 1, n: int = 0):
        """Press a key on a slider, as fast as the browser takes it."""
        for _ in range(times):
            self.slider(text, n).press(key)

    def drag(self, text: str, fraction: float, n: int = 0):
        """Drag a slider's handle to a fraction of its track with the mouse."""
        self.slider(text, n).scroll_into_view_if_needed()
        handle, track, mouse = (
            self.slider(text, n).bounding_box(),
            self.control(text, n).locator(".noUi-base").bounding_box(),
            self.page.mouse,
        )
        height = handle["y"] + handle["height"] / 2
        mouse.move(handle["x"] + handle["width"] / 2, height)
        mouse.down()
        mouse.move(track["x"] + fraction * track["width"], height, steps=5)
        mouse.up()

    def caption(self, n: int = 0, says: str = "") -> str:
        """The text below an explorer's picture, as soon as it says this."""
        return self.explorer(n).locator("figcaption", has_text=says).text_content()

    def status(self, n: int = 0, says: str = "") -> str:
        """The line that says how a studio stands, as soon as it says this."""
        return self.explorer(n).locator("[role=status]", has_text=says).text_content()

    def picture(self, n: int = 0) -> bytes:
        """An explorer's picture."""
        return png(self.explorer(n).locator("figure img").get_attribute("src"))

    def screenshot(self, name: str, n: int | None = None):
        """Save the screen with the n-th explorer in the middle, or else all cells, in a window that is tall enough."""
        height = WINDOW["height"]
        if n is not None:
            self.explorer(n).evaluate("explorer => explorer.scrollIntoView({block: 'center'})")
        else:
            for _ in range(4):  # heights of cells that were not seen yet are guesses
                height = min(max(WINDOW["height"], height + self.page.evaluate(BELOW, self.path)), TALLEST)
                self.page.set_viewport_size(WINDOW | dict(height=height))
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{re.sub('[^0-9A-Za-z]+', '_', name)}.png")
        self.page.set_viewport_size(WINDOW)
