"""Metrics of a method on the test tiles: counts a tile, so that tiles can be drawn again for intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.bootstrap import intervals, paired_intervals, pooled
from prngeo.evaluation.metrics import figures
from prngeo.evaluation.pixel import BINS, LEVELS, Floats, by_bin, level_of, ratio
from prngeo.tiling.dilate import dilate

RELAX, BOUNDARY = 3.0, 2.0
"""Pixels (metres at 1 m): tolerance of relaxed F1, width of the band of boundary IoU."""
Table = dict[str, Floats]


@dataclass(frozen=True)
class Prediction:
    """What a method says of one tile.

    Attributes:
        mask: (H, W) bool.
        probability: (H, W) float in 0..1, or None if the method has none.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.floating] | None = None


def count(prediction: Prediction, labels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64] | int]:
    """Counts of one tile, by the names that prngeo.evaluation.metrics.figures reads."""
    known, true = labels <= 1, labels == 1
    mask = prediction.mask & known
    edge, edge_true = (part & dilate(known & ~part, BOUNDARY, BOUNDARY) for part in (mask, true))
    counts: dict[str, NDArray[np.float64] | int] = {
        "tp": np.count_nonzero(mask & true),
        "fp": np.count_nonzero(mask & ~true),
        "fn": np.count_nonzero(true & ~mask),
        "tn": np.count_nonzero(known & ~true & ~mask),
        "near_predicted": np.count_nonzero(mask & dilate(true, RELAX, RELAX)),
        "near_true": np.count_nonzero(true & dilate(mask, RELAX, RELAX)),
        "edge_common": np.count_nonzero(edge & edge_true),
        "edge_any": np.count_nonzero(edge | edge_true),
    }
    if prediction.probability is not None:
        probability = prediction.probability.astype(np.float64)
        level = level_of(probability)
        key = np.where(true, level + LEVELS, level)[known]
        counts["levels"] = np.bincount(key, minlength=2 * LEVELS).reshape(2, LEVELS).astype(float)
        counts["bins"] = by_bin(np.bincount(level[known], probability[known], LEVELS))
        assert len(counts["bins"]) == BINS
    return counts


def table(predictions: Sequence[Prediction], labels: Sequence[NDArray[np.uint8]]) -> Table:
    """Counts with one row a tile."""
    rows = [count(prediction, truth) for prediction, truth in zip(predictions, labels, strict=True)]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def metrics(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Figures of pooled counts."""
    return figures(counts)


def summary(mine: Table, reference: Table) -> dict[str, object]:
    """Figures of a method, and what it gains over a reference on the same tiles, with 95 % intervals.

    Raises:
        ValueError: they are of different tiles.
    """
    known = [counts["tp"] + counts["fp"] + counts["fn"] + counts["tn"] for counts in (mine, reference)]
    if not np.array_equal(*known):
        raise ValueError("results of different test tiles are compared: remove those of the older tiles, run again")
    values = {name: float(value) for name, value in metrics(pooled(mine)).items()}
    per_tile = ratio(mine["tp"], mine["tp"] + mine["fp"] + mine["fn"])
    ranges = intervals(mine, metrics)
    gains = paired_intervals(mine, reference, metrics)
    theirs = float(metrics(pooled(reference))["iou"])
    return {
        **values,
        "mean_iou": float(np.nanmean(per_tile)),
        "iou_interval": ranges["iou"],
        "gain": 100 * (values["iou"] - theirs),
        "gain_interval": [100 * end for end in gains["iou"]] if gains["iou"] else None,
    }


def keep(
    path: Path, predictions: Sequence[Prediction], labels: Sequence[NDArray[np.uint8]], notes: Mapping[str, object]
) -> None:
    """Write the counts of a result, and what is to be known of it."""
    counts = table(predictions, labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"notes": notes, "counts": {name: values.tolist() for name, values in counts.items()}}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def read(path: Path) -> tuple[Table, dict[str, object]]:
    """Counts and notes of a result."""
    content = json.loads(path.read_text())
    return {name: np.array(values) for name, values in content["counts"].items()}, content["notes"]
