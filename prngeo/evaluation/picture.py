"""A scene in small: shares of hits, false alarms, misses and background in cells of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.pixel import Floats
from prngeo.tiling.grid import Window

SIDE = 900
"""Side of a picture in cells, at most (more for scenes of more than 229,500 pixels a side)."""
_BITS = 16  # a sum of a cell fits, whose side is at most 255
_CODES = np.array([0] + [1 << (_BITS * channel) for channel in (3, 2, 1, 0)], np.int64)
"""What a pixel of each kind adds: unknown, background, missed, false, found."""


class Picture:
    """The picture of one prediction, filled window by window.

    Args:
        height: the scene's rows.
        width: its columns.

    Attributes:
        cell: side of a cell in pixels.
        shares: (rows, cols, 4) float64, share of a cell's pixels that are found, false, missed and background.
    """

    def __init__(self, height: int, width: int) -> None:
        self.cell = min(255, max(1, -(-max(height, width) // SIDE)))
        self.shares: Floats = np.zeros((-(-height // self.cell), -(-width // self.cell), 4))

    @property
    def known(self) -> Floats:
        """(rows, cols) share of known pixels."""
        known: Floats = self.shares.sum(-1)
        return known

    def add(self, window: Window, known: NDArray[np.bool_], true: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
        """Draw a window.

        Args:
            window: its place in the scene.
            known: (h, w) pixels that are compared.
            true: (h, w) known pixels of the truth.
            found: (h, w) known pixels of the prediction.
        """
        # All four counts of a cell are summed at once, each in 16 bits of one number.
        sums = _CODES[known.astype(np.uint8) + true + 2 * found.astype(np.uint8)]
        places = []
        for axis, (start, stop) in enumerate(((window.row, window.row_end), (window.col, window.col_end))):
            cells = np.arange(start // self.cell, -(-stop // self.cell))
            sums = np.add.reduceat(sums, np.maximum(cells * self.cell - start, 0), axis=axis)
            places.append(slice(int(cells[0]), int(cells[-1]) + 1))
        channels = sums[..., None] >> (_BITS * np.arange(4)) & ((1 << _BITS) - 1)
        self.shares[places[0], places[1]] += channels / self.cell**2
