"""Objects and lines that would take more memory than a run may are refused before they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal
from scipy import ndimage

from prngeo import PrngeoError
from prngeo.vectorize import centerlines as module
from prngeo.vectorize.centerlines import centerlines
from prngeo.vectorize.polygons import PolygonOptions, polygon_batches
from prngeo.vectorize.tidy import prune
from prngeo.vectorize.web import Web


@pytest.fixture
def noise(raster: Callable[..., Path]) -> Path:
    """Some thousand lines."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(700, 700)), 2) > 0
    return raster(values)


@pytest.mark.slow
def test_noise_is_refused_with_the_memory_that_it_would_need(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 256)
    here = psutil.Process().memory_info().rss
    with pytest.raises(PrngeoError, match=r"in \d+% of it .*--threshold.*--max-memory to about \d+\.\dGB") as caught:
        centerlines(noise, value=1, max_memory=4 << 20)
    assert " in 100%" not in str(caught.value)
    assert len(centerlines(noise, value=1, max_memory=2 * here)) > 1000
    assert len(centerlines(noise, value=1, max_memory=here)) > 1000  # a quarter of it


@pytest.mark.parametrize(
    ("bytes_a_run", "held", "options", "message"),
    [
        (30, False, {}, r"too many objects .* runs of pixels in \d+% of it take .* Raise --max-memory to about"),
        (170, False, {}, r"too long outlines .* with the largest object they take .* Raise --max-memory to about"),
        (195, True, {}, r"all of them, to write in this format .* as GeoPackage. Or raise --max-memory to about"),
        (440, False, {"simplify": 1.0}, r"all of them, to simplify, .* without these options. Or raise --max-memory"),
        (440, False, {"regularize": True}, r"all of them, to simplify, regularize or split them, take"),
    ],
)
@pytest.mark.slow
def test_objects_are_refused_with_the_memory_that_they_would_need(
    noise: Path, bytes_a_run: int, held: bool, options: dict[str, Any], message: str
) -> None:
    """Room for a little less than they take, and a fifth more, in a quarter of the memory that the process may take."""
    with rasterio.open(noise) as file:
        runs = int((np.diff(file.read(1), axis=1, prepend=0) == 1).sum())
    chosen = PolygonOptions(value=1, **options)
    with pytest.raises(PrngeoError, match=message):
        list(polygon_batches(noise, None, None, chosen, 4 * bytes_a_run * runs, held))
    parts = list(polygon_batches(noise, None, None, chosen, 5 * bytes_a_run * runs if bytes_a_run > 30 else None, held))
    assert sum(map(len, parts)) > 300


@pytest.mark.slow
def test_spurs_that_go_while_lines_are_traced_are_those_that_would_go_in_the_end(
    noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[int] = []

    def watched(web: Web, *arguments: Any) -> None:
        most.append(len(web.ends))
        prune(web, *arguments)

    monkeypatch.setattr(module, "prune", watched)
    late = centerlines(noise, value=1)
    together = max(most)
    most.clear()
    monkeypatch.setattr(module, "BATCH", 100)
    early = centerlines(noise, value=1)
    assert max(most) < 0.7 * together
    assert_geodataframe_equal(early, late)
