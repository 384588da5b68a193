"""From the pixels of thinned lines to a graph: traced block by block, and joined where blocks meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.tiling.grid import Window
from prngeo.vectorize.runs import connected

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Points = NDArray[np.float32]
Integers = NDArray[np.int64]
Numbers = NDArray[np.integer]

RING = 2
"""Pixels around a block that tell which of those beside it are nodes."""
#: East, south-west, south, south-east: each pair of neighbours is met once.
STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class LineGraph:
    """A planar network of lines; parallel lines and loops are allowed.

    Attributes:
        nodes: x and y of the nodes, float64 (n, 2).
        ends: nodes at the start and the end of each line, int64 (m, 2).
        lines: polylines, float32 or float64 (k, 2 or more) each with k >= 2; line i runs from nodes[ends[i, 0]] to
            nodes[ends[i, 1]] exactly: centers of pixels up to 2^23 are exact. Further columns are what was measured of
            its pixels.
    """

    nodes: Floats
    ends: Integers
    lines: list[Points] | list[Floats]


@dataclass(frozen=True)
class Part:
    """The lines of a block; pixels are numbered along the raster's rows.

    Attributes:
        lines: from node to node, or to the `open` pixel before the block's border; pixels and what was measured of
            them as in `LineGraph`.
        nodes: all pixels in which a line ends, int64 (n,), ascending, and
        known: their rows as in `lines`, float64 (n, 2 or more).
        junction: pixels of nodes where lines meet, int64, ascending.
        touching: pairs of those that touch, int64 (n, 2), also across the border.
        open: pixels that end a line only because the block ends there, int64.
        across: pairs of pixels that a line joins across the border, int64 (n, 2), each in one of the two blocks.
    """

    lines: list[Points]
    nodes: Integers
    known: Points
    junction: Integers
    touching: Integers
    open: Integers
    across: Integers


def traced(
    rows: Integers, cols: Integers, core: Window, extent: Window, measure: Callable[[Floats, Window], Floats] | None
) -> Part:
    """The lines of a block.

    Args:
        rows: rows of the thinned pixels in the block and `RING` pixels around it, and
        cols: their columns; those outside of the raster are not counted.
        core: the block.
        extent: the raster.
        measure: see `skeleton_graph`.
    """
    inside = (rows >= 0) & (rows < extent.height) & (cols >= 0) & (cols < extent.width)
    rows, cols = rows[inside], cols[inside]
    key = rows * extent.width + cols
    own = (rows >= core.row) & (rows < core.row_end) & (cols >= core.col) & (cols < core.col_end)
    pairs, square = _neighbors(key, cols, extent.width)
    degree = np.bincount(pairs.ravel(), minlength=len(key))
    junction: Bools = (degree >= 3) | square
    touch = junction[pairs].all(axis=1)
    # The first pixel's block has a pair. One of pixels inside a node is no line; all others are.
    first, other = own[pairs].T
    across = pairs[(first != other) & ~touch]
    open_ = np.zeros(len(key), bool)
    open_[across] = True
    fixed = junction | (degree == 1)
    node = (fixed | open_) & own
    inner = pairs[first & other & ~touch]
    node[_ring_starts(inner, node)] = True
    chain, starts = _chains(inner, node, np.arange(len(key)))
    used = np.flatnonzero(own & (degree > 0))
    centers = _centers(cols[used], rows[used])
    measured = np.empty((len(used), 0)) if measure is None or not len(used) else measure(centers, core)
    known = np.column_stack([centers, measured]).astype(np.float32)
    lines = known[np.searchsorted(used, chain)]
    return Part(
        [line.copy() for line in np.split(lines, starts[1:-1])] if len(lines) else [],
        key[node],
        known[node[used]],
        key[junction & own],
        key[pairs[touch & first]],
        key[open_ & own & ~fixed],
        key[across[own[across[:, 0]]]],
    )


def assembled(parts: list[Part], width: int) -> LineGraph:
    """The graph of the lines of all blocks of a raster with this many columns; takes the lines out of the parts."""
    key = np.concatenate([part.nodes for part in parts])
    order = np.argsort(key)
    key = key[order]
    columns = max(part.known.shape[1] for part in parts)
    none = np.empty((0, columns), np.float32)
    known = np.concatenate([none, *(part.known for part in parts if len(part.nodes))])[order]
    lines = []
    for part in parts:
        lines += part.lines
        part.lines.clear()
    lines += [known[np.searchsorted(key, pair)] for part in parts for pair in part.across]
    lines = _joined(lines, np.concatenate([part.open for part in parts]), width)
    if not lines:
        return LineGraph(np.empty((0, 2)), np.empty((0, 2), np.int64), [])

    junction = np.sort(np.concatenate([part.junction for part in parts]))
    touching = np.searchsorted(junction, np.concatenate([part.touching for part in parts]))
    label = _components(touching, len(junction))
    pixels = np.stack([junction % width, junction // width], axis=1)
    middle = _middles(pixels, np.arange(len(junction)), label)

    first, second, before, last = (_keys(np.array([line[at, :2] for line in lines]), width) for at in (0, 1, -2, -1))
    begin, end = (_looked_up(at, junction, junction[label]) for at in (first, last))
    forward = _earlier((begin, second, first), (end, before, last))
    lines = [line if ahead else line[::-1] for line, ahead in zip(lines, forward, strict=True)]
    begin, end = np.where(forward, begin, end), np.where(forward, end, begin)
    order = np.lexsort((np.where(forward, second, before), end, begin))
    lines, ends = [lines[index] for index in order], np.stack([begin, end], axis=1)[order]
    used, ends = np.unique(ends, return_inverse=True)
    ends = ends.reshape(-1, 2).astype(np.int64)
    at = _looked_up(used, junction, junction[middle])
    nodes = _centers(at % width, at // width)
    places = np.searchsorted(key, at)
    # The node of a closed line that was cut is no part's: the line starts there already.
    for number in np.flatnonzero(np.isin(at, key)[ends[:, 0]]).tolist():
        start, stop = places[ends[number]]
        lines[number] = _between(lines[number], known[start], known[stop])
    return LineGraph(nodes, ends, lines)


def _joined(lines: list[Points], cuts: Integers, width: int) -> list[Points]:
    """Whole lines from those that end in pixels where blocks have cut them."""
    ends = np.stack([_keys(np.array([line[at, :2] for line in lines]).reshape(-1, 2), width) for at in (0, -1)], axis=1)
    cut = np.isin(ends, cuts)
    at: dict[int, list[tuple[int, int]]] = {}
    for index, side in np.argwhere(cut).tolist():
        at.setdefault(int(ends[index, side]), []).append((index, side))
    number = cut.sum(axis=1)
    whole, done = [lines[index] for index in np.flatnonzero(number == 0)], set()
    # What is left after those with a free end are closed lines.
    for first in [*np.flatnonzero(number == 1).tolist(), *np.flatnonzero(number == 2).tolist()]:
        index, side = first, int(cut[first, 0] and not cut[first, 1])
        pieces: list[Points] = []
        while index not in done:
            done.add(index)
            piece = lines[index][:: 1 if side == 0 else -1]
            pieces.append(piece[1:] if pieces else piece)
            if cut[index, 1 - side]:
                index, side = next((step for step in at[int(ends[index, 1 - side])] if step[0] not in done), (first, 0))
        if pieces:
            line = np.concatenate(pieces)
            whole.append(_from_first_pixel(line, width) if number[first] == 2 else line)
    return whole


def _from_first_pixel(ring: Points, width: int) -> Points:
    """A closed line that starts at its earliest pixel."""
    start = int(_keys(ring[:-1, :2], width).argmin())
    return np.concatenate([ring[start:-1], ring[: start + 1]])


def _between(line: Points, begin: Points, end: Points) -> Points:
    """A line that runs from the middle of a node to that of the other; may change it in place."""
    if len(line) > 3 or not np.array_equal(begin[:2], end[:2]):
        # Lines that leave a node by the same pixel shall not share it.
        line[0], line[-1] = begin, end
        return line
    # A loop around one pixel needs its own.
    line = np.concatenate([begin[None], line, end[None]])
    fresh = np.append(True, (line[1:, :2] != line[:-1, :2]).any(axis=1))
    return np.asarray(line[fresh])


def _centers(cols: Integers, rows: Integers) -> Floats:
    """Centers of pixels, float64 (n, 2)."""
    return np.stack([cols, rows], axis=1).astype(float) + 0.5


def _keys(centers: Floats | Points, width: int) -> Integers:
    """Numbers of pixels, int64 (n,), from their centers (n, 2)."""
    return np.asarray(centers.astype(np.int64) @ (1, width), np.int64)


def _looked_up(key: Integers, known: Integers, values: Integers) -> Integers:
    """The value of each key that is known (ascending), the key itself of others."""
    if not len(known):
        return key
    at = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return np.where(known[at] == key, values[at], key)


def _neighbors(key: Integers, col: Integers, width: int) -> tuple[Integers, Bools]:
    """Pairs of neighbouring pixels (pairs, 2), and which pixels belong to a square of four."""
    own = np.arange(len(key), dtype=np.int32)
    to = []
    for row_step, col_step in STEPS:
        wanted = key + row_step * width + col_step
        at = np.searchsorted(key, wanted)
        inside = (at < len(key)) & (col + col_step >= 0) & (col + col_step < width)
        at[~inside] = 0
        to.append((np.where(inside & (key[at] == wanted), at, -1) if len(key) else at).astype(np.int32))
    east, south_west, south, south_east = to
    west = np.zeros(len(key), bool)
    west[east[east >= 0]] = True
    square = np.zeros(len(key), bool)
    corner = np.flatnonzero((east >= 0) & (south >= 0) & (south_east >= 0))
    square[np.concatenate([corner, east[corner], south[corner], south_east[corner]])] = True
    joined = (
        (own, east, east >= 0),
        (own, south, south >= 0),
        (own, south_west, (south_west >= 0) & ~west & (south < 0)),
        (own, south_east, (south_east >= 0) & (east < 0) & (south < 0)),
    )
    return np.concatenate([np.stack([one, other], axis=1)[where] for one, other, where in joined]), square


def _components(pairs: Integers, count: int) -> Integers:
    """For each of `count` pixels the first pixel that these pairs connect it with, int64 (count,)."""
    label = connected(count, *pairs.T)
    first = np.empty(label.max(initial=-1) + 1, np.int64)
    first[label[::-1]] = np.arange(count)[::-1]
    of: Integers = first[label]
    return of


def _ring_starts(pairs: Integers, node: Bools) -> Integers:
    """The first pixel of each closed line without a node: it has as many pairs as pixels."""
    inner = pairs[~node[pairs].any(axis=1)]
    label = _components(inner, len(node))
    sizes = np.bincount(label, minlength=len(node))
    closed = (np.bincount(label[inner[:, 0]], minlength=len(node)) == sizes) & (sizes > 0)
    starts: Integers = np.flatnonzero(closed)
    return starts


def _chains(pairs: Integers, node: Bools, label: Integers) -> tuple[Integers, Integers]:
    """The pixels of all lines in order.

    Every pair is two steps, there and back. A step into a pixel that is no node goes on with another step;
    doubling the reach of all steps at once tells for each the last step of its line and the way left to it.

    Returns:
        Pixels of the lines from node to node, one line after the other, and the first place of each line and
        the end, int64 (lines + 1,).
    """
    source, target = pairs.T.ravel(), pairs[:, ::-1].T.ravel()
    steps = np.arange(len(source), dtype=np.int32)
    back = np.roll(steps, len(pairs))
    leaving = np.bincount(source, steps, minlength=len(node)).astype(np.int32)
    # Two steps leave a pixel inside a line: one is the way back, the rest of their sum is the way on.
    last = np.where(node[target], steps, leaving[target] - back)
    left = (~node[target]).astype(np.int32)
    while not np.array_equal(further := last[last], last):
        left, last = left + left[last], further
    first = steps[node[source]]
    final = last[first]
    one = label[source[first]], target[first], source[first]
    other = label[target[final]], source[final], target[final]
    first = first[_earlier(one, other)]
    begin, end = label[source[first]], label[target[last[first]]]
    first = first[np.lexsort((target[first], end, begin))]
    starts = np.concatenate([[0], np.cumsum(left[first] + 2)])
    line = np.full(len(source), -1, np.int32)
    line[last[first]] = np.arange(len(first))
    line = line[last]
    inside = line >= 0
    chain = np.empty(starts[-1], np.int64)
    chain[starts[:-1]] = source[first]
    chain[starts[1:][line[inside]] - 1 - left[inside]] = target[inside]
    return chain, starts


def _earlier(one: tuple[Numbers, ...], other: tuple[Numbers, ...]) -> Bools:
    """Which of a line's two directions to keep: from the earlier node, else by the pixels next to it."""
    ahead, back = np.stack(one), np.stack(other)
    differs = (ahead != back).argmax(axis=0)
    each = np.arange(len(differs))
    earlier: Bools = ahead[differs, each] < back[differs, each]
    return earlier


def _middles(pixels: Integers, members: Integers, label: Integers) -> Integers:
    """By label, the pixel of a node that is nearest to the centroid of its pixels, int64 (pixels,)."""
    own, count = label[members], len(pixels)
    size = np.maximum(np.bincount(own, minlength=count), 1)
    centroid = np.stack([np.bincount(own, pixels[members, axis], count) / size for axis in (0, 1)], axis=1)
    distance = np.hypot(*(pixels[members] - centroid[own]).T)
    middle = np.arange(count)
    order = np.lexsort((-members, -distance))
    middle[own[order]] = members[order]
    return middle
