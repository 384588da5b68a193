"""Small scenes with planted bias: what a refiner can learn, it can learn from these in seconds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from prngeo.scores.settings import Settings

SIDE = 128


def planted(seed: int, side: int = SIDE, bias: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (H, W) float32 and truth (H, W) uint8: blobs seen through noise; logits too high in the left half of the
    picture, where faint texture lies, too low in the right half."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(side, side)), 4)
    truth = (field > np.quantile(field, 0.8)).astype(np.uint8)
    logits = (truth * 2.0 - 1) * 1.5 + gaussian_filter(rng.normal(size=(side, side)), 1) * 1.5
    left = np.arange(side)[None] < side // 2
    return (logits + np.where(left, bias, -bias)).astype(np.float32), truth


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & (truth == 1)).sum() / (mask | (truth == 1)).sum())


def best_iou(logits: np.ndarray, truth: np.ndarray) -> float:
    return max(iou(logits >= cut, truth) for cut in np.linspace(logits.min(), logits.max(), 60)[1:-1])


@pytest.fixture
def quick() -> Settings:
    """A fit of a few seconds."""
    return Settings(steps=60)
