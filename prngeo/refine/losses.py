"""Losses on logits with unlabelled pixels, shared by the base network and the refiner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
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


FOCAL_WEIGHT, FOCAL_GAMMA = 0.75, 2.0
POSITIVE_WEIGHT = 1.12


def paper_loss(
    branches: Sequence[Tensor], truth: Tensor, pseudo: Tensor, known: Tensor, pseudo_weight: float = 0.7
) -> Tensor:
    """PatchRefineNet's loss (Nagendra et al., WACV 2024): w * L_patch + (1 - w) * L_gt, each a mean over branches.

    L_patch, against pseudo-labels, is 0.7 times the focal loss (Lin et al., ICCV 2017; gamma 2, weight 0.75) plus 0.3
    times the binary cross-entropy between edge maps. L_gt, against ground truth, is binary cross-entropy with weight
    1.12 on positives.

    Args:
        branches: logits of the branches, (N, 1, H, W) float each.
        truth: (N, 1, H, W) float, 0 or 1.
        pseudo: (N, 1, H, W) float, 0 or 1, see prngeo.refine.pseudo_labels.
        known: (N, 1, H, W) float, 1 where the truth counts, 0 where it is ignored.
        pseudo_weight: w.

    Returns:
        Scalar; 0 if nothing is known.
    """
    patch, ground = [], []
    for logits in branches:
        probability = logits.sigmoid()
        edges = F.binary_cross_entropy(edge_map(probability), edge_map(pseudo), reduction="none")
        patch.append(0.7 * _focal(logits, pseudo) + 0.3 * edges)
        weight = truth.new_tensor(POSITIVE_WEIGHT)
        ground.append(F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none"))
    loss = pseudo_weight * torch.stack(patch).mean(0) + (1 - pseudo_weight) * torch.stack(ground).mean(0)
    return (loss * known).sum() / known.sum().clamp(min=1)


def edge_map(probability: Tensor) -> Tensor:
    """ReLU(tanh(Laplacian)) of a map, its 3x3 Laplacian with 8 in the middle and -1 around; 0..1.

    Args:
        probability: (N, 1, H, W) float; continued by its border pixels, so that the border is no edge.
    """
    kernel = probability.new_full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    return F.conv2d(F.pad(probability, (1, 1, 1, 1), mode="replicate"), kernel).tanh().relu()


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missing = torch.where(truth > 0.5, 1 - logits.sigmoid(), logits.sigmoid())
    weight = torch.where(truth > 0.5, FOCAL_WEIGHT, 1 - FOCAL_WEIGHT)
    return weight * missing**FOCAL_GAMMA * cross_entropy
