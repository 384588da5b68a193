"""The report in a real browser: no error, no request, every figure drawn, printable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prngeo
from prngeo import EvaluateOptions
from tests.browser import assert_whole, in_browser, open_page
from tests.evaluation.conftest import write_raster


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


@in_browser
@pytest.mark.parametrize("page", ["buildings", "roads", "undefined"])
@pytest.mark.slow
def test_the_page_opens_without_error_or_request_and_every_figure_has_size(
    browser: Any, page: str, request: pytest.FixtureRequest
) -> None:
    images = open_page(browser, request.getfixturevalue(page))
    assert len(images) >= (6 if page == "undefined" else 9)
    for width, height, alt in images:
        assert min(width, height) > 20 or page == "undefined", alt


@in_browser
def test_the_page_prints(browser: Any, buildings: Path) -> None:
    browser.get(buildings.as_uri())
    assert len(browser.print_page()) > 50_000


@pytest.mark.parametrize("page", ["buildings", "roads", "undefined"])
def test_the_page_is_whole_and_self_contained(page: str, request: pytest.FixtureRequest) -> None:
    assert_whole(request.getfixturevalue(page))


def test_names_are_shown_as_they_are_written(place: dict[str, Any], tmp_path: Path) -> None:
    odd = place["truth"].rename(tmp_path / "<b>truth&.tif")
    prngeo.evaluate(place["scores"], odd, tmp_path / "report", EvaluateOptions(block=64))
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;truth&amp;.tif" in page
    assert "<b>" not in page


@pytest.mark.slow
def test_the_same_inputs_give_the_same_figures(place: dict[str, Any], tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        prngeo.evaluate(place["scores"], place["truth"], tmp_path / name, EvaluateOptions(block=64))
        pages.append((tmp_path / name / "report.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
