"""Exact polygons of a mask raster, with the statistics of the pixels that each one covers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.raster.layer import apply
from prngeo.vectorize.mask import Mask, as_mask, opened, reading
from prngeo.vectorize.outlines import Geometries, trace
from prngeo.vectorize.plane import Plane
from prngeo.vectorize.regularize import regularize as straighten
from prngeo.vectorize.regularize import wall_groups
from prngeo.vectorize.room import Room
from prngeo.vectorize.runs import Labels, Runs, fill_holes, kept, read_runs, touches_edge, without_small
from prngeo.vectorize.split import split_objects
from prngeo.vectorize.write import whole
from prngeo.vectorize.zonal import Sums, zonal_sums

SLIVER = 1e-9
RUNS_AT_ONCE = 500_000
"""About so many runs are outlined at a time."""
DEFAULT_TOLERANCE = 2.0
"""Pixels within which outlines are straightened if no tolerance is given."""


@dataclass(frozen=True)
class PolygonOptions:
    """How objects become polygons; the options of `polygonize`, which says what they mean."""

    value: float | None = None
    threshold: float | None = None
    min_area: float = 0.0
    min_hole: float = 0.0
    simplify: float = 0.0
    regularize: bool = False
    split: float | None = None
    connectivity: Literal[4, 8] = 4
    pixel_size: float | None = None

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            UsageError: something is.
        """
        for name in ("min_area", "min_hole", "simplify"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}.")
        if self.connectivity not in (4, 8):
            raise UsageError(f"connectivity must be 4 or 8, got {self.connectivity}.")
        if self.pixel_size is not None and not self.pixel_size > 0:
            raise UsageError(f"pixel_size must be a positive number of metres, got {self.pixel_size}.")
        if self.split is None:
            return
        if not 0 < self.split < 1:
            raise UsageError(f"split is the depth of a dip in the probability, between 0 and 1, got {self.split:g}.")
        if self.connectivity != 4:
            raise UsageError("Splitting works with connectivity 4 only: leave out one of --split and --connectivity.")


def polygonize(
    mask_path: str | Path,
    probability_path: str | Path | None = None,
    changed_path: str | Path | None = None,
    *,
    value: float | None = None,
    threshold: float | None = None,
    min_area: float = 0.0,
    min_hole: float = 0.0,
    simplify: float = 0.0,
    regularize: bool = False,
    split: float | None = None,
    connectivity: Literal[4, 8] = 4,
    pixel_size: float | None = None,
) -> gpd.GeoDataFrame:
    """Turn the objects of a mask or probability raster into polygons.

    The rasters are read in strips; memory holds the runs of pixels of objects that are kept, and the polygons. The
    result is that of the whole raster at once: pieces are joined first, then objects smaller than `min_area` are
    dropped, then holes are filled, and only then are outlines simplified. Simplifying removes vertices and moves
    none, all polygons together, so what touched still touches and nothing overlaps.

    Coordinates are those of the raster's CRS. A raster without CRS and geotransform gives x = column and
    y = -row, counted from the upper left corner, which is where QGIS draws it.

    Args:
        mask_path: raster whose first band says what is an object, see `value` and `threshold`.
        probability_path: raster on the same grid, its first band the calibrated probability: raw values
            times the band's scale plus its offset; its nodata (255 if it is uint8 with a scale, but without a
            nodata value) is left out. If None, `mask_path` itself where a threshold turns it into a mask.
        changed_path: raster on the same grid, its first band 1 where the refiner changed the mask.
        value: pixels of this value are objects, any other is background. Without it, see
            `prngeo.vectorize.mask.as_mask`.
        threshold: the raster holds probabilities, and pixels that reach this one are objects.
        min_area: smallest area kept in m2 (without CRS and `pixel_size`: pixels), of the exact outline before holes
            are filled.
        min_hole: holes smaller than this are filled, with whatever lies in them; in m2 at the raster's center.
        simplify: tolerance in metres (without CRS and `pixel_size`: pixels), 0 for exact outlines. A corner
            goes if its triangle with the neighbouring corners is smaller than about the tolerance squared.
        regularize: give buildings straight walls and right angles, see `prngeo.vectorize.regularize`; `simplify` is
            then how far walls may be straightened (2 pixels if 0), and outlines that would lose more than
            0.15 of their IoU with the exact one are simplified instead.
        split: split objects where the probability dips by at least this much between two parts, see
            `prngeo.vectorize.split`; parts share their border exactly, also after simplifying and regularizing.
        connectivity: 4 joins pixels that share an edge; 8 also those that share a corner, which makes
            MultiPolygons of the pieces that meet in a corner.
        pixel_size: a pixel's side in metres, used only if the raster has no CRS.

    Returns:
        One row a polygon, ordered by its first pixel (row, then column), with a fresh index and the columns
        `area_m2` (float64, of the geometry in the row: planar for a projected CRS, at the ground scale of the
        scene's center where that is distorted, as in Web Mercator; geodesic for a geographic one; without CRS and
        `pixel_size` in pixels), `probability` (float64: mean over the pixels of the exact outline, NaN without
        a raster), `refined` (float64: share of its pixels that were changed, 0 to 1, NaN without a raster),
        `touches_edge` (bool: one of its pixels neighbours no-data or the raster's border) and `geometry`, whose
        outer rings turn counterclockwise and holes clockwise.
        `frame.attrs["geometry_type"]` says Polygon or MultiPolygon, also where there is no row.

    Raises:
        UsageError: a raster is missing, unreadable, of the wrong type or on another grid, does not say what its
            objects are, or an option is out of range.
        PrngeoError: reading broke off.
    """
    options = PolygonOptions(
        value, threshold, min_area, min_hole, simplify, regularize, split, connectivity, pixel_size
    )
    return whole(polygon_batches(mask_path, probability_path, changed_path, options))


def polygon_batches(
    mask_path: str | Path,
    probability_path: str | Path | None,
    changed_path: str | Path | None,
    options: PolygonOptions,
    max_memory: int | None = None,
    held: bool = False,
) -> Iterator[gpd.GeoDataFrame]:
    """The rows of `polygonize` in parts, at least one, so that no more than a part need be held.

    Exact outlines come in parts of about `RUNS_AT_ONCE` runs, or one object that is larger. What is simplified, split
    or regularized is worked on as a whole and comes as one.

    Args:
        mask_path: as of `polygonize`.
        probability_path: as of `polygonize`.
        changed_path: as of `polygonize`.
        options: as of `polygonize`.
        max_memory: bytes of memory that this process may take; about as much as that is estimated, in `Room`.
        held: the parts will be held until all are there.

    Raises:
        UsageError: as of `polygonize`.
        PrngeoError: reading broke off, or the objects would take more than `max_memory`.
    """
    options.check()
    room = Room(mask_path, max_memory)
    shaped = options.simplify > 0 or options.regularize or options.split is not None
    found = _find(mask_path, probability_path, changed_path, options, room)
    if held or shaped:
        room.watch_layer(len(found.runs), shaped)
    if not shaped:
        runs, labels, columns, plane = found.runs, found.labels, found.columns, found.plane
        del found
        bounds = _bounds(labels)
        room.watch_outlines(len(runs), _largest(labels, bounds))
        for first, end in bounds:
            geometry = exact_geometry(*_between(runs, labels, first, end), options.connectivity)
            if end == bounds[-1][1]:
                del runs, labels  # the last object may be the largest
            yield _frame(geometry, {name: column[first:end] for name, column in columns.items()}, plane, options)
    else:
        frame = _frame(_outlined(found, options), found.columns, found.plane, options)
        frame.attrs["left_whole"] = found.left_whole
        yield frame


@dataclass(frozen=True)
class _Objects:
    """What becomes polygons.

    Attributes:
        runs: their pixels.
        labels: the polygon of each run, int32 (runs,).
        columns: what the pixels tell of each, (polygons,).
        plane: of the raster.
        left_whole: number of objects that are too large to be split.
    """

    runs: Runs
    labels: Labels
    columns: dict[str, NDArray[Any]]
    plane: Plane
    left_whole: int


def _find(
    mask_path: str | Path,
    probability_path: str | Path | None,
    changed_path: str | Path | None,
    options: PolygonOptions,
    room: Room,
) -> _Objects:
    """Read the rasters."""
    whole = 0
    with ExitStack() as stack:
        mask, probability, changed = (
            None if path is None else stack.enter_context(opened(path, what))
            for path, what in (
                (mask_path, "mask"),
                (probability_path, "probability raster"),
                (changed_path, "raster of changed pixels"),
            )
        )
        check_grids(mask, probability, changed)
        stack.enter_context(reading(mask_path))
        source = as_mask(mask, options.value, options.threshold)
        if source.threshold is not None and probability is None:
            probability = mask
        plane = Plane.of(mask, options.pixel_size)
        runs, labels, beside = _large_objects(source, plane, options.min_area, options.connectivity, room)
        if options.min_hole > 0:
            runs = fill_holes(runs, source.height, options.connectivity, options.min_hole / plane.pixel_area)
            labels = runs.components(options.connectivity)
        if options.split is not None:
            if probability is None:
                raise UsageError("Splitting needs a probability raster: give it with --probability.")
            smallest = max(1.0, options.min_area / plane.pixel_area)
            runs, labels, whole = split_objects(runs, labels, probability, options.split, smallest)
        columns = _attributes(runs, labels, zonal_sums(runs, labels, probability, changed), probability, changed)
    columns["touches_edge"] = touches_edge(runs, labels, beside, source.height)
    return _Objects(runs, labels, columns, plane, whole)


def _outlined(found: _Objects, options: PolygonOptions) -> Geometries:
    """Outlines in pixel coordinates that are split, simplified or regularized."""
    runs, labels, plane = found.runs, found.labels, found.plane
    if options.split is None:
        geometry = exact_geometry(runs, labels, options.connectivity)
    else:
        geometry = trace(runs, labels).noded().geometry()
    if not options.regularize or not len(geometry):
        return plane.simplify(geometry, options.simplify)
    tolerance = options.simplify or DEFAULT_TOLERANCE * plane.side
    simple = plane.simplify(geometry, tolerance)
    return straighten(geometry, simple, wall_groups(runs, labels), plane.to_square, tolerance / plane.side)


def _bounds(labels: Labels) -> list[tuple[int, int]]:
    """First polygon and end of batches of about `RUNS_AT_ONCE` runs, at least one."""
    batch = (np.cumsum(np.bincount(labels)) - 1) // RUNS_AT_ONCE
    firsts = np.flatnonzero(np.diff(batch, prepend=-1)) if len(batch) else np.array([0])
    return list(pairwise([*firsts.tolist(), len(batch)]))


def _largest(labels: Labels, bounds: list[tuple[int, int]]) -> int:
    """Most runs of a batch."""
    before = np.concatenate([[0], np.cumsum(np.bincount(labels))])
    return max(int(before[end] - before[first]) for first, end in bounds)


def _between(runs: Runs, labels: Labels, first: int, end: int) -> tuple[Runs, Labels]:
    """Runs of the polygons from `first` to `end`, and their polygons from 0."""
    own = (labels >= first) & (labels < end)
    return (runs, labels) if own.all() else (runs.take(own), labels[own] - np.int32(first))


def _frame(
    geometry: Geometries, columns: dict[str, NDArray[Any]], plane: Plane, options: PolygonOptions
) -> gpd.GeoDataFrame:
    """Polygons in pixel coordinates as rows; takes them out of `geometry`."""
    area = plane.areas(geometry)
    mapped = plane.to_map(geometry)
    if options.simplify > 0 or options.regularize:
        mapped = _repaired(mapped)
    frame = gpd.GeoDataFrame({"area_m2": area, **columns}, geometry=mapped, crs=plane.crs)
    frame.attrs["geometry_type"] = "Polygon" if options.connectivity == 4 else "MultiPolygon"
    return frame


def _large_objects(
    source: Mask, plane: Plane, min_area: float, connectivity: int, room: Room
) -> tuple[Runs, Labels, Runs]:
    """Runs of the objects of at least `min_area` m2, the object of each, and runs of their pixels beside no-data."""
    smallest = plane.smallest(min_area, (source.height, source.width))
    runs, beside = read_runs(source, connectivity, smallest, room.watch_runs)
    runs, labels = without_small(runs, connectivity, smallest)
    if min_area > 0 and plane.is_geographic:
        runs, labels = kept(runs, labels, plane.areas(exact_geometry(runs, labels, connectivity)) >= min_area)
    return runs, labels, beside


def exact_geometry(runs: Runs, labels: Labels, connectivity: int) -> Geometries:
    """Outlines in pixel coordinates (column, row): polygons, with 8-connectivity MultiPolygons of several pieces.

    Args:
        runs: the pixels of the polygons.
        labels: the polygon of each run, int32 (runs,).
        connectivity: 4 or 8.

    Returns:
        Object array (polygons,).
    """
    if connectivity == 4:
        return _outlines(runs, labels)
    pieces = runs.components(4, labels)
    parts = _outlines(runs, pieces)
    owner = np.empty(len(parts), np.int32)
    owner[pieces] = labels
    order, counts = np.argsort(owner, kind="stable"), np.bincount(owner)
    result = np.asarray(shapely.multipolygons(parts[order], indices=owner[order]), object) if len(parts) else parts
    firsts = order[np.cumsum(counts) - counts]
    result[counts == 1] = parts[firsts[counts == 1]]
    return result


def _outlines(runs: Runs, labels: Labels) -> Geometries:
    """Polygons of the runs of each label, made so many runs at a time that memory is that of the largest object."""
    found = [np.empty(0, object)]
    found += [trace(*_between(runs, labels, *bounds)).geometry() for bounds in _bounds(labels)]
    return np.concatenate(found)


def _attributes(runs: Runs, labels: Labels, sums: Sums, probability: Any, changed: Any) -> dict[str, Any]:
    """The means of the rasters, NaN where there is none."""
    pixels = np.bincount(labels, weights=runs.pixels)
    mean = share = np.full(len(pixels), np.nan)
    if probability is not None:
        with np.errstate(invalid="ignore"):
            raw = sums.probability / (pixels - sums.invalid)
        mean = raw * probability.scales[0] + probability.offsets[0]
    if changed is not None:
        share = sums.changed / pixels
    return {"probability": mean, "refined": share}


def _repaired(geometry: Geometries) -> Geometries:
    """Simplified polygons in which a corner, rounded to the other side of the edge it touched, is cut off."""
    broken = np.flatnonzero(~shapely.is_valid(geometry))
    for index in broken:
        parts = shapely.get_parts(shapely.make_valid(geometry[index], method="structure"))
        parts = parts[shapely.area(parts) > SLIVER * shapely.area(geometry[index])]
        geometry[index] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts))
    return geometry


def check_grids(mask: Any, *others: Any) -> None:
    """Refuse open rasters, or None, that do not lie on the grid of the mask.

    Raises:
        UsageError: one does not.
    """
    for other in others:
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
    back = apply(~other.transform, apply(one.transform, corners))
    return bool(np.allclose(back, corners, atol=0.01, rtol=0))
