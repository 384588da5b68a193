import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo.raster.resample import Taps, resample

factors = st.one_of(st.floats(0.05, 40), st.integers(1, 12).map(float))


@given(start=st.integers(0, 100_000), count=st.integers(1, 40), factor=factors)
def test_weights_sum_to_one_and_balance_on_the_model_pixel_center(start, count, factor):
    taps = Taps.of(start, start + count, factor)
    np.testing.assert_allclose(taps.weight.sum(axis=1), 1, atol=1e-5)
    center = (taps.first + taps.index) + 0.5
    balance = (center * taps.weight.astype(float)).sum(axis=1) / taps.weight.sum(axis=1)
    # An averaged pixel's center of weight moves by the share of a scene pixel that is cut, never by half.
    expected = (np.arange(start, start + count) + 0.5) * factor
    np.testing.assert_allclose(balance, expected, atol=0.5 if factor > 1 else 0.01 + 1e-5 * factor)
    assert taps.index.min() >= 0
    assert taps.index.max() < taps.count


@given(start=st.integers(0, 5000), count=st.integers(2, 30), factor=factors, cut=st.integers(1, 29))
def test_taps_of_a_model_pixel_do_not_depend_on_its_run(start, count, factor, cut):
    cut = min(cut, count - 1)
    whole, part = Taps.of(start, start + count, factor), Taps.of(start + cut, start + count, factor)
    np.testing.assert_array_equal(whole.weight[cut:], part.weight)
    used = part.weight > 0
    np.testing.assert_array_equal((whole.first + whole.index[cut:])[used], (part.first + part.index)[used])


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.0, 1.7, 2.0, 3.37, 12.5])
def test_constant_stays_constant_whatever_is_missing(factor):
    taps = Taps.of(0, 9, factor)
    rng = np.random.default_rng(0)
    valid = rng.random((taps.count, taps.count)) > 0.6
    image = np.where(valid, np.float32(0.4), np.float32(0))[None]
    out, out_valid = resample(image, valid, taps, taps)
    np.testing.assert_allclose(out[0][out_valid], 0.4, atol=1e-6)
    assert not out[0][~out_valid].any()


def test_whole_factors_are_plain_block_means():
    image = np.random.default_rng(0).random((2, 12, 15)).astype("float32")
    out, valid = resample(image, np.ones((12, 15), bool), Taps.of(0, 4, 3.0), Taps.of(0, 5, 3.0))
    np.testing.assert_allclose(out, image.reshape(2, 4, 3, 5, 3).mean(axis=(2, 4)), atol=1e-6)
    assert valid.all()


def test_factor_one_changes_nothing():
    image = np.random.default_rng(0).random((1, 6, 6)).astype("float32")
    taps = Taps.of(0, 6, 1.0)
    np.testing.assert_array_equal(resample(image, np.ones((6, 6), bool), taps, taps)[0], image)
