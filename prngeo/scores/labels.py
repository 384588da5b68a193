"""Labels of scores: masks, class maps and vector layers on the pixels of the scores, with what is ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import geopandas
import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.align import AlignedBand
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.gsd import measure_gsd
from prngeo.raster.layer import LayerElsewhereError, is_layer, read_layer
from prngeo.raster.source import public_path
from prngeo.raster.sources import Ground, LayerSource, RasterSource, check_systems, opened
from prngeo.raster.validity import ValidityRule
from prngeo.raster.values import Values
from prngeo.scores.classes import Classes
from prngeo.scores.match import Named, overlap, refuse_alike
from prngeo.scores.rasters import ScoreRaster
from prngeo.scores.scene import IGNORE, padded
from prngeo.tiling.grid import Window

OPTION = "--label-values"
THRESHOLD = 0.5
"""Probability from which a label that is a probability counts as an object."""


class Labels(Protocol):
    """Labels on the pixels of a scene."""

    @property
    def warnings(self) -> list[str]:
        """What a user should know of how they were understood."""
        ...

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(classes, h, w) uint8: 0, 1, or 255 where unlabelled; the window lies inside the scene."""
        ...


@dataclass(frozen=True)
class Labelled:
    """Scores with their labels, see prngeo.scores.scene.LabelledScene."""

    scores: ScoreRaster
    labels: Labels
    aoi: Aoi | None

    @property
    def name(self) -> str:
        """Of the scores."""
        return self.scores.name

    @property
    def grid(self) -> GeoGrid:
        """Of the scores."""
        return self.scores.grid

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See prngeo.scores.scene.ScoreScene."""
        return self.scores.read(window)

    def truth(self, window: Window) -> NDArray[np.uint8]:
        """See prngeo.scores.scene.LabelledScene."""
        inside = window.intersect(self.grid.extent)
        truth = self.labels.read(inside)
        known = self.scores.read(inside)[1]
        if self.aoi is not None:
            known &= self.aoi.read(inside)
        truth[:, ~known] = IGNORE
        result: NDArray[np.uint8] = padded(truth, window.moved(-inside.row, -inside.col), IGNORE)
        return result


class _Mask:
    """A mask or probability raster of one class."""

    def __init__(self, path: str, dataset: DatasetReader, grid: GeoGrid, values: Values) -> None:
        self._source = RasterSource(f"--labels {public_path(path)}", path, dataset, grid, values, OPTION, THRESHOLD)
        self.warnings = self._source.warnings

    def read(self, window: Window) -> NDArray[np.uint8]:
        found = self._source.read(window)
        return np.where(found.known, found.mask, IGNORE).astype(np.uint8)[None]


class _ClassMap:
    """A raster of class values; 255 is no label, and 0 is one even if the file calls it nodata."""

    def __init__(self, path: str, dataset: DatasetReader, grid: GeoGrid, values: Sequence[int]) -> None:
        check_systems(f"--labels {public_path(path)}", dataset, grid)
        rule = ValidityRule.of(dataset, (1,))
        if rule.nodata == (0.0,):  # maps are often saved with their background as nodata
            rule = replace(rule, nodata=(None,))
        self._band = AlignedBand(path, dataset, grid, rule)
        self._values = values
        self.warnings: list[str] = []

    def read(self, window: Window) -> NDArray[np.uint8]:
        drawn, known = self._band.read(window)
        known &= drawn != IGNORE
        return np.stack([np.where(known, drawn == value, IGNORE) for value in self._values]).astype(np.uint8)


class _Layers:
    """Polygons or lines; for every class the layers with features here, none if it has no feature."""

    def __init__(self, layers: Sequence[Sequence[LayerSource]]) -> None:
        self._layers = layers
        self.warnings: list[str] = []

    def read(self, window: Window) -> NDArray[np.uint8]:
        masks = np.zeros((len(self._layers), *window.shape), bool)
        for mask, layers in zip(masks, self._layers, strict=True):
            for layer in layers:
                mask |= layer.read(window).mask
        return masks.astype(np.uint8)


@dataclass(frozen=True)
class _Several:
    """Rasters that lie side by side; where they overlap the first that knows counts."""

    parts: Sequence[Labels]

    @property
    def warnings(self) -> list[str]:
        return [text for part in self.parts for text in part.warnings]

    def read(self, window: Window) -> NDArray[np.uint8]:
        truth = self.parts[0].read(window)
        for part in self.parts[1:]:
            truth = np.where(truth == IGNORE, part.read(window), truth)
        return truth


@dataclass(frozen=True)
class LabelOptions:
    """How labels are read.

    Attributes:
        values: what the numbers of masks mean.
        class_field: attribute of layers that holds the class.
        line_width: metres that lines are wide.
        aoi: vector file: only inside its polygons labels are complete.
    """

    values: Values = "auto"
    class_field: str | None = None
    line_width: float | None = None
    aoi: Path | None = None


@contextmanager
def labelled(
    scores: Sequence[ScoreRaster],
    keys: Sequence[str],
    labels: Sequence[Named],
    classes: Classes,
    options: LabelOptions,
) -> Iterator[list[Labelled]]:
    """The scores that have labels, with them; opened files are closed at the end.

    Rasters belong to scores of the same key, else to those on the same ground; a lone one to a lone one. Of layers,
    those with the key of a scene belong to it alone, and all others to every scene that they touch.

    Raises:
        UsageError: no label belongs to any of the scores, or one cannot be read or laid on its scores.
    """
    with ExitStack() as stack:
        rasters = {
            label: stack.enter_context(opened(label.path, f"--labels {public_path(label.path)}"))
            for label in labels
            if not is_layer(label.path)
        }
        frames = {
            label: _by_class(label.path, classes, options.class_field) for label in labels if is_layer(label.path)
        }
        found = []
        refuse_alike([(scene.path, key) for scene, key in zip(scores, keys, strict=True) if scene.grid.crs is None])
        refuse_alike([(label.path, label.key) for label, file in rasters.items() if file.crs is None])
        for scene, key in zip(scores, keys, strict=True):
            lone = len(scores) == len(labels) == 1
            own = _of_rasters(scene, key, rasters, classes, options, lone) or _of_layers(scene, key, frames, options)
            if own is None:
                continue
            try:
                aoi = Aoi(options.aoi, scene.grid) if options.aoi is not None else None
            except LayerElsewhereError:
                continue
            found.append(Labelled(scene, own, aoi))
        if not found:
            raise UsageError(_unmatched(scores, keys, labels, options))
        yield found


def _unmatched(
    scores: Sequence[ScoreRaster], keys: Sequence[str], labels: Sequence[Named], options: LabelOptions
) -> str:
    start = f"None of the labels ({labels[0].path}{', ...' * (len(labels) > 1)}) belongs to any of the scores"
    advice = "Name both alike (scores/a.tif and masks/a.tif, or *_prob.png and *_mask.png for a star of equal text)"
    if all(is_layer(label.path) for label in labels):
        outside = f", or --aoi {options.aoi} touches none of the scenes" if options.aoi else ""
        return (
            f"{start}: no feature lies on {scores[0].path}{' or the others' * (len(scores) > 1)}{outside}. Check that "
            "they are of the same place and in the coordinate system they claim."
        )
    return (
        f"{start}: neither their names ({labels[0].key}, {keys[0]}) nor their places meet. {advice}, or georeference "
        "both."
    )


def _of_rasters(
    scene: ScoreRaster,
    key: str,
    rasters: dict[Named, DatasetReader],
    classes: Classes,
    options: LabelOptions,
    lone: bool,
) -> Labels | None:
    own = [label for label in rasters if label.key == key]
    if not own:
        grids = {label: GeoGrid(file.height, file.width, file.transform, file.crs) for label, file in rasters.items()}
        own = [label for label, grid in grids.items() if lone or overlap(grid, scene.grid)]
    parts: list[Labels] = []
    for label in own:
        if classes.values:
            parts.append(_ClassMap(label.path, rasters[label], scene.grid, classes.values))
        else:
            parts.append(_Mask(label.path, rasters[label], scene.grid, options.values))
    return None if not parts else parts[0] if len(parts) == 1 else _Several(parts)


Frames = list[tuple[str, geopandas.GeoDataFrame]]


def _by_class(path: str, classes: Classes, field: str | None) -> Frames:
    """What messages call the features of each class, and the features."""
    what = f"--labels {path}"
    frame = read_layer(path, what, classes.names if len(classes.names) == 1 else ())
    if field is None:
        if len(classes.names) > 1:
            raise UsageError(
                f"{what}: the scores have {len(classes.names)} classes ({', '.join(classes.names)}). Name the "
                "attribute that holds the class of a feature with --class-field."
            )
        return [(what, frame)]
    if field not in frame.columns:
        fields = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
        raise UsageError(f"{what} has no attribute {field} (--class-field); it has {fields}.")
    found = frame[field].map(_as_text)
    values = classes.values or (None,) * len(classes.names)
    wanted = [
        {name, *([] if value is None else [str(value)])} for name, value in zip(classes.names, values, strict=True)
    ]
    if not found.isin(set().union(*wanted)).any():
        shown = ", ".join(sorted(found.unique())[:8])
        raise UsageError(
            f"{what}: {field} holds {shown}, and none of the classes {', '.join(classes.names)}. Name them with "
            "--classes."
        )
    return [
        (f"{what} ({name})", frame[found.isin(names)].reset_index(drop=True))
        for name, names in zip(classes.names, wanted, strict=True)
    ]


def _as_text(value: object) -> str:
    """3 for 3.0: whole numbers are often read as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _of_layers(scene: ScoreRaster, key: str, frames: dict[Named, Frames], options: LabelOptions) -> Labels | None:
    own = [label for label in frames if label.key == key] or list(frames)
    if not own:
        return None
    ground = _ground(scene.grid)
    layers: list[list[LayerSource]] = [[] for _ in frames[own[0]]]
    for label in own:
        for found, (what, frame) in zip(layers, frames[label], strict=True):
            if len(layers) > 1 and not len(frame):  # a layer without features of one class
                continue
            with suppress(LayerElsewhereError):
                found.append(LayerSource(what, frame, ground, options.line_width))
    complete = options.aoi is not None and any(_same_system(frames[label], scene) for label in own)
    return _Layers(layers) if any(layers) or complete else None


def _same_system(frames: Frames, scene: ScoreRaster) -> bool:
    return (scene.grid.crs is None) == (frames[0][1].crs is None)


def _ground(grid: GeoGrid) -> Ground:
    found = measure_gsd(grid.crs.to_wkt() if grid.crs else None, grid.transform, grid.height, grid.width)
    return Ground(grid, found[0], "m") if found is not None else Ground(grid, (1.0, 1.0), "px")
