"""The lines along the middle of a mask's objects: thinned by blocks, traced once into a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.tiling.grid import Grid, Window

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = NDArray[np.integer]
"""Of pixels and pairs, in int32 where there are most: they set the peak of memory."""

#: East, south-west, south, south-east: each pair of neighbours is met once.
STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class LineGraph:
    """A planar network of lines; parallel lines and loops are allowed.

    Attributes:
        nodes: x and y of the nodes, float64 (n, 2).
        ends: nodes at the start and the end of each line, int64 (m, 2).
        lines: polylines, float64 (k, 2) each with k >= 2; line i runs from nodes[ends[i, 0]] to
            nodes[ends[i, 1]] exactly.
    """

    nodes: Floats
    ends: Integers
    lines: tuple[Floats, ...]


def skeleton_graph(
    read: Callable[[Window], Bools], height: int, width: int, *, block: int = 2048, halo: int = 256
) -> LineGraph:
    """Thin a mask to lines one pixel wide and trace them into a graph.

    The mask is read by blocks with a halo and never held whole; memory beyond a block grows with the length
    of the lines. Thinning is that of Zhang and Suen (1984) as in scikit-image. It peels about one pixel from
    each side in a step, and a step looks two pixels far, so pixels farther away than the width of the objects
    do not matter: objects with a square of more than `halo` // 2 pixels inside are hollowed before, so that
    their line runs around the hole, and the result is the same for any block size. Beyond the raster's
    border the mask is continued by its border pixels, so that lines reach the border.

    Pixels are joined with their 8 neighbours, not across a corner where a pixel beside it joins them too.
    Pixels with three or more neighbours (or in a square of four) that touch are one node, at the pixel
    nearest to their centroid; a pixel with one neighbour is a node; a closed line gets a node at its first
    pixel. Single pixels are dropped.

    Args:
        read: gives the mask, bool (height, width), in a window that lies inside the raster.
        height: rows of the raster.
        width: columns of the raster.
        block: rows and columns thinned at once, without the halo.
        halo: pixels read around a block; lines are centered in objects up to half as wide.

    Returns:
        The graph in pixel coordinates (column, row), where the center of the first pixel is (0.5, 0.5).
        Nodes are in the order of their first pixels (row, then column), lines in that of their ends; a line
        starts at the earlier node.
    """
    rows, cols = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    grid = Grid(height, width, block)
    for index in grid.indices():
        core = grid.window(index).intersect(grid.extent)
        row, col = np.nonzero(_thinned(read, core, grid.extent, halo))
        rows.append(row + core.row)
        cols.append(col + core.col)
    return _trace(np.concatenate(rows), np.concatenate(cols), width)


def _thinned(read: Callable[[Window], Bools], core: Window, extent: Window, halo: int) -> Bools:
    """The skeleton inside the core, bool of its shape."""
    from skimage.morphology import skeletonize

    wide = core.expand(halo)
    inside = wide.intersect(extent)
    mask = read(inside)
    if not mask.any():
        return np.zeros(core.shape, bool)
    around = (
        (inside.row - wide.row, wide.row_end - inside.row_end),
        (inside.col - wide.col, wide.col_end - inside.col_end),
    )
    thin = skeletonize(_hollowed(np.pad(mask, around, mode="edge"), halo // 4))
    return np.asarray(thin[core.within(wide)])


def _hollowed(mask: Bools, radius: int) -> Bools:
    """The mask without the pixels farther than `radius` from the background (chessboard distance)."""
    from scipy.ndimage import minimum_filter

    # A square of 2 * radius + 1 pixels holds an aligned one of half its side: most masks hold none.
    side = radius + 1
    height, width = (length // side * side for length in mask.shape)
    aligned = mask[:height, :width].reshape(height // side, side, width // side, side)
    if not aligned.all(axis=(1, 3)).any():
        return mask
    return np.asarray(mask & ~minimum_filter(mask, size=2 * radius + 1, mode="constant", cval=1))


def _trace(rows: Integers, cols: Integers, width: int) -> LineGraph:
    """The graph of skeleton pixels, in any order."""
    key = np.sort(rows * width + cols)
    pixels = np.stack([key % width, key // width], axis=1)
    pairs, square = _neighbors(key, pixels[:, 0], width)
    degree = np.bincount(pairs.ravel(), minlength=len(key))
    junction: Bools = (degree >= 3) | square
    inner = junction[pairs].all(axis=1)
    label = _components(pairs[inner], len(key))
    # A pair of pixels inside a junction is no line; all others are.
    pairs = pairs[~inner]
    node = junction | (degree == 1)
    node[_ring_starts(pairs, node)] = True
    chain, starts = _chains(pairs, node, label)
    middle = _middles(pixels, np.flatnonzero(node), label)
    ends = label[np.stack([chain[starts[:-1]], chain[starts[1:] - 1]], axis=1)]
    used, ends = np.unique(ends, return_inverse=True)
    lines = _polylines(pixels + 0.5, chain, starts, middle, label)
    return LineGraph(pixels[middle[used]] + 0.5, ends.reshape(-1, 2).astype(np.int64), lines)


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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, label = connected_components(edges, directed=False)
    first = np.empty(number, np.int64)
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
    first = first[_forward(source, target, label, first, last[first])]
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


def _forward(source: Numbers, target: Numbers, label: Integers, first: Numbers, last: Numbers) -> Bools:
    """Which of a line's two directions to keep: from the earlier node, else by the pixels next to it."""
    one = np.stack([label[source[first]], target[first], source[first]])
    other = np.stack([label[target[last]], source[last], target[last]])
    differs = (one != other).argmax(axis=0)
    each = np.arange(len(first))
    forward: Bools = one[differs, each] < other[differs, each]
    return forward


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


def _polylines(
    points: Floats, chain: Integers, starts: Integers, middle: Integers, label: Integers
) -> tuple[Floats, ...]:
    """The lines from the middle of a node through the pixels between to the middle of the other."""
    chain = chain.copy()
    first, last = starts[:-1], starts[1:] - 1
    begin, end = middle[label[chain[first]]], middle[label[chain[last]]]
    # Lines that leave a node by the same pixel shall not share it. A loop around one pixel needs its own.
    tiny = (begin == end) & (last - first == 2)
    chain[first[~tiny]], chain[last[~tiny]] = begin[~tiny], end[~tiny]
    places = np.stack([first[tiny], starts[1:][tiny]], axis=1).ravel()
    chain = np.insert(chain, places, np.repeat(begin[tiny], 2))
    starts = starts + 2 * np.concatenate([[0], np.cumsum(tiny)])
    keep = np.append(True, chain[1:] != chain[:-1])
    keep[starts[:-1]] = True
    starts = np.concatenate([[0], np.cumsum(keep)])[starts]
    return tuple(np.split(points[chain[keep]], starts[1:-1])) if len(begin) else ()
