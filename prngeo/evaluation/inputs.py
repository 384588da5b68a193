"""The inputs of an evaluation, opened and laid on one grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import geopandas
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.evaluation.options import EvaluateOptions
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.gsd import check_gsd, measure_gsd
from prngeo.raster.layer import is_layer, read_layer
from prngeo.raster.sources import Ground, LayerSource, RasterSource, Source, guess_target, opened
from prngeo.tiling.grid import Window

TRUTH_THRESHOLD = 0.5
_SAME_GSD = 0.02  # share by which --gsd may differ from what a coordinate system tells without a word
_LARGEST = 1 << 40  # pixels of a grid that is made for layers


@dataclass(frozen=True)
class Prediction:
    """A prediction with what belongs to it.

    Attributes:
        name: prediction or baseline.
        path: as given.
        source: its mask.
        scores: its probabilities, if there are any; the same as `source` where that has them.
    """

    name: str
    path: str
    source: Source
    scores: Source | None


@dataclass(frozen=True)
class Inputs:
    """Everything that is compared.

    Attributes:
        ground: the grid and the size of its pixels.
        truth: the truth.
        truth_path: as given.
        predictions: the prediction and, if given, the baseline.
        aoi: the area that is judged, or None for all of it.
        target: what the objects are, if that is known.
        warnings: what a user should know of how inputs were understood.
    """

    ground: Ground
    truth: Source
    truth_path: str
    predictions: list[Prediction]
    aoi: Aoi | None
    target: str | None
    warnings: list[str]

    def common(self, window: Window, parts: Iterable[NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """(h, w) bool: inside the area of interest, and in all of the parts."""
        inside = np.ones(window.shape, bool)
        for part in parts:
            inside &= part
        return inside & self.aoi.read(window) if self.aoi is not None and inside.any() else inside

    def known(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool: what is compared, known to all sources and inside the area of interest."""
        sources = [self.truth]
        for one in self.predictions:
            sources += [one.source] if one.scores in (None, one.source) else [one.source, one.scores]
        return self.common(window, (source.read(window).known for source in sources))


@contextmanager
def open_inputs(prediction: str, truth: str, options: EvaluateOptions, what: str = "PREDICTION") -> Iterator[Inputs]:
    """Open prediction, truth and what the options name; closed at the end.

    Args:
        prediction: mask raster, probability raster or vector layer.
        truth: likewise.
        options: see EvaluateOptions.
        what: how messages call the prediction.

    Raises:
        UsageError: one is missing, unreadable, of the wrong kind, or cannot be laid on the others.
    """
    named = [(what, prediction), ("TRUTH", truth), ("--scores", options.scores)]
    named += [("--baseline", options.baseline), ("--baseline-scores", options.baseline_scores)]
    paths = {what: path for what, path in named if path is not None}
    with ExitStack() as stack:
        target = _plural(options.target)
        rasters: dict[str, DatasetReader] = {}
        for role, path in paths.items():
            if not is_layer(path):
                rasters[role] = stack.enter_context(opened(path, f"{role} {path}"))
                target = target or _plural(rasters[role].tags().get("PRNGEO_TARGET"))
        target = target or guess_target(list(paths.values()))
        layers = {
            role: read_layer(path, f"{role} {path}", [target] if target else [])
            for role, path in paths.items()
            if role not in rasters
        }
        ground = _ground(list(rasters.values()), list(layers.values()), options)
        sources = {role: _source(role, path, rasters, layers, ground, options) for role, path in paths.items()}
        predictions = [_prediction("prediction", prediction, sources[what], sources.get("--scores"))]
        if options.baseline is not None:
            scores = sources.get("--baseline-scores")
            predictions.append(_prediction("baseline", options.baseline, sources["--baseline"], scores))
        warnings = [warning for source in sources.values() for warning in source.warnings]
        warnings += _told_or_not(sources, rasters, options) + _lengths(ground, rasters)
        aoi = Aoi(options.aoi, ground.grid) if options.aoi is not None else None
        yield Inputs(ground, sources["TRUTH"], truth, predictions, aoi, target, warnings)


def _prediction(name: str, path: str, source: Source, scores: Source | None) -> Prediction:
    if scores is not None and scores.threshold is None:
        raise UsageError(
            f"{scores.what} is a {scores.kind} source, scores are a raster of probabilities. Leave it out, or say what "
            "its values mean with --values."
        )
    return Prediction(name, path, source, scores or (source if source.threshold is not None else None))


def _source(
    what: str,
    path: str,
    rasters: dict[str, DatasetReader],
    layers: dict[str, geopandas.GeoDataFrame],
    ground: Ground,
    options: EvaluateOptions,
) -> Source:
    shown, true = f"{what} {path}", what == "TRUTH"
    if what in layers:
        return LayerSource(shown, layers[what], ground, options.line_width, may_be_empty=not true)
    told, option = (options.truth_values, "--truth-values") if true else (options.values, "--values")
    threshold = TRUTH_THRESHOLD if true else options.threshold
    if told == "mask" and "scores" in what:  # said of the masks they belong to
        told = "auto"
    return RasterSource(shown, path, rasters[what], ground.grid, told, option, threshold)


def _told_or_not(sources: dict[str, Source], rasters: dict[str, DatasetReader], options: EvaluateOptions) -> list[str]:
    """What is to be said of thresholds."""
    found = []
    truth = sources["TRUTH"]
    if truth.threshold is not None:
        found.append(f"{truth.what} was read as probabilities; {truth.threshold:g} and more counts as true.")
    for what in ("PREDICTION", "SCORES", "--baseline"):
        source = sources.get(what)
        if source is None:
            continue
        if source.threshold is None and options.threshold is not None:
            found.append(f"--threshold has no part in {source.what}, which holds no probabilities.")
        tagged = what in rasters and "PRNGEO_THRESHOLD" in rasters[what].tags()
        if source.threshold is not None and options.threshold is None and not tagged:
            found.append(f"{source.what} names no threshold; {source.threshold:g} was used.")
    return found


def _lengths(ground: Ground, rasters: dict[str, DatasetReader]) -> list[str]:
    """What is to be said of the size of pixels."""
    if ground.unit == "px":
        return ["Nothing tells the size of a pixel: lengths count pixels. Pass --gsd METRES."]
    grid = ground.grid
    told = _measured(grid) if rasters else None
    if told is None or all(abs(a / b - 1) < _SAME_GSD for a, b in zip(ground.gsd, told, strict=True)):
        return []
    return [f"--gsd {ground.gsd[0]:g} was taken, though the coordinate system tells {told[0]:.3g} m a pixel."]


def _plural(target: str | None) -> str | None:
    """Roads, road and ROADS are roads."""
    if target is None:
        return None
    known = {"road": "roads", "roads": "roads", "building": "buildings", "buildings": "buildings"}
    return known.get(target.strip().lower(), target)


def _measured(grid: GeoGrid) -> tuple[float, float] | None:
    found = measure_gsd(grid.crs.to_wkt() if grid.crs else None, grid.transform, grid.height, grid.width)
    return None if found is None else found[0]


def _ground(
    rasters: Sequence[DatasetReader], layers: Sequence[geopandas.GeoDataFrame], options: EvaluateOptions
) -> Ground:
    """The grid of the first raster, or one made for layers, and its size on the ground."""
    if not rasters:
        return _ground_of_layers(layers, options)
    first = rasters[0]
    grid = GeoGrid(first.height, first.width, first.transform, first.crs)
    found = _measured(grid)
    if options.gsd is not None:
        gsd = check_gsd(options.gsd)
        return Ground(grid, (gsd, gsd), "m")
    return Ground(grid, found, "m") if found is not None else Ground(grid, (1.0, 1.0), "px")


def _metric_system(layer: geopandas.GeoDataFrame) -> CRS | None:
    """The layer's own system if its units are metres on the ground, else the UTM zone; None if it has none."""
    crs = layer.crs
    if crs is None:
        return None
    if crs.is_projected and crs.axis_info[0].unit_conversion_factor == 1.0:
        left, bottom, right, top = layer.total_bounds
        center = Affine(1, 0, (left + right) / 2, 0, -1, (bottom + top) / 2)
        found = measure_gsd(crs.to_wkt(), center, 1, 1)
        if found is not None and found[1] == "crs":
            return crs
    try:
        return layer.estimate_utm_crs()
    except RuntimeError as error:
        raise UsageError(
            "The layers are in degrees, and no UTM zone suits their place. Bring them to a system in metres, for "
            "example with `ogr2ogr -t_srs EPSG:3413`."
        ) from error


def _ground_of_layers(layers: Sequence[geopandas.GeoDataFrame], options: EvaluateOptions) -> Ground:
    """Square pixels in a metric system over all layers."""
    if options.gsd is None:
        raise UsageError(
            "Prediction and truth are both vector layers: tell the size of the pixels on which they are compared with "
            "--gsd METRES, for example 0.25."
        )
    gsd = check_gsd(options.gsd)
    systems = {None if layer.crs is None else layer.crs.to_string() for layer in layers}
    if None in systems and len(systems) > 1:
        raise UsageError(
            f"One layer has no coordinate system, the other is in {next(s for s in systems if s)}; define it, for "
            "example with `ogr2ogr -a_srs EPSG:4326 out.gpkg in.gpkg`."
        )
    filled = [layer for layer in layers if len(layer) and np.isfinite(layer.total_bounds).all()]
    if not filled:
        raise UsageError("None of the layers holds a feature.")
    crs = _metric_system(filled[0])
    bounds = np.array([(layer if crs is None else layer.to_crs(crs)).total_bounds for layer in filled])
    margin = (options.line_width or 0) / 2 + options.relax  # of roads that are lines, and of what is near
    bounds += np.array([-margin, -margin, margin, margin])
    if (bounds[:, :2].max(0) > bounds[:, 2:].min(0)).any():
        raise UsageError(
            f"The layers do not touch: their bounds are {' and '.join(str(box.round(1).tolist()) for box in bounds)}. "
            "Check that both are of the same place and in the coordinate system they claim."
        )
    left, bottom = np.floor(bounds[:, :2].min(0) / gsd) * gsd
    right, top = bounds[:, 2:].max(0)
    height, width = (max(1, math.ceil(length / gsd)) for length in (top - bottom, right - left))
    if not math.isfinite(height * width) or height * width > _LARGEST:
        raise UsageError(
            f"The layers span {width} x {height} pixels of {gsd:g} m: are both in the right coordinate system? Limit "
            "them to one place, or choose a larger --gsd."
        )
    transform = Affine(gsd, 0, left, 0, -gsd, bottom + height * gsd)
    grid = GeoGrid(height, width, transform, None if crs is None else CRS.from_wkt(crs.to_wkt()))
    return Ground(grid, (gsd, gsd), "m")
