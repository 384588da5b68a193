"""The report in a real browser: no error, no request, every figure drawn, printable."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prngeo
from prngeo import EvaluateOptions
from tests.evaluation.conftest import write_raster

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture
def buildings(place: dict[str, Any], tmp_path: Path) -> Path:
    prngeo.evaluate(
        place["scores"], place["truth"], tmp_path / "report", EvaluateOptions(block=64, baseline=str(place["mask"]))
    )
    return tmp_path / "report/report.html"


@pytest.fixture
def roads(tmp_path: Path) -> Path:
    true = np.zeros((300, 400), "uint8")
    true[100:110], true[:, 200:210] = 1, 1
    probability = np.roll(true, 2, 0).astype("float32") * 0.6 + 0.2
    truth, scores = write_raster(tmp_path / "t.tif", true), write_raster(tmp_path / "s.tif", probability)
    prngeo.evaluate(scores, truth, tmp_path / "report", EvaluateOptions(block=64, target="roads"))
    return tmp_path / "report/report.html"


@pytest.fixture
def undefined(place: dict[str, Any], tmp_path: Path) -> Path:
    """Neither objects in the truth nor in the prediction."""
    empty = write_raster(tmp_path / "empty.tif", np.zeros(place["true"].shape, "uint8"))
    nothing = write_raster(tmp_path / "nothing.tif", np.zeros(place["true"].shape, "float32"))
    prngeo.evaluate(nothing, empty, tmp_path / "report", EvaluateOptions(block=64, values="unit"))
    return tmp_path / "report/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@in_browser
@pytest.mark.parametrize("page", ["buildings", "roads", "undefined"])
def test_the_page_opens_without_error_or_request_and_every_figure_has_size(
    browser: Any, page: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(page)
    browser.get_log("performance")
    browser.get(path.as_uri())
    assert not browser.get_log("browser")
    asked = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    addresses = {url for message in asked for url in re.findall(r'"url":"([^"]{1,200})', message)}
    assert {url.split(":")[0] for url in addresses} <= {"file", "data"}
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.clientWidth, i.alt])"
    )
    assert len(sizes) >= (6 if page == "undefined" else 9)
    for complete, width, height, shown, alt in sizes:
        assert complete
        assert min(width, height) > 20 or page == "undefined", alt
        assert shown > 20
        assert alt
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@in_browser
def test_the_page_prints(browser: Any, buildings: Path) -> None:
    browser.get(buildings.as_uri())
    assert len(browser.print_page()) > 50_000


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


@pytest.mark.parametrize("page", ["buildings", "roads", "undefined"])
def test_the_page_is_whole_and_self_contained(page: str, request: pytest.FixtureRequest) -> None:
    checker = Checker()
    checker.feed(request.getfixturevalue(page).read_text(encoding="utf-8"))
    assert not checker.open


def test_names_are_shown_as_they_are_written(place: dict[str, Any], tmp_path: Path) -> None:
    odd = place["truth"].rename(tmp_path / "<b>truth&.tif")
    prngeo.evaluate(place["scores"], odd, tmp_path / "report", EvaluateOptions(block=64))
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;truth&amp;.tif" in page
    assert "<b>" not in page


def test_the_same_inputs_give_the_same_figures(place: dict[str, Any], tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        prngeo.evaluate(place["scores"], place["truth"], tmp_path / name, EvaluateOptions(block=64))
        pages.append((tmp_path / name / "report.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
