"""Blending overlapping windows, and bilinear sampling between two grids: arithmetic on arrays.

Weights are small integers and never zero. Values at rest are float16, so products and sums of a constant field
stay exact in float32, and a constant comes back as exactly that constant, the scene's border included.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from prngeo.tiling.grid import Window

RAMP_LEVELS = 32
"""Weights along one axis are integers from 1 to at most this."""


def ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights along one side of a window.

    They rise from 1 at the edge to `RAMP_LEVELS` (or the overlap, if that is smaller) over the overlap, and fall
    again at the other end.

    Args:
        size: the window's side in pixels.
        overlap: pixels shared with a neighbour.

    Returns:
        (size,) float32, all integers of 1 or more.
    """
    levels = min(RAMP_LEVELS, max(1, overlap))
    distance = np.minimum(np.arange(size), np.arange(size)[::-1])
    rising = 1 + distance * levels // max(1, overlap)
    weights: NDArray[np.float32] = np.minimum(rising, levels).astype(np.float32)
    return weights


def blend(
    pieces: Iterable[tuple[Window, NDArray[np.floating]]], target: Window, channels: int, overlap: int
) -> NDArray[np.float32]:
    """The weighted mean of overlapping windows over a target window.

    Args:
        pieces: square windows and their (channels, size, size) values, in a fixed order (sums are made in it).
        target: the window to fill; where no piece lies the result is 0.
        channels: number of channels.
        overlap: the pieces' overlap in pixels, which shapes their weights.

    Returns:
        (channels, height, width) float32.
    """
    total = np.zeros((channels, *target.shape), np.float32)
    weight = np.zeros(target.shape, np.float32)
    for window, values in pieces:
        common = window.intersect(target)
        if common.is_empty:
            continue
        rows, cols = common.within(window)
        along = ramp(window.height, overlap)
        w = along[rows, None] * along[None, cols]
        here = common.within(target)
        total[(slice(None), *here)] += values[:, rows, cols].astype(np.float32) * w
        weight[here] += w
    np.divide(total, weight, out=total, where=weight > 0)
    return total


def positions(start: int, count: int, factor: float, length: int) -> NDArray[np.float64]:
    """Where the centers of fine pixels lie on a coarse axis, clamped to the coarse pixels' centers.

    Args:
        start: index of the first fine pixel.
        count: number of fine pixels.
        factor: fine pixels per coarse pixel.
        length: number of coarse pixels.

    Returns:
        (count,) float64, in coarse pixels; 0 is the center of the first.
    """
    centers = (np.arange(start, start + count, dtype=np.float64) + 0.5) / factor - 0.5
    return np.clip(centers, 0, length - 1)


def source_window(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Window:
    """The smallest window of coarse pixels that `bilinear` needs for these positions."""
    row, col = int(np.floor(rows[0])), int(np.floor(cols[0]))
    return Window(row, col, int(np.ceil(rows[-1])) - row + 1, int(np.ceil(cols[-1])) - col + 1)


def bilinear(
    values: NDArray[np.float32], window: Window, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample coarse values at fine positions; each result depends on its own position alone.

    Args:
        values: (channels, h, w) float32 over `window`.
        window: from `source_window`, or larger.
        rows: (height,) row positions in coarse pixels.
        cols: (width,) column positions.

    Returns:
        (channels, height, width) float32.
    """
    return _along(_along(values, rows - window.row, 1), cols - window.col, 2)


def _along(values: NDArray[np.float32], at: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    part = (at - low).astype(np.float32).reshape(shape)
    first, second = np.take(values, low, axis), np.take(values, high, axis)
    between: NDArray[np.float32] = first + (second - first) * part
    return between
