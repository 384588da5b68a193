"""An area of interest: the part of a scene that is predicted or judged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import Drawing, LayerElsewhereError, polygons, read_layer, to_grid
from prngeo.tiling.grid import Window


class Aoi:
    """Polygons on the pixels of a grid; a pixel belongs if its center lies inside.

    Attributes:
        digest: SHA-256 of the polygons in the grid's coordinates.

    Args:
        path: vector file in any coordinate system.
        grid: the pixels; without georeferencing polygons are in pixels with y = -row.
        option: by which the user gave it, for messages.

    Raises:
        UsageError: unreadable, no polygon, no coordinate system, or it does not touch the scene.
    """

    def __init__(self, path: Path, grid: GeoGrid, option: str = "--aoi") -> None:
        what = f"{option} {path}"
        area = polygons(read_layer(str(path), what).geometry)
        if not len(area):
            raise UsageError(f"{what} holds no polygon; an area of interest is one or more polygons.")
        self._drawing = Drawing(polygons(to_grid(area, grid, what)).to_numpy(), grid)
        inverse = ~grid.drawing_transform
        to_pixels = (inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f)
        pixels = shapely.affinity.affine_transform(shapely.union_all(self._drawing.shapes), to_pixels)
        if not shapely.area(shapely.intersection(pixels, shapely.box(0, 0, grid.width, grid.height))):
            raise LayerElsewhereError(f"{what} does not touch the scene: no pixel lies inside its polygons.")
        self._pixels = shapely.prepared.prep(pixels)
        self.digest = hashlib.sha256(b"".join(shapely.to_wkb(self._drawing.shapes))).hexdigest()

    def touches(self, window: Window) -> bool:
        """True if a window of the grid may hold a pixel of the area."""
        return bool(self._pixels.intersects(shapely.box(window.col, window.row, window.col_end, window.row_end)))

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool, True inside the area."""
        return self._drawing.read(window) > 0
