"""The graph of a mask's middle lines has the mask's topology and does not depend on how it was cut."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from prngeo.tiling.grid import Window
from prngeo.vectorize.skeleton import skeleton_graph
from prngeo.vectorize.trace import LineGraph

EIGHT = np.ones((3, 3), int)


def graph_of(mask: Any, **options: int) -> LineGraph:
    values = np.asarray(mask).astype(bool)

    def read(window: Window) -> NDArray[np.bool_]:
        assert window.intersect(Window(0, 0, *values.shape)) == window, "only windows inside the raster are read"
        return values[window.row : window.row_end, window.col : window.col_end]

    return skeleton_graph(read, *values.shape, **options)


def drawn(*rows: str) -> NDArray[np.bool_]:
    """A drawing away from the border, so that lines end where they are drawn."""
    return np.pad(np.array([[char == "#" for char in row] for row in rows]), 3)


def shape(graph: LineGraph) -> tuple[int, list[tuple[int, int]]]:
    return len(graph.nodes), [(int(a), int(b)) for a, b in graph.ends]


def multigraph(graph: LineGraph) -> nx.MultiGraph:
    out = nx.MultiGraph()
    out.add_nodes_from(range(len(graph.nodes)))
    out.add_edges_from(graph.ends.tolist())
    return out


def equal(one: LineGraph, other: LineGraph) -> bool:
    return (
        np.array_equal(one.nodes, other.nodes)
        and np.array_equal(one.ends, other.ends)
        and len(one.lines) == len(other.lines)
        and all(np.array_equal(a, b) for a, b in zip(one.lines, other.lines, strict=True))
    )


def blobs(seed: int, shape: tuple[int, int], sigma: float, share: float) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return np.asarray(noise > np.quantile(noise, 1 - share))


@pytest.mark.parametrize(
    ("rows", "nodes", "ends"),
    [
        (["####"], 2, [(0, 1)]),
        (["##"], 2, [(0, 1)]),
        (["#"], 0, []),
        (["#..", ".#.", "..#"], 2, [(0, 1)]),
        (["..#..", "..#..", "#####", "..#..", "..#.."], 5, [(0, 2), (1, 2), (2, 3), (2, 4)]),
        (["#####", "..#..", "..#.."], 4, [(0, 1), (1, 2), (1, 3)]),
        (["#...#", ".#.#.", "..#..", "..#.."], 4, [(0, 2), (1, 2), (2, 3)]),
        ([".###.", "#...#", "#...#", ".###."], 1, [(0, 0)]),
        ([".###...", "#...#..", "#...###", ".###..."], 2, [(0, 0), (0, 1)]),
        ([".###.###.", "#...#...#", ".###.###."], 1, [(0, 0), (0, 0)]),
        ([".###.", "#...#", "#####", "#...#", ".###."], 2, [(0, 1), (0, 1), (0, 1)]),
        (["###..###"], 4, [(0, 1), (2, 3)]),
    ],
)
def test_drawings_give_their_graph(rows: list[str], nodes: int, ends: list[tuple[int, int]]) -> None:
    mask = drawn(*rows)
    assert np.array_equal(skeletonize(mask), mask), "the drawing is thin already"
    assert shape(graph_of(mask)) == (nodes, ends)


def test_lines_follow_their_pixels() -> None:
    graph = graph_of(drawn("#....", ".#.##", "..#.."))
    np.testing.assert_array_equal(graph.nodes, [(3.5, 3.5), (7.5, 4.5)])
    np.testing.assert_array_equal(graph.lines[0], [(3.5, 3.5), (4.5, 4.5), (5.5, 5.5), (6.5, 4.5), (7.5, 4.5)])


def test_a_mask_without_objects_gives_an_empty_graph() -> None:
    graph = graph_of(np.zeros((7, 9)))
    assert graph.nodes.shape == (0, 2)
    assert graph.ends.shape == (0, 2)
    assert graph.lines == []


def test_a_straight_road_has_one_line_in_its_middle_from_border_to_border() -> None:
    mask = np.zeros((60, 200))
    mask[20:31] = 1
    graph = graph_of(mask, block=64, halo=64)
    np.testing.assert_array_equal(graph.nodes, [(0.5, 25.5), (199.5, 25.5)])
    np.testing.assert_array_equal(np.unique(graph.lines[0][:, 1]), [25.5])


def test_a_wide_object_is_a_ring_that_its_roads_join() -> None:
    mask = np.zeros((300, 400))
    mask[50:250, 100:300] = 1
    mask[145:154, :] = 1
    graph = graph_of(mask, halo=64)
    assert shape(graph) == (4, [(0, 1), (1, 2), (1, 2), (2, 3)])
    assert all(np.abs(line[:, 1] - 149.5).max() > 80 for line in graph.lines[1:3])


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    sigma=st.floats(0.3, 6),
    share=st.floats(0.05, 0.95),
    block=st.integers(13, 160),
)
@settings(max_examples=50, deadline=None)
def test_blocks_do_not_matter(seed: int, size: tuple[int, int], sigma: float, share: float, block: int) -> None:
    mask = blobs(seed, size, sigma, share)
    whole, cut = graph_of(mask, block=200, halo=40), graph_of(mask, block=block, halo=40)
    assert equal(whole, cut)


@given(seed=st.integers(0, 2**32 - 1), sigma=st.floats(1, 5), share=st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_graph_is_that_of_the_skeleton(seed: int, sigma: float, share: float) -> None:
    mask = np.pad(blobs(seed, (60, 80), sigma, share), 5)
    skeleton = skeletonize(mask)
    graph = graph_of(mask, halo=200)

    pixels = {tuple(point) for point in np.argwhere(skeleton)}
    for line, (start, end) in zip(graph.lines, graph.ends, strict=True):
        np.testing.assert_array_equal(line[[0, -1]], graph.nodes[[start, end]])
        steps = np.abs(np.diff(line, axis=0)).max(axis=1)
        assert (steps > 0).all()
        assert (steps[2:-2] == 1).all()
        assert {(int(y), int(x)) for x, y in line} <= pixels
    loops = graph.ends[:, 0] == graph.ends[:, 1]
    inner = [p for line, loop in zip(graph.lines, loops, strict=True) if not loop for p in map(tuple, line[1:-1])]
    assert len(set(inner)) == len(inner), "no two lines share a pixel inside them"
    assert len(graph.nodes) == len({tuple(node) for node in graph.nodes.tolist()})

    label, count = ndimage.label(skeleton, EIGHT)
    sizes = ndimage.sum_labels(skeleton, label, np.arange(1, count + 1))
    found = {label[int(y), int(x)] for x, y in graph.nodes}
    assert set(np.flatnonzero(sizes > 4) + 1) <= found, "nothing larger than a square of four is lost"
    network = multigraph(graph)
    assert nx.number_connected_components(network) == len(found), "what is connected stays connected"
    holes = ndimage.label(~skeleton)[1] - 1
    cycles = network.number_of_edges() - network.number_of_nodes() + len(found)
    assert 0 <= holes - cycles <= 0.05 * holes + 3, "only holes as small as a node vanish"


def test_nodes_and_lines_are_ordered() -> None:
    graph = graph_of(blobs(5, (300, 300), 3, 0.5), halo=200)
    assert (graph.ends[:, 0] <= graph.ends[:, 1]).all()
    assert np.array_equal(np.lexsort(graph.ends.T[::-1]), np.arange(len(graph.ends)))
