"""The gallery in a real browser, from a file: nothing is loaded, nothing overflows, and the live view draws what
Python tiles."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from wearable_imagenet.cloth.gallery import save_gallery
from wearable_imagenet.repeat import parse_repeat
from wearable_imagenet.textures import Textures
from wearable_imagenet.tile import to_image

from .lesson import SCREENSHOTS

WIDTHS = [360, 820, 1440]
OVERFLOW = """() => [document.documentElement.scrollWidth - innerWidth, ...[...document.querySelectorAll("body *")].filter(e => e.getClientRects().length
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className)].filter(Boolean)"""
SMALL_TYPE = """() => [...document.querySelectorAll("body *")].filter(e => e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
    && parseFloat(getComputedStyle(e).fontSize) < 14).map(e => e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def textures() -> Textures:
    """Five of the demo's classes, shifted by a third; one has a name that would like to be more than a name."""
    t = Textures.load(ROOT / "nbs/results/materials.safetensors")
    names = ["<img src=x onerror=alert(1)>", *t.classes[1:5]]
    settings = replace(t.settings, repeat=parse_repeat("shift:0,1/3"))
    return replace(t, canvases=t.canvases[:5], y=torch.arange(5), classes=names, settings=settings)


@pytest.fixture(scope="module")
def address(textures, tmp_path_factory) -> str:
    """Where the gallery lies."""
    run = tmp_path_factory.mktemp("run")
    textures.save(run / "textures.safetensors")
    return save_gallery(run, garments=("t-shirt", "dress")).as_uri()


class Gallery:
    """A page that was opened, and what the browser said meanwhile."""

    def __init__(self, browser, address: str, width: int, height: int = 900, **options):
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def live(self, index: int = 0):
        """Open the live view of a card by the keyboard."""
        self.page.locator(".card .open").nth(index).focus()
        self.page.keyboard.press("Enter")
        self.page.locator("#live").wait_for(state="visible")

    def pixels(self) -> np.ndarray:
        """What the live view has drawn, rows × columns × 3."""
        content = self.page.evaluate("document.getElementById('cloth').toDataURL().split(',')[1]")
        return np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))

    def set(self, control: str, value):
        """Move a control as a hand does, and let the page hear of it."""
        self.page.locator(control).evaluate(
            "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(value)
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_opens(width, browser, address, textures):
    """At every width: nothing asked for but the file, nothing said, nothing wider than the window, nothing too small
    to read."""
    with Gallery(browser, address, width, offline=True) as gallery:
        page = gallery.page
        page.screenshot(path=SCREENSHOTS / f"gallery_{width}.png", full_page=True)
        assert page.evaluate(OVERFLOW) == []
        assert page.evaluate(SMALL_TYPE) == []
        assert (
            page.locator("img").evaluate_all(
                "images => images.filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
            )
            == 0
        )
        assert [url for url in gallery.asked if not url.startswith(("file:", "data:"))] == [] and gallery.said == []
        assert page.locator(".card h2").all_text_contents() == textures.classes  # those out of sight, too
        columns = len(page.evaluate("getComputedStyle(document.querySelector('.cards')).gridTemplateColumns").split())
        assert columns == {360: 1, 820: 2, 1440: 3}[width]
        gallery.live()
        page.screenshot(path=SCREENSHOTS / f"gallery_live_{width}.png")
        assert page.evaluate(OVERFLOW) == [] and page.evaluate(SMALL_TYPE) == [] and gallery.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_neutral(scheme, browser, address):
    """In light and in dark the ground is gray without a tint, and text stands out from it."""
    with Gallery(browser, address, 820, color_scheme=scheme) as gallery:
        gallery.page.screenshot(path=SCREENSHOTS / f"gallery_{scheme}.png")
        for element in ("body", ".card"):
            style = gallery.page.locator(element).first.evaluate(
                "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
            )
            (ground, ink) = ([int(v) for v in re.findall(r"\d+", color)[:3]] for color in style)
            assert len(set(ground)) == 1 and contrast(ground, ink) > 7
        for verdict in gallery.page.locator(".pass, .warn, .fail, dt, figcaption").all():
            ink = [int(v) for v in re.findall(r"\d+", verdict.evaluate("e => getComputedStyle(e).color"))[:3]]
            assert contrast(ground, ink) > 4.5


def contrast(a, b) -> float:
    """Of two colors, as WCAG 2 defines it."""

    def luminance(color):
        linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_garments(browser, address):
    """A button changes the garment of its card, the one at the top that of all cards."""
    with Gallery(browser, address, 820) as gallery:
        shown = lambda: gallery.page.locator(".worn img:visible").evaluate_all(
            "images => images.map(i => i.dataset.garment)"
        )
        pressed = lambda: gallery.page.locator(".card [aria-pressed=true]").all_inner_texts()
        assert shown() == pressed() == ["t-shirt"] * 5
        gallery.page.locator(".card").nth(1).get_by_role("button", name="dress").press("Enter")
        assert shown() == pressed() == ["t-shirt", "dress", "t-shirt", "t-shirt", "t-shirt"]
        gallery.page.locator("[data-all]").get_by_role("button", name="dress").press("Space")
        assert shown() == pressed() == ["dress"] * 5


def test_slider(browser, address):
    """By the keyboard alone: the slider moves, words, numbers and picture follow, and Escape leads back to the card."""
    with Gallery(browser, address, 1440) as gallery:
        gallery.live(2)
        page, first = gallery.page, gallery.pixels()
        page.locator("#inches").focus()
        for key, value in (("ArrowRight", 4.25), ("ArrowRight", 4.5), ("Home", 0.5), ("End", 16)):
            page.keyboard.press(key)
            assert page.locator("#inches-said").inner_text() == f"{value:g} inches"
            assert f"one repeat is {value:g} inches wide" in page.locator("#cloth").get_attribute("aria-label")
            assert (gallery.pixels() != first).any()
            first = gallery.pixels()
        page.locator("#after").press("Enter")
        assert page.locator("#live-name").inner_text() == "forest floor" and (gallery.pixels() != first).any()
        page.keyboard.press("Escape")
        # The browser first gives the focus back to the card that was opened; the page then moves it, in a task of its
        # own.
        page.wait_for_function(
            "document.activeElement.getAttribute('aria-label') === 'Live view of forest floor'", timeout=10_000
        )


@pytest.mark.parametrize("repeat", ["grid", "half-drop", "half-brick", "mirror", "shift:0,1/3"])
@pytest.mark.parametrize("ratio", [1, 2])
def test_draws_what_python_tiles(repeat, ratio, browser, address, textures):
    """With pixels as squares, the live view is Python's tiling, each pixel a square of a whole number; on a fine
    display too."""
    with Gallery(browser, address, 820, device_scale_factor=ratio) as gallery:
        gallery.live(1)
        gallery.page.locator("#squares").check()
        gallery.page.locator("#repeat").select_option(repeat)
        for inches in (2, 7):
            gallery.set("#inches", inches)
            drawn, scale = gallery.pixels(), int(gallery.page.locator("#cloth").get_attribute("data-scale"))
            H, W = (-(-n // scale) for n in drawn.shape[:2])
            plane = np.array(
                to_image(replace(textures[1], repeat=parse_repeat(repeat)).tiling(-(-H // 96), -(-W // 96)))
            )
            assert (drawn == plane.repeat(scale, 0).repeat(scale, 1)[: drawn.shape[0], : drawn.shape[1]]).all()
        assert scale > 1 and drawn.shape[1] == ratio * gallery.page.locator("#cloth").evaluate("e => e.clientWidth")


@pytest.mark.parametrize("repeat", ["grid", "half-drop", "mirror", "ribbon", "shift:0,1/3"])
def test_rolled(repeat, browser, textures, tmp_path):
    """The page draws the window half a tile further down and right, pixel by pixel; of a ribbon only along itself."""
    own = replace(textures, settings=replace(textures.settings, repeat=parse_repeat(repeat)))
    own.save(tmp_path / "textures.safetensors")
    with Gallery(browser, save_gallery(tmp_path, garments=("tie",)).as_uri(), 820) as gallery:
        rolled = gallery.page.locator(".rolled").nth(4)
        rolled.scroll_into_view_if_needed()
        gallery.page.wait_for_function(  # an empty picture is a short address
            "document.querySelectorAll('.rolled')[4].toDataURL().length > 5000"
        )
        content = rolled.evaluate("e => e.toDataURL().split(',')[1]")
        drawn = np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        place = (0 if own.settings.repeat.ends(0) else 48, 48)
        assert (drawn == np.array(to_image(own[4].window(*place, 96, 96)))).all() and gallery.said == []


def test_true_inches(browser, address, textures):
    """A repeat of 4 inches on 16 inches of cloth is seen four times: the picture is the same after a quarter of its
    width."""
    with Gallery(browser, address, 1440) as gallery:
        gallery.live(1)
        gallery.page.locator("#repeat").select_option("grid")
        gallery.set("#shown", 16)
        drawn = gallery.pixels().astype(int)
        quarter, rest = divmod(drawn.shape[1], 4)
        assert rest == 0 or quarter > 100
        near = np.abs(drawn[:, :quarter] - drawn[:, quarter : 2 * quarter]).mean()
        far = np.abs(drawn[:, :quarter] - drawn[:, quarter // 2 : quarter // 2 + quarter]).mean()
        assert near < 0.2 * far


def test_download(browser, address, textures):
    """The button hands out the tile, bit for bit."""
    with Gallery(browser, address, 820, accept_downloads=True) as gallery:
        with gallery.page.expect_download() as waiting:
            gallery.page.locator(".download").nth(3).click()
        assert waiting.value.suggested_filename == "forest_floor.png"
        with Image.open(waiting.value.path()) as image:
            assert (np.array(image) == np.array(to_image(textures[3].image))).all()
