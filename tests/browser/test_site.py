"""The site in a real browser: quiet, no wider than the window, textures as they are in light and in dark."""

import functools
import http.server
import threading

import pytest

from .lesson import SCREENSHOTS
from .test_gallery import Gallery

PAGES = ["index", "gallery", "tutorials/01_no_border", "13_student", "reference/settings", "reference/commands"]
PAGES += ["reference/wearable_imagenet.textures", "howto/cloth", "results/flowers"]
WIDER = "() => document.documentElement.scrollWidth - innerWidth"
GROUND = "() => getComputedStyle(document.body).backgroundColor"
CHANGED = """() => [...document.querySelectorAll("article img, .swatches a")].filter(e => {
    for (; e; e = e.parentElement) {
        const style = getComputedStyle(e)
        if (style.filter !== "none" || style.mixBlendMode !== "normal" || style.opacity !== "1") return true
    }
}).length"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        """Nothing: requests are no news."""


@pytest.fixture(scope="module")
def served(site):
    """The site as a web server shows it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages(width, scheme, browser, served):
    """At both widths, in light and dark: nothing from elsewhere, nothing said, nothing cut off, pictures unchanged."""
    grounds = set()
    for name in PAGES:
        with Gallery(browser, f"{served}/{name}.html", width, color_scheme=scheme) as opened:
            page = opened.page
            page.screenshot(path=SCREENSHOTS / f"site_{name.replace('/', '_')}_{width}_{scheme}.png")
            assert opened.said == [] and [url for url in opened.asked if not url.startswith((served, "data:"))] == []
            assert page.evaluate(WIDER) <= 0 and page.evaluate(CHANGED) == 0
            broken = page.locator("img").evaluate_all("all => all.filter(i => i.complete && !i.naturalWidth).length")
            assert broken == 0
            grounds.add(page.evaluate(GROUND))
    (ground,) = grounds
    brightness = sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
