"""What is counted of probabilities: levels by patch, and sums that calibration needs by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.bias import PATCH, PatchHistograms
from prngeo.evaluation.pixel import LEVELS, STEP, Floats, by_bin, level_of, ratio
from prngeo.tiling.grid import Grid, Window


class ScoreCounts:
    """Counts of one prediction's probabilities, filled window by window.

    Args:
        folder: existing folder for the histograms.
        blocks: the blocks of the scene; their side is a multiple of `PATCH`.

    Attributes:
        patches: histograms of patches.
        bins: (rows, cols, BINS) sum of probabilities by block and bin of reliability.
    """

    def __init__(self, folder: Path, blocks: Grid) -> None:
        self.patches = PatchHistograms(folder, -(-blocks.height // PATCH), -(-blocks.width // PATCH))
        self.bins: Floats = np.zeros((blocks.rows, blocks.cols, len(by_bin(np.zeros(LEVELS)))))
        self._block = blocks.size
        self._pixels = np.zeros(LEVELS)
        self._sums = np.zeros(LEVELS)

    def add(self, window: Window, probability: Floats, known: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
        """Count a window that begins at a block's corner.

        Args:
            window: its place.
            probability: (h, w) in 0..1.
            known: (h, w) pixels that are compared.
            true: (h, w) pixels of the truth.
        """
        level = level_of(probability)
        counts = level_counts(level, known, true, PATCH)
        self.patches.put(window.row // PATCH, window.col // PATCH, counts)
        rows, cols = -(-window.height // self._block), -(-window.width // self._block)
        _add_numbers(level, self._block, cols, LEVELS)
        sums = np.bincount(level[known], probability[known], rows * cols * LEVELS).reshape(rows, cols, LEVELS)
        row, col = window.row // self._block, window.col // self._block
        self.bins[row : row + rows, col : col + cols] += by_bin(sums)
        self._sums += sums.sum((0, 1))
        self._pixels += counts.sum((0, 1, 2))

    @property
    def level_probability(self) -> Floats:
        """(LEVELS,) mean probability of a level's pixels; its lower end where there are none."""
        return np.where(self._pixels > 0, ratio(self._sums, self._pixels), np.arange(LEVELS) * STEP)


def level_counts(
    level: NDArray[np.int64], known: NDArray[np.bool_], true: NDArray[np.bool_], side: int
) -> NDArray[np.int64]:
    """Pixels of squares by truth and level of probability.

    Args:
        level: (h, w) 0..250.
        known: (h, w) pixels that count.
        true: (h, w) pixels of the truth.
        side: of a square in pixels.

    Returns:
        (rows, cols, 2, LEVELS).
    """
    rows, cols = (-(-length // side) for length in level.shape)
    key = np.where(true, level + LEVELS, level)
    _add_numbers(key, side, cols, 2 * LEVELS)
    return np.bincount(key[known], minlength=rows * cols * 2 * LEVELS).reshape(rows, cols, 2, LEVELS)


def _add_numbers(key: NDArray[np.int64], side: int, cols: int, step: int) -> None:
    """Add to (h, w) keys `step` times the number of the square of `side` pixels in which each pixel lies."""
    row, col = (np.arange(length) // side for length in key.shape)
    key += row[:, None] * (cols * step)
    key += col[None, :] * step
