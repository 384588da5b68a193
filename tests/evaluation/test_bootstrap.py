import numpy as np
import pytest

from prngeo.evaluation.bootstrap import interval, intervals, paired_intervals, pooled, resample
from prngeo.evaluation.pixel import ratio


def share(counts):
    return {"share": ratio(counts["hits"], counts["all"])}


def table(hits, every=100.0):
    hits = np.asarray(hits, float)
    return {"hits": hits, "all": np.full(len(hits), every)}


def test_blocks_that_agree_have_no_spread():
    assert intervals(table([30] * 40), share)["share"] == pytest.approx((0.3, 0.3))


def test_an_interval_is_as_wide_as_theory_says():
    """The mean of n blocks has a standard error of s / sqrt(n)."""
    hits = np.random.default_rng(0).normal(50, 10, 400)
    low, high = intervals(table(hits), share)["share"]
    error = hits.std() / 100 / np.sqrt(400)
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert low < hits.mean() / 100 < high


def test_intervals_hold_the_truth_nineteen_times_of_twenty():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        low, high = intervals(table(rng.normal(50, 10, 60)), share, seed=seed)["share"]
        held += low <= 0.5 <= high
    assert 175 <= held <= 198


def test_pairs_share_their_draws():
    """Two predictions that differ by the same in every block differ for sure, however blocks vary."""
    hits = np.random.default_rng(2).normal(50, 20, 50)
    low, high = paired_intervals(table(hits + 1), table(hits), share)["share"]
    assert (low, high) == pytest.approx((0.01, 0.01))


def test_draws_are_sums_over_as_many_blocks():
    counts = {"a": np.arange(6, dtype=float), "b": np.ones((6, 2, 3))}
    drawn = resample(counts, 50)
    assert drawn["a"].shape == (50,)
    np.testing.assert_array_equal(drawn["b"], np.full((50, 2, 3), 6.0))
    assert pooled(counts)["a"] == 15


def test_one_block_has_no_interval():
    assert intervals(table([30]), share) == {"share": None}


def test_an_interval_is_left_out_where_draws_are_undefined():
    assert interval(np.full(10, np.nan)) is None
    assert interval(np.array([0.5] * 90 + [np.nan] * 10)) is None
    assert interval(np.array([0.5] * 99 + [np.nan])) == (0.5, 0.5)
