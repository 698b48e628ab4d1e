"""The documentation as a reader has it, in Chromium: on a phone, in the dark, by a search."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("playwright")
pytest.importorskip("zensical")

from playwright.sync_api import Browser, expect, sync_playwright

from scripts import site
from tests.native.support import LONG_TIMEOUT
from tests.recipes.conftest import need

PATIENCE = LONG_TIMEOUT * 1000
"""Milliseconds."""
PHONE: Any = {"width": 390, "height": 844}


class Silent(SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the site is, as it was just built."""
    assert site.main() == 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site.SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    need(path, "no Chromium (Debian package chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def test_every_page_fits_a_phone_and_takes_nothing_from_elsewhere(
    browser: Browser, address: str
) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport=PHONE)
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    for file in sorted(site.SITE.rglob("index.html")):
        page.goto(address + file.parent.relative_to(site.SITE).as_posix())
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], page.url
    page.close()
    assert complaints == []
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_as_dark_as_its_reader_has_it(
    scheme: Any, browser: Browser, address: str
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    # Red, green and blue, from 0 to 255.
    brightest = max(map(int, re.findall(r"\d+", colour)[:3]))
    assert (brightest < 64) == (scheme == "dark"), colour


def test_a_search_finds_a_method(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address, wait_until="networkidle")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox").fill("cancel_queued")
    found = page.get_by_role("option").first
    expect(found).to_contain_text("Runner.cancel_queued", timeout=PATIENCE)
    found.click()
    page.wait_for_url("**/reference/*#runnercancel_queued-method")
    page.close()
