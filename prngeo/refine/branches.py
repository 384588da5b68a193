"""The published network as a refiner of logits: one PatchRefineNet a target."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prngeo.refine.losses import paper_loss
from prngeo.refine.network import LOGIT_LIMIT, Batch, FastRefiner
from prngeo.refine.paper import PaperRefiner, refined_logit


class PaperCorrection(nn.Module):
    """Gives the correction that turns base logits into those of the paper's inference rule.

    It reads the base's probability alone; the image is not looked at. Without training it is not the identity.

    Args:
        targets: number of logit channels; each has a network of its own.
        patch: side of a local patch in pixels, a multiple of 8.
        reduction: factor by which the share of valid pixels is coarser than the logits.
    """

    weight_decay = 0.0
    pseudo_weight = 0.7

    def __init__(self, targets: int, patch: int = 64, reduction: int = 4) -> None:
        super().__init__()
        self.targets = targets
        self.reduction = reduction
        self.networks = nn.ModuleList(PaperRefiner(patch) for _ in range(targets))

    def branches(self, logits: Tensor, valid: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Global and local logits of every target, (N, 1, H, W) float32 each; arguments as in `forward`."""
        seen = F.interpolate(valid, scale_factor=float(self.reduction), mode="nearest") > 0
        probability = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sigmoid() * seen
        found = []
        for target, network in enumerate(self.networks):
            whole, local = network(probability[:, target : target + 1])
            found.append((whole.float(), local.float()))
        return found

    def forward(self, logits: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """The logit correction: refined logit minus base logit.

        Args:
            logits: (N, targets, H, W) float, mosaicked base logits.
            image: not read.
            valid: (N, 1, H / reduction, W / reduction) float, share of valid pixels.

        Returns:
            (N, targets, H, W) float.
        """
        refined = [refined_logit(whole, local) for whole, local in self.branches(logits, valid)]
        return torch.cat(refined, 1) - logits

    def loss(self, batch: Batch, pseudo_weight: float) -> Tensor:
        """The paper's loss, mean over the targets that have labels.

        Args:
            batch: windows with labels.
            pseudo_weight: share of the pseudo-labels, 0.7 in the paper.
        """
        losses = [
            paper_loss(branches, _one(batch.truth, t), _one(batch.pseudo, t), _one(batch.known, t), pseudo_weight)
            for t, branches in enumerate(self.branches(batch.logits, batch.valid))
        ]
        labelled = (batch.known.sum((0, 2, 3)) > 0).float()
        total: Tensor = (torch.stack(losses) * labelled).sum() / labelled.sum().clamp(min=1)
        return total


Refiner = FastRefiner | PaperCorrection
"""What turns base logits into a correction, and can be fitted."""


def _one(maps: Tensor, target: int) -> Tensor:
    return maps[:, target : target + 1]
