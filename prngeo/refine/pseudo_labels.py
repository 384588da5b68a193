"""Pseudo-labels from optimal patch-wise binarization, exact and for all patches at once.

`per_patch`: every patch takes the threshold with its own best IoU (Nagendra et al., WACV 2024). `joint`: all
thresholds together maximize the pooled IoU, sum(TP) / sum(TP + FP + FN), by Dinkelbach's method (Dinkelbach,
Management Science 1967): for a ratio r every patch takes the threshold with the largest TP - r (TP + FP + FN), then r
is set to the ratio reached, until it no longer grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1.0
"""Added to both parts of a patch's own IoU."""


def pseudo_labels(logits: Tensor, truth: Tensor, known: Tensor, patch: int, joint: bool = True) -> Tensor:
    """Binary maps from the best threshold of every patch, on the tensors' own device, all patches at once.

    Args:
        logits: (N, H, W) float; compared as float32.
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
    values, hits, counted = (_patches(part, patch) for part in (logits.float(), truth & known, known))
    found = _candidates(torch.where(counted, values, -torch.inf), hits, counted)
    best = _joint(found) if joint else _own(found)
    thresholds = torch.cat([found.threshold, found.threshold.new_tensor([torch.inf])])[best]
    return _whole(values >= thresholds[:, None], n, height, width, patch)


@dataclass(frozen=True)
class _Candidates:
    """Thresholds that may be best: those of groups of equal logits that hold a positive, patch after patch.

    Attributes:
        patch: (c,) int64, the patch a threshold belongs to.
        threshold: (c,) float32.
        true_positives: (c,) float64, at this threshold.
        union: (c,) float64, likewise.
        positives: (patches,) float64, the union where nothing is predicted.
    """

    patch: Tensor
    threshold: Tensor
    true_positives: Tensor
    union: Tensor
    positives: Tensor

    def best(self, score: Tensor, nothing: Tensor) -> Tensor:
        """The candidate with the largest score of every patch; the number of candidates where nothing is better.

        Args:
            score: (c,) float64.
            nothing: (patches,) float64, the score of predicting nothing, which wins ties.
        """
        highest = nothing.scatter_reduce(0, self.patch, score, "amax")
        winning = (score == highest[self.patch]) & (score > nothing[self.patch])
        places = torch.where(winning, torch.arange(len(score), device=score.device), len(score))
        return torch.full_like(nothing, len(score), dtype=torch.long).scatter_reduce(0, self.patch, places, "amin")


def _candidates(values: Tensor, hits: Tensor, counted: Tensor) -> _Candidates:
    """Rank the logits of every patch, (patches, pixels) float32 and bool; ignored pixels are -inf."""
    ordered, negative = _ranked(values, hits)
    true_positives = (~negative).cumsum(1, dtype=torch.int32)
    first, last = torch.ones_like(negative), torch.ones_like(negative)
    first[:, 1:] = last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    # Of a lone negative nobody would make a threshold; in a group of equals there may be a positive.
    patch, rank = (last & ~(first & negative) & (ordered > -torch.inf)).nonzero(as_tuple=True)
    reached = true_positives[patch, rank].double()
    positives = true_positives[:, -1].double()
    return _Candidates(patch, ordered[patch, rank], reached, rank + 1 + positives[patch] - reached, positives)


def _ranked(values: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """Values from the largest on, float32, and where they belong to no object, bool; positives first among equals."""
    # The bits of a float, made to fall as its value rises, and the label below them are one number to sort.
    bits = (values + 0.0).view(torch.int32)  # adding 0 makes -0 equal to 0
    falling = bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF)).bitwise_not_()
    keys = falling.long().mul_(2).add_(~hits)
    # NumPy sorts plain numbers tens of times faster than torch sorts with indices.
    on_cpu = keys.device.type == "cpu"
    keys = torch.from_numpy(np.sort(keys.numpy(), axis=1)) if on_cpu else keys.sort(1).values
    bits = (keys >> 1).int().bitwise_not_()
    bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))
    return bits.view(torch.float32), (keys & 1).bool()


def _own(found: _Candidates) -> Tensor:
    score = (found.true_positives + SMOOTHING) / (found.union + SMOOTHING)
    return found.best(score, SMOOTHING / (found.positives + SMOOTHING))


def _joint(found: _Candidates) -> Tensor:
    ratio, best = 0.0, torch.full_like(found.positives, len(found.patch), dtype=torch.long)
    # One more candidate stands for predicting nothing: it adds no hit, and to the union what each patch lacks.
    hits = torch.cat([found.true_positives, found.true_positives.new_zeros(1)])
    union = torch.cat([found.union, found.union.new_zeros(1)])
    while True:
        chosen = found.best(found.true_positives - ratio * found.union, -ratio * found.positives)
        missed = found.positives[chosen == len(found.patch)].sum()
        following = float(hits[chosen].sum() / (union[chosen].sum() + missed).clamp(min=1))
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
