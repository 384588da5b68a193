"""Masks, probabilities and vector layers to compare or learn from, each read by windows of one common grid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import geopandas
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.align import AlignedBand
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import Drawing, LayerElsewhereError, moved, polygons, to_grid
from prngeo.raster.lines import widened
from prngeo.raster.source import open_dataset, public_path, reading
from prngeo.raster.validity import ValidityRule
from prngeo.raster.values import SLACK, Meaning, Values, check_values, find_meaning
from prngeo.tiling.grid import Window

DEFAULT_THRESHOLD = 0.5
_AT_ONCE = 1 << 22  # pixels that are compared at once


@dataclass(frozen=True)
class Reading:
    """A window of a source; all arrays (h, w).

    Attributes:
        mask: bool, the objects.
        known: bool, False where the source holds no data.
        probability: float64, if the source has any; 0 where unknown.
        numbers: int64, which object a pixel belongs to, if the source tells objects apart; 0 for background.
    """

    mask: NDArray[np.bool_]
    known: NDArray[np.bool_]
    probability: NDArray[np.float64] | None = None
    numbers: NDArray[np.int64] | None = None


class Source(Protocol):
    """Something that can be compared.

    Attributes:
        what: how messages call it.
        kind: mask, probability, polygons or lines.
        threshold: probability from which a pixel is an object; None unless kind is probability.
        objects: largest number in `Reading.numbers`; 0 if the source does not tell objects apart.
        warnings: what a user should know of how it was understood.
    """

    what: str
    kind: Literal["mask", "probability", "polygons", "lines"]
    threshold: float | None
    objects: int
    warnings: list[str]

    def read(self, window: Window) -> Reading:
        """Read a window that lies inside the grid."""
        ...


@dataclass(frozen=True)
class Ground:
    """How pixels of the grid measure on the ground.

    Attributes:
        grid: the pixels.
        gsd: metres a pixel along columns (x) and rows (y).
        unit: m, or px where nothing tells the length of a pixel and each counts as 1.
    """

    grid: GeoGrid
    gsd: tuple[float, float]
    unit: Literal["m", "px"]

    def to_metres(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """Geometries in map coordinates brought to metres from the grid's upper left corner (y down)."""
        return moved(shapes, Affine.scale(*self.gsd) @ ~self.grid.drawing_transform)

    def to_map(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """The way back."""
        return moved(shapes, self.grid.drawing_transform @ Affine.scale(1 / self.gsd[0], 1 / self.gsd[1]))


class RasterSource:
    """A mask or a probability raster, see `Source`.

    Args:
        what: how messages call it.
        path: of the raster.
        dataset: the same, open.
        grid: the pixels it is seen on.
        values: what its numbers mean.
        option: by which the user says it.
        threshold: for probabilities; what the tags say, else 0.5, if None.

    Raises:
        UsageError: its values fit nothing known, or only one of raster and grid has a coordinate system.
    """

    def __init__(
        self,
        what: str,
        path: str,
        dataset: DatasetReader,
        grid: GeoGrid,
        values: Values,
        option: str,
        threshold: float | None,
    ) -> None:
        self.what, self.objects = what, 0
        self.warnings: list[str] = []
        check_systems(what, dataset, grid)
        rule = ValidityRule.of(dataset, (1,))
        with_zero = replace(rule, nodata=(None,)) if rule.nodata == (0.0,) else rule
        self._meaning: Meaning = find_meaning(path, what, dataset, with_zero, values, option)
        self.kind: Literal["mask", "probability", "polygons", "lines"] = self._meaning.kind
        self.threshold: float | None = None
        if self.kind == "probability":
            self.threshold = self._threshold(dataset, threshold)
            if self._meaning.guessed:
                self.warnings.append(f"{what} was read as {self._meaning.told}.")
        elif with_zero is not rule:
            self.warnings.append(f"{what} calls 0 nodata; it was taken for background, as masks are often saved so.")
            rule = with_zero
        self._band = AlignedBand(path, dataset, grid, rule)

    def _threshold(self, dataset: DatasetReader, threshold: float | None) -> float:
        if threshold is not None:
            return threshold
        tagged = dataset.tags().get("PRNGEO_THRESHOLD")
        if tagged is None:
            return DEFAULT_THRESHOLD
        try:
            found = float(tagged)
        except ValueError:
            found = float("nan")
        if not 0 < found < 1:
            raise UsageError(
                f"{self.what} has a tag PRNGEO_THRESHOLD of {tagged!r}, which is no probability between 0 and 1. Give "
                "--threshold, or mend the tag with `gdal_edit.py -mo PRNGEO_THRESHOLD=0.5`."
            )
        return found

    def read(self, window: Window) -> Reading:
        """Read a window that lies inside the grid."""
        values, known = self._band.read(window)
        check_values(self.what, values[known], self._meaning)
        if self.threshold is None:
            return Reading(known & (values != 0), known)
        probability = np.where(known, self._meaning.probability(values), 0)
        return Reading(known & (probability >= self.threshold - SLACK), known, probability)


class LayerSource:
    """A layer of polygons or lines, see `Source`; it is known everywhere.

    Args:
        what: how messages call it.
        frame: the layer.
        ground: the pixels it is drawn on.
        line_width: metres that lines are wide.
        may_be_empty: a layer without features is one that predicts nothing.

    Raises:
        LayerElsewhereError: it lies wholly outside of the grid.
        UsageError: it holds neither, or lines and no width, or no coordinate system where the grid has one.
    """

    def __init__(
        self,
        what: str,
        frame: geopandas.GeoDataFrame,
        ground: Ground,
        line_width: float | None,
        may_be_empty: bool = False,
    ) -> None:
        self.what = what
        self.threshold: float | None = None
        self.warnings: list[str] = []
        if not len(frame) and not may_be_empty:
            raise UsageError(
                f"{what} holds no feature. If there really is nothing in the area, give a mask raster of zeros."
            )
        if len(frame) and (frame.geometry.isna() | frame.geometry.is_empty).all():
            raise UsageError(f"{what} holds {len(frame)} features, and none of them has a geometry.")
        placed = to_grid(frame.geometry, ground.grid, what, "the raster beside it")
        if not len(frame):
            self.warnings.append(f"{what} holds no feature: it predicts nothing.")
        elif not len(placed) or not len(Drawing(placed.to_numpy(), ground.grid).near(ground.grid.extent)):
            raise LayerElsewhereError(
                f"{what} does not touch the raster beside it: none of its {len(frame)} features lies there. Check that "
                "both are of the same place and in the coordinate system they claim."
            )
        areas = polygons(placed)
        parts = placed.explode(ignore_index=True).explode(ignore_index=True)
        lines = parts[parts.geom_type.isin(["LineString", "LinearRing"])].to_numpy()
        self.lines: NDArray[np.object_] | None = None
        if len(areas) or not len(placed):
            self.kind: Literal["mask", "probability", "polygons", "lines"] = "polygons"
            if len(lines):
                raise UsageError(
                    f"{what} holds {len(areas)} polygons and {len(lines)} lines; one kind can be compared at a time. "
                    "Take one of them out, for example with `ogr2ogr -where \"OGR_GEOMETRY='LINESTRING'\"`."
                )
            numbers = (np.unique(areas.index, return_inverse=True)[1] + 1).astype(np.int32)
            self.objects = int(numbers.max(initial=0))
            self._drawing = Drawing(areas.to_numpy(), ground.grid, numbers)
            return
        if not len(lines):
            raise UsageError(f"{what} holds {placed.geom_type.iloc[0]}s; polygons or lines can be compared.")
        self.kind, self.objects, self.lines = "lines", 0, lines
        if line_width is None:
            raise UsageError(f"{what} is a layer of lines: tell how wide roads are with --line-width METRES.")
        self._drawing = Drawing(
            ground.to_map(widened(ground.to_metres(lines), np.full(len(lines), line_width))), ground.grid
        )

    def read(self, window: Window) -> Reading:
        """Read a window that lies inside the grid."""
        numbers = self._drawing.read(window).astype(np.int64)
        known = np.ones(window.shape, bool)
        return Reading(numbers > 0, known, numbers=numbers if self.kind == "polygons" else None)


def check_systems(what: str, dataset: DatasetReader, grid: GeoGrid) -> None:
    """Refuse a raster that cannot be laid on a grid.

    Raises:
        UsageError: only one has a coordinate system, or neither has and their sizes differ.
    """
    if (dataset.crs is None) == (grid.crs is None):
        plain = dataset.crs is None and dataset.transform.is_identity and grid.transform.is_identity
        if plain and dataset.shape != (grid.height, grid.width):
            raise UsageError(
                f"{what} has {dataset.width} x {dataset.height} pixels, the raster beside it {grid.width} x "
                f"{grid.height}, and nothing tells where either lies. Give rasters of one size, or georeference them "
                "with `gdal_edit.py -a_ullr`."
            )
        return
    systems = ["no coordinate system" if crs is None else crs.to_string() for crs in (dataset.crs, grid.crs)]
    raise UsageError(
        f"{what} has {systems[0]}, the raster beside it {systems[1]}: they cannot be laid on each other. Define the "
        "missing one, for example with `gdal_edit.py -a_srs EPSG:32630`."
    )


def guess_target(names: list[str]) -> str | None:
    """Roads or buildings, if the files' names tell."""
    for name in names:
        words = r"(?<![a-z])(?:(road|street|highway)|(?:building|footprint|roof))s?(?![a-z])"
        found = re.search(words, Path(name).name.lower())
        if found:
            return "roads" if found[1] else "buildings"
    return None


@contextmanager
def opened(path: str, what: str) -> Iterator[DatasetReader]:
    """An open raster with one band; or a mask that was saved as a picture, with equal red, green and blue.

    Raises:
        UsageError: it cannot be read, or holds several bands (an alpha band does not count).
    """
    with opened_bands(path, what) as dataset:
        bands = [name for name in dataset.colorinterp if name.name != "alpha"]
        if len(bands) > 1 and not _is_mask_picture(path, dataset):
            raise UsageError(
                f"{what} holds {dataset.count} bands; a mask or probability raster has one. Take it out, for example "
                f"with `gdal_translate -b 1 {public_path(path)} one.tif`."
            )
        yield dataset


def _is_mask_picture(path: str, dataset: DatasetReader) -> bool:
    """True if a picture has the same red, green and blue everywhere, and no more than two values."""
    if [name.name for name in dataset.colorinterp if name.name != "alpha"] != ["red", "green", "blue"]:
        return False
    found: set[float] = set()
    rows = max(1, _AT_ONCE // dataset.width)
    for row in range(0, dataset.height, rows):
        strip = Window(row, 0, min(rows, dataset.height - row), dataset.width)
        with reading(path, strip):
            red, green, blue = dataset.read([1, 2, 3], window=((strip.row, strip.row_end), (0, dataset.width)))
        found |= set(np.unique(red).tolist())
        if len(found) > 2 or not (np.array_equal(red, green) and np.array_equal(red, blue)):
            return False
    return True


@contextmanager
def opened_bands(path: str, what: str) -> Iterator[DatasetReader]:
    """An open raster of real numbers whose pixels have a place.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    with open_dataset(path) as dataset:
        if np.dtype(dataset.dtypes[0]).kind == "c":
            raise UsageError(f"{what} holds complex numbers; a mask or probability raster holds real ones.")
        t = dataset.transform
        if not np.isfinite(tuple(t)).all() or t.determinant == 0:
            raise UsageError(
                f"{what} has a geotransform without area, {tuple(t)[:6]}. Set it right, for example with "
                "`gdal_edit.py -a_ullr`."
            )
        if t.is_identity and dataset.gcps[0]:
            raise UsageError(
                f"{what} is placed by ground control points, not by a transform. Warp it first: `gdalwarp "
                f"{public_path(path)} warped.tif`, and give warped.tif."
            )
        yield dataset
