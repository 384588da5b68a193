"""Outlines of objects along pixel edges.

Every corner of an outline has one horizontal and one vertical edge. Along a lattice line the corners of an object
pair up one after the other, so two sorts give all edges at once, and following them from corner to corner gives the
rings. Where an object meets itself in a single point, the rings are led so that each is simple and polygons are
valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.runs import Integers, Labels, Runs, connected, stretches

START, STOP = 0, 1

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class Rings:
    """Outlines of polygons in the order of their first pixels; a polygon's outer ring comes first.

    All rings keep the object on the same side, so signed sums over the rings of a polygon are right without knowing
    which ring is a hole.

    Attributes:
        points: pixel corners (column, row), int64 (points, 2), every ring closed.
        ring_starts: first point of each ring and the end, int64 (rings + 1,).
        polygon_starts: first ring of each polygon and the end, int64 (polygons + 1,).
    """

    points: Integers
    ring_starts: Integers
    polygon_starts: Integers

    @property
    def point_starts(self) -> Integers:
        """First point of each polygon and the end, shape (polygons + 1,)."""
        return self.ring_starts[self.polygon_starts]

    @cached_property
    def pixels(self) -> Integers:
        """Area of each polygon in pixels, shape (polygons,)."""
        x, y = self.points.T
        steps = np.append(x[:-1] * np.diff(y), 0)
        steps[self.ring_starts[1:] - 1] = 0
        return np.abs(np.add.reduceat(steps, self.point_starts[:-1]))

    def noded(self) -> Rings:
        """With a point on each edge where corners of other polygons lie, as a coverage needs them."""
        inner = np.ones(len(self.points), bool)
        inner[self.ring_starts[1:] - 1] = False
        places, points = [np.arange(len(self.points), dtype=float)], [self.points]
        for axis in (0, 1):
            along, across = self.points[:, axis], self.points[:, 1 - axis]
            pitch = int(along.max(initial=0)) + 2
            key = across * pitch + along
            known = np.unique(key)
            edge = np.flatnonzero(inner[:-1] & (across[:-1] == across[1:]))
            start, end = key[edge], key[edge + 1]
            first = np.searchsorted(known, np.minimum(start, end), "right")
            of, node = stretches(first, np.searchsorted(known, np.maximum(start, end), "left"))
            places.append(edge[of] + (known[node] - start[of]) / (end - start)[of])
            points.append(np.stack(np.divmod(known[node], pitch), 1)[:, :: -1 if axis == 0 else 1])
        place = np.concatenate(places)
        order = np.argsort(place)
        ring_starts = np.searchsorted(place[order], self.ring_starts)
        return Rings(np.concatenate(points)[order], ring_starts, self.polygon_starts)

    def geometry(self) -> Geometries:
        """As shapely polygons, object array (polygons,)."""
        offsets = (self.ring_starts, self.polygon_starts)
        kind = shapely.GeometryType.POLYGON
        return np.asarray(shapely.from_ragged_array(kind, self.points.astype(float), offsets), object)


def trace(runs: Runs, labels: Labels) -> Rings:
    """Trace the outlines of polygons.

    Args:
        runs: of the objects.
        labels: the polygon of each run, int32 (runs,), from 0 in the order of first pixels; the pixels of a polygon
            are joined by their edges.
    """
    corners = _corners(runs, labels)
    y, x = (part.astype(np.int32) for part in np.divmod(corners.position, runs.pitch))
    place = np.arange(len(y), dtype=np.int32)
    # Sorted along rows, a corner and the next one share a horizontal edge; along columns, a vertical one.
    order = np.lexsort((corners.downward, y, x, corners.label)).astype(np.int32)
    below = np.empty_like(order)
    below[order] = order[place ^ 1]
    # With the object to the right, its left borders are walked upward and its right ones downward.
    along_row = (corners.kind == START) == corners.downward
    ring, rank = _cycles(np.where(along_row, place ^ 1, below))
    sizes = np.bincount(ring) if len(ring) else np.empty(0, np.int64)
    starts = _cumulated(sizes + 1)
    points = np.empty((starts[-1], 2), np.int64)
    points[starts[ring] + rank] = np.stack([x, y], 1)
    points[starts[1:] - 1] = points[starts[:-1]]
    firsts = np.flatnonzero(rank == 0)
    per_polygon = np.bincount(corners.label[firsts]) if len(firsts) else np.empty(0, np.int64)
    return Rings(points, starts, _cumulated(per_polygon))


@dataclass(frozen=True)
class _Corners:
    """Where outlines turn, sorted by polygon, row, column and kind; every attribute has the shape (corners,).

    Attributes:
        label: the polygon.
        position: of the pixel whose upper left corner it is, as in `Runs`.
        kind: whether its vertical edge is a START of runs, the object's left border, or a STOP.
        downward: whether that edge goes down from here.
    """

    label: Labels
    position: Integers
    kind: NDArray[np.uint8]
    downward: NDArray[np.bool_]


def _corners(runs: Runs, labels: Labels) -> _Corners:
    """The ends of vertical edges: where runs start (or stop), and those in the row above (or below) do not."""
    parts = []
    for kind, ends in ((START, runs.start), (STOP, runs.stop)):
        under = np.minimum(np.searchsorted(ends, ends + runs.pitch), len(ends) - 1)
        goes_on = (ends[under] == ends + runs.pitch) & (labels[under] == labels)
        begins = np.ones(len(ends), bool)
        begins[under[goes_on]] = False
        parts.append((labels[begins], ends[begins], kind, True))
        parts.append((labels[~goes_on], ends[~goes_on] + runs.pitch, kind, False))
    label = np.concatenate([part[0] for part in parts])
    position = np.concatenate([part[1] for part in parts])
    counts = [len(part[0]) for part in parts]
    kinds = np.repeat(np.array([part[2] for part in parts], np.uint8), counts)
    downward = np.repeat([part[3] for part in parts], counts)
    # Where an object meets itself in a point, START before STOP leads each ring around one side of the background.
    order = np.lexsort((kinds, position, label))
    return _Corners(label[order], position[order], kinds[order], downward[order])


def _cycles(following: Labels) -> tuple[Labels, Labels]:
    """The cycle of each element of a permutation, numbered by first elements, and its place there from the first."""
    place = np.arange(len(following), dtype=following.dtype)
    cycle = connected(len(following), place, following)
    size = np.bincount(cycle)
    first = np.empty(len(size), following.dtype)
    first[cycle[::-1]] = place[::-1]
    # Pointers double their reach until they arrive at the first element, and add up the steps on their way.
    first = first[cycle]
    steps, target = (place != first).astype(following.dtype), np.where(place == first, place, following)
    moving = np.flatnonzero(target != first)
    while len(moving):
        via = target[moving]
        steps[moving] += steps[via]
        target[moving] = target[via]
        moving = moving[target[moving] != first[moving]]
    return cycle, (size[cycle] - steps) % size[cycle]


def _cumulated(sizes: Integers) -> Integers:
    """Where parts of these sizes start in their concatenation, and its end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
