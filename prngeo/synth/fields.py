"""Smooth random fields tied to map coordinates: the same point has the same value in every window and GSD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Coordinates = NDArray[np.floating[Any]]

# Scales the cubic B-spline field of uniform lattice values to a standard deviation of about one.
_UNIT_STD = np.float32(3.6)


def lattice(ix: NDArray[np.int64], iy: NDArray[np.int64], seed: int) -> FloatArray:
    """Uniform values in [-1, 1) at integer lattice points, by hashing.

    Args:
        ix: (M,) columns of the lattice.
        iy: (N,) rows of the lattice.
        seed: any integer; other seeds give unrelated values.

    Returns:
        (N, M) float32.
    """
    mask = np.uint64(0xFFFFFFFF)
    x = ix.astype(np.uint64) & mask
    y = iy.astype(np.uint64) & mask
    salt = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    h = (x[None, :] << np.uint64(32)) ^ y[:, None] ^ salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor)
    h ^= h >> np.uint64(31)
    return ((h >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - 1).astype(np.float32)


def pixel_noise(row: int, col: int, shape: tuple[int, int], seed: int) -> FloatArray:
    """About Gaussian noise of unit standard deviation, a function of the pixel's row and column alone.

    Args:
        row: first row of the window; may be negative.
        col: first column.
        shape: (H, W) of the window.
        seed: selects the field.

    Returns:
        (H, W) float32.
    """
    ix = np.arange(col, col + shape[1], dtype=np.int64)
    iy = np.arange(row, row + shape[0], dtype=np.int64)
    # The sum of three uniform values in [-1, 1) has variance 1.
    noise: FloatArray = sum((lattice(ix, iy, 3 * seed + k) for k in (1, 2)), lattice(ix, iy, 3 * seed))
    return noise


def _spline_weights(u: Coordinates, first: int, count: int) -> FloatArray:
    """(len(u), count) weights of the cubic B-spline on lattice points first, first + 1, ..."""
    cell = np.floor(u).astype(np.int64)
    t = u - cell
    basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((len(u), count), np.float32)
    rows = np.arange(len(u))
    for k, values in enumerate(basis):
        weights[rows, cell - 1 + k - first] = values / 6
    return weights


def smooth_noise(xs: Coordinates, ys: Coordinates, wavelength: float, seed: int) -> FloatArray:
    """A smooth random field of mean zero and standard deviation about one.

    Args:
        xs: (W,) x coordinates of the columns, metres.
        ys: (H,) y coordinates of the rows, metres.
        wavelength: lattice spacing, metres.
        seed: selects the field.

    Returns:
        (H, W) float32.
    """
    u, v = xs / wavelength, ys / wavelength
    ix = np.arange(np.floor(u.min()) - 1, np.floor(u.max()) + 3).astype(np.int64)
    iy = np.arange(np.floor(v.min()) - 1, np.floor(v.max()) + 3).astype(np.int64)
    values = lattice(ix, iy, seed)
    wx = _spline_weights(u, int(ix[0]), len(ix))
    wy = _spline_weights(v, int(iy[0]), len(iy))
    field: FloatArray = (wy @ values @ wx.T * _UNIT_STD).astype(np.float32, copy=False)
    return field


def blur(bands: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur of the last two axes, the border repeated; `sigma` in pixels.

    Args:
        bands: (..., H, W) float32.
        sigma: standard deviation in pixels.

    Returns:
        The same shape, float32.
    """
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (-2, -1):
        count = bands.shape[axis]
        pad = [(0, 0)] * bands.ndim
        pad[axis] = (radius, radius)
        padded = np.pad(bands, pad, mode="edge")
        bands = np.zeros_like(bands)
        for k, weight in enumerate(kernel):
            piece = padded[..., k : k + count, :] if axis == -2 else padded[..., k : k + count]
            bands += weight * piece
    return bands
