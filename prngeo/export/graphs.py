"""What is exported, as torch modules: the networks with everything around them that has to be inside the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prngeo.models.card import Calibration
from prngeo.models.segmenter import Segmenter
from prngeo.refine.branches import Refiner


class RefinerGraph(nn.Module):
    """PRN with the gate's verdict inside: no correction for a target whose PRN is disabled.

    Args:
        refiner: the network.
        enabled: for each target, whether PRN corrects it.
    """

    gate: Tensor

    def __init__(self, refiner: Refiner, enabled: Sequence[bool]) -> None:
        super().__init__()
        self.refiner = refiner
        self.register_buffer("gate", torch.tensor(enabled).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, logits: Tensor, image: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Correction and refined logits, (N, targets, H, W) float each; arguments are those of the refiner."""
        correction = self.refiner(logits, image, valid) * self.gate
        return correction, logits + correction


class TileGraph(nn.Module):
    """Everything prngeo does to one tile in one network: image in, a probability for each class out.

    Class 0 is background, class n the n-th target. Tools that run such models know one threshold for all classes, so
    each target's own is moved to 0.5: its probability is sigmoid(logit / temperature - logit(threshold)).

    Args:
        network: the base network.
        refiner: PRN, or None if no target uses it.
        calibrations: temperature and threshold of each target.
    """

    temperature: Tensor
    shift: Tensor

    def __init__(self, network: Segmenter, refiner: RefinerGraph | None, calibrations: Sequence[Calibration]) -> None:
        super().__init__()
        self.network = network
        self.refiner = refiner
        temperature = torch.tensor([part.temperature for part in calibrations]).view(1, -1, 1, 1)
        shift = torch.tensor([math.log(part.threshold / (1 - part.threshold)) for part in calibrations])
        self.register_buffer("temperature", temperature, persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities of background and targets.

        Args:
            image: (N, bands, S, S) float in 0..1; a pixel that is 0 in every band is nodata.

        Returns:
            (N, 1 + targets, S, S) float; background is what the largest target leaves of 1, and 1 on nodata.
        """
        valid = (image.amax(1, keepdim=True) > 0).float()
        logits = self.network(image, valid)
        if self.refiner is not None:
            share = F.avg_pool2d(valid, self.refiner.refiner.reduction)
            mean = F.avg_pool2d(image * valid, self.refiner.refiner.reduction) / share.clamp(min=1e-6)
            logits = self.refiner(logits, mean, share)[1]
        probability = torch.sigmoid(logits / self.temperature - self.shift) * valid
        return torch.cat([1 - probability.amax(1, keepdim=True), probability], 1)
