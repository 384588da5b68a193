"""Sums of rasters over polygons, in a stream of row strips.

No second rasterization is needed: the sum of a raster over a run of pixels is the difference of its running totals
at the run's ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from prngeo.vectorize.mask import probability_nodata, strips
from prngeo.vectorize.outlines import Floats
from prngeo.vectorize.runs import Labels, Runs


@dataclass(frozen=True)
class Sums:
    """Sums over the pixels of each polygon, float64 of shape (polygons,).

    Attributes:
        probability: sum of the probability raster's raw values where they are valid.
        invalid: number of pixels where they are not.
        changed: number of pixels that were changed.
    """

    probability: Floats
    invalid: Floats
    changed: Floats


def zonal_sums(runs: Runs, labels: Labels, probability: Any, changed: Any) -> Sums:
    """Sum rasters over polygons.

    Args:
        runs: the pixels of the polygons.
        labels: the polygon of each run, int32 (runs,).
        probability: an open raster, or None for sums of 0.
        changed: an open raster on the same grid, 1 = changed, or None for sums of 0.

    Returns:
        The sums.
    """
    sums = np.zeros((3, labels.max(initial=-1) + 1))
    leading = probability if probability is not None else changed
    if leading is None or not len(runs):
        return Sums(*sums)
    for start, stop in strips(leading):
        here = slice(*np.searchsorted(runs.start, [start * runs.pitch, stop * runs.pitch]))
        if here.start == here.stop:
            continue
        first, end = runs.start[here] - start * runs.pitch, runs.stop[here] - start * runs.pitch
        rasters: list[NDArray[Any]] = []
        if probability is not None:
            rasters += _values(probability, start, stop)
        if changed is not None:
            rasters.append(_read(changed, start, stop) == 1)
        low, high = int(labels[here].min()), int(labels[here].max()) + 1
        for total, raster in zip(sums[0 if probability is not None else 2 :], rasters, strict=False):
            if raster.any():
                running = _running_totals(raster)
                part = np.bincount(labels[here] - low, running[end] - running[first], high - low)
                total[low:high] += part
    return Sums(*sums)


def _running_totals(raster: NDArray[Any]) -> NDArray[Any]:
    """Sum of all pixels before each position, as `Runs` counts them."""
    rows, width = raster.shape
    totals = np.zeros(rows * (width + 1) + 1, np.float64 if raster.dtype.kind == "f" else np.int64)
    padded = np.zeros((rows, width + 1), raster.dtype)
    padded[:, :-1] = raster
    np.cumsum(padded, out=totals[1:])
    return totals


def _values(src: Any, start: int, stop: int) -> list[NDArray[Any]]:
    """Rows of a raster in raw units with 0 for no-data, and where no-data is."""
    values = _read(src, start, stop)
    nodata = probability_nodata(src)
    invalid = ~np.isfinite(values)
    if nodata is not None:
        invalid |= values == nodata
    values[invalid] = 0
    return [values, invalid]


def _read(src: Any, start: int, stop: int) -> NDArray[Any]:
    return np.asarray(src.read(1, window=Window(0, start, src.width, stop - start)))
