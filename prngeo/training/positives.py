"""Where the positive pixels of training regions lie, so that crops can be drawn around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Side of a counted block in pixels."""


class Positives:
    """Counts of the positive pixels of every block of a region; reads the labels once, a row of blocks at a time.

    Args:
        labels: (H, W, targets) uint8: 0, 1, 255 = unlabelled; may be memory-mapped.
    """

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self._labels = labels
        starts = np.arange(0, labels.shape[1], BLOCK)
        rows = [
            np.add.reduceat((labels[row : row + BLOCK] == 1).sum(0, dtype=np.int64), starts)
            for row in range(0, labels.shape[0], BLOCK)
        ]
        self._counts: NDArray[np.int64] = np.stack(rows)
        self.pixels: NDArray[np.int64] = self._counts.sum((0, 1))
        """(targets,) positive pixels."""

    def draw(self, target: int, rng: np.random.Generator) -> tuple[int, int]:
        """Row and column of a positive pixel, each equally likely.

        Args:
            target: a channel that has some.
            rng: decides.
        """
        counts = self._counts[..., target]
        place = int(rng.choice(counts.size, p=counts.ravel() / counts.sum()))
        row, col = (int(n) * BLOCK for n in np.unravel_index(place, counts.shape))
        rows, cols = np.nonzero(self._labels[row : row + BLOCK, col : col + BLOCK, target] == 1)
        pixel = int(rng.integers(len(rows)))
        return row + int(rows[pixel]), col + int(cols[pixel])
