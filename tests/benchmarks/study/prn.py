"""PRN in the study: its settings, fitting, calibration and gate, and how it refines a tile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from prngeo.models.card import RefinerCard
from prngeo.models.runtime import make_refiner
from prngeo.refine.branches import Refiner
from prngeo.refine.calibrate import Histogram, Tuned, tune
from prngeo.refine.fit import FitOptions, LogitMap, fit_refiner
from prngeo.training.logits import as_map
from prngeo.training.regions import CachedRegion
from study.bases import Half

BANDS = 3


@dataclass(frozen=True)
class Prn:
    """Settings of a PRN, see prngeo.refine.fit.FitOptions and prngeo.models.card.RefinerCard."""

    variant: str = "fast"
    reduction: int = 4
    width: int = 16
    image: bool = True
    detail: bool = False
    statistics: bool = False
    window: int = 1024
    patch: int = 128
    pseudo: str = "joint"
    weight: float = 0.5
    steps: int | None = None
    batch: int = 2
    learning_rate: float = 1e-3
    seed: int = 0
    in_sample: bool = False

    def untrained(self) -> Refiner:
        """A new refiner."""
        card = RefinerCard(
            variant=self.variant,  # type: ignore[arg-type]
            reduction=self.reduction,  # type: ignore[arg-type]
            width=self.width,
            use_image=self.image,
            detail=self.detail,
            statistics=self.statistics,
            patch=self.patch if self.variant == "paper" else 64,
            window=self.window,
            overlap=0,
        )
        torch.manual_seed(self.seed)
        return make_refiner(card, 1, BANDS)

    def options(self) -> FitOptions:
        """How it is fitted."""
        return FitOptions(
            window=self.window,
            patch=self.patch,
            pseudo=self.pseudo,  # type: ignore[arg-type]
            pseudo_weight=self.weight,
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )


def maps(items: Sequence[CachedRegion], logits: Sequence[Half], reduction: int) -> list[LogitMap]:
    """Tiles with their logits; of the embedded model's channels the study keeps one."""
    return [as_map(item, base[None], reduction) for item, base in zip(items, logits, strict=True)]


def fit(prn: Prn, tiles: Sequence[LogitMap], device: torch.device) -> tuple[Refiner, float]:
    """A fitted refiner and the seconds it took."""
    refiner = prn.untrained()
    started = time.perf_counter()
    fit_refiner(refiner, tiles, prn.options(), device)
    return refiner, time.perf_counter() - started


def refine(prn: Prn, refiner: Refiner, tile: LogitMap, device: torch.device) -> NDArray[np.float32]:
    """Refined logits of a tile, (H, W): the fast variant reads it at once, the paper's window by window."""
    every = 16 * prn.reduction
    height, width = tile.logits.shape[1:]
    side = prn.window if prn.variant == "paper" else max(height, width)
    side += -side % every
    logits, image, valid = (
        torch.from_numpy(part.astype(np.float32)) for part in (tile.logits, tile.image, tile.valid[None])
    )
    rows, cols = height + -height % side, width + -width % side
    logits = F.pad(logits, (0, cols - width, 0, rows - height))
    small = (0, (cols - width) // prn.reduction, 0, (rows - height) // prn.reduction)
    image, valid = F.pad(image, small), F.pad(valid, small)
    refined = torch.empty(rows, cols)
    refiner = refiner.to(device).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode():
        for row in range(0, rows, side):
            for col in range(0, cols, side):
                large = (..., slice(row, row + side), slice(col, col + side))
                r, c, s = row // prn.reduction, col // prn.reduction, side // prn.reduction
                little = (..., slice(r, r + s), slice(c, c + s))
                parts = (part[None].to(device) for part in (logits[large], image[little], valid[little]))
                refined[large] = logits[large][0] + refiner(*parts)[0, 0].float().cpu()
    return refined[:height, :width].numpy()


def tuned(logits: Sequence[NDArray[np.floating]], tiles: Sequence[LogitMap]) -> Tuned:
    """Temperature and the best single threshold of the pooled IoU."""
    histogram = Histogram.empty()
    for base, tile in zip(logits, tiles, strict=True):
        histogram.add(base, tile.labels[0])
    return tune({"all": histogram})


def base_logits(tiles: Sequence[LogitMap]) -> list[NDArray[np.float32]]:
    """The logits of tiles, (H, W) each, before a refiner."""
    return [tile.logits[0].astype(np.float32) for tile in tiles]
