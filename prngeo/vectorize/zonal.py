"""Sums of rasters over polygons that follow pixel edges, in a stream of row strips.

No second rasterization is needed: the sum of a raster over a polygon is the sum of the raster's row-wise
running totals at the polygon's right edges minus that at its left edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from prngeo.vectorize.outlines import OBJECT, Floats, Outlines

NODATA = 255
STRIP_PIXELS = 2_000_000


@dataclass(frozen=True)
class Sums:
    """Sums over the pixels of each polygon, float64 of shape (polygons,).

    Attributes:
        probability: sum of the probability raster's raw values where they are valid.
        invalid: number of pixels where they are not.
        changed: number of pixels that were changed.
        edge: number of pixels that neighbour no-data or the raster's border.
        objects: number of object pixels in the whole mask, polygons or not.
    """

    probability: Floats
    invalid: Floats
    changed: Floats
    edge: Floats
    objects: int


def zonal_sums(outlines: Outlines, mask: Any, probability: Any, changed: Any, connectivity: int) -> Sums:
    """Sum rasters over polygons.

    Args:
        outlines: the polygons.
        mask: the open raster that they came from.
        probability: an open raster on the same grid, or None for sums of 0.
        changed: an open raster on the same grid, 1 = changed, or None for sums of 0.
        connectivity: 4 if pixels that share an edge are neighbours, 8 if also those that share a corner.

    Returns:
        The sums.
    """
    sums = np.zeros((4, len(outlines.pixels)))
    strip = max(1, STRIP_PIXELS // mask.width)
    active = np.empty((0, 5), np.int32)
    objects = 0
    for start in range(0, mask.height, strip):
        stop = min(start + strip, mask.height)
        new = slice(*np.searchsorted(outlines.edges[:, 1], [start, stop]))
        active = np.concatenate([active[active[:, 2] > start], outlines.edges[new]])
        near, values = _around(mask, start, stop)
        objects += int(np.count_nonzero(values == OBJECT))
        if not len(active):
            continue
        rasters: list[NDArray[Any] | None] = [None, None, None, None]
        if probability is not None:
            rasters[:2] = _values(probability, start, stop)
        if changed is not None:
            rasters[2] = _read(changed, start, stop) == 1
        rasters[3] = _neighbors(near, connectivity)
        _add(sums, rasters, active, start, stop)
    return Sums(sums[0], sums[1], sums[2], sums[3], objects)


def _add(sums: Floats, rasters: list[NDArray[Any] | None], edges: NDArray[np.int32], start: int, stop: int) -> None:
    """Add the strip's share of each raster (rows, width) to `sums` (rasters, polygons)."""
    first, end = np.maximum(edges[:, 1], start), np.minimum(edges[:, 2], stop)
    lengths = end - first
    of = np.repeat(np.arange(len(edges)), lengths)
    row = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + (first - start)[of]
    column, sign, polygon = edges[of, 0], edges[of, 3], edges[of, 4]
    low, high = int(polygon.min()), int(polygon.max()) + 1
    for total, raster in zip(sums, rasters, strict=True):
        if raster is None or not raster.any():
            continue
        dtype = np.float64 if raster.dtype.kind == "f" else np.int64
        running = np.zeros((stop - start, raster.shape[1] + 1), dtype)
        np.cumsum(raster, axis=1, out=running[:, 1:])
        total[low:high] += np.bincount(polygon - low, running[row, column] * sign, high - low)


def _values(src: Any, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows of a raster in raw units with 0 for no-data, and where no-data is."""
    values = _read(src, start, stop)
    nodata = NODATA if src.nodata is None and values.dtype == np.uint8 else src.nodata
    invalid = ~np.isfinite(values)
    if nodata is not None:
        invalid |= values == nodata
    values[invalid] = 0
    return values, invalid


def _around(mask: Any, start: int, stop: int) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Where no-data is in rows of the mask and one pixel around, the raster's outside included; the rows."""
    # A mask whose background is tagged as no-data does not tell the two apart: only its border counts.
    nodata = NODATA if mask.nodata in (None, 0) else mask.nodata
    above, below = max(start - 1, 0), min(stop + 1, mask.height)
    values = _read(mask, above, below)
    outside = np.ones((stop - start + 2, mask.width + 2), bool)
    outside[above - start + 1 : below - start + 1, 1:-1] = values == nodata
    return outside, values[start - above : stop - above]


def _neighbors(marked: NDArray[np.bool_], connectivity: int) -> NDArray[np.bool_]:
    """Inner pixels that neighbour a marked one (or are marked): (rows, width) of (rows + 2, width + 2)."""
    if connectivity == 8:
        rows = marked[:-2] | marked[1:-1] | marked[2:]
        return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
    inner = marked[1:-1]
    return np.asarray(marked[:-2, 1:-1] | marked[2:, 1:-1] | inner[:, :-2] | inner[:, 2:])


def _read(src: Any, start: int, stop: int) -> NDArray[Any]:
    return np.asarray(src.read(1, window=Window(0, start, src.width, stop - start)))
