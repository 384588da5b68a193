import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prngeo.tiling.blend import RAMP_LEVELS, bilinear, blend, positions, ramp, source_window
from prngeo.tiling.grid import Grid, Window

halves = st.floats(-60, 60, width=16)


@st.composite
def grids(draw, largest=40):
    size = draw(st.integers(1, largest))
    overlap = draw(st.integers(0, size // 2))
    return Grid(draw(st.integers(1, 60)), draw(st.integers(1, 60)), size, overlap)


@st.composite
def cases(draw):
    """A grid, random pieces, and a window of it."""
    grid = draw(grids())
    row, col = draw(st.integers(0, grid.height - 1)), draw(st.integers(0, grid.width - 1))
    window = Window(row, col, draw(st.integers(1, grid.height - row)), draw(st.integers(1, grid.width - col)))
    return grid, window, draw(st.integers(0, 1000))


def random_pieces(grid, seed, indices=None):
    pieces = {}
    rng = np.random.default_rng(seed)
    for index in grid.indices():
        pieces[index] = rng.normal(0, 5, (2, grid.size, grid.size)).astype(np.float16)
    return [(grid.window(index), pieces[index]) for index in (indices or grid.indices())]


@given(st.integers(1, 600), st.data())
@example(512, None)
def test_weights_are_integers_from_one(size, data):
    overlap = data.draw(st.integers(0, size // 2)) if data else 256
    weights = ramp(size, overlap)
    assert weights.dtype == np.float32
    assert (weights >= 1).all()
    assert (weights <= RAMP_LEVELS).all()
    assert (weights == np.rint(weights)).all()
    assert (weights == weights[::-1]).all()
    assert (np.diff(weights[: (size + 1) // 2]) >= 0).all()
    if overlap:
        assert (weights[0], weights[-1]) == (1, 1)
    if 2 * overlap < size:
        assert weights[overlap] == weights.max() == min(RAMP_LEVELS, max(1, overlap))


@settings(deadline=None)
@given(grids(), halves)
@example(Grid(1, 1, 512, 256), 0.1)
@example(Grid(1100, 700, 512, 256), -7.3359375)
@example(Grid(1100, 700, 512, 128), 59.96875)
@example(Grid(700, 1100, 512, 100), 6.0e-8)
def test_constant_comes_back_bitwise_with_borders(grid, value):
    value = np.float16(value)
    piece = np.full((1, grid.size, grid.size), value)
    whole = blend(((grid.window(i), piece) for i in grid.indices()), grid.extent, 1, grid.overlap)
    assert whole.dtype == np.float32
    assert (whole == np.float32(value)).all()


@settings(deadline=None)
@given(cases())
def test_a_window_is_the_cut_out_of_the_whole_bitwise(case):
    grid, window, seed = case
    whole = blend(random_pieces(grid, seed), grid.extent, 2, grid.overlap)
    part = blend(random_pieces(grid, seed, grid.touching(window)), window, 2, grid.overlap)
    np.testing.assert_array_equal(part, whole[(slice(None), *window.within(grid.extent))])


@settings(deadline=None)
@given(cases())
def test_blend_lies_between_its_pieces(case):
    grid, window, seed = case
    pieces = random_pieces(grid, seed)
    low, high = np.full((2, *window.shape), np.inf), np.full((2, *window.shape), -np.inf)
    for place, values in pieces:
        common = place.intersect(window)
        if common.is_empty:
            continue
        at = (slice(None), *common.within(window))
        part = values[(slice(None), *common.within(place))]
        low[at], high[at] = np.minimum(low[at], part), np.maximum(high[at], part)
    result = blend(pieces, window, 2, grid.overlap)
    slack = 1e-5 * np.maximum(1, np.abs(result))
    assert (result >= low - slack).all()
    assert (result <= high + slack).all()


def test_nothing_comes_from_where_no_piece_lies():
    result = blend([(Window(0, 0, 4, 4), np.ones((1, 4, 4), np.float16))], Window(2, 2, 4, 4), 1, 2)
    assert result[0, :2, :2].all()
    assert result.sum() == 4


factors = st.floats(0.05, 8)


@st.composite
def samplings(draw):
    """Fine positions on a coarse grid and a window of them."""
    factor, length = draw(factors), draw(st.integers(1, 30))
    fine = max(1, round(length * factor))
    start = draw(st.integers(0, fine - 1))
    return factor, length, fine, start, draw(st.integers(1, fine - start))


@given(samplings(), st.integers(0, 100))
def test_bilinear_does_not_depend_on_the_chunk_bitwise(case, seed):
    factor, length, fine, start, count = case
    values = np.random.default_rng(seed).normal(0, 5, (2, length, length)).astype(np.float32)
    every = positions(0, fine, factor, length)
    whole = bilinear(values, Window(0, 0, length, length), every, every)
    rows = positions(start, count, factor, length)
    window = source_window(rows, every)
    assert window.row >= 0
    assert window.row_end <= length
    part = bilinear(values[(slice(None), *window.within(Window(0, 0, length, length)))], window, rows, every)
    np.testing.assert_array_equal(part, whole[:, start : start + count])


@given(samplings())
def test_bilinear_reproduces_linear_ramps(case):
    factor, length, fine, _, _ = case
    at = positions(0, fine, factor, length)
    coarse = np.arange(length, dtype=np.float32)
    values = (3 * coarse[:, None] - 2 * coarse[None] + 1)[None]
    result = bilinear(values, Window(0, 0, length, length), at, at)
    np.testing.assert_allclose(result[0], 3 * at[:, None] - 2 * at[None] + 1, atol=2e-5 * length)


@given(samplings(), halves)
def test_bilinear_keeps_a_constant_exactly(case, value):
    factor, length, fine, _, _ = case
    at = positions(0, fine, factor, length)
    values = np.full((1, length, length), value, np.float32)
    assert (bilinear(values, Window(0, 0, length, length), at, at) == np.float32(value)).all()


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 100))
def test_factor_one_is_the_identity(start, count, seed):
    length = start + count
    values = np.random.default_rng(seed).normal(size=(1, length, length)).astype(np.float32)
    at = positions(start, count, 1.0, length)
    window = source_window(at, at)
    assert window == Window(start, start, count, count)
    part = values[:, start:, start:]
    np.testing.assert_array_equal(bilinear(part, window, at, at), part)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_pixel_centers_meet(factor):
    """The center of coarse pixel 3 is the center of the fine pixels it covers."""
    values = np.zeros((1, 8, 8), np.float32)
    values[0, 3, 5] = 1
    rows = cols = positions(0, 8 * factor, factor, 8)
    fine = bilinear(values, Window(0, 0, 8, 8), rows, cols)[0].astype(np.float64)
    center = [(fine.sum(1 - axis) * (np.arange(8 * factor) + 0.5)).sum() / fine.sum() for axis in (0, 1)]
    np.testing.assert_allclose(center, [3.5 * factor, 5.5 * factor])


def test_positions_are_clamped_to_the_centers_of_border_pixels():
    at = positions(0, 8, 4.0, 2)
    np.testing.assert_array_equal(at, [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])
