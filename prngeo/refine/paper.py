"""PatchRefineNet as published: one recurrent-residual encoder, a global and a local decoder.

Nagendra, Shen and Kifer, "PatchRefineNet: Improving Binary Segmentation by Incorporating Signals from Optimal
Patch-wise Binarization", WACV 2024, arXiv 2211.06560. It reads the probability map of a frozen base model. The global
branch decodes the whole map; the local branch cuts the encoder's features into a grid of patches and decodes every
patch alone, with shared weights. Recurrent-residual levels are those of R2U-Net (Alom et al., arXiv 1802.06955), the
pyramid that of PSPNet (Zhao et al., CVPR 2017), the gates those of Attention U-Net (Oktay et al., MIDL 2018).

The order of the parameters is a contract, see `load_by_position`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 128, 256)
"""Channels of the four levels."""
POOLS = (1, 2, 4, 8)
"""Sides of the pyramid's average pools."""
STRIDE = 8
"""The deepest level has this many times fewer rows and columns; the side of a patch is a multiple of it."""
RECURRENCES = 2


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))


class RecurrentConvolution(nn.Module):
    """y = f(x), then `RECURRENCES` times y = f(x + y), with one f: 3x3 convolution, batch norm, ReLU.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = _convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = self.convolution(x)
        for _ in range(RECURRENCES):
            y = self.convolution(x + y)
        return y


class Level(nn.Module):
    """A 1x1 convolution and, added to it, two recurrent convolutions of it.

    Args:
        inputs: channels it reads.
        outputs: channels it gives.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.recurrent = nn.Sequential(RecurrentConvolution(outputs), RecurrentConvolution(outputs))
        self.project = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        projected = self.project(x)
        result: Tensor = projected + self.recurrent(projected)
        return result


class Pyramid(nn.Module):
    """Averages over coarse grids beside the features, joined by a 1x1 convolution.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in POOLS)
        self.bottleneck = nn.Conv2d(channels * (len(POOLS) + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        averages = [
            F.interpolate(
                branch(F.adaptive_avg_pool2d(x, pool)), size=x.shape[-2:], mode="bilinear", align_corners=False
            )
            for pool, branch in zip(POOLS, self.branches, strict=True)
        ]
        return F.relu(self.bottleneck(torch.cat([*averages, x], 1)))


class AttentionGate(nn.Module):
    """Weighs a skip connection by what the decoder knows.

    Args:
        channels: of skip and gating features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gating = _projection(channels, channels // 2)
        self.skip = _projection(channels, channels // 2)
        self.psi = _projection(channels // 2, 1)

    def forward(self, gating: Tensor, skip: Tensor) -> Tensor:
        """Both (N, C, H, W) -> (N, C, H, W), the skip times a weight in 0..1 for each pixel."""
        weight: Tensor = self.psi(F.relu(self.gating(gating) + self.skip(skip))).sigmoid()
        return skip * weight


class DecoderLevel(nn.Module):
    """Twice the size, half the channels, with the gated skip of that size.

    Args:
        inputs: channels it reads.
        outputs: channels of the skip and of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = _convolution(inputs, outputs)
        self.level = Level(2 * outputs, outputs)
        self.gate = AttentionGate(outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, inputs, H, W) and (N, outputs, 2H, 2W) -> (N, outputs, 2H, 2W)."""
        enlarged: Tensor = self.enlarge(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        joined: Tensor = self.level(torch.cat([self.gate(enlarged, skip), enlarged], 1))
        return joined


class PaperRefiner(nn.Module):
    """PatchRefineNet with its two branches, 3.89 M parameters.

    Args:
        patch: side of a local patch in pixels, a multiple of 8. The paper's P = 64 patches of a 512 px map are 64 px.
    """

    def __init__(self, patch: int = 64) -> None:
        super().__init__()
        if patch < STRIDE or patch % STRIDE:
            raise ValueError(f"patch must be a multiple of {STRIDE} pixels, got {patch}")
        self.patch = patch
        self.encoder = nn.ModuleList(Level(a, b) for a, b in pairwise((1, *WIDTHS)))
        self.pyramid = Pyramid(WIDTHS[-1])
        self.global_decoder = nn.ModuleList(DecoderLevel(a, b) for a, b in pairwise(WIDTHS[::-1]))
        self.local_decoder = nn.ModuleList(DecoderLevel(a, b) for a, b in pairwise(WIDTHS[::-1]))
        self.global_head = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)
        self.local_head = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)

    def forward(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both branches; the paper's maps are their sigmoids.

        Args:
            probability: (N, 1, H, W) float in 0..1, of the base model. Sides that are no multiple of the patch are
                padded with zeros at the right and the bottom, and cut again.

        Returns:
            Global and local logits, (N, 1, H, W) float each.
        """
        height, width = probability.shape[-2:]
        x = F.pad(probability, (0, -width % self.patch, 0, -height % self.patch))
        rows, cols = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        skips: list[Tensor] = []
        for number, level in enumerate(self.encoder):
            x = level(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        deepest = self.pyramid(skips.pop())
        whole = self.global_head(_decode(self.global_decoder, deepest, skips))
        pieces = [_cut(skip, rows, cols) for skip in skips]
        local = self.local_head(_decode(self.local_decoder, _cut(deepest, rows, cols), pieces))
        return whole[..., :height, :width], _join(local, rows, cols)[..., :height, :width]


def _decode(decoder: nn.ModuleList, x: Tensor, skips: list[Tensor]) -> Tensor:
    for level, skip in zip(decoder, reversed(skips), strict=True):
        x = level(x, skip)
    return x


def _cut(x: Tensor, rows: int, cols: int) -> Tensor:
    """(N, C, H, W) -> (N * rows * cols, C, H / rows, W / cols): the patches as a batch."""
    n, channels, height, width = x.shape
    parts = x.reshape(n, channels, rows, height // rows, cols, width // cols).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(n * rows * cols, channels, height // rows, width // cols)


def _join(x: Tensor, rows: int, cols: int) -> Tensor:
    """The way back of `_cut`."""
    count, channels, height, width = x.shape
    parts = x.reshape(count // (rows * cols), rows, cols, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(-1, channels, rows * height, cols * width)


def refined_logit(whole: Tensor, local: Tensor) -> Tensor:
    """The paper's inference rule as one logit.

    The rule is G = global > 0.5, L = dilate3x3(G and local > 0.5), mask = G or L. Then
    max(g, maxpool3x3(min(g, l))) is positive exactly where the mask is set.

    Args:
        whole: (..., H, W) logits of the global branch.
        local: (..., H, W) logits of the local branch.

    Returns:
        (..., H, W) float.
    """
    both = torch.minimum(whole, local)
    shape = both.shape
    grown = F.max_pool2d(both.reshape(-1, 1, *shape[-2:]), 3, stride=1, padding=1).reshape(shape)
    return torch.maximum(whole, grown)


def load_by_position(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a network from a plain `state_dict` whose names differ, tensor by tensor in order.

    For `PaperRefiner` the order is: encoder levels 1 to 4 (each: first recurrent convolution, second, then the 1x1
    convolution), the pyramid (branches of 1, 2, 4, 8, then the bottleneck), the global decoder's levels from deep to
    shallow (each: convolution after upsampling, recurrent-residual level, attention gate as gating 1x1, skip 1x1, psi),
    the local decoder likewise, the global head, the local head. A convolution is weight then bias, a batch norm weight,
    bias, running mean, running variance.

    Args:
        network: changed in place.
        state: names are ignored, and so are counters of batches (`num_batches_tracked`).

    Raises:
        ValueError: the number of tensors or a shape differs; nothing was changed.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    if inner := [name for name, part in given.items() if not isinstance(part, Tensor)]:
        raise ValueError(f"the state has no tensor at {inner[0]!r}; if it is a checkpoint, give the state_dict in it")
    if len(own) != len(given):
        raise ValueError(f"the network has {len(own)} tensors, the state {len(given)}")
    for (name, mine), (other, tensor) in zip(own.items(), given.items(), strict=True):
        if mine.shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(mine.shape)}, {other} at its place {tuple(tensor.shape)}")
    with torch.no_grad():
        for mine, tensor in zip(own.values(), given.values(), strict=True):
            mine.copy_(tensor)
