"""Truth for a scene's pixels, from a mask raster on the scene's grid or from a polygon layer."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import Drawing, is_layer, polygons, read_layer, to_grid
from prngeo.raster.scene import Scene
from prngeo.raster.source import open_dataset
from prngeo.tiling.grid import Window
from prngeo.training.regions import IGNORE


class LabelReader(Protocol):
    """Reads truth by windows of the scene's pixels."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) uint8: 0, 1, or 255 where unlabelled; the window lies inside the scene."""
        ...


def open_labels(path: str, scene: Scene) -> LabelReader:
    """A reader of the labels in `path` on the grid of `scene`.

    Raises:
        UsageError: a mask of another size, or a layer without coordinate system.
    """
    return _Polygons(path, scene) if is_layer(path) else _Mask(path, scene)


class _Mask:
    """With a nodata tag other than 0: 1 is the object. Without: anything but 0 is (often 255)."""

    def __init__(self, path: str, scene: Scene) -> None:
        self._dataset = open_dataset(path)
        if self._dataset.shape != (scene.height, scene.width):
            raise UsageError(
                f"{path} has {self._dataset.height} x {self._dataset.width} pixels, its scene {scene.path} "
                f"{scene.height} x {scene.width}: a mask must lie on the scene's grid."
            )

    def read(self, window: Window) -> NDArray[np.uint8]:
        drawn = self._dataset.read(1, window=((window.row, window.row_end), (window.col, window.col_end)))
        nodata = self._dataset.nodata
        if nodata is None or nodata == 0:  # Masks are often saved with their background as nodata.
            drawn, nodata = drawn > 0, IGNORE
        labels: NDArray[np.uint8] = np.where(drawn == nodata, IGNORE, drawn == 1).astype(np.uint8)
        return labels


class _Polygons:
    """A pixel is an object if its center lies in a polygon; the layer is complete over the scene.

    Without georeferencing polygons are in pixels with y = -row, as QGIS draws the scene.
    """

    def __init__(self, path: str, scene: Scene) -> None:
        grid = GeoGrid(scene.height, scene.width, scene.transform, scene.crs)
        placed = to_grid(read_layer(path, path).geometry, grid, path, f"its scene {scene.path}")
        self._drawing = Drawing(polygons(placed).to_numpy(), grid)

    def read(self, window: Window) -> NDArray[np.uint8]:
        return (self._drawing.read(window) > 0).astype(np.uint8)
