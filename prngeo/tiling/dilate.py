"""Dilation of a mask by an ellipse, from running sums of its rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MANY_PASSES = 60  # from here on an exact distance transform is faster


def dilate(mask: NDArray[np.bool_], rows: float, cols: float) -> NDArray[np.bool_]:
    """Pixels whose center lies within an ellipse around the center of a pixel of the mask.

    With `rows == cols` this is the set of pixels at a Euclidean distance of at most that many pixels. It takes
    2 * rows + 1 passes over the array, whatever `cols` is: for radii of a few pixels several times faster than an
    exact distance transform.

    Args:
        mask: (h, w) bool.
        rows: half axis of the ellipse along columns of the array, in pixels, >= 0.
        cols: half axis along its rows.

    Returns:
        (h, w) bool.
    """
    height, width = mask.shape
    if rows > _MANY_PASSES and cols > 0 and mask.any():
        from scipy.ndimage import distance_transform_edt

        distance = distance_transform_edt(~mask, sampling=(1 / rows, 1 / cols))
        return np.asarray(distance <= 1 + 1e-9)
    grown = np.zeros_like(mask)
    running = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=running[:, 1:])
    reach = min(math.floor(rows + 1e-9), height - 1)
    for shift in range(reach + 1):
        share = 1 - (shift / rows) ** 2 if rows > 0 else 1.0
        half = math.floor(cols * math.sqrt(max(0.0, share)) + 1e-9)
        wide = _widen(running, half)
        grown[shift:] |= wide[: height - shift]
        if shift:
            grown[:-shift] |= wide[shift:]
    return grown


def _widen(running: NDArray[np.int32], half: int) -> NDArray[np.bool_]:
    """Rows dilated by `half` pixels to both sides, from their running sums (h, w + 1)."""
    width = running.shape[1] - 1
    at = np.arange(width)
    if half >= width:
        return np.broadcast_to(running[:, -1:] > 0, (len(running), width))
    wide = np.empty((len(running), width), bool)
    inner = slice(half, width - half)
    if half * 2 < width:
        np.not_equal(running[:, 2 * half + 1 :], running[:, : width - 2 * half], out=wide[:, inner])
        edges = np.concatenate([at[:half], at[width - half :]])
    else:
        edges = at
    if len(edges):
        low, high = np.maximum(edges - half, 0), np.minimum(edges + half + 1, width)
        wide[:, edges] = running[:, high] != running[:, low]
    return wide
