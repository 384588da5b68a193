import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prngeo.inference.chunks import (
    LEVELS,
    Resampling,
    TargetPlan,
    chunk_result,
    stored_probability,
    threshold_level,
)
from prngeo.inference.mosaic import Logits
from prngeo.inference.outputs import CORRECTION_NODATA, NODATA, PROBABILITY_SCALE
from prngeo.models.card import Calibration
from prngeo.tiling.grid import Window

EVERY_LEVEL = np.arange(LEVELS + 1)


def logits(shape=(40, 50), seed=0, spread=4.0):
    rng = np.random.default_rng(seed)
    base, correction = (rng.normal(0, spread, (2, *shape)).astype(np.float32) for _ in range(2))
    return Logits(base, correction)


def plan(channel=0, threshold=0.5, base_threshold=0.5, temperature=1.0):
    return TargetPlan(
        "roads",
        channel,
        Calibration(temperature=temperature, threshold=threshold),
        Calibration(threshold=base_threshold),
    )


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
@example(1e-9)
@example(1 - 1e-9)
@example(0.5 + 1e-10)
@example(float(np.nextafter(0.5, 0)))
def test_mask_is_probability_at_least_threshold_as_a_reader_computes_it(threshold):
    np.testing.assert_array_equal(
        threshold_level(threshold) <= EVERY_LEVEL, threshold <= EVERY_LEVEL * PROBABILITY_SCALE
    )


@pytest.mark.parametrize("level", range(1, LEVELS))
def test_thresholds_on_the_grid_are_their_own_level(level):
    """Whether written as a decimal, as a fraction or as a multiple of the scale."""
    for threshold in (level / LEVELS, float(f"{level / LEVELS:g}"), level * PROBABILITY_SCALE):
        assert threshold_level(threshold) == level
        np.testing.assert_array_equal(level <= EVERY_LEVEL, threshold <= EVERY_LEVEL * PROBABILITY_SCALE)


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.25, 4), st.integers(0, 50))
def test_written_mask_follows_from_the_written_probability(threshold, temperature, seed):
    values = logits(seed=seed)
    valid = np.random.default_rng(seed).random((40, 50)) < 0.8
    result = chunk_result(values, valid, plan(1, threshold, temperature=temperature))
    expected = np.where(result.probability == NODATA, NODATA, result.probability * PROBABILITY_SCALE >= threshold)
    np.testing.assert_array_equal(result.mask, expected)


@pytest.mark.parametrize("spread", [0.01, 4, 1000])
def test_nodata_is_no_value_of_a_valid_pixel(spread):
    values = logits(spread=spread)
    valid = np.random.default_rng(0).random((40, 50)) < 0.5
    result = chunk_result(values, valid, plan())
    assert (result.probability.dtype, result.mask.dtype, result.correction.dtype, result.changed.dtype) == (
        np.uint8, np.uint8, np.int16, np.uint8,
    )  # fmt: skip
    np.testing.assert_array_equal(result.probability == NODATA, ~valid)
    np.testing.assert_array_equal(result.mask == NODATA, ~valid)
    np.testing.assert_array_equal(result.correction == CORRECTION_NODATA, ~valid)
    assert result.probability[valid].max() <= LEVELS
    assert set(np.unique(result.mask[valid])) <= {0, 1}
    assert not result.changed[~valid].any()


def test_probability_is_the_sigmoid_of_the_calibrated_logit():
    values = np.linspace(-12, 12, 1001, dtype=np.float32)[None]
    for temperature in (0.25, 1.0, 3.0):
        stored = stored_probability(values, Calibration(temperature=temperature))
        exact = 1 / (1 + np.exp(-values.astype(float) / temperature))
        assert np.abs(stored * PROBABILITY_SCALE - exact).max() <= 0.00201
    assert stored_probability(np.zeros((1, 1), np.float32), Calibration())[0, 0] == 125


def test_extreme_logits_are_stored_without_wrapping():
    with np.errstate(all="raise"):
        values = np.float32([[-1e4, -200, 200, 1e4]])
        stored = stored_probability(values, Calibration(temperature=0.01))
    np.testing.assert_array_equal(stored, [[0, 0, LEVELS, LEVELS]])


def test_probability_does_not_depend_on_where_a_pixel_lies_in_the_array():
    """Vector units compute the rest of an array that is not a multiple of their width in another way."""
    calibration = Calibration(temperature=1.37)
    rng = np.random.default_rng(0)
    values = rng.normal(0, 5, 4096).astype(np.float32)
    scale = np.float32(0.5 / calibration.temperature)
    whole, tanh = stored_probability(values, calibration), np.tanh(values * scale)
    for length in (*range(1, 70), 127, 129, 1000):
        for offset in (0, 1, 3, 7, 16, 33):
            cut = values[offset : offset + length]
            np.testing.assert_array_equal(stored_probability(cut, calibration), whole[offset : offset + length])
            for part in (cut, cut.copy(), np.repeat(cut, 3)[::3]):
                assert np.tanh(part * scale).tobytes() == tanh[offset : offset + length].tobytes()
                assert np.tanh(np.stack([part, part], 1)[:, 1] * scale).tobytes() == (
                    tanh[offset : offset + length].tobytes()
                )


def test_correction_is_stored_in_steps_and_clipped():
    values = Logits(np.zeros((1, 1, 5), np.float32), np.float32([[[0, 0.014, -3.337, 1e6, -1e6]]]))
    result = chunk_result(values, np.ones((1, 5), bool), plan())
    np.testing.assert_array_equal(result.correction, [[0, 1, -334, 32767, -32767]])


def test_changed_marks_the_pixels_whose_mask_the_refiner_turned():
    base = np.float32([[[-1, 1, -1, 1, -1]]])
    correction = np.float32([[[3, -3, 0, 0, 3]]])
    valid = np.array([[True, True, True, True, False]])
    result = chunk_result(Logits(base, correction), valid, plan())
    np.testing.assert_array_equal(result.mask, [[1, 0, 0, 1, NODATA]])
    np.testing.assert_array_equal(result.changed, [[1, 1, 0, 0, 0]])


def test_changed_compares_each_with_its_own_calibration():
    probability = np.float32([[0.3, 0.6, 0.9]])
    base = np.log(probability / (1 - probability))[None]
    result = chunk_result(
        Logits(base, np.zeros_like(base)), np.ones((1, 3), bool), plan(threshold=0.5, base_threshold=0.8)
    )
    np.testing.assert_array_equal(result.changed, [[0, 1, 0]])


def test_the_plan_picks_its_channel():
    values, valid = logits(), np.ones((40, 50), bool)
    for channel in (0, 1):
        alone = Logits(values.base[channel : channel + 1], values.correction[channel : channel + 1])
        a, b = chunk_result(values, valid, plan(channel)), chunk_result(alone, valid, plan())
        for name in ("probability", "mask", "correction", "changed"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


class Field:
    """A mosaic whose logits are given."""

    def __init__(self, base):
        self.values = base
        self.asked = []

    def read(self, window):
        self.asked.append(window)
        part = self.values[(slice(None), *window.within(Window(0, 0, *self.values.shape[1:])))]
        assert part.shape[1:] == window.shape, "asked beyond the model grid"
        return Logits(part, part * 2)


def test_outputs_on_the_model_grid_are_not_touched():
    field = Field(np.random.default_rng(0).normal(size=(2, 30, 40)).astype(np.float32))
    resampling = Resampling((1.0, 1.0), (30, 40))
    chunk = Window(5, 7, 11, 13)
    assert resampling.identity
    assert resampling.request(chunk) == chunk
    read = resampling.read(field, chunk)
    np.testing.assert_array_equal(read.base, field.values[:, 5:16, 7:20])


@pytest.mark.parametrize("factor", [(4.0, 2.0), (2.5, 3.25), (0.5, 0.4)])
def test_outputs_lie_where_the_model_saw_them(factor):
    """A plane of x and y over the model grid is the same plane over the output pixels."""
    shape = (30, 40)
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    field = Field(np.stack([cols, rows]))
    resampling = Resampling(factor, shape)
    chunk = Window(6, 3, 8, 9)
    read = resampling.read(field, chunk)
    x = (np.arange(3, 12) + 0.5) / factor[0]
    y = (np.arange(6, 14) + 0.5) / factor[1]
    np.testing.assert_allclose(read.base[0], np.broadcast_to(np.clip(x, 0.5, 39.5), (8, 9)), rtol=1e-5)
    np.testing.assert_allclose(read.base[1].T, np.broadcast_to(np.clip(y, 0.5, 29.5), (9, 8)), rtol=1e-5)
    np.testing.assert_allclose(read.correction, 2 * read.base, rtol=1e-6)
    assert field.asked == [resampling.request(chunk)], "what is read is what was announced"
