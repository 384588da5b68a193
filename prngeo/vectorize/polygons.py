"""Exact polygons of a mask raster, with the statistics of the pixels that each one covers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import degrees
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from prngeo.errors import PrngeoError, UsageError
from prngeo.raster.gsd import measure_gsd
from prngeo.vectorize.outlines import OBJECT, Floats, Geometries, Outlines, Rings, trace
from prngeo.vectorize.zonal import Sums, zonal_sums

SLIVER = 1e-9


def polygonize(
    mask_path: str | Path,
    probability_path: str | Path | None = None,
    changed_path: str | Path | None = None,
    *,
    min_area: float = 0.0,
    simplify: float = 0.0,
    connectivity: Literal[4, 8] = 4,
    pixel_size: float | None = None,
) -> gpd.GeoDataFrame:
    """Turn the objects of a mask raster into polygons.

    The rasters are read in strips, so memory grows with the number and complexity of the polygons and not
    with the raster. Attributes belong to the exact outline: `min_area` filters by it, and only then are
    outlines simplified. Simplifying removes vertices and moves none, all polygons together, so what touched
    still touches and nothing overlaps.

    Coordinates are those of the raster's CRS. A raster without CRS and geotransform gives x = column and
    y = -row, counted from the upper left corner, which is where QGIS draws it.

    Args:
        mask_path: raster whose first band is uint8: 1 = object, 0 = background, and no-data as the band's
            nodata value says (255 if it has none). Any other value is background.
        probability_path: raster on the same grid, its first band the calibrated probability: raw values
            times the band's scale plus its offset; its nodata (255 if uint8 without a nodata value) is
            left out.
        changed_path: raster on the same grid, its first band 1 where the refiner changed the mask.
        min_area: smallest area kept, in the unit of `area_m2`.
        simplify: tolerance in metres (without CRS and `pixel_size`: pixels), 0 for exact outlines. A corner
            goes if its triangle with the neighbouring corners is smaller than about the tolerance squared.
        connectivity: 4 joins pixels that share an edge; 8 also those that share a corner, which makes
            MultiPolygons of the pieces that meet in a corner.
        pixel_size: a pixel's side in metres, used only if the raster has no CRS.

    Returns:
        One row a polygon, ordered by its first pixel (row, then column), with a fresh index and the columns
        `area_m2` (float64: planar for a projected CRS, at the ground scale of the scene's center where that is
            distorted, as in Web Mercator; geodesic for a geographic one; without CRS and
        `pixel_size` it counts pixels), `probability` (float64: mean over the polygon's pixels, NaN without
        a raster), `refined` (float64: share of its pixels that were changed, 0 to 1, NaN without a raster),
        `touches_edge` (bool: one of its pixels neighbours no-data or the raster's border) and `geometry`.
        `frame.attrs["geometry_type"]` says Polygon or MultiPolygon, also where there is no row.

    Raises:
        UsageError: a raster is missing, unreadable, of the wrong type or on another grid, or an option is
            out of range.
        PrngeoError: reading broke off.
    """
    _check_options(min_area, simplify, connectivity, pixel_size)
    with ExitStack() as stack:
        mask, probability, changed = (
            None if path is None else stack.enter_context(_opened(path, what))
            for path, what in (
                (mask_path, "mask"),
                (probability_path, "probability raster"),
                (changed_path, "raster of changed pixels"),
            )
        )
        _check_rasters(mask, probability, changed)
        plane = Plane.of(mask, pixel_size)
        with _reading(mask_path):
            outlines = trace(mask, plane.areas, min_area, connectivity)
            sums = zonal_sums(outlines, mask, probability, changed, connectivity)
        # rasterio ends the shapes quietly when GDAL fails to trace them: count, so that none goes missing.
        if sums.objects != outlines.traced:
            raise PrngeoError(
                f"GDAL traced {outlines.traced} of the {sums.objects} object pixels in {mask_path}. The "
                "memory may be full: cut the raster into smaller ones."
            )
        columns = _attributes(outlines, sums, probability, changed)
    geometry = plane.to_map(plane.simplify(outlines.geometry, simplify))
    if simplify > 0:
        geometry = _repaired(geometry)
    frame = gpd.GeoDataFrame(columns, geometry=geometry, crs=plane.crs)
    frame.attrs["geometry_type"] = "Polygon" if connectivity == 4 else "MultiPolygon"
    return frame


@dataclass(frozen=True)
class Plane:
    """How pixel coordinates (column, row) map to a CRS and to metres.

    Attributes:
        transform: from pixel coordinates to the CRS.
        metres: the linear part of that in metres, float64 (2, 2).
        crs: the CRS, if there is one.
    """

    transform: Affine
    metres: Floats
    crs: pyproj.CRS | None

    @classmethod
    def of(cls, src: Any, pixel_size: float | None) -> Plane:
        """The plane of an open raster; `pixel_size` in metres stands in for a missing CRS."""
        transform = src.transform
        if src.crs is None:
            size = 1.0 if pixel_size is None else pixel_size
            plain = transform == Affine.identity()
            return cls(Affine.scale(1, -1) if plain else transform, np.diag([size, size]), None)
        crs = pyproj.CRS.from_wkt(src.crs.to_wkt())
        code = crs.to_epsg(min_confidence=100)
        crs = crs if code is None else pyproj.CRS.from_epsg(code)
        linear = np.array([[transform.a, transform.b], [transform.d, transform.e]])
        center = _apply(transform, np.array([(src.width / 2, src.height / 2)]))[0]
        scale = _metres_per_unit(crs, (center[0], center[1]))
        metres = np.array(scale)[:, None] * linear
        found = measure_gsd(src.crs.to_wkt(), transform, src.height, src.width)
        if found is not None and found[1] == "geodesic":  # the projection's metres are not metres on the ground
            metres = metres * (np.array(found[0]) / np.hypot(*metres))
        return cls(transform, metres, crs)

    def areas(self, rings: Rings) -> Floats:
        """Areas of polygons in square metres, float64 of shape (polygons,)."""
        if self.crs is None or not self.crs.is_geographic:
            return np.abs(rings.signed_pixels) * abs(float(np.linalg.det(self.metres)))
        geod = _geod(self.crs)
        lon, lat = (_apply(self.transform, rings.points) * _degrees_per_unit(self.crs)).T
        ends = zip(rings.ring_starts[:-1], rings.ring_starts[1:], strict=True)
        areas = np.array([geod.polygon_area_perimeter(lon[i:j], lat[i:j])[0] for i, j in ends])
        return np.abs(np.add.reduceat(areas, rings.polygon_starts[:-1]))

    def simplify(self, geometry: Geometries, tolerance: float) -> Geometries:
        """Simplify polygons in pixel coordinates together, with a tolerance in metres."""
        if tolerance <= 0 or not len(geometry):
            return geometry
        side = abs(float(np.linalg.det(self.metres))) ** 0.5
        shape = self.metres.T / side
        if np.allclose(shape @ shape.T, np.eye(2), atol=1e-3):
            # Square pixels: with integers, rounding does not decide which of equal triangles goes first.
            return np.asarray(shapely.coverage_simplify(geometry, tolerance / side), object)
        metric = shapely.transform(geometry, lambda points: points @ shape)
        simple = shapely.coverage_simplify(metric, tolerance / side)
        back = np.linalg.inv(shape)
        return np.asarray(shapely.transform(simple, lambda points: np.rint(points @ back)), object)

    def to_map(self, geometry: Geometries) -> Geometries:
        """Move polygons from pixel coordinates to the CRS."""
        return np.asarray(shapely.transform(geometry, lambda points: _apply(self.transform, points)), object)


def _repaired(geometry: Geometries) -> Geometries:
    """Simplified polygons in which a corner, rounded to the other side of the edge it touched, is cut off."""
    broken = np.flatnonzero(~shapely.is_valid(geometry))
    for index in broken:
        parts = shapely.get_parts(shapely.make_valid(geometry[index], method="structure"))
        parts = parts[shapely.area(parts) > SLIVER * shapely.area(geometry[index])]
        geometry[index] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts))
    return geometry


def _apply(transform: Affine, points: NDArray[Any]) -> Floats:
    """Points, (points, 2), after an affine transformation."""
    x, y = points.T
    return np.stack(
        [
            transform.a * x + transform.b * y + transform.c,
            transform.d * x + transform.e * y + transform.f,
        ],
        axis=1,
    )


def _attributes(outlines: Outlines, sums: Sums, probability: Any, changed: Any) -> dict[str, Any]:
    """The columns of the result that come before the geometry."""
    mean = share = np.full(len(outlines.pixels), np.nan)
    if probability is not None:
        with np.errstate(invalid="ignore"):
            raw = sums.probability / (outlines.pixels - sums.invalid)
        mean = raw * probability.scales[0] + probability.offsets[0]
    if changed is not None:
        share = sums.changed / outlines.pixels
    return {
        "area_m2": outlines.area,
        "probability": mean,
        "refined": share,
        "touches_edge": sums.edge > 0,
    }


def _metres_per_unit(crs: pyproj.CRS, point: tuple[float, float]) -> tuple[float, float]:
    """Metres per unit of x and of y at a point, both in the CRS's own unit."""
    if not crs.is_geographic:
        axis = (crs.source_crs if crs.is_bound and crs.source_crs else crs).axis_info
        unit = axis[0].unit_conversion_factor if axis else 1.0
        return unit, unit
    geod, degree, step = _geod(crs), _degrees_per_unit(crs), 1e-4
    lon, lat = point[0] * degree, min(max(point[1] * degree, -89.9), 89.9)
    east = geod.inv(lon - step, lat, lon + step, lat)[2]
    north = geod.inv(lon, lat - step, lon, lat + step)[2]
    return east / (2 * step) * degree, north / (2 * step) * degree


def _degrees_per_unit(crs: pyproj.CRS) -> float:
    axis = crs.axis_info
    return degrees(axis[0].unit_conversion_factor) if axis else 1.0


def _geod(crs: pyproj.CRS) -> pyproj.Geod:
    return crs.get_geod() or pyproj.Geod(ellps="WGS84")


@contextmanager
def _opened(path: str | Path, what: str) -> Iterator[Any]:
    """Open a raster, quietly if it has no georeferencing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            src = rasterio.open(path)
        except RasterioError as error:
            raise UsageError(
                f"cannot open the {what} {path}: {error}. Give a raster file that GDAL can read."
            ) from error
    with src:
        yield src


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (RasterioError, rasterio._err.CPLE_BaseError) as error:
        reason = error.__cause__ or error
        raise PrngeoError(
            f"reading {path} or a raster given with it broke off: {reason}. The file may be truncated; make it again."
        ) from error


def _check_options(min_area: float, simplify: float, connectivity: int, pixel_size: float | None) -> None:
    if not (min_area >= 0 and simplify >= 0):
        raise UsageError(f"min_area and simplify must be 0 or more, got {min_area} and {simplify}.")
    if connectivity not in (4, 8):
        raise UsageError(f"connectivity must be 4 or 8, got {connectivity}.")
    if pixel_size is not None and not pixel_size > 0:
        raise UsageError(f"pixel_size must be a positive number of metres, got {pixel_size}.")


def _check_rasters(mask: Any, probability: Any, changed: Any) -> None:
    if mask.dtypes[0] != "uint8" or mask.nodata == OBJECT:
        raise UsageError(
            f"{mask.name} is no mask: expected a uint8 band with 1 = object, 0 = background and another "
            f"value for no-data, got {mask.dtypes[0]} with nodata {mask.nodata}."
        )
    for other in (probability, changed):
        if other is None or (other.shape == mask.shape and _same_place(other, mask)):
            continue
        raise UsageError(
            f"{other.name} is not on the grid of the mask {mask.name}: expected {mask.width} x {mask.height} "
            f"pixels with the geotransform {tuple(mask.transform)[:6]}, got {other.width} x {other.height} "
            f"with {tuple(other.transform)[:6]}."
        )


def _same_place(one: Any, other: Any) -> bool:
    """Whether the corners of two rasters of one shape agree to a hundredth of a pixel."""
    corners = np.array([(0, 0), (one.width, 0), (0, one.height)])
    back = _apply(~other.transform, _apply(one.transform, corners))
    return bool(np.allclose(back, corners, atol=0.01, rtol=0))
