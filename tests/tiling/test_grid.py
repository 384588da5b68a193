import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo.tiling.grid import Grid, Window


@st.composite
def grids(draw):
    size = draw(st.integers(1, 12))
    overlap = draw(st.sampled_from([0, size // 2]) | st.integers(0, size // 2))
    return Grid(draw(st.integers(1, 40)), draw(st.integers(1, 40)), size, overlap)


windows = st.builds(Window, st.integers(-20, 45), st.integers(-20, 45), st.integers(0, 30), st.integers(0, 30))


def pixels(window):
    return {(r, c) for r in range(window.row, window.row_end) for c in range(window.col, window.col_end)}


def cover(grid):
    """How many windows cover each pixel of the raster."""
    count = np.zeros((grid.height, grid.width), int)
    for index in grid.indices():
        count[grid.window(index).intersect(grid.extent).within(grid.extent)] += 1
    return count


@given(grids())
def test_every_pixel_is_covered_by_at_most_two_windows_an_axis(grid):
    count = cover(grid)
    assert count.min() >= 1
    rows = sum(np.isin(np.arange(grid.height), np.arange(i * grid.stride, i * grid.stride + grid.size))
               for i in range(grid.rows))  # fmt: skip
    assert rows.max() <= 2
    assert count.max() <= 4


@given(grids())
def test_no_window_is_shifted_inward_and_none_is_superfluous(grid):
    indices = list(grid.indices())
    assert len(indices) == len(grid) == grid.rows * grid.cols
    for i, j in indices:
        assert grid.window((i, j)) == Window(i * grid.stride, j * grid.stride, grid.size, grid.size)
    if grid.rows > 1:
        without_last = (grid.rows - 2) * grid.stride + grid.size
        assert without_last < grid.height


@given(grids(), windows)
def test_touching_equals_brute_force(grid, window):
    inside = pixels(window) & pixels(grid.extent)
    expected = [index for index in grid.indices() if pixels(grid.window(index)) & inside]
    assert grid.touching(window) == expected


def test_touching_the_whole_is_every_window():
    grid = Grid(1, 1, 512, 256)
    assert grid.touching(Window(-5, -5, 100, 100)) == [(0, 0)]
    assert grid.touching(Window(1, 0, 5, 5)) == []


@given(windows, windows)
def test_intersection_equals_brute_force(a, b):
    common = a.intersect(b)
    assert pixels(common) == pixels(a) & pixels(b)
    assert common.is_empty == (not pixels(common))


@given(windows, windows)
def test_within_cuts_out_the_same_pixels(a, b):
    common = a.intersect(b)
    if common.is_empty:
        return
    rows, cols = np.mgrid[b.row : b.row_end, b.col : b.col_end]
    place = common.within(b)
    assert rows[place].shape == common.shape
    assert (rows[place][0, 0], cols[place][0, 0]) == (common.row, common.col)


def test_expand():
    assert Window(2, 3, 4, 5).expand(2) == Window(0, 1, 8, 9)


@pytest.mark.parametrize("sizes", [(0, 5, 3, 0), (5, 0, 3, 0), (5, 5, 0, 0)])
def test_empty_grids_are_refused(sizes):
    with pytest.raises(ValueError, match="positive"):
        Grid(*sizes)


@pytest.mark.parametrize(("size", "overlap"), [(8, 5), (8, -1), (1, 1), (7, 4)])
def test_overlap_beyond_half_is_refused(size, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Grid(10, 10, size, overlap)
