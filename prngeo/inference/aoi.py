"""An area of interest: the part of a scene that is predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.features import rasterize

from prngeo.errors import UsageError
from prngeo.inference.outputs import OutputGrid
from prngeo.tiling.grid import Window


class Aoi:
    """Polygons on the pixels of an output grid; a pixel belongs if its center lies inside.

    Args:
        path: vector file in any coordinate system.
        grid: the outputs' pixels; without georeferencing polygons are in pixels with y = -row.

    Raises:
        UsageError: unreadable, no polygon, no coordinate system, or it does not touch the scene.
    """

    def __init__(self, path: Path, grid: OutputGrid) -> None:
        try:
            layer = geopandas.read_file(path)
        except (DataSourceError, DataLayerError, OSError, ValueError) as error:
            raise UsageError(f"--aoi {path} cannot be read as a vector layer: {error}.") from error
        if not isinstance(layer, geopandas.GeoDataFrame):
            raise UsageError(f"--aoi {path} has no geometries.")
        polygons = _polygons(layer.geometry)
        if not len(polygons):
            raise UsageError(f"--aoi {path} holds no polygon; an area of interest is one or more polygons.")
        if grid.crs is not None:
            if layer.crs is None:
                raise UsageError(
                    f"--aoi {path} has no coordinate system, the scene has {grid.crs.to_string()}; define it, for "
                    "example with `ogr2ogr -a_srs EPSG:4326 out.gpkg in.gpkg`."
                )
            polygons = _project(polygons, layer.crs, grid)
        elif layer.crs is not None and not layer.crs.is_engineering:  # GeoPackage's "undefined" is one of those.
            raise UsageError(
                f"--aoi {path} is in {layer.crs.to_string()}, but the scene has no coordinate system to place it in; "
                "give polygons in pixels (x = column, y = -row) without one."
            )
        self._transform = grid.transform if grid.crs or not grid.transform.is_identity else Affine.scale(1, -1)
        self._shapes: list[Any] = list(polygons)
        inverse = ~self._transform
        to_pixels = (inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f)
        area = shapely.affinity.affine_transform(shapely.union_all(self._shapes), to_pixels)
        extent = shapely.box(0, 0, grid.width, grid.height)
        if not shapely.area(shapely.intersection(area, extent)):
            raise UsageError(f"--aoi {path} does not touch the scene: no pixel lies inside its polygons.")
        self._pixels = shapely.prepared.prep(area)

    def touches(self, window: Window) -> bool:
        """True if a window of the grid may hold a pixel of the area."""
        return bool(self._pixels.intersects(shapely.box(window.col, window.row, window.col_end, window.row_end)))

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool, True inside the area."""
        transform = self._transform @ Affine.translation(window.col, window.row)
        drawn = rasterize(self._shapes, out_shape=window.shape, transform=transform, dtype="uint8")
        inside: NDArray[np.bool_] = drawn.astype(bool)
        return inside


def _polygons(geometries: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """Valid polygons of a layer; the lines and points that repairing leaves would cover pixels of their own."""
    found = geometries.to_numpy()
    known = geometries[~(shapely.is_missing(found) | shapely.is_empty(found))]
    parts = known.make_valid().explode(ignore_index=True).explode(ignore_index=True)
    return parts[(parts.geom_type == "Polygon") & ~parts.is_empty]


def _project(polygons: geopandas.GeoSeries, crs: Any, grid: OutputGrid) -> geopandas.GeoSeries:
    """Polygons in the grid's system.

    They are cut near the scene first, since far from it (a polygon of the whole world) a projection has no
    coordinates to give, and their edges are divided, since a straight edge is a curve elsewhere.
    """
    if crs == grid.crs:
        return polygons
    corners = [grid.transform @ (col, row) for row in (0, grid.height) for col in (0, grid.width)]
    outline = shapely.MultiPoint(corners).convex_hull
    step = max(1e-9, outline.length / 400)
    around = geopandas.GeoSeries([shapely.segmentize(outline, step)], crs=grid.crs).to_crs(crs)
    left, bottom, right, top = around.total_bounds
    if np.isfinite([left, bottom, right, top]).all():
        margin = max(right - left, top - bottom) / 10
        polygons = polygons.clip_by_rect(left - margin, bottom - margin, right + margin, top + margin)
        polygons = polygons.segmentize(margin / 5)
    return _polygons(polygons.to_crs(grid.crs))
