"""Random training crops: a pure function of the seed and the step, so a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prngeo.errors import UsageError
from prngeo.tiling.grid import Window
from prngeo.training.regions import IGNORE, CachedRegion

SCALE_SPREAD = (0.6, 2.5)
"""A crop is seen at 0.6 to 2.5 times its native GSD, within the model's range."""
PATIENCE = 19
"""Draws after which a crop with few labels is taken, too."""
ATTEMPTS = 1000
"""Draws after which there seems to be no crop that keeps off the held-out areas."""


@dataclass(frozen=True)
class Batch:
    """Crops of one step.

    Attributes:
        image: (N, bands, S, S) float32 in 0..1.
        valid: (N, 1, S, S) float32, 0 or 1.
        labels: (N, targets, S, S) uint8: 0, 1, 255 = unlabelled.
    """

    image: Tensor
    valid: Tensor
    labels: Tensor


class CropSampler:
    """Draws crops at random places, scales, flips and rotations, with radiometric changes.

    Args:
        regions: where to draw from.
        weights: relative share of crops of every source.
        size: side of a crop in model pixels.
        gsd_range: (smallest, largest) GSD in metres.
        seed: with the step, decides everything.

    Raises:
        UsageError: there is no region to draw from.
    """

    def __init__(
        self,
        regions: Sequence[CachedRegion],
        weights: Mapping[str, float],
        size: int,
        gsd_range: tuple[float, float],
        seed: int,
    ) -> None:
        self.regions = list(regions)
        if not self.regions:
            raise UsageError("There is nothing to train on: no scene of the sources has the role train.")
        self.size = size
        self.gsd_range = gsd_range
        self.seed = seed
        area = dict.fromkeys(weights, 0.0)
        for item in self.regions:
            area[item.region.source] += float(np.prod(item.region.shape))
        share = [
            weights[item.region.source] * np.prod(item.region.shape) / area[item.region.source] for item in self.regions
        ]
        self.share = np.asarray(share) / np.sum(share)

    def batch(self, step: int, count: int) -> Batch:
        """The `count` crops of a step."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._crop(rng) for _ in range(count)]
        image, valid, labels = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return Batch(_radiometric(image, rng) * valid, valid, labels)

    def _crop(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        allowed = None
        for attempt in range(ATTEMPTS):
            item = self.regions[rng.choice(len(self.regions), p=self.share)]
            window = self._place(item, rng)
            if any(not window.intersect(other).is_empty for other in item.region.forbidden):
                continue
            labels = _cut(item.labels, window, IGNORE)
            allowed = _cut(item.image, window, 0), labels
            inside = window.intersect(Window(0, 0, *item.region.shape))
            known = (labels != IGNORE).any(-1).sum()
            if known >= 0.25 * inside.height * inside.width or attempt >= PATIENCE:
                break
        if allowed is None:
            raise UsageError(
                f"No crop of {self.size} pixels fits into the training scenes beside their held-out areas and the gap "
                "around those: make the areas, the gap or base.crop smaller."
            )
        return self._render(*allowed, rng)

    def _place(self, item: CachedRegion, rng: np.random.Generator) -> Window:
        native = float(np.sqrt(item.region.gsd[0] * item.region.gsd[1]))
        low = max(self.gsd_range[0], SCALE_SPREAD[0] * native)
        high = max(1.5 * low, min(self.gsd_range[1], SCALE_SPREAD[1] * native))
        gsd = np.exp(rng.uniform(np.log(low), np.log(max(low, min(high, self.gsd_range[1])))))
        height, width = (max(1, round(self.size * gsd / g)) for g in reversed(item.region.gsd))
        rows, cols = item.region.shape
        row = rng.integers(min(0, rows - height), max(0, rows - height), endpoint=True)
        col = rng.integers(min(0, cols - width), max(0, cols - width), endpoint=True)
        return Window(int(row), int(col), height, width)

    def _render(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Resample to the crop size, flip and rotate."""
        pixels = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32) / 255)[None]
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)[0].clamp(0, 1)
        rows, cols = (((np.arange(self.size) + 0.5) * n / self.size).astype(int) for n in labels.shape[:2])
        drawn = torch.from_numpy(np.moveaxis(labels[rows][:, cols], -1, 0).copy())
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        pixels, drawn = (torch.rot90(part, turns, (-2, -1)) for part in (pixels, drawn))
        if flip:
            pixels, drawn = pixels.flip(-1), drawn.flip(-1)
        valid = (pixels[-1:] > 0.5).float()
        return pixels[:-1], valid, torch.where(valid.bool(), drawn, torch.full_like(drawn, IGNORE))


def _cut(array: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """(H, W, C) pixels of a window that may reach beyond the array."""
    inside = window.intersect(Window(0, 0, *array.shape[:2]))
    if inside == window:
        return np.asarray(array[window.row : window.row_end, window.col : window.col_end])
    cut = np.full((*window.shape, array.shape[2]), fill, np.uint8)
    cut[inside.within(window)] = array[inside.row : inside.row_end, inside.col : inside.col_end]
    return cut


def _radiometric(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Gamma, contrast, brightness, per-band gain, haze, blur and noise, one draw a crop."""
    n, bands = image.shape[:2]

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32))

    image = image.clamp(1e-4, 1) ** torch.exp(draw(-0.35, 0.35))
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (image - middle) * torch.exp(draw(-0.3, 0.3)) + middle + draw(-0.12, 0.12)
    image = image * (1 + draw(-0.08, 0.08, bands))
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * draw(0.4, 1.4)
    blurred = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    image = image + (blurred - image) * draw(-0.8, 0.8)
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return (image + noise * draw(0.0, 0.03)).clamp(0, 1)
