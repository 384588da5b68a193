"""Pseudo-labels from optimal patch-wise binarization, exact and for all patches at once.

`per_patch`: every patch takes the threshold with its own best IoU (Nagendra et al., WACV 2024). `joint`: all
thresholds together maximize the pooled IoU, sum(TP) / sum(TP + FP + FN), by Dinkelbach's method (Dinkelbach,
Management Science 1967): for a ratio r every patch takes the threshold with the largest TP - r (TP + FP + FN), then r
is set to the ratio reached, until it no longer grows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prngeo.refine.thresholds import Histogram, Numbers, cut, histogram, options, spread

SMOOTHING = 1.0
"""Added to both parts of a patch's own IoU."""

Ratio = tuple[int, int]


def pseudo_labels(logits: Tensor, truth: Tensor, known: Tensor, patch: int, joint: bool = True) -> Tensor:
    """Binary maps from the best threshold of every patch, on the tensors' own device, all patches at once.

    Args:
        logits: (N, H, W) float, also infinite, NaN only where ignored; compared as float32.
        truth: (N, H, W) bool.
        known: (N, H, W) bool; False where the truth is ignored.
        patch: side of a patch in pixels; patches lie on a grid from the upper left corner, and the last of a row
            or column may be cut off by the map's edge.
        joint: thresholds chosen together (pooled IoU) or each for its own patch.

    Returns:
        (N, H, W) bool: logit >= the patch's threshold. Equal logits fall on the same side. Of equally good
        thresholds the highest counts; a patch predicts nothing where nothing is better.

    Raises:
        ValueError: shapes, types or the patch are others, or there is no pixel.
    """
    if logits.ndim != 3 or not logits.numel() or not logits.shape == truth.shape == known.shape:
        shapes = [tuple(part.shape) for part in (logits, truth, known)]
        raise ValueError(f"logits, truth and known have one shape (N, H, W), got {shapes}")
    if (truth.dtype, known.dtype) != (torch.bool, torch.bool):
        raise ValueError(f"truth and known are bool, got {truth.dtype} and {known.dtype}")
    if patch < 1:
        raise ValueError(f"patch is at least 1 pixel, got {patch}")
    n, height, width = logits.shape
    values = cut(logits.detach().float(), patch)
    found = histogram(values, cut(truth.view(torch.uint8), patch), cut(known.view(torch.uint8), patch))
    if joint:
        wanted, ratio = _joint_bins(found)
        choice = options(values, found, wanted)
        best, _ = _dinkelbach(choice.counts, choice.best, ratio)
    else:
        choice = options(values, found, _own_bins(found))
        best = choice.best(_own(choice.counts))
    labels = torch.as_tensor(values >= spread(choice.thresholds[best], values))
    return labels.view(n, -1, values.shape[2])[:, :height, :width]


def oracle_counts(logits: NDArray[np.floating], labels: NDArray[np.uint8], patch: int) -> tuple[int, int]:
    """Intersection and union of the truth and the jointly best thresholds of every patch of a map.

    Args:
        logits: (H, W) float, as for `pseudo_labels`.
        labels: (H, W) uint8: 0, 1; anything else is ignored.
        patch: side of a patch in pixels.
    """
    truth, known = torch.from_numpy(labels == 1), torch.from_numpy(labels <= 1)
    best = pseudo_labels(torch.from_numpy(logits)[None], truth[None], known[None], patch)[0] & known
    return int((best & truth).sum()), int((best | truth).sum())


def _own(counts: Numbers) -> NDArray[np.float64]:
    """IoU of each patch of (2, ...) true positives and union."""
    smoothed = counts + SMOOTHING
    iou: NDArray[np.float64] = smoothed[0] / smoothed[1]
    return iou


def _own_bins(found: Histogram) -> NDArray[np.bool_]:
    hits, union = found.counts + SMOOTHING
    wanted: NDArray[np.bool_] = hits[:, 1:] / union[:, :-1] >= (hits / union).max(1, keepdims=True)
    return wanted


def _joint_bins(found: Histogram) -> tuple[NDArray[np.bool_], Ratio]:
    """Bins that can hold a threshold of the best combination, and a ratio that is reached without them."""
    bounds = np.stack([found.counts[0, :, 1:], found.counts[1, :, :-1]])
    chosen, low = _dinkelbach(*_rows(found.counts), (0, 1))
    _, high = _dinkelbach(*_rows(bounds), low)
    reached = found.counts.reshape(2, -1)[:, chosen]
    # The optimum lies between the ratios. A bound below a score reached at both of them is so at any in between.
    wanted = [_gain(bounds, ratio) >= _gain(reached, ratio)[:, None] for ratio in (low, high)]
    return wanted[0] | wanted[1], low


def _rows(counts: Numbers) -> tuple[Numbers, Callable[[Numbers], Numbers]]:
    """(2, patches, options) as `_dinkelbach` wants them."""
    patches, size = counts.shape[1:]
    first = np.arange(0, patches * size, size)
    return counts.reshape(2, -1), lambda score: score.reshape(patches, size).argmax(1) + first


def _dinkelbach(counts: Numbers, best: Callable[[Numbers], Numbers], ratio: Ratio) -> tuple[Numbers, Ratio]:
    """The options that together have the largest ratio of true positives to union, and that ratio.

    Args:
        counts: (2, options), true positives and union.
        best: from the score of all options to (patches,) the numbers of the best of every patch.
        ratio: where to start, no more than the largest.
    """
    while True:
        chosen = best(_gain(counts, ratio))
        hits, union = counts.take(chosen, 1).sum(1).tolist()
        if hits * ratio[1] <= ratio[0] * union:
            return chosen, ratio
        ratio = hits, union


def _gain(counts: Numbers, ratio: Ratio) -> Numbers:
    """TP - ratio * union, times the ratio's denominator: integers, so that equals are equal."""
    gain: Numbers = counts[0] * ratio[1] - counts[1] * ratio[0]
    return gain
