"""A grid of pixels with its place on the map, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from affine import Affine
from rasterio.crs import CRS

from prngeo.tiling.grid import Window


@dataclass(frozen=True)
class GeoGrid:
    """The pixels of a raster and where they lie.

    Attributes:
        height: rows.
        width: columns.
        transform: pixel to map coordinates; the identity if the raster has no georeferencing.
        crs: coordinate system or None.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None

    @property
    def extent(self) -> Window:
        """All of its pixels."""
        return Window(0, 0, self.height, self.width)

    @property
    def drawing_transform(self) -> Affine:
        """From pixels to the coordinates of vectors: without georeferencing y = -row, as QGIS draws a raster."""
        plain = self.crs is None and self.transform.is_identity
        return Affine.scale(1, -1) if plain else self.transform
