"""Metrics of masks and of probabilities, from counts that add up over blocks.

Every function takes arrays whose leading dimensions are free, so that one call gives a single figure, a figure for
every block, or one for every bootstrap sample. A figure whose formula has no value (nothing predicted, no object in
the truth) is NaN, never 0 or 1.

References:
    Precision, recall, F1: van Rijsbergen, Information Retrieval, 1979. IoU: Jaccard, 1901.
    Relaxed precision and recall: Mnih, Machine Learning for Aerial Image Labeling, PhD thesis, Toronto 2013.
    Boundary IoU: Cheng, Girshick, Dollar, Berg and Kirillov, CVPR 2021.
    Average precision: the step-wise sum of scikit-learn's `average_precision_score`.
    Expected calibration error: Naeini, Cooper and Hauskrecht, AAAI 2015. Reliability diagram: DeGroot and
        Fienberg, The Statistician 1983.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prngeo.raster.values import SLACK

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEP = 0.004
"""Width of a level of probability; prngeo's own rasters store exactly these steps."""
LEVELS = 251
"""Levels 0..250; level k holds probabilities from k * STEP up to the next level."""
BINS = 10
"""Bins of the reliability diagram, of equal width."""
THRESHOLDS = np.arange(1, LEVELS) * STEP
"""Probabilities from which a pixel is taken for an object, (250,): one for every level but 0."""


def level_of(probability: Floats) -> NDArray[np.int64]:
    """Levels 0..250 of probabilities: the number of whole steps of 0.004 in them."""
    return np.clip(np.floor((probability + SLACK) / STEP), 0, LEVELS - 1).astype(np.int64)


def ratio(part: Floats, whole: Floats) -> Floats:
    """Part / whole; NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    result: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return result


def f_score(precision: Floats, recall: Floats) -> Floats:
    """Harmonic mean of precision and recall; 0 where both are 0, NaN where one is undefined."""
    both = precision + recall
    return np.where(both == 0, 0.0, ratio(2 * precision * recall, both))


def mask_metrics(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> dict[str, Floats]:
    """IoU, precision, recall, F1 and accuracy from counts of pixels.

    Args:
        tp: predicted and true, shape (...,).
        fp: predicted, not true.
        fn: true, not predicted.
        tn: neither.

    Returns:
        Arrays (...,). IoU, recall and F1 are NaN without a true pixel; precision without a predicted one.
    """
    true = tp + fn
    return {
        "iou": np.where(true > 0, ratio(tp, true + fp), np.nan),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, true),
        "f1": np.where(true > 0, ratio(2 * tp, true + tp + fp), np.nan),
        "accuracy": ratio(tp + tn, true + fp + tn),
    }


def mask_flags(
    predicted: Flags, true: Flags, known: Flags, near_predicted: Flags, near_true: Flags
) -> dict[str, Flags]:
    """The pixels that `mask_metrics` and `relaxed_metrics` count.

    Args:
        predicted: (h, w) bool.
        true: of the truth.
        known: pixels that are compared.
        near_predicted: within the tolerance of a predicted pixel.
        near_true: within the tolerance of a true pixel.
    """
    predicted, true = predicted & known, true & known
    return {
        "tp": predicted & true,
        "fp": predicted & ~true,
        "fn": true & ~predicted,
        "tn": known & ~true & ~predicted,
        "near_predicted": predicted & near_true,
        "near_true": true & near_predicted,
    }


def relaxed_metrics(near_predicted: Floats, predicted: Floats, near_true: Floats, true: Floats) -> dict[str, Floats]:
    """Relaxed precision, recall and F1 (Mnih 2013).

    Args:
        near_predicted: predicted pixels within the tolerance of a true one, shape (...,).
        predicted: predicted pixels.
        near_true: true pixels within the tolerance of a predicted one.
        true: true pixels.

    Returns:
        Arrays (...,).
    """
    precision, recall = ratio(near_predicted, predicted), ratio(near_true, true)
    # Without a prediction there is no precision, but F1 is 0: everything was missed.
    f1 = np.where((predicted == 0) & (true > 0), 0.0, f_score(precision, recall))
    return {"relaxed_precision": precision, "relaxed_recall": recall, "relaxed_f1": f1}


def tail_counts(levels: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """True and false positives at every threshold.

    Args:
        levels: (..., 2, LEVELS) pixels by truth (0 background, 1 object) and level of probability.

    Returns:
        Two arrays (..., LEVELS): what has at least that level.
    """
    tails = levels[..., ::-1].astype(np.float64).cumsum(-1)[..., ::-1]
    return tails[..., 1, :], tails[..., 0, :]


def threshold_curve(levels: NDArray[np.generic]) -> dict[str, Floats]:
    """IoU, precision, recall, F1 and accuracy at every threshold of `THRESHOLDS`; arrays (..., 250).

    Args:
        levels: (..., 2, LEVELS), see `tail_counts`.
    """
    hits, false = tail_counts(levels)
    tp, fp = hits[..., 1:], false[..., 1:]
    return mask_metrics(tp, fp, hits[..., :1] - tp, false[..., :1] - fp)


def average_precision(levels: NDArray[np.generic]) -> Floats:
    """Area under the precision-recall steps: sum over thresholds of precision times the gain of recall.

    Args:
        levels: (..., 2, LEVELS), see `tail_counts`; equal levels share a threshold.

    Returns:
        (...,), NaN without a true pixel.
    """
    hits, false = tail_counts(levels)
    precision = np.nan_to_num(ratio(hits, hits + false))
    gain = hits - np.concatenate([hits[..., 1:], np.zeros((*hits.shape[:-1], 1))], -1)
    return ratio((precision * gain).sum(-1), hits[..., 0])


def reliability(levels: NDArray[np.generic], probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean probability and share of objects in every bin of probability.

    Args:
        levels: (..., 2, LEVELS), see `tail_counts`.
        probability: (..., BINS) sum of the probabilities of the pixels in every bin.

    Returns:
        Pixels, mean probability and share of true pixels, each (..., BINS); NaN where a bin is empty.
    """
    pixels, true = by_bin(levels.sum(-2, dtype=np.float64)), by_bin(levels[..., 1, :].astype(np.float64))
    return pixels, ratio(probability, pixels), ratio(true, pixels)


def calibration_error(levels: NDArray[np.generic], probability: Floats) -> Floats:
    """Expected calibration error: mean over pixels of |mean probability - share of objects| of their bin.

    Args:
        levels: (..., 2, LEVELS), see `tail_counts`.
        probability: (..., BINS) sum of the probabilities of the pixels in every bin.

    Returns:
        (...,), NaN without a pixel.
    """
    pixels, mean, share = reliability(levels, probability)
    return ratio((np.nan_to_num(np.abs(mean - share)) * pixels).sum(-1), pixels.sum(-1))


def by_bin(levels: NDArray[Any]) -> NDArray[Any]:
    """(..., LEVELS) summed to (..., BINS); the last level, probability 1, belongs to the last bin."""
    starts = np.arange(BINS) * ((LEVELS - 1) // BINS)
    return np.add.reduceat(levels, starts, axis=-1)
