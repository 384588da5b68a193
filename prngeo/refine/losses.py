"""Losses on logits with unlabelled pixels, shared by the base network and the refiner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

# smp.losses was tried first and left: it drops a target without positives in a batch, counts one without labels, and
# weighs pixels of all targets together.


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
    hits, predicted, positive = _overlap(logits, truth, known)
    jaccard = 1 - (hits + 1) / (predicted + positive - hits + 1)
    return _over_targets(_cross_entropy(logits, truth, known) + jaccard, known)


def dice_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice, 1 - 2 I / (P + T) (Milletari et al., 3DV 2016).

    Arguments and result as of `segmentation_loss`; P = sum(p), T = sum(t).
    """
    hits, predicted, positive = _overlap(logits, truth, known)
    dice = 1 - (2 * hits + 1) / (predicted + positive + 1)
    return _over_targets(_cross_entropy(logits, truth, known) + dice, known)


def focal_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017; gamma 2, weight 0.75 on positives), a mean over the pixels of a target.

    Arguments and result as of `segmentation_loss`.
    """
    return _over_targets(_mean(_focal(logits, truth), known), known)


def tversky_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Tversky loss 1 - I / (I + 0.3 FP + 0.7 FN), FP = P - I, FN = T - I (Salehi et al., MLMI 2017).

    A missed pixel costs more than a false one, which suits thin and rare targets. Arguments and result as of
    `segmentation_loss`.
    """
    hits, predicted, positive = _overlap(logits, truth, known)
    union = hits + TVERSKY_FALSE * (predicted - hits) + TVERSKY_MISSED * (positive - hits)
    return _over_targets(1 - (hits + 1) / (union + 1), known)


TVERSKY_FALSE, TVERSKY_MISSED = 0.3, 0.7

LOSSES: dict[str, Loss] = {
    "bce+jaccard": segmentation_loss,
    "bce+dice": dice_loss,
    "focal": focal_loss,
    "tversky": tversky_loss,
}
"""By the names of a training configuration."""


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """(T,) mean over the known pixels of every target."""
    return (values * known).sum((0, 2, 3)) / known.sum((0, 2, 3)).clamp(min=1)


def _cross_entropy(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return _mean(F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), known)


def _overlap(logits: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(T,) sums over known pixels: probability times truth, probability, truth."""
    probability, truth = logits.sigmoid() * known, truth * known
    return (probability * truth).sum((0, 2, 3)), probability.sum((0, 2, 3)), truth.sum((0, 2, 3))


def _over_targets(losses: Tensor, known: Tensor) -> Tensor:
    """Mean of (T,) losses over the targets that have labels."""
    labelled = (known.sum((0, 2, 3)) > 0).to(losses.dtype)
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


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
    with torch.autocast(truth.device.type, enabled=False):  # edges of bfloat16 are coarse, and their loss is refused
        patch, ground = [], []
        for logits in (branch.float() for branch in branches):
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
