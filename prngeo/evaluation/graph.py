"""How well a predicted road network stands for the true one: measures on graphs, lengths in metres.

What a measure leaves undefined (no true road, no path, no junction) is None and never 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.evaluation.network import Places, Roads, network
from prngeo.evaluation.paths import CHUNK, PathTotals, distances_from, path_totals, sample
from prngeo.vectorize.trace import LineGraph

__all__ = [
    "Apls",
    "Connectivity",
    "Matching",
    "PathTotals",
    "apls",
    "apls_of",
    "buffer_matching",
    "connectivity",
    "junctions",
    "network",
    "path_totals",
    "topo",
]

STEP = 0.1
"""Of the tolerance: length of the pieces in which matched length is added up."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Matching:
    """How much of the truth was found and how much of what was found is true.

    Attributes:
        recall: matched share of the truth (0 to 1), None without truth.
        precision: matched share of the prediction (0 to 1), None without prediction.
        f1: their harmonic mean, 0 if nothing was predicted, None without truth.
        truth: number (or metres) in the truth.
        predicted: number (or metres) in the prediction.
    """

    recall: float | None
    precision: float | None
    f1: float | None
    truth: float
    predicted: float

    @classmethod
    def of(cls, truth: float, truth_matched: float, predicted: float, predicted_matched: float) -> Matching:
        """From totals and matched parts."""
        recall = truth_matched / truth if truth > 0 else None
        precision = predicted_matched / predicted if predicted > 0 else None
        # Without a prediction there is no precision, but F1 is 0: everything was missed.
        f1 = 0.0 if recall == 0 and precision is None else _harmonic(recall, precision)
        return cls(recall, precision, f1, truth, predicted)

    @property
    def quality(self) -> float | None:
        """Matched share of what is in either (Heipke et al. 1997), None where recall or precision is."""
        if self.recall is None or self.precision is None:
            return None
        both = self.recall * self.precision
        return both / (self.recall + self.precision - both) if both > 0 else 0.0


@dataclass(frozen=True)
class Apls:
    """Average path length similarity.

    Attributes:
        score: 0 to 1, the harmonic mean of the two directions; None if the truth has no path. Without a
            predicted path it is 0 if no true path was found either, else None.
        truth_to_predicted: similarity of true paths to those in the prediction; None without true paths.
        predicted_to_truth: similarity of predicted paths to those in the truth; None without any.
        truth_paths: number of true paths compared.
        predicted_paths: number of predicted paths compared.
        sampled: True if paths start at a sample of the control nodes only.
    """

    score: float | None
    truth_to_predicted: float | None
    predicted_to_truth: float | None
    truth_paths: int
    predicted_paths: int
    sampled: bool


@dataclass(frozen=True)
class Connectivity:
    """Whether what is connected in the truth is connected in the prediction.

    Attributes:
        truth_components: number of connected parts of the true network.
        predicted_components: the same of the predicted one.
        truth_km: length of the true network.
        predicted_km: length of the predicted one.
        correct: share of true paths whose length in the prediction is right within 5 %; None, as the
            next three, if the truth has no path.
        too_long: share of paths that are longer.
        too_short: share of paths that are shorter.
        infeasible: share of paths that are missing. The four shares add up to 1.
        paths: number of true paths compared.
        sampled: True if paths start at a sample of the control nodes only.
    """

    truth_components: int
    predicted_components: int
    truth_km: float
    predicted_km: float
    correct: float | None
    too_long: float | None
    too_short: float | None
    infeasible: float | None
    paths: int
    sampled: bool


def apls(truth: LineGraph, predicted: LineGraph) -> Apls:
    """Average path length similarity of two networks in metres, see `apls_of` and `path_totals`."""
    return apls_of(path_totals(truth, predicted), path_totals(predicted, truth))


def apls_of(forward: PathTotals, backward: PathTotals) -> Apls:
    """Average path length similarity (Van Etten, Lindenbaum and Bacastow 2018, arXiv 1807.01232).

    For every pair of control nodes joined by a path of length L, the other network's path of length L' costs
    min(1, |L - L'| / L); it costs 1 where an end has no place or no path leads there. The similarity is 1 minus the
    mean cost, computed in both directions.

    Control nodes are injected on straight lines too, and paths run along the nearest place of the other network
    exactly; the published code injects them on curved lines only, which changes scores slightly.

    Args:
        forward: paths of the truth looked up in the prediction.
        backward: paths of the prediction looked up in the truth.

    Returns:
        The scores.
    """
    there, back = forward.similarity, backward.similarity
    score = 0.0 if back is None and there == 0 else _harmonic(there, back)
    return Apls(score, there, back, forward.paths, backward.paths, forward.sampled or backward.sampled)


def connectivity(truth: LineGraph, predicted: LineGraph, forward: PathTotals) -> Connectivity:
    """Components of both networks, and how true paths fare in the prediction.

    The categories are those of Wegner, Montoya-Zegarra and Schindler (CVPR 2013): right within 5 %, too long,
    too short, infeasible.

    Args:
        truth: true network, metres.
        predicted: predicted network, metres.
        forward: paths of the truth looked up in the prediction.

    Returns:
        The figures.
    """
    paths, counts = forward.paths, forward.kinds.sum(0).tolist()
    correct, too_long, too_short, infeasible = (count / paths if paths else None for count in counts)
    return Connectivity(
        _components(truth),
        _components(predicted),
        float(Roads(truth).lengths.sum()) / 1000,
        float(Roads(predicted).lengths.sum()) / 1000,
        correct,
        too_long,
        too_short,
        infeasible,
        paths,
        forward.sampled,
    )


def topo(
    truth: LineGraph,
    predicted: LineGraph,
    *,
    radius: float = 300.0,
    interval: float = 5.0,
    tolerance: float = 10.0,
    max_seeds: int = 200,
) -> Matching:
    """Topology measure after Biagioni and Eriksson (2012), with the distances used by He et al. (2020).

    From a seed and from its nearest place on the other network, both are explored along their lines up to
    the radius, and the places passed every `interval` are matched one to one within the tolerance. Recall is
    the matched share over seeds on the truth, precision that over seeds on the prediction; a seed without a
    counterpart within the tolerance has no match. Seeds are a fixed random sample of the places.

    Args:
        truth: true network, metres.
        predicted: predicted network, metres.
        radius: how far to explore along the lines.
        interval: largest distance between places on a line.
        tolerance: farthest that matched places may lie apart.
        max_seeds: number of seeds on each network.

    Returns:
        Precision, recall, F1 and the numbers of places compared.
    """
    marks = [_Marks.of(Roads(graph), interval) for graph in (truth, predicted)]
    near = _near(marks[0].points, marks[1].points, tolerance)
    truth_total, truth_matched = _explored(marks[0], marks[1], near, radius, max_seeds)
    predicted_total, predicted_matched = _explored(marks[1], marks[0], near.T.tocsr(), radius, max_seeds)
    return Matching.of(truth_total, truth_matched, predicted_total, predicted_matched)


def junctions(truth: LineGraph, predicted: LineGraph, tolerance: float = 10.0) -> Matching:
    """Crossings (nodes where three or more lines end) matched one to one, as many as possible.

    Args:
        truth: true network, metres.
        predicted: predicted network, metres.
        tolerance: farthest that matched crossings may lie apart, metres.

    Returns:
        Precision, recall, F1 and the numbers of crossings.
    """
    one, other = (graph.nodes[_degree(graph) >= 3] for graph in (truth, predicted))
    matched = _matches(_near(one, other, tolerance))
    return Matching.of(len(one), matched, len(other), matched)


def buffer_matching(truth: LineGraph, predicted: LineGraph, tolerance: float = 3.0) -> Matching:
    """Lengths within a buffer of the other network (Heipke, Mayer, Wiedemann and Jamet 1997).

    Args:
        truth: true network, metres.
        predicted: predicted network, metres.
        tolerance: the buffer's half width, metres.

    Returns:
        Completeness (as recall), correctness (as precision), F1, quality and the two lengths in metres.
    """
    one, other = Roads(truth), Roads(predicted)
    return Matching.of(
        float(one.lengths.sum()),
        _length_within(one, other, tolerance),
        float(other.lengths.sum()),
        _length_within(other, one, tolerance),
    )


def _harmonic(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 2 * one * other / (one + other) if one + other > 0 else 0.0


@dataclass(frozen=True)
class _Marks:
    """Places every few metres along a network, their coordinates (marks, 2) and distances."""

    routes: Any
    vertex: Integers
    points: Floats

    @classmethod
    def of(cls, roads: Roads, interval: float) -> _Marks:
        places = roads.spread(interval)
        return cls(*roads.routes(places), roads.points(places).reshape(-1, 2))

    def within(self, sources: Integers, radius: float) -> NDArray[np.bool_]:
        """Which marks lie within the radius along the network of each source mark."""
        return np.isfinite(distances_from(self.routes, self.vertex[sources], radius)[:, self.vertex])


def _explored(own: _Marks, other: _Marks, near: Any, radius: float, max_seeds: int) -> tuple[int, int]:
    """Marks passed from seeds on a network, and how many of them match the other's; `near`: own x other."""
    from scipy.spatial import KDTree

    total = matched = 0
    seeds = sample(len(own.vertex), max_seeds)
    tree = KDTree(other.points)
    for start in range(0, len(seeds), CHUNK):
        chunk = seeds[start : start + CHUNK]
        passed = own.within(chunk, radius)
        total += int(passed.sum())
        met = np.flatnonzero(near.indptr[chunk + 1] > near.indptr[chunk])
        if not len(met):
            continue
        counterparts = tree.query(own.points[chunk[met]])[1]
        for here, there in zip(passed[met], other.within(counterparts, radius), strict=True):
            matched += _matches(near[here][:, there])
    return total, matched


def _near(one: Floats, other: Floats, tolerance: float) -> Any:
    """Sparse matrix (one, other) of points within the tolerance of each other."""
    from scipy.sparse import coo_array
    from scipy.spatial import KDTree

    pairs = KDTree(one).sparse_distance_matrix(KDTree(other), tolerance, output_type="ndarray")
    ones = np.ones(len(pairs), np.int8)
    return coo_array((ones, (pairs["i"], pairs["j"])), shape=(len(one), len(other))).tocsr()


def _matches(near: Any) -> int:
    """Largest number of one-to-one matches."""
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not near.nnz:
        return 0
    return int((maximum_bipartite_matching(near, perm_type="column") >= 0).sum())


def _degree(graph: LineGraph) -> Integers:
    return np.bincount(graph.ends.ravel(), minlength=len(graph.nodes))


def _components(graph: LineGraph) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(graph.nodes)
    links = coo_array((np.ones(len(graph.ends), np.int8), graph.ends.T), shape=(count, count))
    return int(connected_components(links, directed=False)[0]) if count else 0


def _length_within(roads: Roads, other: Roads, tolerance: float) -> float:
    """Length of a network's lines that lies within a distance of another network, in pieces of a tenth of it."""
    if not len(roads.lines) or not len(other.lines):
        return 0.0
    count = np.ceil(roads.lengths / (STEP * tolerance)).astype(np.int64)
    line = np.repeat(np.arange(len(count)), count)
    piece = (roads.lengths / count)[line]
    rank = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
    middles = shapely.points(roads.points(Places(line, (rank + 0.5) * piece)))
    near = np.unique(shapely.STRtree(other.lines).query(middles, predicate="dwithin", distance=tolerance)[0])
    return float(piece[near].sum())
