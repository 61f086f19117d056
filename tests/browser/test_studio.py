"""The studio in a real browser: from dropped folders to a PNG that other programs read, and what it refuses."""

import io
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, command
from wearable_imagenet.cloth.fabric import print_tile
from wearable_imagenet.cloth.sheet import Order
from wearable_imagenet.run import Run

from .conftest import stop
from .lesson import SCREENSHOTS

OUTSIDE = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")


@pytest.fixture(scope="module")
def studio(chromium, cache, tmp_path_factory):
    """A studio that runs: its address, and the folder of its runs. It takes 2 MB at once."""
    pytest.importorskip("voila", reason="Voilà is missing: python -m pip install 'wearable-imagenet[studio]'")
    folder = tmp_path_factory.mktemp("studio")
    words = "studio", "--port", 0, "--no-browser", "--folder", folder / "runs", "--upload", 2
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (folder / "log").read_text()
        process.stdout.readline()
        yield address, folder / "runs"
    finally:
        stop(process)


class Tab:
    """A page of the studio, and what the browser said meanwhile."""

    def __init__(self, browser, studio, width: int = 1280):
        self.context = browser.new_context(viewport=dict(width=width, height=900))
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.set_default_timeout(120_000)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        self.page.on("request", lambda r: self.asked.append(r.url) if not r.url.startswith(OUTSIDE) else None)
        self.page.goto(studio[0], wait_until="commit")
        self.page.locator(".studio-drop").wait_for()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def button(self, text: str):
        return self.page.get_by_role("button", name=text, exact=True)

    def line(self, text: str, role: str = "status") -> str:
        """The line that says this, as soon as it does."""
        return self.page.locator(f"[role={role}]", has_text=text).first.text_content()

    def drop(self, *paths):
        """Drop files or folders of this machine, as a hand does."""
        box = self.page.locator(".studio-drop").bounding_box()
        session = self.context.new_cdp_session(self.page)
        data = dict(items=[], files=[str(p) for p in paths], dragOperationsMask=1)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", dict(type=kind, x=box["x"] + 40, y=box["y"] + 20, data=data))

    def choose(self, name: str, content: bytes):
        """Choose one file with the button."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator(".studio-upload").click()
        chooser.value.set_files(dict(name=name, mimeType="application/octet-stream", buffer=content))

    def screenshot(self, name: str):
        """The whole page, wide and narrow; nothing is wider than the window."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for width in (390, 1280):
            self.page.set_viewport_size(dict(width=width, height=900))
            height = self.page.evaluate("document.querySelector('.studio').scrollHeight")
            self.page.set_viewport_size(dict(width=width, height=min(8000, height)))
            self.page.screenshot(path=SCREENSHOTS / f"studio_{name}_{width}.png")
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        self.page.set_viewport_size(dict(width=1280, height=900))


def zipped(**files) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            z.writestr(name, content)
    return held.getvalue()


def test_refuses_who_has_no_token(studio):
    """No token or a wrong one leads to a login, starts no kernel, and gets no file; another site's name is refused."""
    address, runs = studio
    root = address.partition("?")[0]
    (runs / "mine/prints").mkdir(parents=True)
    (runs / "mine/prints/a.png").write_bytes(b"private")

    def get(url, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return answer.url, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, b""

    for url in (root, f"{root}?token={'0' * 32}", f"{root}files/mine/prints/a.png"):
        where, content = get(url)
        assert "/login" in str(where) and b"private" not in content and b"kernel_id" not in content
    assert get(address.replace("/?", "/files/mine/prints/a.png?"))[1] == b"private"
    assert get(address, Host="other.example")[0] == 403
    shutil.rmtree(runs / "mine")


def test_from_photographs_to_cloth(browser, studio, tmp_path):
    """Folders are dropped, a run starts, is paused, seen by a second tab, resumed there, and printed."""
    runs = studio[1]
    with Tab(browser, studio) as tab, Tab(browser, studio) as other:
        tab.screenshot("start")

        # what is refused, in one line each
        tab.choose("one.png", (ROOT / "nbs/pictures/worn.jpg").read_bytes()[:2000])
        assert "name what these photographs show" in tab.line("name what", "alert")
        tab.page.get_by_placeholder("one class, such as moss").fill("moss")
        tab.choose("notes.txt", b"no picture")
        assert "notes.txt: no picture of a format" in tab.line("notes.txt", "alert")
        tab.choose("large.png", bytes(3 * 2**20))
        assert "3 MB are more than the 2 MB that come at once" in tab.line("3 MB", "alert")
        tab.choose("bomb.zip", zipped(**{"a/1.bmp": bytes(2**24)}))
        assert "times when unpacked" in tab.line("1.bmp", "alert")

        materials = ROOT / "wearable_imagenet/materials/train"
        tab.drop(*(materials / name for name in ("cliff", "grass", "snow")))
        count = sum(len(list((materials / name).glob("*.jpg"))) for name in ("cliff", "grass", "snow"))
        tab.line(f"{count} photographs in 3 classes")
        tab.page.locator(".studio-strip img").first.wait_for()
        assert "on this machine. A distillation step took" in tab.line("in a trial just now")
        tab.screenshot("read")

        tab.button("Start").click()
        run = Run(runs / "mine")
        tab.line("Distilling:")
        tab.page.locator(".studio-grid img").nth(2).wait_for()
        tab.screenshot("distilling")
        tab.button("Pause").click()
        paused = tab.line("Paused:")
        assert not (run.textures_file).exists() and re.fullmatch(r"Paused: \d+ of 60 steps", paused)

        # the second tab was at its beginning all the while; it finds the run, and resumes it
        assert other.page.locator(".studio-drop").is_visible()
        other.button("Open").click()
        other.line(paused)
        other.button("Resume").click()
        other.line("Distilling:")
        tab.line("Distilling:")
        tab.line("Finished")

        tab.page.locator(".studio-pair img").nth(1).wait_for()
        tab.screenshot("worn")
        tab.button("One tile").click()
        with tab.page.expect_download() as download:
            tab.page.locator("a[download]").first.click()
        download.value.save_as(tmp_path / "tile.png")
        tab.screenshot("files")
        for one in (tab, other):
            assert (one.said, one.asked) == ([], [])

    with Image.open(tmp_path / "tile.png") as image:
        assert (image.format, image.size, round(image.info["dpi"][0])) == ("PNG", (600, 600), 150)
        printed = print_tile(run.textures, 0, Order(4.0)).tile.image.permute(1, 2, 0).numpy()
        assert (np.asarray(image) == printed).all()
    if program := shutil.which("exiftool"):
        asked = [program, "-j", "-n", "-ImageWidth", "-ImageHeight", "-PixelsPerUnitX", tmp_path / "tile.png"]
        (seen,) = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        assert (seen["ImageWidth"], seen["ImageHeight"], seen["PixelsPerUnitX"]) == (600, 600, round(150 / 0.0254))
