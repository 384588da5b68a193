"""The fast PRN: a small residual network in logit space, at reduced resolution and with wide context.

Nagendra, Shen and Kifer (WACV 2024, arXiv 2211.06560) refine a base model's probability map because its errors are
biased region by region. Such bias is of low frequency, so this variant works on averaged logits and returns a gain and
a bias for every pixel. Its last layer starts at zero: an untrained refiner is exactly the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prngeo.refine.losses import segmentation_loss

LOGIT_LIMIT = 12.0
"""Logits are clamped to this absolute value before the refiner reads them."""

PATCH = 16
"""Side in coarse pixels of the patches whose statistics the refiner may read: 64 pixels at a reduction of 4."""


def _block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def patch_statistics(logits: Tensor, confidence: Tensor, valid: Tensor, patch: int) -> Tensor:
    """Mean and standard deviation of the logits and mean confidence of the patch that each pixel lies in.

    Args:
        logits: (N, targets, h, w) float; h and w multiples of the patch.
        confidence: (N, targets, h, w) float.
        valid: (N, 1, h, w) float, the weight of a pixel; a patch without any has zeros.
        patch: side of a patch in these pixels.

    Returns:
        (N, 3 targets, h, w) float.
    """
    weight = F.avg_pool2d(valid, patch)
    parts = torch.cat([logits, confidence, logits**2], 1) * valid
    mean, share, square = (F.avg_pool2d(parts, patch) / weight.clamp(min=1e-6)).chunk(3, 1)
    deviation = (square - mean**2).clamp(min=0).sqrt()
    return F.interpolate(torch.cat([mean, deviation, share], 1), scale_factor=float(patch), mode="nearest")


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that gives zero until it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


@dataclass(frozen=True)
class Batch:
    """Labelled windows on one device; H and W are multiples of the refiner's reduction.

    Attributes:
        logits: (N, targets, H, W) float32, mosaicked base logits.
        image: (N, bands, H / reduction, W / reduction) float32 in 0..1.
        valid: (N, 1, H / reduction, W / reduction) float32, share of valid pixels.
        truth: (N, targets, H, W) float32, 0 or 1.
        pseudo: (N, targets, H, W) float32, 0 or 1: pseudo-labels.
        known: (N, targets, H, W) float32, 1 where the truth counts.
    """

    logits: Tensor
    image: Tensor
    valid: Tensor
    truth: Tensor
    pseudo: Tensor
    known: Tensor


class FastRefiner(nn.Module):
    """A U-Net of four levels over a window of logits, optionally with the image beside them.

    Args:
        targets: number of logit channels.
        bands: image bands it reads; 0 if it reads the logits alone.
        width: channels of the first level.
        reduction: factor between the logits' resolution and the network's.
        detail: read every logit of a coarse pixel as a channel of its own instead of their mean, and correct each
            (sub-pixel convolution: Shi et al., CVPR 2016); the network's own resolution stays the same.
        statistics: read what a patch of 16 coarse pixels holds beside every pixel of it, see `patch_statistics`.
    """

    weight_decay = 1e-3
    pseudo_weight = 0.0

    def __init__(
        self,
        targets: int,
        bands: int,
        width: int = 16,
        reduction: int = 4,
        detail: bool = False,
        statistics: bool = False,
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.targets = targets
        self.bands = bands
        self.reduction = reduction
        widths = [width, 2 * width, 3 * width, 4 * width, 4 * width]
        pixels = reduction**2 if detail else 1
        inputs = (pixels + 1 + 3 * statistics) * targets + bands + 1
        self.stem = _block(inputs, widths[0])
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = _zero(nn.Conv2d(widths[0], 2 * targets, 1))
        self.detail = _zero(nn.Conv2d(widths[0], 2 * targets * pixels, 1)) if detail else None

    def forward(self, logits: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """The logit correction: refined logit minus base logit.

        Args:
            logits: (N, targets, H, W) float, mosaicked base logits; H and W multiples of 16 times the reduction.
            image: (N, bands, H / reduction, W / reduction) float in 0..1 (ignored if the refiner reads none).
            valid: (N, 1, H / reduction, W / reduction) float, share of valid pixels.

        Returns:
            (N, targets, H, W) float.
        """
        clamped = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        features = self.stem(self._read(clamped, image, valid))
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            enlarged = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
            features = up(torch.cat([enlarged, skip], 1))
        # Bilinear upsampling of so few channels is four times faster on planes than with channels last.
        gain_and_bias = self.head(features).float().contiguous(memory_format=torch.contiguous_format)
        gain_and_bias = F.interpolate(
            gain_and_bias, scale_factor=float(self.reduction), mode="bilinear", align_corners=False
        )
        if self.detail is not None:
            gain_and_bias = gain_and_bias + F.pixel_shuffle(self.detail(features).float(), self.reduction)
        gain, bias = gain_and_bias.split(self.targets, 1)
        correction: Tensor = torch.expm1(gain.clamp(-2, 2)) * clamped + bias
        return correction

    def _read(self, clamped: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """What the network sees, (N, channels, H / reduction, W / reduction)."""
        scaled, confidence = clamped / 4, F.avg_pool2d(clamped.sigmoid(), self.reduction)
        if self.detail is None or self.statistics:
            mean = F.avg_pool2d(scaled, self.reduction)
        parts = [mean if self.detail is None else F.pixel_unshuffle(scaled, self.reduction), confidence * 2 - 1]
        if self.statistics:
            parts.append(patch_statistics(mean, confidence, valid, PATCH))
        if self.bands:
            parts.append(image * 2 - 1)
        return torch.cat([part * valid for part in parts] + [valid], 1)

    def loss(self, batch: Batch, pseudo_weight: float) -> Tensor:
        """Cross-entropy and soft Jaccard against ground truth and pseudo-labels, see prngeo.refine.losses.

        Args:
            batch: windows with labels.
            pseudo_weight: share of the pseudo-labels.
        """
        refined = batch.logits + self(batch.logits, batch.image, batch.valid).float()
        loss = (1 - pseudo_weight) * segmentation_loss(refined, batch.truth, batch.known)
        if pseudo_weight:
            loss = loss + pseudo_weight * segmentation_loss(refined, batch.pseudo, batch.known)
        return loss
