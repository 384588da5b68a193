"""The best and the worst test tiles of a target, kept with their pixels while the test areas go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prngeo.tiling.grid import Window

KEPT = 3
"""Tiles kept at either end."""
LEAST_KNOWN, LEAST_TRUE = 0.5, 0.005
"""Shares of a tile's pixels that must be labelled, and true, for it to be ranked.

The IoU of a sliver at the edge, or of a handful of pixels, says little.
"""


def worth_showing(known: NDArray[np.bool_], true: NDArray[np.bool_], whole: int) -> bool:
    """True if a tile is ranked.

    Args:
        known: (h, w) its labelled pixels.
        true: (h, w) pixels of the target.
        whole: pixels of a whole tile.
    """
    labelled, positive = int(np.count_nonzero(known)), int(np.count_nonzero(known & true))
    return labelled >= LEAST_KNOWN * whole and positive >= LEAST_TRUE * whole


@dataclass(frozen=True)
class Tile:
    """A test tile and what the model makes of it; all arrays (h, w).

    Attributes:
        source: name of the data set.
        scene: file of the scene.
        window: its place there, in pixels.
        iou: IoU in it, by the name of the prediction.
        image: (h, w, 3) uint8.
        truth: uint8, 0 or 1, or 255 where unlabelled or without data.
        masks: bool, by the name of the prediction.
        correction: float16 logits that PRN adds; None if there is no refiner.
    """

    source: str
    scene: str
    window: Window
    iou: dict[str, float]
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    correction: NDArray[np.float16] | None


@dataclass
class Ranking:
    """The tiles with the largest and the smallest IoU of all that are offered.

    Attributes:
        best: (IoU, tile), the largest first, of equal ones the earlier first.
        worst: the smallest first, of equal ones the later first; a tile can be in both.
        ranked: number of tiles offered.
    """

    best: list[tuple[float, Tile]] = field(default_factory=list)
    worst: list[tuple[float, Tile]] = field(default_factory=list)
    ranked: int = 0

    def offer(self, iou: float, make: Callable[[], Tile]) -> None:
        """Keep a tile if it is among the best or the worst so far; only then is it made."""
        self.ranked += 1
        high = len(self.best) < KEPT or iou > self.best[-1][0]
        low = len(self.worst) < KEPT or iou <= self.worst[-1][0]
        if not (high or low):
            return
        entry = (iou, make())
        if high:
            self.best = sorted([*self.best, entry], key=lambda pair: -pair[0])[:KEPT]
        if low:
            self.worst = sorted([entry, *self.worst], key=lambda pair: pair[0])[:KEPT]

    @property
    def shown(self) -> tuple[list[Tile], list[Tile]]:
        """Best and worst tiles; of few tiles half are best, and none is both."""
        best = [tile for _, tile in self.best[: (self.ranked + 1) // 2]]
        return best, [tile for _, tile in self.worst[: self.ranked // 2]]
