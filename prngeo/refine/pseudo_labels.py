"""Pseudo-labels from optimal patch-wise binarization, exact and for all patches at once.

`per_patch`: every patch takes the threshold with its own best IoU (Nagendra et al., WACV 2024). `joint`: all
thresholds together maximize the pooled IoU, sum(TP) / sum(TP + FP + FN), by Dinkelbach's method (Dinkelbach,
Management Science 1967): for a ratio r every patch takes the threshold with the largest TP - r (TP + FP + FN), then r
is set to the ratio reached, until it no longer grows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prngeo.refine.thresholds import Histogram, cut, histogram, options, plain

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
    """
    n, height, width = logits.shape
    values, truth, known = (cut(part, patch) for part in (logits.float(), truth, known))
    found = histogram(values, truth, known)
    if joint:
        wanted, ratio = _joint_bins(found)
        choice = options(values, found, wanted)
        best, _ = _dinkelbach(choice.counts, choice.best, ratio)
    else:
        choice = options(values, found, _own_bins(found))
        best = choice.best(_own(choice.counts))
    rows, _, columns, _ = values.shape
    thresholds = choice.threshold[best].view(rows, 1, columns, 1)
    labels = torch.as_tensor(plain(values) >= plain(thresholds))
    return labels.view(n, -1, columns * patch)[:, :height, :width]


def _own(counts: Tensor) -> Tensor:
    """IoU of each patch, float64, of (2, ...) true positives and union."""
    smoothed = counts.double() + SMOOTHING
    return smoothed[0] / smoothed[1]


def _own_bins(found: Histogram) -> Tensor:
    hits, union = found.counts.double() + SMOOTHING
    return hits[:, 1:] / union[:, :-1] >= (hits / union).amax(1, keepdim=True)


def _joint_bins(found: Histogram) -> tuple[Tensor, Ratio]:
    """Bins that can hold a threshold of the best combination, and a ratio that is reached without them."""
    bounds = torch.stack([found.counts[0, :, 1:], found.counts[1, :, :-1]])
    chosen, low = _dinkelbach(*_rows(found.counts), (0, 1))
    _, high = _dinkelbach(*_rows(bounds), low)
    reached = found.counts.flatten(1)[:, chosen]
    # The optimum lies between the ratios. A bound below a score reached at both of them is so at any in between.
    wanted = [_gain(bounds, ratio) >= _gain(reached, ratio)[:, None] for ratio in (low, high)]
    return wanted[0] | wanted[1], low


def _rows(counts: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(2, patches, options) as `_dinkelbach` wants them."""
    patches, size = counts.shape[1:]
    first = torch.arange(0, patches * size, size, device=counts.device)
    return counts.flatten(1), lambda score: score.view(patches, size).argmax(1) + first


def _dinkelbach(counts: Tensor, best: Callable[[Tensor], Tensor], ratio: Ratio) -> tuple[Tensor, Ratio]:
    """The options that together have the largest ratio of true positives to union, and that ratio.

    Args:
        counts: (2, options) int64, true positives and union.
        best: from the score of all options, int64, to (patches,) the numbers of the best of every patch.
        ratio: where to start, no more than the largest.
    """
    while True:
        chosen = best(_gain(counts, ratio))
        hits, union = counts.index_select(1, chosen).sum(1).tolist()
        if hits * ratio[1] <= ratio[0] * union:
            return chosen, ratio
        ratio = hits, union


def _gain(counts: Tensor, ratio: Ratio) -> Tensor:
    """TP - ratio * union, times the ratio's denominator: integers, so that equals are equal."""
    return torch.sub(counts[0] * ratio[1], counts[1], alpha=ratio[0])
