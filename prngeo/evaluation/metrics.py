"""The metrics of an evaluation: their names, what they mean, and one function that turns counts into all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prngeo.evaluation.objects import object_metrics
from prngeo.evaluation.pixel import (
    Floats,
    average_precision,
    calibration_error,
    mask_metrics,
    ratio,
    relaxed_metrics,
)


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        label: how tables call it.
        definition: its formula in words and symbols, with its source.
        more_is_better: False for errors.
    """

    label: str
    definition: str
    more_is_better: bool = True


METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", "TP / (TP + FP + FN) over all pixels (Jaccard 1901)"),
    "precision": Metric("Precision", "TP / (TP + FP)"),
    "recall": Metric("Recall", "TP / (TP + FN)"),
    "f1": Metric("F1", "2 TP / (2 TP + FP + FN)"),
    "accuracy": Metric("Accuracy", "(TP + TN) / all known pixels; large wherever objects are rare"),
    "relaxed_precision": Metric(
        "Relaxed precision", "share of predicted pixels within the tolerance of a true one (Mnih 2013)"
    ),
    "relaxed_recall": Metric(
        "Relaxed recall", "share of true pixels within the tolerance of a predicted one (Mnih 2013)"
    ),
    "relaxed_f1": Metric("Relaxed F1", "harmonic mean of the two"),
    "boundary_iou": Metric(
        "Boundary IoU",
        "IoU of the bands inside the outlines of prediction and truth (Cheng et al., CVPR 2021); the edge of the "
        "known area is no outline",
    ),
    "average_precision": Metric(
        "Average precision", "sum over thresholds of precision times the gain of recall, steps of 0.004"
    ),
    "calibration_error": Metric(
        "Calibration error",
        "expected calibration error: mean |probability - share of objects| over ten bins, weighted by their pixels "
        "(Naeini et al., AAAI 2015)",
        False,
    ),
    "object_precision": Metric("Object precision", "matched / predicted objects, IoU of at least 0.5, one to one"),
    "object_recall": Metric("Object recall", "matched / true objects, likewise"),
    "object_f1": Metric("Object F1", "2 TP / (2 TP + FP + FN) of objects at an IoU of 0.5"),
    "object_f1_50_95": Metric(
        "Object F1 at 0.5:0.95", "F1 of objects, mean over IoU 0.5, 0.55, ..., 0.95 (after COCO, 2014)"
    ),
}


def figures(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """All metrics that the counts allow.

    Args:
        counts: see prngeo.evaluation.collect; arrays whose leading dimensions (blocks, draws, or none) are the same.

    Returns:
        Arrays of these dimensions by the names in `METRICS`, NaN where a metric is undefined.
    """
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    found = mask_metrics(tp, fp, fn, counts["tn"])
    found |= relaxed_metrics(counts["near_predicted"], tp + fp, counts["near_true"], tp + fn)
    if "edge_any" in counts:
        found["boundary_iou"] = np.where(tp + fn > 0, ratio(counts["edge_common"], counts["edge_any"]), np.nan)
    if "levels" in counts:
        found["average_precision"] = average_precision(counts["levels"])
        found["calibration_error"] = calibration_error(counts["levels"], counts["bins"])
    if "objects" in counts:
        found |= object_metrics(counts["objects"])
    return found


def block_iou(counts: Mapping[str, Floats]) -> Floats:
    """IoU of every block; NaN where neither prediction nor truth has a pixel.

    Unlike the pooled figure this is 0, not undefined, in a block without truth where something is predicted.
    """
    return ratio(counts["tp"], counts["tp"] + counts["fp"] + counts["fn"])


def block_gain(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> Floats:
    """IoU of one prediction minus that of another in every block; NaN where neither predicts nor the truth holds any.

    Predicting nothing where there is nothing is perfect, so it counts as an IoU of 1.
    """
    mine, theirs = block_iou(one), block_iou(other)
    gain: Floats = np.nan_to_num(mine, nan=1.0) - np.nan_to_num(theirs, nan=1.0)
    return np.where(np.isnan(mine) & np.isnan(theirs), np.nan, gain)
