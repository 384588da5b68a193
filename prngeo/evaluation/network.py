"""Road networks as graphs: made from lines, measured along, met from a point beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.planar import cut
from prngeo.vectorize.trace import LineGraph

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]

#: Places on a line that are nearer to each other than this (metres) are one.
SAME_PLACE = 1e-6


def network(lines: Any, tolerance: float = 0.01) -> LineGraph:
    """Make a network of lines as they come out of a file.

    Lines are cut where they cross (a bridge, too, becomes a crossing) and where they overlap, and what is
    there twice is kept once; for that, points move to a grid of a thousandth of the tolerance. What sticks
    out of a crossing by no more than the tolerance is dropped. Ends nearer to each other than the tolerance
    move to their mean; an end that is still alone moves onto the nearest line within the tolerance, which is
    cut there. Pieces that shrink to less than the tolerance vanish. Nodes where only two lines meet are
    merged away, so that what is left are crossings, dead ends, and one node on a closed line.

    Args:
        lines: array or sequence of shapely LineStrings and MultiLineStrings in metres; None, empty
            geometries and zero-length lines are left out, and so is a third coordinate.
        tolerance: metres.

    Returns:
        The network, nodes ordered by x, then y, lines by their ends.
    """
    grid = tolerance / 1000
    parts = _noded(_parts(np.asarray(lines, dtype=object).ravel()), grid)
    parts = _ends_joined(_trimmed(parts, tolerance), tolerance)
    parts = _noded(_dead_ends_joined(parts, tolerance), grid)
    return _graph(_parts([shapely.line_merge(shapely.union_all(parts))]))


def _noded(lines: Geometries, grid: float) -> Geometries:
    """Lines cut where they meet, each once."""
    return _parts([shapely.union_all(lines, grid_size=grid)])


def _parts(geometries: Any) -> Geometries:
    """Single lines of some length, as an array."""
    parts = shapely.get_parts(shapely.force_2d(np.asarray(geometries, dtype=object)))
    parts = parts[(shapely.get_type_id(parts) == 1) & (shapely.length(parts) > 0)]
    return np.asarray(parts, dtype=object)


def _line_ends(lines: Geometries) -> Floats:
    """First and last points of lines, float64 (lines, 2, 2)."""
    both = [shapely.get_coordinates(shapely.get_point(lines, index)) for index in (0, -1)]
    return np.stack(both, axis=1)


def _moved(lines: Geometries, ends: Floats, tolerance: float) -> Geometries:
    """Lines with other ends, without those that are shorter than the tolerance then."""
    moved = []
    for line, (start, end) in zip(lines, ends, strict=True):
        points = shapely.get_coordinates(line)
        points[0], points[-1] = start, end
        moved.append(shapely.LineString(points))
    out = np.array(moved, dtype=object)
    return out[shapely.length(out) > tolerance] if len(out) else out


def _end_counts(lines: Geometries) -> Integers:
    """How many lines end where each one does, int64 (lines, 2)."""
    _, of, count = np.unique(_line_ends(lines).reshape(-1, 2), axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[of.ravel()].reshape(-1, 2))


def _trimmed(lines: Geometries, tolerance: float) -> Geometries:
    """Lines without those no longer than the tolerance that end in nothing beside a crossing."""
    count = _end_counts(lines)
    stub = (shapely.length(lines) <= tolerance) & (count.min(axis=1) == 1) & (count.max(axis=1) >= 3)
    return np.asarray(lines[~stub], dtype=object)


def _ends_joined(lines: Geometries, tolerance: float) -> Geometries:
    """Lines whose ends move to the mean of the ends within the tolerance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    if not len(lines):
        return lines
    places, of = np.unique(_line_ends(lines).reshape(-1, 2), axis=0, return_inverse=True)
    near = KDTree(places).query_pairs(tolerance, output_type="ndarray")
    links = coo_array((np.ones(len(near), np.int8), near.T), shape=(len(places), len(places)))
    count, label = connected_components(links, directed=False)
    size = np.bincount(label, minlength=count)
    mean = np.stack([np.bincount(label, places[:, axis], count) / size for axis in (0, 1)], axis=1)
    mean[label[size[label] == 1]] = places[size[label] == 1]
    return _moved(lines, mean[label][of.ravel()].reshape(-1, 2, 2), tolerance)


def _dead_ends_joined(lines: Geometries, tolerance: float) -> Geometries:
    """Lines whose lone ends move onto another line within the tolerance, which is cut there."""
    ends = _line_ends(lines)
    lone = np.flatnonzero(_end_counts(lines).ravel() == 1)
    points = shapely.points(ends.reshape(-1, 2)[lone])
    who, line = shapely.STRtree(lines).query(points, predicate="dwithin", distance=tolerance)
    other = line != lone[who] // 2
    who, line = who[other], line[other]
    away = shapely.distance(points[who], lines[line])
    nearest = np.lexsort((line, away, who))
    nearest = nearest[np.unique(who[nearest], return_index=True)[1]]
    who, line = who[nearest], line[nearest]
    along = shapely.line_locate_point(lines[line], points[who])
    at = shapely.get_coordinates(shapely.line_interpolate_point(lines[line], along))
    ends.reshape(-1, 2)[lone[who]] = at
    moved = _moved(lines, ends, 0.0)
    pieces = [
        shapely.LineString(piece)
        for index in np.unique(line)
        for piece in cut(shapely.get_coordinates(moved[index]), at[line == index])
    ]
    return np.concatenate([np.delete(moved, np.unique(line)), np.array(pieces, dtype=object)])


def _graph(lines: Geometries) -> LineGraph:
    """The graph of lines that meet in their ends only."""
    nodes, ends = np.unique(_line_ends(lines).reshape(-1, 2), axis=0, return_inverse=True)
    ends = ends.reshape(-1, 2).astype(np.int64)
    coordinates = [shapely.get_coordinates(line) for line in lines]
    backward = ends[:, 0] > ends[:, 1]
    coordinates = [points[::-1] if flip else points for points, flip in zip(coordinates, backward, strict=True)]
    ends = np.sort(ends, axis=1)
    order = np.lexsort((shapely.length(lines), ends[:, 1], ends[:, 0]))
    return LineGraph(nodes.reshape(-1, 2), ends[order], [coordinates[index] for index in order])


@dataclass(frozen=True)
class Places:
    """Places on the lines of a network.

    Attributes:
        line: the line of each, int64 (places,).
        along: distance from the line's start, metres, float64 (places,).
    """

    line: Integers
    along: Floats


@dataclass(frozen=True)
class Roads:
    """A network with what measuring along it needs."""

    graph: LineGraph

    @cached_property
    def lines(self) -> Geometries:
        """The lines as shapely geometries."""
        return np.array([shapely.LineString(points) for points in self.graph.lines], dtype=object)

    @cached_property
    def lengths(self) -> Floats:
        """Length of each line in metres."""
        return np.asarray(shapely.length(self.lines), float).reshape(-1)

    def spread(self, spacing: float) -> Places:
        """All nodes, and places in between: evenly on each line, at most `spacing` apart, at least one."""
        first = np.unique(self.graph.ends, return_index=True)[1]
        node = Places(first // 2, np.where(first % 2 == 0, 0.0, self.lengths[first // 2]))
        inner = np.maximum(1, np.ceil(self.lengths / spacing - SAME_PLACE).astype(np.int64) - 1)
        line = np.repeat(np.arange(len(inner)), inner)
        rank = np.arange(len(line)) - np.repeat(np.cumsum(inner) - inner, inner) + 1
        along = self.lengths[line] * rank / (inner + 1)[line]
        return Places(np.concatenate([node.line, line]), np.concatenate([node.along, along]))

    def points(self, places: Places) -> Floats:
        """Coordinates of places, float64 (places, 2)."""
        found = np.empty((len(places.line), 2))
        order = np.argsort(places.line, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(places.line[order])) + 1):
            if len(group):  # a line at a time: its length is added up once, however many places lie on it
                line = self.graph.lines[places.line[group[0]]]
                passed = np.append(0.0, np.cumsum(np.hypot(*np.diff(line, axis=0).T)))
                found[group] = np.stack([np.interp(places.along[group], passed, axis) for axis in line.T], 1)
        return found

    def nearest(self, points: Floats, distance: float) -> tuple[Integers, Places]:
        """Which points have a line within a distance, and the nearest place on one."""
        geometry = shapely.points(points)
        found = shapely.STRtree(self.lines).query_nearest(geometry, max_distance=distance, all_matches=False)
        which, line = found if len(self.lines) else (np.empty(0, np.int64), np.empty(0, np.int64))
        return which, Places(line, shapely.line_locate_point(self.lines[line], geometry[which]))

    def routes(self, places: Places) -> tuple[Any, Integers]:
        """The network as a sparse matrix of distances between neighbouring vertices.

        Returns:
            Symmetric SciPy CSR array over the nodes and the places between them, and the vertex of each place.
        """
        order = np.lexsort((places.along, places.line))
        line, along = places.line[order], places.along[order]
        at_start, at_end = along < SAME_PLACE, along > self.lengths[line] - SAME_PLACE
        inner = ~(at_start | at_end)
        new = inner.copy()
        new[1:] &= ~(inner[:-1] & (line[1:] == line[:-1]) & (np.diff(along) < SAME_PLACE))
        count = len(self.graph.nodes)
        own = count - 1 + np.cumsum(new)
        ends = self.graph.ends
        vertex = np.empty(len(order), np.int64)
        vertex[order] = np.where(at_start, ends[line, 0], np.where(at_end, ends[line, 1], own))
        each = np.arange(len(ends))
        stops = Places(
            np.concatenate([each, line[new], each]), np.concatenate([0 * self.lengths, along[new], self.lengths])
        )
        of = np.concatenate([ends[:, 0], own[new], ends[:, 1]])
        return _distances(stops, of, count + int(new.sum())), vertex


def _distances(stops: Places, vertex: Integers, count: int) -> Any:
    """Sparse distances between stops that follow each other on a line; the shortest of parallel ones."""
    from scipy.sparse import coo_array

    # The sort is stable, and the lines' starts come first and their ends last.
    order = np.lexsort((stops.along, stops.line))
    line, along, vertex = stops.line[order], stops.along[order], vertex[order]
    step = np.flatnonzero((line[1:] == line[:-1]) & (vertex[1:] != vertex[:-1]))
    ends = np.sort(np.stack([vertex[step], vertex[step + 1]], axis=1), axis=1)
    length = along[step + 1] - along[step]
    order = np.lexsort((length, ends[:, 1], ends[:, 0]))
    ends, length = ends[order], length[order]
    first = np.append(True, (ends[1:] != ends[:-1]).any(axis=1)) if len(ends) else np.zeros(0, bool)
    (one, other), length = ends[first].T, length[first]
    both = (np.concatenate([one, other]), np.concatenate([other, one]))
    return coo_array((np.concatenate([length, length]), both), shape=(count, count)).tocsr()
