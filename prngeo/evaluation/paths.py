"""Shortest paths between the same places on two networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.network import Roads
from prngeo.vectorize.trace import LineGraph

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHUNK = 32
SEED = 0


@dataclass(frozen=True)
class Pairs:
    """Control nodes of a network and their counterparts in another.

    Attributes:
        own: sparse distances in the network, and
        vertex: its vertex of each control node.
        other: sparse distances in the other network, and
        counterpart: its vertex of each control node, -1 where there is none.
        sources: control nodes that paths start from.
        points: (control nodes, 2) float64, where they are.
    """

    own: Any
    vertex: Integers
    other: Any
    counterpart: Integers
    sources: Integers
    points: Floats

    @classmethod
    def of(cls, roads: Roads, other: Roads, spacing: float, snap: float, max_sources: int) -> Pairs:
        """Control nodes `spacing` apart, looked up within the distance `snap`; a sample of them as sources."""
        controls = roads.spread(spacing)
        own, vertex = roads.routes(controls)
        points = roads.points(controls).reshape(-1, 2)
        which, places = other.nearest(points, snap)
        distances, met = other.routes(places)
        counterpart = np.full(len(vertex), -1)
        counterpart[which] = met
        return cls(own, vertex, distances, counterpart, sample(len(vertex), max_sources), points)

    @property
    def sampled(self) -> bool:
        """True if not all control nodes are sources."""
        return len(self.sources) < len(self.vertex)

    def lengths(self, min_path: float) -> Iterator[tuple[Integers, Floats, Floats]]:
        """Ranks of sources, and lengths of their paths of at least `min_path` here and there, in chunks.

        A path that is missing there is infinitely long.
        """
        there = np.flatnonzero(self.counterpart >= 0)
        for start in range(0, len(self.sources), CHUNK):
            sources = self.sources[start : start + CHUNK]
            length = distances_from(self.own, self.vertex[sources])[:, self.vertex]
            found = np.full(length.shape, np.inf)
            snapped = np.flatnonzero(self.counterpart[sources] >= 0)
            reached = distances_from(self.other, self.counterpart[sources[snapped]])
            found[np.ix_(snapped, there)] = reached[:, self.counterpart[there]]
            use = np.isfinite(length) & (length >= min_path)
            yield start + np.nonzero(use)[0], length[use], found[use]


def distances_from(routes: Any, sources: Integers, limit: float = np.inf) -> Floats:
    """Shortest paths from some vertices, float64 (sources, vertices), infinite where there is none."""
    from scipy.sparse.csgraph import dijkstra

    if not len(sources):
        return np.empty((0, routes.shape[0]))
    return np.asarray(dijkstra(routes, indices=sources, limit=limit))


def sample(count: int, most: int) -> Integers:
    """Up to `most` of the first `count` integers, always the same."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, most, replace=False))


@dataclass(frozen=True)
class PathTotals:
    """How paths of one network fare in another, summed over the paths that start at a control node.

    Attributes:
        points: (n, 2) float64, the control nodes in metres.
        cost: (n,) float64, sum of min(1, |L - L'| / L).
        kinds: (n, 4) int64, paths that are right within 5 %, too long, too short, missing.
        sampled: True if paths start at a sample of the control nodes only.
    """

    points: Floats
    cost: Floats
    kinds: Integers
    sampled: bool

    @property
    def paths(self) -> int:
        """Number of paths."""
        return int(self.kinds.sum())

    @property
    def similarity(self) -> float | None:
        """1 minus the mean cost; None without a path."""
        return 1.0 - float(self.cost.sum()) / self.paths if self.paths else None


def path_totals(
    roads: LineGraph,
    other: LineGraph,
    *,
    spacing: float = 50.0,
    snap: float = 4.0,
    min_path: float = 10.0,
    max_sources: int = 500,
) -> PathTotals:
    """Compare the shortest paths of a network with those between the same places of another.

    Control nodes are all nodes of the network and further ones along its lines. Each is looked up at the nearest
    place of the other network. Networks with more control nodes than `max_sources` are sampled: paths run from a fixed
    random sample of that many to all others.

    Args:
        roads: the network whose paths are taken, metres.
        other: the network in which they are looked up, metres.
        spacing: largest distance between control nodes on a line; a shorter line has one in its middle.
        snap: farthest that a control node may lie from the other network.
        min_path: shorter paths are left out.
        max_sources: largest number of control nodes that paths start from.
    """
    pairs = Pairs.of(Roads(roads), Roads(other), spacing, snap, max_sources)
    cost, kinds = np.zeros(len(pairs.sources)), np.zeros((len(pairs.sources), 4), np.int64)
    for rows, length, found in pairs.lengths(min_path):
        np.add.at(cost, rows, np.minimum(1.0, np.abs(length - found) / length))
        kind = np.select([np.isinf(found), found > 1.05 * length, found < 0.95 * length], [3, 1, 2], 0)
        np.add.at(kinds, (rows, kind), 1)
    return PathTotals(pairs.points[pairs.sources], cost, kinds, pairs.sampled)
