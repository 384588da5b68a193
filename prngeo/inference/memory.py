"""Sharing out the memory a run may use: a chunk in work, and tiles that wait for their last use.

The figures are estimates for the fixed parts and arithmetic for the arrays; `prngeo check` prints them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from prngeo.errors import UsageError
from prngeo.models.card import Card

PROGRAM = 900 << 20
"""Python, torch, GDAL and the networks at work, measured on Linux with the embedded model at tile 512."""
CACHE = 256 << 20
"""The most that GDAL's block cache gets; with little memory a sixteenth of it."""
CHUNKS = (2048, 1024, 512)


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is used.

    Attributes:
        chunk: side of a chunk in output pixels.
        store: bytes of tiles held in memory; the rest goes to the scratch folder.
        scratch: estimate of the bytes that may pass through the scratch folder.
        peak: estimate of the peak in bytes.
    """

    chunk: int
    store: int
    scratch: int
    peak: int


def plan_memory(
    budget: int, card: Card, shape: tuple[int, int], tile: int, overlap: int, chunk: int | None = None
) -> MemoryPlan:
    """Choose chunk size and store for a budget in bytes.

    Args:
        budget: of the whole process.
        card: the model.
        shape: (height, width) of the model grid in pixels.
        tile: side of a tile in pixels.
        overlap: overlap of tiles in pixels.
        chunk: a fixed side of chunks, or None.

    Raises:
        UsageError: not even the smallest chunk fits.
    """
    cache = gdal_cache(budget)
    targets = len(card.targets)
    window = card.refiner.window if card.refiner else 0
    waiting = _waiting(shape, tile, overlap, window, targets, chunk or CHUNKS[0])
    for side in (chunk,) if chunk else CHUNKS:
        # A chunk's logits, corrections, coordinates and outputs, about 14 float32 planes a target, and one
        # refiner window with its blend.
        working = 14 * targets * 4 * side * side + 10 * targets * 4 * window * window
        least = PROGRAM + cache + working
        smallest = side == CHUNKS[-1] or chunk is not None
        if budget >= least + (0 if smallest else min(waiting, 128 << 20)):
            store = min(waiting, budget - least)
            return MemoryPlan(side, store, waiting - store, least + store)
    fixed = PROGRAM + working
    needed = min(fixed * 16 / 15, fixed + CACHE)
    raise UsageError(
        f"--max-memory {budget / 2**30:.2f}GB is too small: this model needs at least "
        f"{math.ceil(needed / 2**30 * 100 + 0.5) / 100:.2f}GB here."
    )


def gdal_cache(budget: int) -> int:
    """Bytes of GDAL's block cache for a budget of the whole process."""
    return min(CACHE, budget // 16)


def _waiting(shape: tuple[int, int], tile: int, overlap: int, window: int, targets: int, chunk: int) -> int:
    """Bytes of float16 logits and corrections that wait at the same time: a band of rows across the scene."""
    height, width = shape
    rows = min(height, chunk + 2 * window + 2 * tile)
    duplication = (tile / (tile - overlap)) ** 2
    return int(rows * (width + tile) * targets * 2 * (duplication + (2 if window else 0)))
