"""Outlines of objects along pixel edges.

Every corner of an outline has one horizontal and one vertical edge. Along a lattice line the corners of an object
pair up one after the other, so two sorts give all edges at once, and following them from corner to corner gives the
rings. Where an object meets itself in a single point, the rings are led so that each is simple and polygons are
valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.runs import Integers, Labels, Runs, stretches

START, STOP = 0, 1

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class Rings:
    """Outlines of polygons in the order of their first pixels; a polygon's outer ring comes first.

    All rings keep the object on the same side, so signed sums over the rings of a polygon are right without knowing
    which ring is a hole.

    Attributes:
        points: pixel corners (column, row), int32 (points, 2), every ring closed.
        ring_starts: first point of each ring and the end, int64 (rings + 1,).
        polygon_starts: first ring of each polygon and the end, int64 (polygons + 1,).
    """

    points: Labels
    ring_starts: Integers
    polygon_starts: Integers

    def noded(self) -> Rings:
        """With a point on each edge where corners of other polygons lie, as a coverage needs them."""
        inner = np.ones(len(self.points), bool)
        inner[self.ring_starts[1:] - 1] = False
        places, points = [np.arange(len(self.points), dtype=float)], [self.points]
        for axis in (0, 1):
            along, across = self.points[:, axis].astype(np.int64), self.points[:, 1 - axis]
            pitch = int(along.max(initial=0)) + 2
            key = across * pitch + along
            known = np.unique(key)
            edge = np.flatnonzero(inner[:-1] & (across[:-1] == across[1:]))
            start, end = key[edge], key[edge + 1]
            first = np.searchsorted(known, np.minimum(start, end), "right")
            of, node = stretches(first, np.searchsorted(known, np.maximum(start, end), "left"))
            places.append(edge[of] + (known[node] - start[of]) / (end - start)[of])
            points.append(np.stack(np.divmod(known[node], pitch), 1)[:, :: -1 if axis == 0 else 1].astype(np.int32))
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
    label, x, y, following = _linked_corners(runs, labels)
    ring, rank = _cycles(following)
    del following
    starts = _cumulated((np.bincount(ring) if len(ring) else np.empty(0, np.int64)) + 1)
    firsts = np.flatnonzero(rank == 0)
    per_polygon = np.bincount(label[firsts]) if len(firsts) else np.empty(0, np.int64)
    place = starts[ring]
    place += rank
    del label, ring, rank
    points = np.empty((starts[-1], 2), np.int32)
    points[place, 0] = x
    points[place, 1] = y
    points[starts[1:] - 1] = points[starts[:-1]]
    return Rings(points, starts, _cumulated(per_polygon))


def _linked_corners(runs: Runs, labels: Labels) -> tuple[Labels, Labels, Labels, Labels]:
    """Where outlines turn, sorted by polygon, row and column, and the corner that follows each, all int32 (corners,).

    Returns:
        The polygon of each corner, its column and row, and the next corner of its ring.
    """
    label, key, downward = _corners(runs, labels)
    # Where an object meets itself in a point, START before STOP leads each ring around one side of the background.
    order = np.lexsort((key, label))
    label, key, downward = label[order], key[order], downward[order]
    del order
    # With the object to the right, its left borders are walked upward and its right ones downward.
    along_row = ((key & 1) == START) == downward
    key >>= 1
    y = (key // runs.pitch).astype(np.int32)
    key %= runs.pitch
    x = key.astype(np.int32)
    del key
    place = np.arange(len(y), dtype=np.int32)
    # Sorted along rows, a corner and the next one share a horizontal edge; along columns, a vertical one.
    order = np.lexsort((downward, y, x, label)).astype(np.int32)
    below = np.empty_like(order)
    below[order] = order[place ^ 1]
    return label, x, y, np.where(along_row, place ^ 1, below)


def _corners(runs: Runs, labels: Labels) -> tuple[Labels, Integers, NDArray[np.bool_]]:
    """The ends of vertical edges: where runs start (or stop), and those in the row above (or below) do not.

    Returns:
        The polygon of each corner, int32; its position as in `Runs`, of the pixel whose upper left corner it is,
        times two, plus what its vertical edge is, START of runs (the object's left border) or STOP, int64; and
        whether that edge goes down from here.
    """
    found = []
    for ends in (runs.start, runs.stop):
        under = np.minimum(np.searchsorted(ends, ends + runs.pitch), len(ends) - 1)
        goes_on = (ends[under] == ends + runs.pitch) & (labels[under] == labels)
        begins = np.ones(len(ends), bool)
        begins[under[goes_on]] = False
        found += [(ends, begins, 0), (ends, ~goes_on, runs.pitch)]
    counts = [int(np.count_nonzero(which)) for _, which, _ in found]
    label, key = np.empty(sum(counts), np.int32), np.empty(sum(counts), np.int64)
    first = 0
    for (ends, which, step), kind, count in zip(found, (START, START, STOP, STOP), counts, strict=True):
        here = slice(first, first + count)
        label[here] = labels[which]
        key[here] = ends[which]
        key[here] += step
        key[here] <<= 1
        key[here] |= kind
        first += count
    return label, key, np.repeat([True, False, True, False], counts)


def _cycles(following: Labels) -> tuple[Labels, Labels]:
    """The cycle of each element of a permutation, numbered by first elements, and its place there from the first.

    Every element looks at the first one within its reach, and all reaches double until none finds an earlier one.
    """
    own = np.arange(len(following), dtype=np.int32)
    first, way, ahead, reach = own.copy(), np.zeros(len(following), np.int32), following, 1
    while (earlier := (further := first[ahead]) < first).any():
        first[earlier] = further[earlier]
        way[earlier] = way[ahead[earlier]] + reach
        ahead = ahead[ahead]
        reach *= 2
    del further, earlier, ahead
    number = np.cumsum(first == own, dtype=np.int32) - 1
    cycle = number[first]
    size = np.bincount(cycle).astype(np.int32)[cycle]
    return cycle, (size - way) % size


def _cumulated(sizes: Integers) -> Integers:
    """Where parts of these sizes start in their concatenation, and its end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
