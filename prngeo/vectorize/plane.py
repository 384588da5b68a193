"""How pixel coordinates map to a coordinate system and to metres on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import degrees
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine

from prngeo.raster.gsd import measure_gsd
from prngeo.raster.layer import apply
from prngeo.vectorize.outlines import Floats, Geometries

POINTS_AT_ONCE = 1_000_000
"""About so many points of polygons are moved at a time."""


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
        crs = named_system(src.crs.to_wkt())
        linear = np.array([[transform.a, transform.b], [transform.d, transform.e]])
        center = apply(transform, np.array([(src.width / 2, src.height / 2)]))[0]
        scale = _metres_per_unit(crs, (center[0], center[1]))
        metres = np.array(scale)[:, None] * linear
        found = measure_gsd(src.crs.to_wkt(), transform, src.height, src.width)
        if found is not None and found[1] == "geodesic":  # the projection's metres are not metres on the ground
            metres = metres * (np.array(found[0]) / np.hypot(*metres))
        return cls(transform, metres, crs)

    @property
    def pixel_area(self) -> float:
        """A pixel's area at the center of the raster in square metres."""
        return abs(float(np.linalg.det(self.metres)))

    @property
    def is_geographic(self) -> bool:
        """True if coordinates are angles."""
        return self.crs is not None and bool(self.crs.is_geographic)

    @property
    def side(self) -> float:
        """Side in metres of a square of a pixel's area."""
        return float(np.sqrt(self.pixel_area))

    @property
    def to_square(self) -> Floats:
        """float64 (2, 2): points @ this have square pixels, of the same area."""
        return self.metres.T / self.side

    @property
    def has_square_pixels(self) -> bool:
        """True if pixels are squares on the ground, turned or not."""
        return bool(np.allclose(self.to_square @ self.to_square.T, np.eye(2), atol=1e-3))

    def smallest(self, area: float, shape: tuple[int, int]) -> float:
        """Number of pixels that an object of this area in m2 has at least, in a raster of (rows, columns)."""
        if not self.is_geographic:
            return area / self.pixel_area * (1 - 1e-9)
        rows, columns = (np.linspace(0, size - 1, 9) for size in shape)
        pixels = [shapely.box(column, row, column + 1, row + 1) for row in rows for column in columns]
        return area / float(self.areas(np.array(pixels, object)).max()) * 0.98

    def areas(self, geometry: Geometries) -> Floats:
        """Areas in square metres of polygons in pixel coordinates: float64 (polygons,), geodesic in degrees."""
        if self.crs is None or not self.crs.is_geographic:
            return np.asarray(shapely.area(geometry) * self.pixel_area, float)
        geod, degree = _geod(self.crs), _degrees_per_unit(self.crs)
        lonlat = shapely.orient_polygons(shapely.transform(geometry, lambda p: apply(self.transform, p) * degree))
        return np.array([abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in lonlat], float)

    def lengths(self, geometry: Geometries) -> Floats:
        """Lengths in metres of lines in pixel coordinates: float64 (lines,), geodesic in degrees."""
        if self.crs is None or not self.crs.is_geographic:
            return np.asarray(shapely.length(shapely.transform(geometry, lambda p: p @ self.metres.T)), float)
        geod, degree = _geod(self.crs), _degrees_per_unit(self.crs)
        lonlat = shapely.transform(geometry, lambda p: apply(self.transform, p) * degree)
        return np.array([geod.geometry_length(line) for line in lonlat], float)

    def simplify(self, geometry: Geometries, tolerance: float) -> Geometries:
        """Simplify polygons in pixel coordinates together, with a tolerance in metres.

        Vertices are removed and none are moved, so what touches still does (`shapely.coverage_simplify`).
        """
        if tolerance <= 0 or not len(geometry):
            return geometry
        if self.has_square_pixels:
            # With integers, rounding does not decide which of equal triangles goes first.
            return np.asarray(shapely.coverage_simplify(geometry, tolerance / self.side), object)
        metric = shapely.transform(geometry, lambda points: points @ self.to_square)
        simple = shapely.coverage_simplify(metric, tolerance / self.side)
        back = np.linalg.inv(self.to_square)
        return np.asarray(shapely.transform(simple, lambda points: np.rint(points @ back)), object)

    def to_map(self, geometry: Geometries) -> Geometries:
        """Move polygons from pixel coordinates to the CRS; outer rings turn counterclockwise, holes clockwise.

        They are taken out of `geometry` on the way, so that there are never two of each.
        """
        part = np.cumsum(shapely.get_num_coordinates(geometry)) // POINTS_AT_ONCE
        moved = np.empty(len(geometry), object)
        for piece in np.split(np.arange(len(geometry)), np.flatnonzero(np.diff(part)) + 1):
            some, geometry[piece] = geometry[piece], None
            places = shapely.get_coordinates(some)
            places = apply(self.transform, places)
            some = shapely.set_coordinates(some, places)
            del places
            moved[piece] = shapely.orient_polygons(some)
        return moved


def named_system(wkt: str) -> pyproj.CRS:
    """A coordinate system by its EPSG code, if it surely has one, so that files name it instead of describing it."""
    crs = pyproj.CRS.from_wkt(wkt)
    code = crs.to_epsg(min_confidence=100)
    return crs if code is None else pyproj.CRS.from_epsg(code)


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
