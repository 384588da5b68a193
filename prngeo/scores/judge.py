"""Calibration and gate of a refiner, from scores that were held out of its fit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prngeo.models.card import Calibration, Gate, PrnCard, TargetCard
from prngeo.refine.calibrate import Histogram, tune
from prngeo.refine.pseudo_labels import pseudo_labels
from prngeo.scores.refining import ScoreNetworks, score_mosaic
from prngeo.scores.scene import IGNORE, LabelledScene, blocks
from prngeo.tiling.grid import Window

POOL = "validation"


class _ClassCounts:
    """What is counted of one class."""

    def __init__(self) -> None:
        self.base, self.refined = Histogram.empty(), Histogram.empty()
        self.oracle = np.zeros(2, np.int64)

    def add(
        self, base: NDArray[np.float32], refined: NDArray[np.float32], truth: NDArray[np.uint8], patch: int
    ) -> None:
        self.base.add(base, truth)
        self.refined.add(refined, truth)
        self.oracle += oracle_counts(base, truth, patch)


def oracle_counts(logits: NDArray[np.float32], truth: NDArray[np.uint8], patch: int) -> NDArray[np.int64]:
    """Intersection and union of the jointly best thresholds of every patch.

    Args:
        logits: (H, W) float32.
        truth: (H, W) uint8: 0, 1; anything else is ignored.
        patch: side of a patch in pixels.
    """
    true, known = torch.from_numpy(truth == 1), torch.from_numpy(truth != IGNORE)
    best = pseudo_labels(torch.from_numpy(logits)[None], true[None], known[None], patch)[0] & known
    return np.array([int((best & true).sum()), int((best | true).sum())])


def judge(
    scenes: Sequence[LabelledScene],
    windows: Sequence[Sequence[Window]],
    networks: ScoreNetworks,
    card: PrnCard,
    patch: int,
) -> dict[str, TargetCard]:
    """Temperature, threshold and gate of every class.

    All figures are IoU pooled over the windows: of the scores and of the refined scores, each at its own best single
    threshold, and of the best thresholds of every patch of the scores.

    Args:
        scenes: with labels.
        windows: for each scene, what was held out of the fit.
        networks: the refiner.
        card: with its classes.
        patch: side of the patches of the oracle, in pixels.
    """
    counts = [_ClassCounts() for _ in card.targets]
    for scene, held in zip(scenes, windows, strict=True):
        parts = [part for window in held for part in blocks(window)]
        with tempfile.TemporaryDirectory() as scratch:
            mosaic = score_mosaic(scene, networks, card, [True] * len(counts), parts, Path(scratch))
            for part in parts:
                logits, truth = mosaic.read(part), scene.truth(part)
                for index, count in enumerate(counts):
                    base = logits.base[index]
                    count.add(base, base + logits.correction[index], truth[index], patch)
    return {name: _verdict(count) for name, count in zip(card.targets, counts, strict=True)}


def _verdict(count: _ClassCounts) -> TargetCard:
    base, refined = tune({POOL: count.base}), tune({POOL: count.refined})
    gate = Gate(
        enabled=refined.iou > base.iou,
        base_iou=round(base.iou, 4),
        refined_iou=round(refined.iou, 4),
        joint_oracle_iou=round(float(count.oracle[0] / max(1, count.oracle[1])), 4),
        pixels=base.pixels,
        note="IoU of what was held out of the fit, scores and refined scores each at their own best single threshold",
    )
    return TargetCard(
        base=Calibration(temperature=base.temperature, threshold=base.threshold),
        refined=Calibration(temperature=refined.temperature, threshold=refined.threshold),
        gate=gate,
    )
