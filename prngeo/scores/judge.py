"""Calibration and gate of a refiner, from scores that were held out of its fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.files import scratch_folder
from prngeo.models.card import PrnCard, TargetCard
from prngeo.refine.calibrate import Histogram, tune, verdict
from prngeo.refine.pseudo_labels import oracle_counts
from prngeo.scores.refining import ScoreNetworks, score_mosaic
from prngeo.scores.scene import LabelledScene, blocks
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


def judge(
    scenes: Sequence[LabelledScene],
    windows: Sequence[Sequence[Window]],
    networks: ScoreNetworks,
    card: PrnCard,
    patch: int,
    scratch: Path,
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
        scratch: an existing folder.
    """
    counts = [_ClassCounts() for _ in card.targets]
    for scene, held in zip(scenes, windows, strict=True):
        parts = [part for window in held for part in blocks(window)]
        with scratch_folder(scratch) as folder:
            mosaic = score_mosaic(scene, networks, card, [True] * len(counts), parts, folder)
            for part in parts:
                logits, truth = mosaic.read(part), scene.truth(part)
                for index, count in enumerate(counts):
                    base = logits.base[index]
                    count.add(base, base + logits.correction[index], truth[index], patch)
    return {name: _verdict(count) for name, count in zip(card.targets, counts, strict=True)}


def _verdict(count: _ClassCounts) -> TargetCard:
    base, refined = tune({POOL: count.base}), tune({POOL: count.refined})
    note = "IoU of what was held out of the fit, scores and refined scores each at their own best single threshold"
    return verdict(base, refined, float(count.oracle[0] / max(1, count.oracle[1])), note, by_source=False)
