"""The lines along the middle of a mask's objects: thinned and traced by blocks, then joined into a graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prngeo.tiling.grid import Grid, Window
from prngeo.vectorize.trace import RING, LineGraph, Part, Points, assembled, traced

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def skeleton_graph(
    read: Callable[[Window], Bools],
    height: int,
    width: int,
    *,
    block: int = 2048,
    halo: int = 256,
    measure: Callable[[Floats, Window], Floats] | None = None,
    watch: Callable[[list[Points], float], None] = lambda lines, share: None,
) -> LineGraph:
    """Thin a mask to lines one pixel wide and trace them into a graph.

    The mask is read, thinned and traced by blocks with a halo and never held whole; memory beyond a block is that of
    the lines. Thinning is that of Zhang and Suen (1984) as in scikit-image. It peels about one pixel from
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
        measure: gives what else is wanted of pixels of lines, float64 (n, values), from their centers (n, 2) and the
            block that they lie in.
        watch: is told of each block's lines, and of the share of the blocks that is done; what it raises comes out.

    Returns:
        The graph in pixel coordinates (column, row), where the center of the first pixel is (0.5, 0.5); what was
        measured follows in the lines' further columns. Nodes are in the order of their first pixels (row, then
        column), lines in that of their ends; a line starts at the earlier node.
    """
    grid = Grid(height, width, block)
    parts: list[Part] = []
    for index in grid.indices():
        core = grid.window(index).intersect(grid.extent)
        rows, cols = np.nonzero(_thinned(read, core, grid.extent, halo))
        parts.append(traced(rows + core.row - RING, cols + core.col - RING, core, grid.extent, measure))
        watch(parts[-1].lines, len(parts) / (grid.rows * grid.cols))
    return assembled(parts, width)


def _thinned(read: Callable[[Window], Bools], core: Window, extent: Window, halo: int) -> Bools:
    """The skeleton inside the core and `RING` pixels around it, bool."""
    from skimage.morphology import skeletonize

    wide = core.expand(halo)
    inside = wide.intersect(extent)
    mask = read(inside)
    if not mask.any():
        return np.zeros(core.expand(RING).shape, bool)
    around = (
        (inside.row - wide.row, wide.row_end - inside.row_end),
        (inside.col - wide.col, wide.col_end - inside.col_end),
    )
    thin = skeletonize(_hollowed(np.pad(mask, around, mode="edge"), halo // 4))
    return np.asarray(thin[core.expand(RING).within(wide)])


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
