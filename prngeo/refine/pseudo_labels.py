"""Pseudo-labels from optimal patch-wise binarization, exact and for all patches at once.

`per_patch`: every patch takes the threshold with its own best IoU (Nagendra et al., WACV 2024). `joint`: all
thresholds together maximize the pooled IoU, sum(TP) / sum(TP + FP + FN), by Dinkelbach's method (Dinkelbach,
Management Science 1967): for a ratio r every patch takes the threshold with the largest TP - r (TP + FP + FN), then r
is set to the ratio reached, until it no longer grows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1.0
"""Added to both parts of a patch's own IoU."""


def pseudo_labels(logits: Tensor, truth: Tensor, known: Tensor, patch: int, joint: bool = True) -> Tensor:
    """Binary maps from the best threshold of every patch.

    Args:
        logits: (N, H, W) float.
        truth: (N, H, W) bool.
        known: (N, H, W) bool; False where the truth is ignored.
        patch: side of a patch in pixels; patches lie on a grid from the upper left corner, and the last of a row
            or column may be cut off by the map's edge.
        joint: thresholds chosen together (pooled IoU) or each for its own patch.

    Returns:
        (N, H, W) bool: logit >= the patch's threshold. Equal logits fall on the same side; a patch without
        positives predicts nothing when that is best.
    """
    n, height, width = logits.shape
    values, hits, weights = (_patches(part, patch) for part in (logits, truth & known, known))
    weights = weights.to(torch.float32)
    hits = hits.to(torch.float32)
    values = torch.where(weights > 0, values, -torch.inf)
    ordered, order = values.sort(1, descending=True)
    true_positives = hits.gather(1, order).cumsum(1)
    predicted = weights.gather(1, order).cumsum(1)
    last_of_ties = torch.ones_like(ordered, dtype=torch.bool)
    last_of_ties[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    last_of_ties &= torch.isfinite(ordered)
    # Column 0 predicts nothing; column k predicts the k pixels with the largest logits.
    nothing = torch.zeros_like(true_positives[:, :1])
    true_positives = torch.cat([nothing, true_positives], 1)
    unions = torch.cat([nothing, predicted], 1) + hits.sum(1, keepdim=True) - true_positives
    allowed = torch.cat([torch.ones_like(nothing, dtype=torch.bool), last_of_ties], 1)
    best = _joint(true_positives, unions, allowed) if joint else _own(true_positives, unions, allowed)
    thresholds = torch.cat([torch.full_like(ordered[:, :1], torch.inf), ordered], 1).gather(1, best[:, None])
    return _whole(_patches(logits, patch) >= thresholds, n, height, width, patch)


def _own(true_positives: Tensor, unions: Tensor, allowed: Tensor) -> Tensor:
    score = (true_positives + SMOOTHING) / (unions + SMOOTHING)
    return score.masked_fill(~allowed, -torch.inf).argmax(1)


def _joint(true_positives: Tensor, unions: Tensor, allowed: Tensor) -> Tensor:
    # In float64, so that rounding never decides between two thresholds.
    true_positives, unions = true_positives.double(), unions.double()
    ratio = torch.zeros((), dtype=torch.float64, device=unions.device)
    best = torch.zeros(len(unions), dtype=torch.long, device=unions.device)
    while True:
        score = (true_positives - ratio * unions).masked_fill(~allowed, -torch.inf)
        chosen = score.argmax(1)
        reached = true_positives.gather(1, chosen[:, None]).sum()
        union = unions.gather(1, chosen[:, None]).sum()
        following = reached / union.clamp(min=1)
        if following <= ratio:
            return best
        best, ratio = chosen, following


def _patches(maps: Tensor, patch: int) -> Tensor:
    """(N, H, W) -> (patches, patch * patch); pixels beyond the edge are False / -inf."""
    n, height, width = maps.shape
    padding = (0, -width % patch, 0, -height % patch)
    fill = 0.0 if maps.dtype == torch.bool else -torch.inf
    padded = F.pad(maps, padding, value=fill)
    rows, cols = padded.shape[1] // patch, padded.shape[2] // patch
    cut = padded.view(n, rows, patch, cols, patch).permute(0, 1, 3, 2, 4)
    return cut.reshape(n * rows * cols, patch * patch)


def _whole(patches: Tensor, n: int, height: int, width: int, patch: int) -> Tensor:
    rows, cols = -(-height // patch), -(-width // patch)
    maps = patches.view(n, rows, cols, patch, patch).permute(0, 1, 3, 2, 4)
    return maps.reshape(n, rows * patch, cols * patch)[:, :height, :width]
