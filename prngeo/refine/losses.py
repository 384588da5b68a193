"""Losses on logits with unlabelled pixels, shared by the base network and the refiner."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def segmentation_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Jaccard, each target alone, averaged over the targets that have labels.

    The soft Jaccard distance is 1 - I / U with I = sum(p t), U = sum(p + t - p t), pooled over the batch
    (Rahman and Wang, ISVC 2016).

    Args:
        logits: (N, T, H, W) float.
        truth: (N, T, H, W) float in 0..1.
        known: (N, T, H, W) float, 1 where the truth counts, 0 where it is ignored.

    Returns:
        Scalar; 0 if nothing is labelled.
    """
    pixels = known.sum((0, 2, 3))
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    cross_entropy = (cross_entropy * known).sum((0, 2, 3)) / pixels.clamp(min=1)
    probability = logits.sigmoid() * known
    truth = truth * known
    intersection = (probability * truth).sum((0, 2, 3))
    union = (probability + truth).sum((0, 2, 3)) - intersection
    jaccard = 1 - (intersection + 1) / (union + 1)
    labelled = (pixels > 0).to(logits.dtype)
    loss: Tensor = ((cross_entropy + jaccard) * labelled).sum() / labelled.sum().clamp(min=1)
    return loss
