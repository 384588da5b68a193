"""Random training crops: a pure function of the seed and the step, so a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prngeo.errors import UsageError
from prngeo.tiling.grid import Window
from prngeo.training.positives import Positives
from prngeo.training.regions import IGNORE, CachedRegion

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

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(self.image.to(device), self.valid.to(device), self.labels.to(device))

    def split(self, parts: int) -> list[Batch]:
        """The batch in parts of about equal size."""
        columns = [part.tensor_split(parts) for part in (self.image, self.valid, self.labels)]
        return [Batch(*part) for part in zip(*columns, strict=True)]


class CropSampler:
    """Draws crops at random places and scales; flips, turns and colors are changed later, see prngeo.training.augment.

    torchgeo's samplers are not used: they draw boxes of one size from process-wide generators, while here a crop is a
    function of its step, has a GSD within the model's range, and keeps off held-out areas.

    Args:
        regions: where to draw from.
        weights: relative share of crops of every source.
        size: side of a crop in model pixels.
        gsd_range: (smallest, largest) GSD in metres.
        seed: with the step and the number of the crop, decides everything.
        scale: a crop is seen at so many times its native GSD, within the range.
        balance: share of crops that are drawn around a positive pixel; targets take equal parts.

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
        scale: tuple[float, float] = (0.6, 2.5),
        balance: float = 0.0,
    ) -> None:
        self.regions = list(regions)
        if not self.regions:
            raise UsageError("There is nothing to train on: no scene of the sources has the role train.")
        self.size = size
        self.gsd_range = gsd_range
        self.seed = seed
        self.scale = scale
        self.balance = balance
        area = dict.fromkeys(weights, 0.0)
        for item in self.regions:
            area[item.region.source] += float(np.prod(item.region.shape))
        share = [
            weights[item.region.source] * np.prod(item.region.shape) / area[item.region.source] for item in self.regions
        ]
        self.share = np.asarray(share) / np.sum(share)
        self.positives = [Positives(item.labels) for item in self.regions] if balance else []
        found = np.array([item.pixels > 0 for item in self.positives]).T  # (targets, regions)
        self.holders = {target: self.share * has / (self.share @ has) for target, has in enumerate(found) if has.any()}
        """Share of crops around a target's pixels, region by region, of targets that have some."""

    def batch(self, step: int, crops: Iterable[int]) -> Batch:
        """Some crops of a step, by their numbers."""
        drawn = [self._crop(np.random.default_rng([self.seed, step, number])) for number in crops]
        image, valid, labels = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return Batch(image, valid, labels)

    def _crop(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        around = bool(self.holders) and rng.random() < self.balance
        allowed = None
        for attempt in range(ATTEMPTS):
            wanted = around and attempt < PATIENCE
            item, window = self._around_a_positive(rng) if wanted else self._anywhere(rng)
            if any(not window.intersect(other).is_empty for other in item.region.forbidden):
                continue
            labels = cut(item.labels, window, IGNORE)
            allowed = cut(item.image, window, 0), labels
            inside = window.intersect(Window(0, 0, *item.region.shape))
            known = (labels != IGNORE).any(-1).sum()
            if wanted or known >= 0.25 * inside.height * inside.width or attempt >= PATIENCE:
                break
        if allowed is None:
            raise UsageError(
                f"No crop of {self.size} pixels fits into the training scenes beside their held-out areas and the gap "
                "around those: make the areas, the gap or base.crop smaller."
            )
        return render(*allowed, self.size)

    def _anywhere(self, rng: np.random.Generator) -> tuple[CachedRegion, Window]:
        item = self.regions[rng.choice(len(self.regions), p=self.share)]
        height, width = self._extent(item, rng)
        rows, cols = item.region.shape
        row = rng.integers(min(0, rows - height), max(0, rows - height), endpoint=True)
        col = rng.integers(min(0, cols - width), max(0, cols - width), endpoint=True)
        return item, Window(int(row), int(col), height, width)

    def _around_a_positive(self, rng: np.random.Generator) -> tuple[CachedRegion, Window]:
        """A window with a positive pixel in its middle, or as near to it as the scene's border lets it."""
        target = list(self.holders)[rng.integers(len(self.holders))]
        number = rng.choice(len(self.regions), p=self.holders[target])
        item = self.regions[number]
        height, width = self._extent(item, rng)
        row, col = self.positives[number].draw(target, rng)
        rows, cols = item.region.shape
        row = min(max(row - height // 2, min(0, rows - height)), max(0, rows - height))
        col = min(max(col - width // 2, min(0, cols - width)), max(0, cols - width))
        return item, Window(row, col, height, width)

    def _extent(self, item: CachedRegion, rng: np.random.Generator) -> tuple[int, int]:
        """Rows and columns of a crop at a random GSD."""
        native = float(np.sqrt(item.region.gsd[0] * item.region.gsd[1]))
        finest, coarsest = self.scale
        low = max(self.gsd_range[0], finest * native)
        # A scene finer than the range has no scale of its own there: it is seen at a spread of up to 1.5 all the same.
        high = max(min(1.5, coarsest / finest) * low, min(self.gsd_range[1], coarsest * native))
        gsd = np.exp(rng.uniform(np.log(low), np.log(max(low, min(high, self.gsd_range[1])))))
        height, width = (max(1, round(self.size * gsd / g)) for g in reversed(item.region.gsd))
        return height, width


def render(image: np.ndarray, labels: np.ndarray, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Resample a crop.

    Args:
        image: (H, W, bands + 1) uint8, the last channel validity.
        labels: (H, W, targets) uint8.
        size: side in pixels, S.

    Returns:
        Image (bands, S, S) float32 in 0..1, validity (1, S, S) float32, 0 or 1, and labels (targets, S, S) uint8, 255
        where nothing is valid.
    """
    pixels = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32) / 255)[None]
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)
    rows, cols = (((np.arange(size) + 0.5) * n / size).astype(int) for n in labels.shape[:2])
    drawn = torch.from_numpy(np.moveaxis(labels[rows][:, cols], -1, 0).copy())
    valid = (pixels[-1:] > 0.5).float()
    return pixels[:-1] * valid, valid, torch.where(valid.bool(), drawn, torch.full_like(drawn, IGNORE))


def cut(array: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """(H, W, C) pixels of a window that may reach beyond the array."""
    inside = window.intersect(Window(0, 0, *array.shape[:2]))
    if inside == window:
        return np.asarray(array[window.row : window.row_end, window.col : window.col_end])
    cut = np.full((*window.shape, array.shape[2]), fill, np.uint8)
    cut[inside.within(window)] = array[inside.row : inside.row_end, inside.col : inside.col_end]
    return cut
