"""Resampling along the grid's own axes, aware of the mask.

Model and scene grids share origin and axes, so a warp comes down to weights along rows and along columns.
GDAL's warper was tried first (WarpedVRT, one a window) and left: a NaN beside a nodata value spoils every
model pixel it touches and stays marked valid, values differ in their last digits from one window to another,
and it knows one kernel for both axes. Here each model pixel is the same sum in the same order whatever window
it is read with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-6  # of a kernel's weight: left over by rounding where a model pixel ends with a scene pixel


@dataclass(frozen=True)
class Taps:
    """The scene pixels that make up a run of model pixels along one axis, and their weights.

    Attributes:
        first: the first scene pixel touched; may lie before the raster.
        count: number of scene pixels from `first` on.
        index: (n, taps) int, scene pixels counted from `first`.
        weight: (n, taps) float32, summing to 1 for each model pixel.
    """

    first: int
    count: int
    index: NDArray[np.intp]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, start: int, stop: int, factor: float) -> Taps:
        """Taps of the model pixels `start` to `stop` at `factor` scene pixels per model pixel.

        Shrinking (factor > 1) averages the scene pixels by the share of each that lies in the model pixel;
        enlarging interpolates linearly between centers.
        """
        pixel = np.arange(start, stop, dtype=np.float64)
        if factor >= 1:
            left, right = pixel * factor, (pixel + 1) * factor
            source = np.floor(left)[:, None] + np.arange(int(factor) + 2)
            overlap = np.minimum(right[:, None], source + 1) - np.maximum(left[:, None], source)
            weight = np.clip(overlap, 0, None) / factor
        else:
            center = (pixel + 0.5) * factor - 0.5
            source = np.floor(center)[:, None] + np.arange(2)
            weight = 1 - np.abs(center[:, None] - source)
        weight[weight < _NEGLIGIBLE] = 0
        index = source.astype(np.intp)
        used = index[weight > 0]
        first, last = int(used.min()), int(used.max())
        return cls(first, last - first + 1, np.clip(index - first, 0, last - first), weight.astype(np.float32))


def resample(
    image: NDArray[np.float32], valid: NDArray[np.bool_], rows: Taps, cols: Taps
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Weighted mean of the valid pixels under each model pixel.

    Args:
        image: (n, rows.count, cols.count) float32, 0 where invalid.
        valid: (rows.count, cols.count) bool.
        rows: weights along rows.
        cols: weights along columns.

    Returns:
        (n, h, w) float32, 0 where invalid, and (h, w) bool: True where any valid pixel has weight, so that
        every valid scene pixel lies in valid model pixels.
    """
    stack = np.concatenate([image, valid[None].astype(np.float32)])
    stack = _along_rows(stack, rows)
    stack = _along_rows(np.ascontiguousarray(stack.swapaxes(1, 2)), cols).swapaxes(1, 2)
    weight = stack[-1]
    out_valid = weight > 0
    out = stack[:-1] / np.where(out_valid, weight, 1)
    return np.ascontiguousarray(np.clip(out, 0, 1)), np.ascontiguousarray(out_valid)


def _along_rows(stack: NDArray[np.float32], taps: Taps) -> NDArray[np.float32]:
    out = np.zeros((stack.shape[0], len(taps.index), stack.shape[2]), np.float32)
    term = np.empty_like(out)
    for index, weight in zip(taps.index.T, taps.weight.T, strict=True):
        np.take(stack, index, axis=1, out=term, mode="clip")
        term *= weight[:, None]
        out += term
    return out
