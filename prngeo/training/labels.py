"""Truth for a scene's pixels, from a mask raster on the scene's grid or from a polygon layer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import geopandas
import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from prngeo.errors import UsageError
from prngeo.raster.scene import Scene
from prngeo.raster.source import open_dataset
from prngeo.tiling.grid import Window
from prngeo.training.regions import IGNORE

VECTOR_SUFFIXES = {".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet"}


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
    return _Polygons(path, scene) if Path(path).suffix.lower() in VECTOR_SUFFIXES else _Mask(path, scene)


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
        layer = geopandas.read_file(path)
        if scene.crs is not None:
            if layer.crs is None:
                raise UsageError(f"{path} has no coordinate system, its scene {scene.path} has one.")
            layer = layer.to_crs(scene.crs)
        elif layer.crs is not None and not layer.crs.is_engineering:  # GeoPackage's "undefined" is one of those.
            raise UsageError(f"{path} is in {layer.crs.to_string()}, its scene {scene.path} has no such system.")
        self._shapes = list(layer.geometry[layer.geom_type.isin(["Polygon", "MultiPolygon"]) & ~layer.is_empty])
        self._transform = scene.transform if scene.georeferenced else Affine.scale(1, -1)

    def read(self, window: Window) -> NDArray[np.uint8]:
        if not self._shapes:
            return np.zeros(window.shape, np.uint8)
        transform = self._transform @ Affine.translation(window.col, window.row)
        drawn: NDArray[np.uint8] = rasterize(self._shapes, out_shape=window.shape, transform=transform, dtype="uint8")
        return drawn
