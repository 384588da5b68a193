"""Vector layers: read with errors a user can act on, brought to a raster's coordinates, drawn on its pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.features import rasterize

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.tiling.grid import Window

SUFFIXES = {
    ".gpkg",
    ".geojson",
    ".json",
    ".geojsonl",
    ".shp",
    ".fgb",
    ".parquet",
    ".gml",
    ".kml",
    ".pbf",
    ".osm",
    ".gdb",
}
"""Endings of files that are vector layers without looking inside."""


def split_layer(name: str) -> tuple[str, str | None]:
    """Path and layer of `file.gpkg|layername=roads`, as QGIS writes it; the layer is None if none is named.

    Raises:
        UsageError: there is more behind the bar, such as the `|subset=` of a filtered layer in QGIS.
    """
    if Path(name).exists():
        return name, None
    path, named, layer = name.partition("|layername=")
    more = layer if named else path
    cut = re.search(r"\|(subset|layerid|geometrytype|uniqueGeometryType|option:)", more)
    if cut:
        raise UsageError(
            f"{name}: only |layername= can stand behind a file, not {more[cut.start() :].split('=')[0]}. Save what you "
            "want as a layer of its own, for example with `ogr2ogr -where`."
        )
    return path, layer if named else None


def is_layer(name: str) -> bool:
    """True for a vector file, by its ending."""
    return Path(split_layer(name)[0]).suffix.lower() in SUFFIXES


def read_layer(
    name: str, what: str, prefer: Sequence[str] = (), where: str | None = None, near: geopandas.GeoSeries | None = None
) -> geopandas.GeoDataFrame:
    """Read a layer.

    Args:
        name: a file, or `file.gpkg|layername=roads`.
        what: how messages call it, such as `--aoi area.gpkg`.
        prefer: layers of which the first is taken from a file that holds several and of which none was named.
        where: OGR SQL that chooses features; not for Parquet.
        near: only features that touch the bounds of these geometries are read.

    Raises:
        UsageError: no such file or layer, several layers, no geometries, or a `where` that is not understood.
    """
    path, layer = split_layer(name)
    if not path.startswith("/vsi") and "://" not in path and not Path(path).exists():
        raise UsageError(f"{what}: no such file.")
    try:
        if Path(path).suffix.lower() == ".parquet":
            if where is not None:
                raise UsageError(
                    f"{what} is a Parquet file, of which {where!r} can choose nothing: save it as a .gpkg."
                )
            frame = geopandas.read_parquet(path)
        else:
            names = [] if layer else [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
            layer = layer or _choose(names, path, what, prefer)
            frame = geopandas.read_file(
                path, layer=layer, bbox=_bounds(near, path, layer), **({} if where is None else {"where": where})
            )
    except UsageError:
        raise
    except (DataSourceError, DataLayerError, OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be read as a vector layer: {str(error).rstrip('.')}.") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise UsageError(f"{what} has no geometries.")
    return frame.reset_index(drop=True)


def feature_count(name: str, prefer: Sequence[str] = ()) -> int:
    """Features of a layer that `read_layer` can read; -1 where that takes reading all of it."""
    path, layer = split_layer(name)
    if Path(path).suffix.lower() == ".parquet":
        return len(geopandas.read_parquet(path))
    names = [str(found) for found, kind in pyogrio.list_layers(path) if kind is not None]
    return int(pyogrio.read_info(path, layer=layer or _choose(names, path, name, prefer))["features"])


def _bounds(near: geopandas.GeoSeries | None, path: str, layer: str | None) -> tuple[float, ...] | None:
    """Bounds in a layer's coordinates, or None if they are not known."""
    system = None if near is None or near.crs is None else pyogrio.read_info(path, layer=layer)["crs"]
    if near is None or system is None:
        return None
    found = near.to_crs(system).total_bounds
    return tuple(found.tolist()) if np.isfinite(found).all() else None


def _choose(names: list[str], path: str, what: str, prefer: Sequence[str]) -> str | None:
    """The layer of a file that names none: the only one with geometries, or a preferred one."""
    preferred = [name for name in prefer if name in names]
    if preferred:
        return preferred[0]
    if len(names) > 1:
        raise UsageError(
            f"{what} holds {len(names)} layers ({', '.join(names[:8])}); name one as '{path}|layername={names[0]}'."
        )
    return names[0] if names else None


def outline(grid: GeoGrid) -> geopandas.GeoSeries:
    """The outline of a grid in the coordinates of vectors, its edges divided, since they are curves elsewhere."""
    corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)]
    area = shapely.Polygon([grid.drawing_transform @ corner for corner in corners])
    return geopandas.GeoSeries([shapely.segmentize(area, max(1e-9, area.length / 400))], crs=grid.crs)


def to_grid(
    geometry: geopandas.GeoSeries, grid: GeoGrid, what: str, beside: str = "the scene", cut: bool = True
) -> geopandas.GeoSeries:
    """Geometries in the coordinates of a grid, without empty ones.

    Before they are projected they are cut near the grid, since far from it (a polygon of the whole world) a
    projection has no coordinates to give, and their edges are divided, since a straight edge is a curve elsewhere.

    Args:
        geometry: with its own coordinate system.
        grid: the pixels; without georeferencing geometries are in pixels with y = -row.
        what: how messages call the layer.
        beside: how they call the grid.
        cut: leave out what lies far from the grid; geometries outside then go missing.

    Raises:
        UsageError: one of the two has a coordinate system and the other has none.
    """
    crs = geometry.crs
    if grid.crs is None:
        if crs is not None and not crs.is_engineering:  # GeoPackage's "undefined" is one of those.
            raise UsageError(
                f"{what} is in {crs.to_string()}, but {beside} has no coordinate system to place it in; give its "
                "geometries in pixels (x = column, y = -row) without one."
            )
        return _filled(geometry.set_crs(None, allow_override=True))
    if crs is None:
        raise UsageError(
            f"{what} has no coordinate system, {beside} has {grid.crs.to_string()}; define it, for example with "
            "`ogr2ogr -a_srs EPSG:4326 out.gpkg in.gpkg`."
        )
    if crs == grid.crs:
        return _filled(geometry)
    if cut:
        geometry = _near(geometry, grid)
    return _filled(_filled(geometry).to_crs(grid.crs))


def _near(geometry: geopandas.GeoSeries, grid: GeoGrid) -> geopandas.GeoSeries:
    left, bottom, right, top = outline(grid).to_crs(geometry.crs).total_bounds
    if not np.isfinite([left, bottom, right, top]).all():
        return geometry
    margin = max(right - left, top - bottom) / 10
    near = geometry.clip_by_rect(left - margin, bottom - margin, right + margin, top + margin)
    return near.segmentize(margin / 5)


def _filled(geometry: geopandas.GeoSeries) -> geopandas.GeoSeries:
    found = geometry.to_numpy()
    return geometry[~(shapely.is_missing(found) | shapely.is_empty(found))]


def polygons(geometry: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """Valid polygons, each part with its geometry's index; without the lines and points that repairing leaves."""
    parts = _filled(geometry).make_valid().explode().explode()
    return parts[(parts.geom_type == "Polygon") & ~parts.is_empty]


def apply(transform: Affine, points: NDArray[Any]) -> NDArray[np.float64]:
    """Points, (points, 2), after an affine transformation."""
    x, y = points.T
    moved = np.empty(points.shape)
    rows = ((transform.a, transform.b, transform.c), (transform.d, transform.e, transform.f))
    for to, (along, across, origin) in zip(moved.T, rows, strict=True):
        np.multiply(x, along, out=to)
        to += across * y
        to += origin
    return moved


def moved(shapes: NDArray[np.object_], transform: Affine) -> NDArray[np.object_]:
    """Shapes, (n,), after an affine transformation; heights are dropped."""
    return np.asarray(shapely.transform(shapely.force_2d(shapes), lambda points: apply(transform, points)), object)


class LayerElsewhereError(UsageError):
    """A layer that has features, but none of them on the grid."""


class Drawing:
    """Shapes on the pixels of a grid; a pixel belongs to a polygon if its center lies inside.

    Args:
        shapes: (n,) shapely geometries in the grid's coordinates.
        grid: the pixels.
        ids: (n,) positive int32 numbers, 1 to n if None; where shapes overlap, the last one counts.
    """

    def __init__(self, shapes: NDArray[np.object_], grid: GeoGrid, ids: NDArray[np.int32] | None = None) -> None:
        self.shapes = shapes
        self.ids = np.arange(1, len(shapes) + 1, dtype=np.int32) if ids is None else ids
        self._transform = grid.drawing_transform
        self._tree = shapely.STRtree(shapes)

    def footprint(self, window: Window) -> shapely.Geometry:
        """The window's outline in map coordinates."""
        corners = [(window.col, window.row), (window.col_end, window.row)]
        corners += [(window.col_end, window.row_end), (window.col, window.row_end)]
        return shapely.Polygon([self._transform @ corner for corner in corners])

    def near(self, window: Window) -> NDArray[np.int64]:
        """Sorted indices of the shapes that touch a window."""
        return np.sort(self._tree.query(self.footprint(window), predicate="intersects"))

    def read(self, window: Window) -> NDArray[np.int32]:
        """(h, w) int32: the number of the shape at each pixel's center, 0 where there is none."""
        chosen = self.near(window)
        if not len(chosen):
            return np.zeros(window.shape, np.int32)
        pairs: list[tuple[Any, int]] = list(zip(self.shapes[chosen], self.ids[chosen].tolist(), strict=True))
        transform = self._transform @ Affine.translation(window.col, window.row)
        drawn: NDArray[np.int32] = rasterize(pairs, out_shape=window.shape, transform=transform, dtype="int32")
        return drawn
