"""What a report has to pass in a real browser, and as HTML."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


def start() -> Any:
    """A headless browser that notes its console and its requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))


def open_page(browser: Any, path: Path) -> list[tuple[int, int, str]]:
    """Open a page that must give no message, ask for nothing, draw all its images and fit the window.

    Returns:
        Width, height and description of every image.
    """
    browser.get_log("performance")
    browser.get(path.as_uri())
    assert not browser.get_log("browser")
    asked = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    addresses = {url for message in asked for url in re.findall(r'"url":"([^"]{1,200})', message)}
    assert {url.split(":")[0] for url in addresses} <= {"file", "data"}
    images = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.clientWidth, i.alt])"
    )
    for complete, _, _, shown, alt in images:
        assert complete
        assert shown > 20
        assert alt
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    return [(width, height, alt) for _, width, height, _, alt in images]


class Checker(HTMLParser):
    """Every tag that opens closes, and figures are inside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        assert all(name not in ("src", "href") or str(value).startswith("data:") for name, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_whole(page: Path) -> None:
    """A page is well-formed and self-contained."""
    checker = Checker()
    checker.feed(page.read_text(encoding="utf-8"))
    assert not checker.open
