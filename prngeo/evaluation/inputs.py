"""The inputs of an evaluation, opened and laid on one grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from prngeo.evaluation.sources import Ground, LayerSource, RasterSource, Source, guess_target, opened
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.gsd import check_gsd, measure_gsd
from prngeo.raster.layer import is_layer, read_layer
from prngeo.tiling.grid import Window

TRUTH_THRESHOLD = 0.5
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

    def known(self, window: Window, *parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(h, w) bool: inside the area of interest, and in all of the parts."""
        inside = np.ones(window.shape, bool)
        for part in parts:
            inside &= part
        return inside & self.aoi.read(window) if self.aoi is not None and inside.any() else inside


@contextmanager
def open_inputs(prediction: str, truth: str, options: EvaluateOptions) -> Iterator[Inputs]:
    """Open prediction, truth and what the options name; closed at the end.

    Raises:
        UsageError: one is missing, unreadable, of the wrong kind, or cannot be laid on the others.
    """
    named = [("PREDICTION", prediction), ("TRUTH", truth), ("--scores", options.scores)]
    named += [("--baseline", options.baseline), ("--baseline-scores", options.baseline_scores)]
    paths = {what: path for what, path in named if path is not None}
    with ExitStack() as stack:
        target = options.target
        rasters: dict[str, DatasetReader] = {}
        for what, path in paths.items():
            if not is_layer(path):
                rasters[what] = stack.enter_context(opened(path, f"{what} {path}"))
                target = target or rasters[what].tags().get("PRNGEO_TARGET")
        target = target or guess_target(list(paths.values()))
        layers = {
            what: read_layer(path, f"{what} {path}", target) for what, path in paths.items() if what not in rasters
        }
        ground = _ground(list(rasters.values()), list(layers.values()), options)
        sources = {what: _source(what, path, rasters, layers, ground, options) for what, path in paths.items()}
        predictions = [_prediction("prediction", prediction, sources["PREDICTION"], sources.get("--scores"))]
        if options.baseline is not None:
            scores = sources.get("--baseline-scores")
            predictions.append(_prediction("baseline", options.baseline, sources["--baseline"], scores))
        warnings = [warning for source in sources.values() for warning in source.warnings]
        if ground.unit == "px":
            warnings.append("Nothing tells the size of a pixel: lengths count pixels. Pass --gsd METRES.")
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
    if what in rasters:
        threshold = TRUTH_THRESHOLD if true else options.threshold
        values = "auto" if true or (options.values == "mask" and "scores" in what) else options.values
        return RasterSource(shown, path, rasters[what], ground.grid, values, threshold)
    return LayerSource(shown, layers[what], ground, options.line_width, may_be_empty=not true)


def _ground(
    rasters: Sequence[DatasetReader], layers: Sequence[geopandas.GeoDataFrame], options: EvaluateOptions
) -> Ground:
    """The grid of the first raster, or one made for layers, and its size on the ground."""
    if not rasters:
        return _ground_of_layers(layers, options)
    first = rasters[0]
    grid = GeoGrid(first.height, first.width, first.transform, first.crs)
    found = measure_gsd(grid.crs.to_wkt() if grid.crs else None, grid.transform, grid.height, grid.width)
    if options.gsd is not None:
        gsd = check_gsd(options.gsd)
        return Ground(grid, (gsd, gsd), "m")
    return Ground(grid, found[0], "m") if found is not None else Ground(grid, (1.0, 1.0), "px")


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
    crs = filled[0].crs
    if crs is not None and not (crs.is_projected and crs.axis_info[0].unit_conversion_factor == 1.0):
        crs = filled[0].estimate_utm_crs()
    bounds = np.array([(layer if crs is None else layer.to_crs(crs)).total_bounds for layer in filled])
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
