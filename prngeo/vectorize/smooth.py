"""Lines without the steps of their pixels, and how wide the road along them is."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.planar import meetings, near
from prngeo.vectorize.web import RADIUS, along

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

SMOOTH = 2.0
"""Metres along a line that are averaged."""
FINER, LEAST = 4, 64
"""A line that clashes with another is simplified by a tolerance so many times smaller, and not at all by the last."""


def smoothed(points: Floats, ends: Floats, step: float, tolerance: float) -> Floats:
    """A line without the steps of its pixels, float64 (points, 2).

    Points are spread evenly and averaged with their neighbours along the line (Gaussian of two pixels or two
    metres); none moves by more than the tolerance, and the ends lie where they are told.

    Args:
        points: the line, (points, 2 or more).
        ends: where it starts and ends, (2, 2).
        step: a pixel's side in metres.
        tolerance: metres.

    Returns:
        The line.
    """
    from scipy.ndimage import gaussian_filter1d

    place = points[:, :2].copy()
    place[[0, -1]] = ends
    passed = along(place)
    count = int(np.ceil(passed[-1] / step)) + 1
    if count < 4:
        return place
    even = np.linspace(0, passed[-1], count)
    fine = np.stack([np.interp(even, passed, place[:, axis]) for axis in (0, 1)], axis=1)
    # Mirrored through its ends, a line keeps them and the direction it has there.
    sigma = min(max(2.0, SMOOTH / step), (count - 1) / 4)
    pad = int(4 * sigma)
    before, after = 2 * fine[0] - fine[pad:0:-1], 2 * fine[-1] - fine[-2 : -pad - 2 : -1]
    soft = gaussian_filter1d(np.concatenate([before, fine, after]), sigma, axis=0)[pad : pad + count]
    shift = soft - fine
    shift[[0, -1]] = 0.0
    size = np.hypot(*shift.T)
    return np.asarray(fine + shift * np.minimum(1, tolerance / np.maximum(size, 1e-12))[:, None])


def thinned(line: Floats, tolerance: float) -> Floats:
    """A line without the points that lie nearly straight between others (Douglas and Peucker 1973)."""
    return np.asarray(
        shapely.get_coordinates(shapely.simplify(shapely.linestrings(line), tolerance, preserve_topology=False))
    )


def simplified(lines: list[Floats], tolerance: float) -> list[Floats]:
    """Lines with fewer points (Douglas and Peucker 1973), within the tolerance, that meet only what they met before.

    Lines that would meet others, or themselves, are simplified less, down to what they were. (GEOS keeps the topology
    of many lines in a time that grows with the square of their number.)
    """
    before = np.array([shapely.linestrings(line) for line in lines], dtype=object)
    within = np.full(len(lines), tolerance)
    after = before
    while True:
        changed = within > tolerance / LEAST
        after = np.where(changed, shapely.simplify(before, within, preserve_topology=False), before)
        wrong = _clashing(before, after)
        if not len(wrong):
            return [shapely.get_coordinates(line) for line in after]
        within[wrong] /= FINER


def _clashing(before: Geometries, after: Geometries) -> NDArray[np.intp]:
    """Lines that meet others, or themselves, where they did not before."""
    one, other = near(after)
    met = ~shapely.is_empty(meetings(after[one], after[other]))
    one, other = one[met], other[met]
    new = shapely.is_empty(meetings(before[one], before[other]))
    bent = shapely.is_simple(before) & (~shapely.is_simple(after) | (shapely.length(after) == 0))
    bent &= shapely.length(before) > 0
    return np.unique(np.concatenate([one[new], other[new], np.flatnonzero(bent)]))


def mean_width(points: Floats, radii: tuple[float, float]) -> float:
    """Mean width of a road in metres, twice the distance to its edge, without its crossings if more is left.

    Args:
        points: the line as in `Web`, before it was straightened.
        radii: how far the crossing at each end reaches in metres, 0 at a dead end.

    Returns:
        The width, NaN if nowhere known.
    """
    known = np.isfinite(points[:, RADIUS])
    if not known.any():
        return float("nan")
    passed = along(points)
    free = known & (passed >= radii[0]) & (passed <= passed[-1] - radii[1])
    return float(2 * points[free if free.any() else known, RADIUS].mean())
