"""Truth for a scene's pixels: masks on any grid, polygons, or lines as wide as they are told to be.

Which label belongs to which scene is found as in prngeo.scores.match: by name, else by place. torchgeo's datasets find
it by place alone (the intersection of the footprints of a RasterDataset and of a RasterDataset or VectorDataset), and
do not serve here: pictures without georeferencing have no footprint; a VectorDataset draws a line one pixel wide and
reads its whole file for every sample; a RasterDataset has no mask of valid pixels, and its warped pixels depend on the
window they are read with. Where both can do it they give the same pixels, as a test checks.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import geopandas
import numpy as np
import pandas
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.config import Labels, Source
from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import Drawing, feature_count, is_layer, outline, polygons, read_layer, split_layer, to_grid
from prngeo.raster.lines import widened
from prngeo.raster.sources import Ground, RasterSource, opened
from prngeo.raster.values import NoValidPixelError
from prngeo.scores.match import Named, named, overlap
from prngeo.tiling.grid import Window
from prngeo.training.regions import IGNORE
from prngeo.training.widths import line_widths

logger = logging.getLogger(__name__)

THRESHOLD = 0.5
"""Probability from which a mask of probabilities counts as an object."""


class LabelReader(Protocol):
    """Reads truth by windows of the scene's pixels."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) uint8: 0, 1, or 255 where unlabelled; the window lies inside the scene."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The pixels of a scene, as labels are drawn on them.

    Attributes:
        path: of the scene.
        key: the part of its name that labels share.
        grid: where they lie.
        gsd: metres a pixel along columns (x) and rows (y).
    """

    path: str
    key: str
    grid: GeoGrid
    gsd: tuple[float, float]


def label_files(target: str, source: Source, root: Path) -> list[Named]:
    """The label files of a target in a source, each as `file.gpkg|layername=roads` if its layer is named.

    Raises:
        UsageError: there are none.
    """
    written = str(root / source.labels[target].path)
    try:
        found = named([written])
    except UsageError:
        found = []
    if not any(Path(split_layer(file.path)[0]).exists() or "://" in file.path for file in found):
        raise UsageError(
            f"Source {source.name}: no label file matches {written}; set labels.{target}.path, or root=FOLDER."
        )
    if Path(found[0].path).is_dir() and not is_layer(found[0].path):
        raise UsageError(
            f"Source {source.name}: {written} is a folder; give a pattern of its masks as labels.{target}.path, such "
            f"as {source.labels[target].path.rstrip('/')}/*.tif, or a layer."
        )
    return found


class TargetLabels:
    """What labels one target in the scenes of a source.

    Args:
        target: its name.
        source: of the configuration.
        root: folder that paths are relative to.
        scenes: all of the source's.

    Raises:
        UsageError: no such file.
    """

    def __init__(self, target: str, source: Source, root: Path, scenes: Sequence[Pixels]) -> None:
        self.target, self.spec = target, source.labels[target]
        self._option = f"labels.{target}"
        self._source, self._scenes, self._complete = source, scenes, source.aoi is not None
        written = str(root / self.spec.path)
        self._pattern = glob.has_magic(written) and not Path(written).exists()
        self.files = label_files(target, source, root)
        self._layers = [file for file in self.files if is_layer(file.path)]

    def of(self, scene: Pixels) -> list[str]:
        """The files that label a scene; none if it is not labelled.

        Raises:
            UsageError: one cannot be read, or a layer has nothing to draw.
        """
        own = [file for file in self.files if self._pattern and scene.key in (file.key, Path(file.path).stem)]
        if own:
            return [file.path for file in own]
        if len(self._grids) == len(self._scenes) == 1 and None in (
            scene.grid.crs,
            *(g.crs for g in self._grids.values()),
        ):
            return list(self._grids)  # nothing but their being alone tells that they belong together
        rasters = [path for path, grid in self._grids.items() if overlap(grid, scene.grid)]
        return rasters or [path for path, layer in self._features.items() if layer.reaches(scene, self._complete)]

    def open(self, scene: Pixels, stack: ExitStack) -> LabelReader | None:
        """A reader of a scene's labels, whose files are closed with the stack; None if it has none.

        Raises:
            UsageError: a mask does not fit the scene.
        """
        readers: list[LabelReader] = []
        files = self.of(scene)
        for path in files:
            if path in self._features:
                readers.append(self._features[path].on(scene))
                continue
            dataset = stack.enter_context(opened(path, self._what(path)))
            try:
                readers.append(_Mask(self._what(path), path, dataset, scene, self.spec, self._option))
            except NoValidPixelError:
                logger.info("%s labels nothing: all of it is nodata", path)
        if any(path in self._features for path in files):
            return _Any(readers)
        return _First(readers) if readers else None

    def never(self) -> str:
        """Why no scene is labelled, as a message."""
        start = f"Source {self._source.name}, {self._option}: none of the labels ({self.files[0].path}"
        start += f"{', ...' * (len(self.files) > 1)}) touches any of its images ({self._scenes[0].path}"
        start += f"{', ...' * (len(self._scenes) > 1)}): neither "
        systems = {_told(scene.grid) for scene in self._scenes}
        return (
            f"{start}their names nor their places meet. The images are in {', '.join(sorted(systems)[:3])}. Check "
            f"{self._option}.path, and that both are of the same place and in the coordinate system they claim."
        )

    def _what(self, path: str) -> str:
        chosen = f" (with {self._option}.where: {self.spec.where})" if self.spec.where else ""
        return f"{self._option} {path}{chosen}"

    @cached_property
    def _grids(self) -> dict[str, GeoGrid]:
        found = {}
        for file in self.files:
            if file not in self._layers:
                with opened(file.path, self._what(file.path)) as dataset:
                    found[file.path] = GeoGrid(dataset.height, dataset.width, dataset.transform, dataset.crs)
        return found

    @cached_property
    def _features(self) -> dict[str, _Features]:
        if not self._layers:
            return {}
        spec = self.spec
        prefer = [self.target, "lines" if spec.width or spec.width_field else "multipolygons"]
        around = [outline(scene.grid).to_crs(4326) for scene in self._scenes if scene.grid.crs is not None]
        near = pandas.concat(around) if around else None
        found = {
            file.path: _Features(
                self._what(file.path), read_layer(file.path, self._what(file.path), prefer, spec.where, near), spec,
                self._option,
            )
            for file in self._layers
        }  # fmt: skip
        if not any(len(layer.frame) for layer in found.values()):
            raise UsageError(self._nothing(self._layers[0], prefer))
        return found

    def _nothing(self, file: Named, prefer: Sequence[str]) -> str:
        what = f"Source {self._source.name}: {self._what(file.path)}"
        total = feature_count(file.path, prefer)
        if total == 0:
            return (
                f"{what} holds no feature. If there really is nothing in the area, give {self._option} a mask raster "
                "of zeros."
            )
        chosen = f"that {self._option}.where chooses " if self.spec.where else ""
        return (
            f"{what} does not touch the images: none of its {total if total > 0 else ''} features {chosen}lies on "
            f"{self._scenes[0].path}{' or the others' * (len(self._scenes) > 1)}. Check that both are of the same "
            "place and in the coordinate system they claim."
        ).replace("  ", " ")


class _Mask:
    """A mask or a raster of probabilities; one without a place has the scene's pixels if it has as many."""

    def __init__(self, what: str, path: str, dataset: DatasetReader, scene: Pixels, spec: Labels, option: str) -> None:
        grid = scene.grid
        if (dataset.crs is None) != (grid.crs is None) and dataset.shape == (grid.height, grid.width):
            grid = GeoGrid(grid.height, grid.width, dataset.transform, dataset.crs)
        self._source = RasterSource(what, path, dataset, grid, spec.values, f"`{option}.values:`", THRESHOLD)
        for warning in self._source.warnings:
            logger.warning(warning)

    def read(self, window: Window) -> NDArray[np.uint8]:
        found = self._source.read(window)
        return np.where(found.known, found.mask, IGNORE).astype(np.uint8)


class _Features:
    """A layer of polygons or lines; it is complete where it reaches."""

    def __init__(self, what: str, frame: geopandas.GeoDataFrame, spec: Labels, option: str) -> None:
        self._what = what
        frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)].reset_index(drop=True)
        kinds = set(frame.geom_type)
        areas = bool(kinds & {"Polygon", "MultiPolygon", "GeometryCollection"})
        lines = frame.geom_type.isin(["LineString", "MultiLineString", "LinearRing"]).to_numpy()
        if kinds and not areas and not lines.any():
            raise UsageError(f"{what} holds {sorted(kinds)[0]}s; labels are polygons, lines or masks.")
        self._widths = np.zeros(len(frame))
        if lines.any() and (spec.width is not None or spec.width_field is not None):
            self._widths = line_widths(frame, spec, option)
            missing = int((np.isnan(self._widths) & lines).sum())
            if missing:
                raise UsageError(
                    f"{what}: {missing} of its {int(lines.sum())} lines have no {spec.width_field}. Say how wide "
                    f"those are drawn with {option}.width: METRES, or osm for the tags of OpenStreetMap."
                )
            if not areas and not (self._widths[lines] > 0).any():
                raise UsageError(
                    f"{what} holds {int(lines.sum())} lines, and none of them is a road by its tags. Name another "
                    f"layer, or give {option}.width in metres."
                )
        elif lines.any() and not areas:
            raise UsageError(
                f"{what} is a layer of lines: say how wide they are drawn with {option}.width: METRES, or osm for the "
                "tags of OpenStreetMap."
            )
        elif lines.any():
            logger.warning("%s: %d lines are not drawn, as %s.width is not given", what, lines.sum(), option)
        self.frame = frame

    def reaches(self, scene: Pixels, complete: bool) -> bool:
        """True if the scene meets the bounds of the features, or if an area of interest says where all are drawn."""
        if not len(self.frame):
            return complete
        around = outline(scene.grid)
        if (scene.grid.crs is None) != (self.frame.crs is None):
            return True  # `on` tells what is missing
        if scene.grid.crs is not None:
            around = around.to_crs(self.frame.crs)
        (left, bottom, right, top), own = around.total_bounds, self.frame.total_bounds
        return complete or bool(left < own[2] and own[0] < right and bottom < own[3] and own[1] < top)

    def on(self, scene: Pixels) -> LabelReader:
        """The features on a scene's pixels."""
        placed = to_grid(self.frame.geometry, scene.grid, self._what, f"its scene {scene.path}")
        margin = float(self._widths.max(initial=0)) / min(scene.gsd) + 1  # pixels
        extent = scene.grid.extent.expand(int(margin) + 1)
        placed = placed.iloc[np.sort(placed.sindex.query(Drawing(np.array([]), scene.grid).footprint(extent)))]
        parts = placed.explode().explode()
        parts = parts[parts.geom_type.isin(["LineString", "LinearRing"])]
        parts = parts[self._widths[parts.index] > 0]
        ground = Ground(scene.grid, scene.gsd, "m")
        roads = ground.to_map(widened(ground.to_metres(parts.to_numpy()), self._widths[parts.index]))
        return _Drawn(Drawing(np.concatenate([polygons(placed).to_numpy(), roads]), scene.grid))


@dataclass(frozen=True)
class _Drawn:
    """A pixel is an object if its center lies in a shape; all others are not."""

    drawing: Drawing

    def read(self, window: Window) -> NDArray[np.uint8]:
        return (self.drawing.read(window) > 0).astype(np.uint8)


@dataclass(frozen=True)
class _Any:
    """Layers together: an object is what one of them has."""

    parts: Sequence[LabelReader]

    def read(self, window: Window) -> NDArray[np.uint8]:
        truth: NDArray[np.uint8] = np.maximum.reduce([part.read(window) for part in self.parts])
        return truth


@dataclass(frozen=True)
class _First:
    """Masks together: where they overlap, the first that knows counts."""

    parts: Sequence[LabelReader]

    def read(self, window: Window) -> NDArray[np.uint8]:
        truth = self.parts[0].read(window)
        for part in self.parts[1:]:
            truth = np.where(truth == IGNORE, part.read(window), truth)
        return truth


def _told(grid: GeoGrid) -> str:
    return "pixels, without a coordinate system" if grid.crs is None else str(grid.crs.to_string())
