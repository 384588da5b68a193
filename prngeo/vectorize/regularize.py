"""Regular building outlines: straight walls, right angles, round tanks, and no worse than a stated limit.

Every building is judged on its own: where its regular outline agrees less than `LIMIT` with its pixels, it keeps its
simplified one. Buildings that share a wall are straightened as one and then cut along the straightened wall, so
there are neither gaps nor overlaps between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.fit import bends, circle, dominant_angle, edge_middles, fit_circle, fit_ring
from prngeo.vectorize.outlines import Floats, Geometries
from prngeo.vectorize.runs import Integers, Labels, Runs, connected

LIMIT = 0.85
"""Smallest IoU of a regular outline with the exact one."""
GRID = 2.0**-10
"""Corners of buildings that share walls lie on a grid of this many pixels, so that walls meet exactly."""
SPECK = 1e-6
"""Areas in pixels that are rounding."""


def regularize(
    exact: Geometries, simple: Geometries, groups: Labels, to_square: Floats, tolerance: float, limit: float = LIMIT
) -> Geometries:
    """Straighten buildings.

    Args:
        exact: outlines along pixel edges in pixel coordinates, (polygons,).
        simple: outlines that neither overlap each other, kept where a regular one does not suit; (polygons,).
        groups: buildings that share walls have the same number, int32 (polygons,).
        to_square: float64 (2, 2), points @ this have square pixels.
        tolerance: deviations up to this many pixels are straightened.
        limit: smallest IoU of a regular outline with the exact one.

    Returns:
        Polygons in pixel coordinates, (polygons,): none overlaps another, and what shared walls still does.
    """
    result = simple.copy()
    square = _moved(exact, to_square)
    back = np.asarray(np.linalg.inv(to_square), float)
    for members in _members(groups):
        found = _straightened(exact[members], square[members], to_square, tolerance, limit)
        if found is not None:
            result[members] = _moved(found, back)
    regular = np.array([one is not other for one, other in zip(result, simple, strict=True)], bool)
    return _without_overlaps(result, simple, regular, groups)


def shared_walls(runs: Runs, labels: Labels) -> tuple[Integers, Integers]:
    """Pairs of polygons that share pixel edges, each once.

    Args:
        runs: the pixels of the polygons.
        labels: the polygon of each run, int32 (runs,).
    """
    upper, lower = runs.overlaps(runs.start + runs.pitch, runs.stop + runs.pitch)
    beside = np.flatnonzero(runs.stop[:-1] == runs.start[1:])
    one = np.concatenate([labels[upper], labels[beside]])
    other = np.concatenate([labels[lower], labels[beside + 1]])
    pairs = np.unique(np.sort(np.stack([one, other], 1)[one != other], axis=1), axis=0)
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)


def wall_groups(runs: Runs, labels: Labels) -> Labels:
    """Number the groups of polygons that hang together by shared walls: int32 (polygons,)."""
    return connected(int(labels.max(initial=-1)) + 1, *shared_walls(runs, labels))


def _members(groups: Labels) -> Iterator[Integers]:
    """The polygons of each group."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[order])) + 1
    return iter(np.split(order, ends)) if len(order) else iter(())


def _straightened(
    exact: Geometries, square: Geometries, to_square: Floats, tolerance: float, limit: float
) -> Geometries | None:
    """Regular outlines of a group of buildings, all with square pixels, or None if one of them does not suit."""
    if any(polygon.geom_type != "Polygon" for polygon in exact):
        return None
    whole = exact[0] if len(exact) == 1 else shapely.coverage_union_all(exact)
    if whole.geom_type != "Polygon":
        return None
    outline = _outline(whole, to_square, tolerance)
    if outline is None:
        return None
    found = np.array([outline], object) if len(exact) == 1 else _cut(outline, square, tolerance)
    if found is None or (_iou(found, square) < limit).any():
        return None
    return found


def _outline(polygon: shapely.Polygon, to_square: Floats, tolerance: float) -> shapely.Polygon | None:
    """The regular outline of one polygon in pixel coordinates, with square pixels."""
    rings = [edge_middles(shapely.get_coordinates(ring)) @ to_square for ring in shapely.get_rings(polygon)]
    round_ = fit_circle(rings[0]) if len(rings) == 1 else None
    if round_ is not None:
        return shapely.Polygon(circle(*round_))
    turns = bends(rings[0], tolerance)
    if len(turns) < 3:
        return None
    angle = dominant_angle(rings[0], turns)
    corners = fit_ring(rings[0], angle, tolerance)
    if corners is None:
        return None
    holes = [
        _simple_hole(hole, tolerance) @ to_square if (fitted := fit_ring(ring, angle, tolerance)) is None else fitted
        for hole, ring in zip(polygon.interiors, rings[1:], strict=True)
    ]
    outline = shapely.Polygon(corners, holes)
    return outline if outline.is_valid else None


def _simple_hole(hole: shapely.LinearRing, tolerance: float) -> Floats:
    """Corners of a hole that is too small to be straightened, in pixel coordinates."""
    simple = shapely.get_coordinates(hole.simplify(tolerance))
    return np.asarray(simple if len(simple) > 4 else shapely.get_coordinates(hole), float)


def _cut(outline: shapely.Polygon, parts: Geometries, tolerance: float) -> Geometries | None:
    """Cut a straightened outline along the straightened walls between its parts."""
    walls = list(_walls(parts, tolerance))
    lines = shapely.union_all([outline.boundary, *walls], grid_size=GRID)
    faces = np.asarray(shapely.get_parts(shapely.polygonize([lines])), object)
    faces = faces[shapely.contains(outline, shapely.point_on_surface(faces))]
    shares = np.array([shapely.area(shapely.intersection(face, parts)) for face in faces])
    if not len(faces) or set(shares.argmax(1)) != set(range(len(parts))):
        return None
    pieces = [shapely.union_all(faces[shares.argmax(1) == part], grid_size=GRID) for part in range(len(parts))]
    return np.array(pieces, object) if all(piece.geom_type == "Polygon" for piece in pieces) else None


def _walls(parts: Geometries, tolerance: float) -> Iterator[shapely.LineString]:
    """Straightened walls between parts, drawn out at their ends so that they cross the outline."""
    tree = shapely.STRtree(parts)
    for one, other in zip(*tree.query(parts, "intersects"), strict=True):
        if one >= other:
            continue
        shared = shapely.line_merge(shapely.intersection(parts[one].boundary, parts[other].boundary))
        for line in shapely.get_parts(shared):
            if line.geom_type == "LineString" and line.length > 0:
                points = shapely.get_coordinates(shapely.simplify(line, tolerance))
                for end, inner in ((0, 1), (-1, -2)):
                    step = points[end] - points[inner]
                    points[end] = points[end] + step * (2 * tolerance + 1) / max(np.hypot(*step), SPECK)
                yield shapely.LineString(points)


def _iou(one: Geometries, other: Geometries) -> Floats:
    common = shapely.area(shapely.intersection(one, other))
    return np.asarray(common / (shapely.area(one) + shapely.area(other) - common))


def _without_overlaps(result: Geometries, simple: Geometries, regular: NDArray[np.bool_], groups: Labels) -> Geometries:
    """Where a regular outline overlaps another one, it goes back to the simplified one, with its group."""
    while True:
        one, other = shapely.STRtree(result).query(result, "intersects")
        near = (one < other) & (groups[one] != groups[other]) & (regular[one] | regular[other])
        one, other = one[near], other[near]
        overlap = shapely.area(shapely.intersection(result[one], result[other])) > SPECK
        back = np.isin(groups, groups[np.concatenate([one[overlap], other[overlap]])]) & regular
        if not back.any():
            return result
        result[back] = simple[back]
        regular = regular & ~back


def _moved(geometry: Iterable[shapely.Polygon], matrix: Floats) -> Geometries:
    return np.asarray(shapely.transform(np.asarray(geometry, object), lambda points: points @ matrix), object)
