"""Lines without the steps of their pixels, and how wide the road along them is."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.web import RADIUS, along

Floats = NDArray[np.float64]

SMOOTH = 2.0
"""Metres along a line that are averaged."""


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
    """Lines with fewer points, all within the tolerance, that cross nothing they did not cross before."""
    if not lines:
        return []
    whole = shapely.multilinestrings([shapely.linestrings(line) for line in lines])
    simple = shapely.simplify(whole, tolerance, preserve_topology=True)
    return [shapely.get_coordinates(part) for part in shapely.get_parts(simple)]


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
