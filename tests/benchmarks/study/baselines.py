"""What PRN is compared with: local thresholds, a dense CRF, and oracles that know the truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_sauvola

from prngeo.refine.fit import LogitMap
from prngeo.refine.pseudo_labels import pseudo_labels
from study.scoring import Prediction

ORACLE_PATCH = 64
WINDOWS, KS = (65, 257), (-0.5, -0.2, 0.2, 0.5)
FLOOR = 0.1
"""Below this probability nothing is an object, whatever its surroundings: Sauvola's threshold is local alone."""


def probability(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Of logits."""
    return 1 / (1 + np.exp(-logits.astype(np.float32) / temperature))


def at(logits: Sequence[NDArray[np.floating]], temperature: float, threshold: float) -> list[Prediction]:
    """What tiles hold at a threshold of the calibrated probability."""
    levels = [probability(base, temperature) for base in logits]
    return [Prediction(level >= threshold, level) for level in levels]


def iou(masks: Sequence[NDArray[np.bool_]], tiles: Sequence[LogitMap]) -> float:
    """Pooled over tiles."""
    common = union = 0
    for mask, tile in zip(masks, tiles, strict=True):
        known, true = tile.labels[0] <= 1, tile.labels[0] == 1
        common += np.count_nonzero(mask & true)
        union += np.count_nonzero((mask & known) | true)
    return common / max(1, union)


def sauvola(logits: NDArray[np.floating], window: int, k: float) -> NDArray[np.bool_]:
    """Sauvola and Pietikainen, Pattern Recognition 2000, on the probability."""
    level = probability(logits)
    return (level >= threshold_sauvola(level, window, k, r=0.5)) & (level >= FLOOR)


def best_sauvola(logits: Sequence[NDArray[np.floating]], tiles: Sequence[LogitMap]) -> tuple[int, float]:
    """Window in pixels and k with the best IoU on the tiles that PRN is fitted on (at most eight of them)."""
    step = -(-len(tiles) // 8)
    logits, tiles = logits[::step], tiles[::step]
    scores = {(w, k): iou([sauvola(base, w, k) for base in logits], tiles) for w, k in product(WINDOWS, KS)}
    return max(scores, key=lambda key: scores[key])


def crf(image: NDArray[np.uint8], logits: NDArray[np.floating], threshold: float) -> NDArray[np.bool_] | None:
    """Krahenbuhl and Koltun's dense CRF (NeurIPS 2011) around the tuned threshold; None without `pydensecrf2`.

    Args:
        image: (H, W, 3) uint8.
        logits: (H, W) base logits.
        threshold: probability that is to become 0.5.
    """
    try:
        from pydensecrf import densecrf
        from pydensecrf.utils import unary_from_softmax
    except ImportError:
        return None
    moved = probability(logits - np.log(threshold / (1 - threshold))).clip(1e-4, 1 - 1e-4)
    field = densecrf.DenseCRF2D(image.shape[1], image.shape[0], 2)
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(np.stack([1 - moved, moved]))))
    field.addPairwiseGaussian(sxy=1.5, compat=2)
    field.addPairwiseBilateral(sxy=30, srgb=10, rgbim=np.ascontiguousarray(image), compat=2)
    found = np.array(field.inference(5)).reshape(2, *image.shape[:2])
    return found[1] > found[0]


def oracle_image(logits: Sequence[NDArray[np.floating]], tiles: Sequence[LogitMap]) -> list[Prediction]:
    """The best threshold of every tile."""
    side = max(max(tile.logits.shape[1:]) for tile in tiles)
    return oracle(logits, tiles, side, joint=False)


def oracle(
    logits: Sequence[NDArray[np.floating]], tiles: Sequence[LogitMap], patch: int = ORACLE_PATCH, joint: bool = True
) -> list[Prediction]:
    """The best thresholds of patches; joint ones are chosen together over all tiles."""
    shape = [max(sizes) for sizes in zip(*(base.shape for base in logits), strict=True)]
    shape = [side + -side % patch for side in shape]
    stack = torch.zeros(len(tiles), *shape)
    truth, known = (torch.zeros(len(tiles), *shape, dtype=torch.bool) for _ in range(2))
    for number, (base, tile) in enumerate(zip(logits, tiles, strict=True)):
        height, width = base.shape
        stack[number, :height, :width] = torch.from_numpy(base.astype(np.float32))
        truth[number, :height, :width] = torch.from_numpy(tile.labels[0] == 1)
        known[number, :height, :width] = torch.from_numpy(tile.labels[0] <= 1)
    best = pseudo_labels(stack, truth, known, patch, joint).numpy()
    return [Prediction(mask[: base.shape[0], : base.shape[1]]) for mask, base in zip(best, logits, strict=True)]
