"""Lines without the steps of their pixels, and how wide the road along them is."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.planar import meetings
from prngeo.vectorize.web import RADIUS, along

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]
Numbers = NDArray[np.intp]

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
    """Lines with fewer points (Douglas and Peucker 1973), within the tolerance, that lie to each other as before.

    Lines that would meet others or themselves where they did not, or pass over others, are simplified less, down to
    what they were. (GEOS keeps the topology of many lines in a time that grows with the square of their number.)
    """
    before = np.array([shapely.linestrings(line) for line in lines], dtype=object)
    after, within, swept = before.copy(), np.full(len(lines), tolerance), np.full(len(lines), None)
    there, changed = shapely.STRtree(before), np.arange(len(lines))
    while len(changed):
        fine = within[changed] <= tolerance / LEAST
        simple = shapely.simplify(before[changed], within[changed], preserve_topology=False)
        after[changed] = np.where(fine, before[changed], simple)
        swept[changed] = [_swept(*pair) for pair in zip(before[changed], after[changed], strict=True)]
        wrong = [_bent(before, after, changed), *_clashing(before, after, changed)]
        wrong += _passing(before, after, swept, changed, there)
        changed = np.unique(np.concatenate(wrong))
        changed = changed[within[changed] > tolerance / LEAST]
        within[changed] /= FINER
    return [shapely.get_coordinates(line) for line in after]


def _swept(before: shapely.LineString, after: shapely.LineString) -> shapely.Polygon | None:
    """The area between a line and what it becomes, inside by the even-odd rule; None if nothing changes."""
    points, left = shapely.get_coordinates(before), shapely.get_coordinates(after)
    return shapely.Polygon(np.concatenate([points, left[::-1]])) if len(left) < len(points) else None


def _bent(before: Geometries, after: Geometries, lines: Numbers) -> Numbers:
    """Which of these lines meet themselves as they did not before, or have become points."""
    was, now = before[lines], after[lines]
    crossed = shapely.is_simple(was) & ~shapely.is_simple(now)
    return np.asarray(lines[crossed | ((shapely.length(now) == 0) & (shapely.length(was) > 0))])


def _clashing(before: Geometries, after: Geometries, lines: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs of these lines and any others that meet in more places than before, or along a stretch."""
    one, other = _pairs(lines, *shapely.STRtree(after).query(after[lines], predicate="intersects"))
    (places, length), (few, short) = (_met(meetings(drawn[one], drawn[other])) for drawn in (after, before))
    more = (places > few) | ((length > 0) & (short == 0))
    return one[more], other[more]


def _met(meeting: Geometries) -> tuple[Numbers, Floats]:
    """Number of places, and length of stretches, in which pairs of lines meet."""
    return shapely.get_num_geometries(meeting) * ~shapely.is_empty(meeting), shapely.length(meeting)


def _passing(
    before: Geometries, after: Geometries, swept: Geometries, lines: Numbers, there: shapely.STRtree
) -> tuple[Numbers, Numbers]:
    """Pairs of these lines and any others of which one passes over the other.

    If first one becomes what it will be and then the other, each step may take it over its neighbour, or both, which
    then lie as before. Lines that do not meet lie inside of a swept area as a whole, so that their middles tell.
    """
    found = np.concatenate(
        [
            there.query(swept[lines], predicate="intersects"),
            shapely.STRtree(swept).query(after[lines], predicate="intersects"),
        ],
        axis=1,
    )
    one, other = _pairs(lines, *np.unique(found, axis=1))
    first, then = _inside(swept[one], before[other]), _inside(swept[other], after[one])
    return one[first != then], other[first != then]


def _inside(areas: Geometries, lines: Geometries) -> NDArray[np.bool_]:
    """Whether the middle of each line lies inside the area of the same number."""
    middle = shapely.line_interpolate_point(lines, 0.5, normalized=True)
    return np.asarray(shapely.contains_xy(areas, shapely.get_x(middle), shapely.get_y(middle)))


def _pairs(lines: Numbers, place: Numbers, other: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs of two different lines, from the places of the first in `lines`."""
    one = lines[place]
    return one[one != other], other[one != other]


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
