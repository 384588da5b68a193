"""What a refiner of scores reads: logits, image and labels by windows, from arrays or files alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from prngeo.raster.geogrid import GeoGrid
from prngeo.tiling.grid import Grid, Window

LIMIT = 12.0
"""Logits are clamped to this absolute value, as refiners do (prngeo.refine.network.LOGIT_LIMIT, without torch)."""
IGNORE = 255
"""Label of a pixel that does not count."""
BLOCK = 1024
"""Side of the windows in which scenes are read, in pixels."""


class ScoreScene(Protocol):
    """A scene with scores."""

    @property
    def name(self) -> str:
        """For messages and outputs."""
        ...

    @property
    def grid(self) -> GeoGrid:
        """Its pixels."""
        ...

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Logits and image of a window, which may reach beyond the scene.

        Returns:
            (classes + image bands, h, w) float32, 0 where there is no score, and (h, w) bool: where there is one.
        """
        ...


class LabelledScene(ScoreScene, Protocol):
    """A scene with scores and labels."""

    def truth(self, window: Window) -> NDArray[np.uint8]:
        """(classes, h, w) uint8: 0, 1, or 255 where there is no label, no score, or no pixel."""
        ...


@dataclass(frozen=True)
class ArrayScene:
    """A scene in memory.

    Attributes:
        name: see `ScoreScene`.
        stack: (classes + bands, H, W) float32: logits, then an image in 0..1; 0 where there is no score.
        valid: (H, W) bool: where there is a score.
        labels: (classes, H, W) uint8: 0, 1 or 255.
    """

    name: str
    stack: NDArray[np.float32]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]

    @property
    def grid(self) -> GeoGrid:
        """Pixels without a place on the map."""
        height, width = self.valid.shape
        return GeoGrid(height, width, Affine.identity(), None)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `ScoreScene`."""
        stack = padded(self.stack, window, 0)
        return stack, padded(self.valid, window, False)

    def truth(self, window: Window) -> NDArray[np.uint8]:
        """See `LabelledScene`."""
        return padded(self.labels, window, IGNORE)


def padded(array: NDArray[Any], window: Window, fill: float) -> NDArray[Any]:
    """A window of (..., H, W), filled up where it reaches beyond."""
    result = np.full((*array.shape[:-2], *window.shape), fill, array.dtype)
    inside = window.intersect(Window(0, 0, *array.shape[-2:]))
    if not inside.is_empty:
        place = (..., slice(inside.row, inside.row_end), slice(inside.col, inside.col_end))
        result[(..., *inside.within(window))] = array[place]
    return result


def blocks(window: Window, side: int = BLOCK) -> Iterator[Window]:
    """A window in square parts, row by row; the last of a row or column may be smaller."""
    grid = Grid(*window.shape, side)
    for index in grid.indices():
        part = grid.window(index).intersect(grid.extent)
        yield part.moved(window.row, window.col)
