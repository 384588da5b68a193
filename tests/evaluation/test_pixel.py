"""Formulas against hand-computed cases and public implementations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torchmetrics.classification import BinaryAccuracy, BinaryCalibrationError, BinaryJaccardIndex

from prngeo.evaluation.pixel import (
    BINS,
    LEVELS,
    THRESHOLDS,
    average_precision,
    by_bin,
    calibration_error,
    level_of,
    mask_metrics,
    relaxed_metrics,
    reliability,
    threshold_curve,
)


def counts(*values):
    return [np.array(value, float) for value in values]


def histogram(probability, truth):
    """(2, LEVELS) counts and (BINS,) sums of probability."""
    level = level_of(probability)
    levels = np.stack([np.bincount(level[truth == side], minlength=LEVELS) for side in (0, 1)])
    return levels, by_bin(np.bincount(level, probability, LEVELS))


def sample(seed, n=4000, quantized=True):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.2
    logit = rng.normal(size=n) * 1.5 + np.where(truth, 1.0, -1.2)
    probability = 1 / (1 + np.exp(-logit))
    return (np.rint(probability * 250) / 250 if quantized else probability), truth.astype(int)


def test_by_hand():
    found = mask_metrics(*counts(3, 1, 2, 4))
    assert found["iou"] == 3 / 6
    assert found["precision"] == 3 / 4
    assert found["recall"] == 3 / 5
    assert found["f1"] == 6 / 9
    assert found["accuracy"] == 7 / 10


def test_without_a_true_pixel_figures_are_undefined_not_zero():
    found = mask_metrics(*counts(0, 5, 0, 5))
    assert np.isnan([found["iou"], found["recall"], found["f1"]]).all()
    assert found["precision"] == 0
    assert np.isnan(mask_metrics(*counts(0, 0, 0, 9))["precision"])


def test_a_prediction_of_nothing_misses_everything():
    found = mask_metrics(*counts(0, 0, 5, 5))
    assert found["iou"] == found["recall"] == found["f1"] == 0
    assert np.isnan(found["precision"])
    relaxed = relaxed_metrics(*counts(0, 0, 0, 5))
    assert relaxed["relaxed_recall"] == relaxed["relaxed_f1"] == 0
    assert np.isnan(relaxed["relaxed_precision"])


def test_relaxed_by_hand():
    found = relaxed_metrics(*counts(8, 10, 6, 12))
    assert found["relaxed_precision"] == pytest.approx(0.8)
    assert found["relaxed_recall"] == pytest.approx(0.5)
    assert found["relaxed_f1"] == pytest.approx(2 * 0.8 * 0.5 / 1.3)


def test_leading_dimensions_are_free():
    table = np.random.default_rng(0).integers(1, 9, (3, 5, 4)).astype(float)
    whole = mask_metrics(*np.moveaxis(table, -1, 0))
    for row in range(3):
        for col in range(5):
            for name, value in mask_metrics(*table[row, col]).items():
                assert whole[name][row, col] == value


@pytest.mark.parametrize("seed", range(3))
def test_masks_agree_with_torchmetrics_and_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, mask = rng.random(500) < 0.3, rng.random(500) < 0.4
    found = mask_metrics(
        *counts((mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum(), (~mask & ~truth).sum())
    )
    precision, recall, f1, _ = precision_recall_fscore_support(truth, mask, average="binary")
    both = torch.from_numpy(mask.astype(int)), torch.from_numpy(truth.astype(int))
    assert found["iou"] == pytest.approx(float(BinaryJaccardIndex()(*both)))
    assert found["accuracy"] == pytest.approx(float(BinaryAccuracy()(*both)))
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_scikit_learns_on_the_levels(seed):
    probability, truth = sample(seed)
    levels, _ = histogram(probability, truth)
    assert average_precision(levels) == pytest.approx(average_precision_score(truth, probability), abs=1e-12)
    exact, truth = sample(seed, quantized=False)
    assert average_precision(histogram(exact, truth)[0]) == pytest.approx(
        average_precision_score(truth, exact), abs=5e-3
    )


@pytest.mark.parametrize("quantized", [True, False])
def test_calibration_error_is_torchmetrics(quantized):
    probability, truth = sample(4, quantized=quantized)
    if quantized:  # which side of a bin's edge a value falls to is theirs to choose
        probability = np.clip(probability + 0.001, 0, 0.999)
    metric = BinaryCalibrationError(n_bins=BINS, norm="l1")
    expected = metric(torch.from_numpy(probability), torch.from_numpy(truth))
    assert calibration_error(*histogram(probability, truth)) == pytest.approx(float(expected), abs=1e-6)


def test_reliability_is_scikit_learns():
    probability, truth = sample(5, quantized=False)
    share, mean = calibration_curve(truth, probability, n_bins=BINS)
    pixels, mine, true = reliability(*histogram(probability, truth))
    assert pixels.sum() == len(truth)
    np.testing.assert_allclose(mine[pixels > 0], mean)
    np.testing.assert_allclose(true[pixels > 0], share)


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(0, 250), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    at=st.integers(1, 250),
)
def test_the_curve_is_what_thresholding_gives(steps, seed, at):
    probability = np.array(steps) * 0.004
    truth = (np.random.default_rng(seed).random(len(steps)) < 0.5).astype(int)
    curve = threshold_curve(histogram(probability, truth)[0])
    mask = np.array(steps) >= at
    sides = ((1, 1), (1, 0), (0, 1), (0, 0))
    expected = mask_metrics(*counts(*(((mask == p) & (truth == t)).sum() for p, t in sides)))
    assert THRESHOLDS[at - 1] == pytest.approx(at * 0.004)
    for name, value in expected.items():
        np.testing.assert_equal(curve[name][at - 1], float(value))


def test_a_level_holds_what_reaches_it():
    steps = np.arange(251)
    stored = steps.astype(np.float32) * np.float32(0.004)
    np.testing.assert_array_equal(level_of(stored.astype(float)), steps)
    assert level_of(np.array([0.0039, 0.4985, 0.9999, 1.0])).tolist() == [0, 124, 249, 250]
