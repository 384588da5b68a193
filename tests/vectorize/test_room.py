"""Lines that would take more memory than a run may are refused while they are traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from geopandas.testing import assert_geodataframe_equal
from scipy import ndimage

from prngeo import PrngeoError
from prngeo.vectorize import centerlines as module
from prngeo.vectorize.centerlines import centerlines
from prngeo.vectorize.tidy import prune
from prngeo.vectorize.web import Web


@pytest.fixture
def noise(raster: Callable[..., Path]) -> Path:
    """Some thousand lines."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(700, 700)), 2) > 0
    return raster(values)


def test_noise_is_refused_with_the_memory_that_it_would_need(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 256)
    here = psutil.Process().memory_info().rss
    with pytest.raises(PrngeoError, match=r"in \d+% of it .*--threshold.*--max-memory to about \d+\.\dGB") as caught:
        centerlines(noise, value=1, max_memory=4 << 20)
    assert " in 100%" not in str(caught.value)
    assert len(centerlines(noise, value=1, max_memory=2 * here)) > 1000
    assert len(centerlines(noise, value=1, max_memory=here)) > 1000  # a quarter of it


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
