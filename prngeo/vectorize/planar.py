"""Lines that meet in their ends only."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.web import along

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

SAME_PLACE = 1e-6
"""Lines are not cut into pieces shorter than this, in their own unit."""


def planar(lines: list[Floats]) -> tuple[list[Floats], list[int]]:
    """Cut lines where they meet others, or themselves, other than in their ends.

    Args:
        lines: polylines, float64 (points, 2) each.

    Returns:
        The pieces, and which line each comes from.
    """
    if not lines:
        return [], []
    drawn = np.array([shapely.linestrings(line) for line in lines], dtype=object)
    simple = shapely.is_simple(drawn)
    geometry, of = shapely.get_parts(_without_crossings(drawn, ~simple), return_index=True)
    lines = [
        lines[number] if simple[number] else shapely.get_coordinates(part)
        for part, number in zip(geometry, of.tolist(), strict=True)
    ]
    one, other = _near(geometry)
    met = meetings(geometry[one], geometry[other])
    cuts: dict[int, list[Floats]] = {}
    for index in np.flatnonzero(~shapely.is_empty(met)).tolist():
        places = shapely.get_coordinates(met[index])
        cuts.setdefault(int(one[index]), []).append(places)
        cuts.setdefault(int(other[index]), []).append(places)
    pieces: list[Floats] = []
    source: list[int] = []
    for number, line in enumerate(lines):
        parts = cut(line, np.concatenate(cuts[number])) if number in cuts else [line]
        pieces += parts
        source += [int(of[number])] * len(parts)
    return pieces, source


def _without_crossings(lines: Geometries, bent: NDArray[np.bool_]) -> Geometries:
    """The lines, those that meet themselves in parts that do so in their ends only. No stretch is there twice."""
    whole = lines.copy()
    whole[bent] = shapely.line_merge(shapely.node(lines[bent]))
    return whole


def _near(lines: Geometries) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of lines that have a point in common, each pair once: the numbers of one and the other."""
    one, other = shapely.STRtree(lines).query(lines, predicate="intersects")
    return one[one < other], other[one < other]


def meetings(one: Geometries, other: Geometries) -> Geometries:
    """Where pairs of lines meet other than in ends of both, object array (pairs,); empty where they do not."""
    ends, others = (
        np.array([shapely.multipoints(shapely.get_coordinates(line)[[0, -1]]) for line in lines], dtype=object)
        for lines in (one, other)
    )
    shared = shapely.intersection(ends, others)
    return np.asarray(shapely.difference(shapely.intersection(one, other), shared), object)


def cut(line: Floats, places: Floats) -> list[Floats]:
    """Pieces of a line, (points, 2), cut at places (places, 2) on it."""
    geometry = shapely.linestrings(line)
    passed = along(line)
    at = shapely.line_locate_point(geometry, shapely.points(places))
    at, first = np.unique(at, return_index=True)
    apart = np.diff(at, prepend=0.0) > SAME_PLACE
    inside = apart & (at < passed[-1] - SAME_PLACE)
    at, places = at[inside], places[first][inside]
    order = np.argsort(np.concatenate([passed, at]), kind="stable")
    points, stops = np.concatenate([line, places])[order], np.flatnonzero(order >= len(line))
    return [points[start : end + 1] for start, end in pairwise([0, *stops.tolist(), len(points) - 1])]
