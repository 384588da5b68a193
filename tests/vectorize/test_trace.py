"""Lines that blocks have cut are whole again and carry what was measured of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from prngeo.tiling.grid import Window
from prngeo.vectorize.skeleton import skeleton_graph
from prngeo.vectorize.trace import LineGraph


def graph_of(mask: NDArray[np.bool_], block: int) -> LineGraph:
    """Its lines carry the number of the pixel, counted along the rows, and the block's first row and column."""

    def measure(points: NDArray[np.float64], core: Window) -> NDArray[np.float64]:
        col, row = np.floor(points).T
        assert ((row >= core.row) & (row < core.row_end) & (col >= core.col) & (col < core.col_end)).all()
        return np.stack([row * mask.shape[1] + col, np.full(len(row), core.row + 1000 * core.col)], axis=1)

    return skeleton_graph(
        lambda window: mask[window.within(Window(0, 0, *mask.shape))],
        *mask.shape,
        block=block,
        halo=40,
        measure=measure,
    )


@pytest.mark.parametrize("block", [13, 20, 31, 200])
def test_what_is_measured_stays_with_its_pixel(block: int) -> None:
    mask = np.random.default_rng(4).random((90, 110)) > 0.6
    graph = graph_of(mask, block)
    points = np.concatenate(graph.lines)
    col, row = np.floor(points[:, :2]).T
    np.testing.assert_array_equal(points[:, 2], row * mask.shape[1] + col)
    np.testing.assert_array_equal(points[:, 3], row // block * block + 1000 * (col // block * block))


@pytest.mark.parametrize("block", [13, 20, 31, 200])
def test_a_ring_over_many_blocks_is_one_line_from_its_first_pixel(block: int) -> None:
    mask = np.zeros((120, 120), bool)
    rows, cols = np.indices(mask.shape)
    mask[np.abs(np.hypot(rows - 60, cols - 60) - 45) < 1.5] = True
    graph = graph_of(mask, block)
    (ring,) = graph.lines
    assert graph.ends.tolist() == [[0, 0]]
    assert ring[0].tolist() == ring[-1].tolist()
    assert ring[0, 2] == ring[:, 2].min()
    assert len(np.unique(ring[:, 2])) == len(ring) - 1
    assert ring[1, 2] < ring[-2, 2]


def test_a_line_along_the_border_of_blocks_is_one() -> None:
    mask = np.zeros((60, 150), bool)
    for col in range(10, 140):
        mask[19 + col // 3 % 2, col] = True
    (line,) = graph_of(mask, 20).lines
    assert len(line) == 130
