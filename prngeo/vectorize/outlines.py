"""Outlines of a mask's objects along pixel edges, as GDAL traces them from an open raster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes

OBJECT = 1
BATCH_VERTICES = 200_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class Outlines:
    """Polygons in the order of their first pixels.

    Attributes:
        geometry: shapely polygons in pixel coordinates (column, row), object array (polygons,).
        pixels: number of pixels, int64 (polygons,).
        area: area in the caller's unit, float64 (polygons,).
        edges: their vertical edges by first row, int32 (edges, 5): column, first row, end row, sign, polygon.
            The sign is 1 where the object lies to the left of the edge and -1 where it lies to the right.
        traced: number of pixels in all objects, also in those that were dropped as too small.
    """

    geometry: Geometries
    pixels: Integers
    area: Floats
    edges: NDArray[np.int32]
    traced: int


@dataclass(frozen=True)
class Rings:
    """Polygons as GDAL traced them.

    All rings keep the object on the same side, also where a ring touches itself, so signed sums over the
    rings of a polygon are right without knowing which ring is a hole.

    Attributes:
        points: pixel corners (column, row), int64 (points, 2), every ring closed.
        ring_starts: first point of each ring and the end, int64 (rings + 1,).
        polygon_starts: first ring of each polygon and the end, int64 (polygons + 1,).
    """

    points: Integers
    ring_starts: Integers
    polygon_starts: Integers

    @property
    def point_starts(self) -> Integers:
        """First point of each polygon and the end, shape (polygons + 1,)."""
        return self.ring_starts[self.polygon_starts]

    @cached_property
    def signed_pixels(self) -> Integers:
        """Area in pixels, shape (polygons,); the sign tells the direction of the rings."""
        x, y = self.points.T
        steps = np.append(x[:-1] * np.diff(y), 0)
        steps[self.ring_starts[1:] - 1] = 0
        return np.add.reduceat(steps, self.point_starts[:-1])

    def first_pixels(self, width: int) -> Integers:
        """Rank of each polygon's uppermost, then leftmost pixel in a raster of `width` columns."""
        x, y = self.points.T
        return np.minimum.reduceat(y * (width + 1) + x, self.point_starts[:-1])

    def edges(self) -> NDArray[np.int32]:
        """The vertical edges of the polygons, as in `Outlines` but in the order of the rings."""
        x, y = self.points.T
        steps = np.append(np.diff(y), 0)
        steps[self.ring_starts[1:] - 1] = 0
        at = np.flatnonzero(steps)
        owner = np.repeat(np.arange(len(self.polygon_starts) - 1), np.diff(self.point_starts))[at]
        sign = np.sign(steps[at]) * np.sign(self.signed_pixels)[owner]
        start, end = y[at], y[at + 1]
        return np.stack([x[at], np.minimum(start, end), np.maximum(start, end), sign, owner], 1).astype(np.int32)

    def take(self, keep: NDArray[np.bool_]) -> Rings:
        """Only the polygons where `keep`, bool of shape (polygons,), is true."""
        ring_counts, ring_sizes = np.diff(self.polygon_starts), np.diff(self.ring_starts)
        rings = np.repeat(keep, ring_counts)
        points = self.points[np.repeat(rings, ring_sizes)]
        return Rings(points, _starts(ring_sizes[rings]), _starts(ring_counts[keep]))

    def geometry(self, repair: bool) -> Geometries:
        """As shapely polygons, in which a ring that touches itself is split if `repair`."""
        offsets = (self.ring_starts, self.polygon_starts)
        kind = shapely.GeometryType.POLYGON
        polygons = np.asarray(shapely.from_ragged_array(kind, self.points.astype(float), offsets), object)
        if repair:
            broken = ~shapely.is_valid(polygons)
            polygons[broken] = shapely.make_valid(polygons[broken], method="structure")
        return polygons


def trace(mask: Any, areas_of: Callable[[Rings], Floats], min_area: float, connectivity: int) -> Outlines:
    """Polygonize the objects of a mask, dropping small ones before they take memory.

    Args:
        mask: an open raster whose first band is uint8, 1 = object and 0 = background.
        areas_of: gives the polygons' areas, float64 of shape (polygons,).
        min_area: smallest area kept.
        connectivity: 4 or 8.

    Returns:
        The outlines; with 8-connectivity, pieces that meet in a corner are one MultiPolygon.
    """
    geometry: list[Geometries] = [np.empty(0, object)]
    pixels, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    area, edges = [np.empty(0)], [np.empty((0, 5), np.int32)]
    count = traced = 0
    for rings in _batches(mask, connectivity):
        areas = areas_of(rings)
        keep = areas >= min_area
        traced += int(np.abs(rings.signed_pixels).sum())
        if not keep.any():
            continue
        if not keep.all():
            rings = rings.take(keep)
        borders = rings.edges()
        borders[:, 4] += count
        count += int(keep.sum())
        # Only 8-connected outlines touch themselves: GDAL gives valid polygons for 4-connected ones.
        geometry.append(rings.geometry(repair=connectivity == 8))
        pixels.append(np.abs(rings.signed_pixels))
        first.append(rings.first_pixels(mask.width))
        area.append(areas[keep])
        edges.append(borders)
    order = np.argsort(np.concatenate(first))
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count, dtype=np.int32)
    flat = np.concatenate(edges)
    flat[:, 4] = rank[flat[:, 4]]
    flat = flat[np.argsort(flat[:, 1], kind="stable")]
    return Outlines(
        geometry=np.concatenate(geometry)[order],
        pixels=np.concatenate(pixels)[order],
        area=np.concatenate(area)[order],
        edges=flat,
        traced=traced,
    )


def _batches(mask: Any, connectivity: int) -> Iterator[Rings]:
    """The objects of the mask as GDAL finds them, some hundred thousand vertices at a time."""
    band = rasterio.band(mask, 1)
    points: list[tuple[float, float]] = []
    ring_sizes: list[int] = []
    ring_counts: list[int] = []
    # The band masks itself: the background, one huge polygon with every object as a hole, is never built.
    for shape, value in shapes(band, mask=band, connectivity=connectivity):
        if value != OBJECT:
            continue
        rings = shape["coordinates"]
        ring_counts.append(len(rings))
        for ring in rings:
            ring_sizes.append(len(ring))
            points.extend(ring)
        if len(points) >= BATCH_VERTICES:
            yield _rings(points, ring_sizes, ring_counts, mask.transform)
            points, ring_sizes, ring_counts = [], [], []
    if points:
        yield _rings(points, ring_sizes, ring_counts, mask.transform)


def _rings(
    points: list[tuple[float, float]], ring_sizes: list[int], ring_counts: list[int], transform: Affine
) -> Rings:
    """Take GDAL's map coordinates back to the pixel corners that they came from."""
    flat = np.fromiter(chain.from_iterable(points), float, 2 * len(points)).reshape(-1, 2)
    inverse = ~transform
    x = inverse.a * flat[:, 0] + inverse.b * flat[:, 1] + inverse.c
    y = inverse.d * flat[:, 0] + inverse.e * flat[:, 1] + inverse.f
    corners = np.rint(np.stack([x, y], axis=1)).astype(np.int64)
    return Rings(corners, _starts(np.array(ring_sizes)), _starts(np.array(ring_counts)))


def _starts(sizes: Integers) -> Integers:
    """Where parts of these sizes start in their concatenation, and its end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
