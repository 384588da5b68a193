"""The objects of a mask as runs of pixels along rows, gathered strip by strip.

Runs are what all steps before the outlines work on: joining pieces, dropping small objects, filling holes and
summing rasters are sorted searches over them, and memory holds the runs of kept objects instead of pixels.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.vectorize.mask import NODATA, OBJECT, Mask

Integers = NDArray[np.int64]
Labels = NDArray[np.int32]

AT_ONCE = 500_000
"""About so many runs are joined to objects at a time."""


@dataclass(frozen=True)
class Runs:
    """Runs of pixels, sorted; none overlap.

    A pixel's position is row * pitch + column. The pitch is the raster's width + 1: the additional column keeps
    the end of a row apart from the start of the next.

    Attributes:
        start: position of each run's first pixel, int64 (runs,).
        stop: position after its last pixel, int64 (runs,).
        pitch: positions a row.
    """

    start: Integers
    stop: Integers
    pitch: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def pixels(self) -> Integers:
        """Length of each run, (runs,)."""
        return self.stop - self.start

    def take(self, keep: NDArray[np.bool_] | Integers) -> Runs:
        """Only some runs: where `keep`, bool (runs,), is true, or those of these numbers."""
        return Runs(self.start[keep], self.stop[keep], self.pitch)

    def overlaps(self, start: Integers, stop: Integers) -> tuple[Integers, Integers]:
        """Pairs (stretch, run) that overlap, for stretches of positions from `start` to `stop`, each (stretches,)."""
        return stretches(np.searchsorted(self.stop, start, "right"), np.searchsorted(self.start, stop, "left"))

    def components(self, connectivity: int, labels: Labels | None = None) -> Labels:
        """Number the connected objects by their first pixel: int32 (runs,).

        Args:
            connectivity: 4 joins pixels that share an edge, 8 also those that share a corner.
            labels: runs of different labels, int32 (runs,), are not joined. Without it, runs of one row do not touch.
        """
        step = self.pitch + np.array([[0], [0]] if connectivity == 4 else [[-1], [1]])
        found = np.empty(len(self), np.int32)
        seams, count = [np.empty((2, 0), np.int64)], 0
        for first, end in self.bands():
            upper, lower = self.overlaps(*(np.stack([self.start[first:end], self.stop[first:end]]) + step))
            upper += first
            if labels is not None:
                same = labels[upper] == labels[lower]
                upper, lower = upper[same], lower[same]
            inside = lower < end
            found[first:end] = connected(end - first, upper[inside] - first, lower[inside] - first)
            found[first:end] += count
            seams.append(np.stack([upper[~inside], lower[~inside]]))
            count = int(found[first:end].max()) + 1
        same = connected(count, *found[np.concatenate(seams, axis=1)])
        for first, end in self.bands():
            found[first:end] = same[found[first:end]]
        return found

    def bands(self) -> Iterator[tuple[int, int]]:
        """First run and end of bands of whole rows, of about `AT_ONCE` runs."""
        first = 0
        while first < len(self):
            last = self.start[min(first + AT_ONCE, len(self)) - 1]
            end = int(np.searchsorted(self.start, (last // self.pitch + 1) * self.pitch))
            yield first, end
            first = end


def stretches(first: NDArray[np.integer], end: NDArray[np.integer]) -> tuple[Integers, Integers]:
    """All pairs (i, j) with first[i] <= j < end[i], in order."""
    counts = np.maximum(end - first, 0)
    one = np.repeat(np.arange(len(first)), counts)
    return one, np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts) + first[one]


def connected(count: int, one: NDArray[np.integer], other: NDArray[np.integer]) -> Labels:
    """Components of a graph of `count` nodes and edges one - other, numbered by their first node: int32 (count,)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    found: Labels = connected_components(graph, directed=False)[1].astype(np.int32, copy=False)
    return found


def runs_of(marked: NDArray[np.bool_], first_row: int = 0) -> Runs:
    """The runs of marked pixels, bool (rows, width), whose first row is `first_row` of the raster."""
    rows, width = marked.shape
    padded = np.zeros((rows, width + 1), bool)
    padded[:, :-1] = marked
    flat = padded.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        ends = np.concatenate([[0], ends])
    ends += first_row * (width + 1)
    return Runs(ends[::2].copy(), ends[1::2].copy(), width + 1)


class Gathered:
    """Runs of strips, in order, put together.

    They go into one growing block each of starts and stops, so that there are never two of each run.

    Args:
        pitch: of the runs.
    """

    def __init__(self, pitch: int) -> None:
        self._start, self._stop, self._pitch = array("q"), array("q"), pitch

    def add(self, runs: Runs) -> None:
        """Put runs behind those that are there."""
        self._start.frombytes(runs.start.tobytes())
        self._stop.frombytes(runs.stop.tobytes())

    def __len__(self) -> int:
        return len(self._start)

    @property
    def runs(self) -> Runs:
        """All of them, without a copy; none can be added from now on."""
        return Runs(np.frombuffer(self._start, np.int64), np.frombuffer(self._stop, np.int64), self._pitch)


def read_runs(
    mask: Mask, connectivity: int, smallest: float = 0, watch: Callable[[int, float], None] = lambda _, __: None
) -> tuple[Runs, Runs]:
    """The runs of a mask's objects, and those of their pixels that neighbour no-data.

    Args:
        mask: is read strip by strip.
        connectivity: 4 or 8.
        smallest: objects of fewer pixels are dropped as soon as they are complete; some may remain.
        watch: is told how many runs there are so far, and in which share of the mask; what it raises ends the reading.

    Returns:
        Runs of the objects, and of the pixels beside no-data.
    """
    found, beside = Gathered(mask.width + 1), Gathered(mask.width + 1)
    for start, stop in mask.strips():
        above, end = max(start - 1, 0), min(stop + 1, mask.height)
        values = mask.read(above, end)
        inner = slice(start - above, stop - above)
        objects = values[inner] == OBJECT
        runs = runs_of(objects, start)
        if smallest > 1 and len(runs):
            runs = runs.take(~_small_inside(runs, connectivity, smallest, (start, stop), mask.height))
        found.add(runs)
        missing = values == NODATA
        if missing.any():
            beside.add(runs_of(_dilated(missing, connectivity)[inner] & objects, start))
        watch(len(found) + len(beside), stop / mask.height)
    return found.runs, beside.runs


def _small_inside(
    runs: Runs, connectivity: int, smallest: float, strip: tuple[int, int], height: int
) -> NDArray[np.bool_]:
    """Runs of objects that are too small and do not reach another strip."""
    label = runs.components(connectivity)
    row = runs.start // runs.pitch
    seam = ((row == strip[0]) & (strip[0] > 0)) | ((row == strip[1] - 1) & (strip[1] < height))
    size = np.bincount(label, weights=runs.pixels)
    size[label[seam]] = np.inf
    return np.asarray(size < smallest)[label]


def _dilated(marked: NDArray[np.bool_], connectivity: int) -> NDArray[np.bool_]:
    """Pixels that are marked or neighbour a marked one."""
    result = marked.copy()
    result[1:] |= marked[:-1]
    result[:-1] |= marked[1:]
    across = result if connectivity == 8 else marked
    grown = result.copy()
    grown[:, 1:] |= across[:, :-1]
    grown[:, :-1] |= across[:, 1:]
    return grown


def without_small(runs: Runs, connectivity: int, smallest: float) -> tuple[Runs, Labels]:
    """Drop the objects of fewer than `smallest` pixels.

    Returns:
        Runs of the others, and the object of each, numbered by their first pixels, int32 (runs,).
    """
    labels = runs.components(connectivity)
    if smallest <= 1 or not len(runs):
        return runs, labels
    return kept(runs, labels, np.bincount(labels, weights=runs.pixels) >= smallest)


def kept(runs: Runs, labels: Labels, large: NDArray[np.bool_]) -> tuple[Runs, Labels]:
    """Only some objects, with new numbers in the old order.

    Args:
        runs: of all objects.
        labels: the object of each run, int32 (runs,).
        large: which objects stay, bool (objects,).
    """
    if large.all():
        return runs, labels
    keep = large[labels]
    return runs.take(keep), (np.cumsum(large, dtype=np.int32) - 1)[labels[keep]]


def fill_holes(runs: Runs, height: int, connectivity: int, smallest: float) -> Runs:
    """Fill the holes of fewer than `smallest` pixels.

    A hole is background that objects enclose: its pixels neighbour each other across corners where those of objects
    do not, and the other way around. What lies in a filled hole becomes part of the object around it.

    Args:
        runs: of the objects.
        height: the raster's rows.
        connectivity: of the objects.
        smallest: size in pixels from which a hole stays.
    """
    if not len(runs):
        return runs
    gaps, after = _gaps(runs, height)
    label = gaps.components(12 - connectivity)
    size = np.bincount(label, weights=gaps.pixels)
    filled = after[(size[label] < smallest) & (label != label[0])]
    start, stop = np.ones(len(runs), bool), np.ones(len(runs), bool)
    stop[filled], start[filled + 1] = False, False
    return Runs(runs.start[start], runs.stop[stop], runs.pitch)


def _gaps(runs: Runs, height: int) -> tuple[Runs, Integers]:
    """The background in a raster that is one pixel wider on all sides, and the run before each gap (-1 at a border).

    The first gap belongs to the outside, which the margin connects.
    """
    pitch = runs.pitch + 2
    row, column = np.divmod(runs.start, runs.pitch)
    start = (row + 1) * pitch + column + 1
    stop = start + runs.pixels
    borders = np.arange(height + 3) * pitch
    before = np.searchsorted(start, borders)
    begin, end = np.insert(stop, before[:-1], borders[:-1]), np.insert(start, before[1:], borders[1:] - 1)
    origin = np.insert(np.arange(len(runs)), before[:-1], -1)
    real = begin < end
    return Runs(begin[real], end[real], pitch), origin[real]


def touches_edge(runs: Runs, labels: Labels, beside: Runs, height: int) -> NDArray[np.bool_]:
    """Which polygons reach the raster's border or no-data: bool (polygons,).

    Args:
        runs: the pixels of the polygons.
        labels: the polygon of each run, int32 (runs,).
        beside: runs of pixels that neighbour no-data.
        height: the raster's rows.
    """
    result = np.zeros(labels.max(initial=-1) + 1, bool)
    for first, end in runs.bands():
        here = slice(first, end)
        row, column = np.divmod(runs.start[here], runs.pitch)
        at_border = (row == 0) | (row == height - 1) | (column == 0) | (runs.stop[here] % runs.pitch == runs.pitch - 1)
        result[labels[here][at_border]] = True
    result[labels[runs.overlaps(beside.start, beside.stop)[1]]] = True
    return result
