"""Shortest paths between the same places on two networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.network import Roads

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
