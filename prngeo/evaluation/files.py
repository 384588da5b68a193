"""What an evaluation leaves behind: the report, its figures as JSON, blocks for QGIS, and maps of the bias."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from prngeo import __version__
from prngeo.errors import PrngeoError
from prngeo.evaluation.bootstrap import RESAMPLES
from prngeo.evaluation.inputs import Inputs
from prngeo.evaluation.metrics import METRICS, block_gain, block_iou, figures
from prngeo.evaluation.options import EvaluateOptions
from prngeo.evaluation.pixel import ratio
from prngeo.evaluation.report import render
from prngeo.evaluation.results import Evaluation, Judgement, plain
from prngeo.files import publish, refuse_existing, refuse_inputs
from prngeo.qgis.report_styles import bias_style, block_style, threshold_style
from prngeo.qgis.styles import write_sidecar
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import moved, split_layer
from prngeo.vectorize.plane import named_system
from prngeo.vectorize.write import write_layers

REPORT, METRICS_FILE, BLOCKS = "report.html", "metrics.json", "blocks.gpkg"
MAPS: dict[str, Callable[[], str]] = {"bias": bias_style, "threshold": threshold_style}
"""Maps of a diagnosis and their styles."""


def refuse(folder: Path, options: EvaluateOptions, inputs: list[str]) -> None:
    """Refuse a folder that holds a report already, and outputs that would replace an input.

    Raises:
        UsageError: see above.
    """
    names = [REPORT, METRICS_FILE, BLOCKS, *_all_maps()]
    outputs = [folder / name for name in names]
    others = [options.scores, options.baseline, options.baseline_scores, options.aoi]
    refuse_inputs(outputs, [split_layer(str(path))[0] for path in (*inputs, *others) if path is not None])
    refuse_existing(outputs, options.overwrite)


def write(result: Evaluation, inputs: Inputs, hidden: Path, folder: Path, options: EvaluateOptions) -> dict[str, Path]:
    """Write all files of an evaluation; they appear together.

    Args:
        result: all figures.
        inputs: still open.
        hidden: where files are made, see prngeo.files.staging.
        folder: where they appear.
        options: see EvaluateOptions.

    Returns:
        The files by what they hold.

    Raises:
        PrngeoError: a file cannot be written.
    """
    try:
        layers = {"blocks": block_layer(result, inputs)}
        names = {"blocks": write_layers(layers, hidden / "blocks", "gpkg", {"blocks": block_style()})[0].name}
        for one in result.predictions:
            names |= _write_maps(one, inputs.ground.grid, hidden)
        names |= {"metrics": METRICS_FILE, "report": REPORT}
        content = json.dumps(as_json(result, options), indent=1, allow_nan=False)
        (hidden / METRICS_FILE).write_text(content + "\n", encoding="utf-8")
        (hidden / REPORT).write_text(render(result, inputs, sorted(names.values())), encoding="utf-8")
    except (OSError, RasterioError) as error:
        raise PrngeoError(f"The report could not be written in {folder}: {error}. Check its free space.") from error
    styles = [name.replace(".tif", ".qml") for name in names.values() if name.endswith(".tif")]
    publish(hidden, folder, [*names.values(), *styles])
    for name in set(_all_maps()) - set(names.values()):  # of an earlier report, which this one replaces
        for old in (folder / name, (folder / name).with_suffix(".qml")):
            old.unlink(missing_ok=True)
    return {what: folder / name for what, name in names.items()}


def as_json(result: Evaluation, options: EvaluateOptions) -> dict[str, Any]:
    """All figures, with the definition of every metric; null is undefined."""
    skipped = {"collected", "predictions", "files"}
    return {
        "prngeo": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **{field.name: plain(getattr(result, field.name)) for field in fields(result) if field.name not in skipped},
        "predictions": [_judgement(one) for one in result.predictions],
        "definitions": {name: metric.definition for name, metric in METRICS.items()},
        "interval": f"95 %, percentile bootstrap over blocks, {RESAMPLES} draws, seed 0",
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
    }


def _judgement(one: Judgement) -> dict[str, Any]:
    content = {field.name: plain(getattr(one, field.name)) for field in fields(one) if field.name != "diagnosis"}
    if one.diagnosis is not None:
        found = one.diagnosis
        content["diagnosis"] = {
            field.name: plain(getattr(found, field.name)) for field in fields(found) if field.name != "maps"
        }
    return content


def block_layer(result: Evaluation, inputs: Inputs) -> gpd.GeoDataFrame:
    """One rectangle a block with its figures, for QGIS.

    Returns:
        Columns `row`, `col`, `known_share`, `true_share`, `iou`, `precision`, `recall`, `tp`, `fp`, `fn` (pixels), with
        scores `bias` (mean probability minus share of objects) and with a baseline `iou_gain`; NaN where undefined.
    """
    collected, grid = result.collected, inputs.ground.grid
    table = collected.judged[0].table
    found = figures(table)
    windows = [collected.grid.window((int(row), int(col))).intersect(grid.extent) for row, col in collected.blocks]
    sizes = np.array([window.height * window.width for window in windows])
    columns: dict[str, NDArray[Any]] = {
        "row": collected.blocks[:, 0],
        "col": collected.blocks[:, 1],
        "known_share": collected.known / sizes,
        "true_share": ratio(table["tp"] + table["fn"], collected.known.astype(float)),
        "iou": block_iou(table),
        "precision": found["precision"],
        "recall": found["recall"],
        **{name: table[name].astype(np.int64) for name in ("tp", "fp", "fn")},
    }
    if "levels" in table:
        pixels = table["levels"].sum((1, 2))
        columns["bias"] = ratio(table["bins"].sum(1), pixels) - ratio(table["levels"][:, 1].sum(1), pixels)
    if len(collected.judged) == 2:
        columns["iou_gain"] = block_gain(table, collected.judged[1].table)
    shapes = np.array([shapely.box(window.col, window.row, window.col_end, window.row_end) for window in windows])
    crs = None if grid.crs is None else named_system(grid.crs.to_wkt())
    return gpd.GeoDataFrame(columns, geometry=moved(shapes, grid.drawing_transform), crs=crs)


def _all_maps() -> list[str]:
    return _map_names("prediction") + _map_names("baseline")


def _map_names(name: str) -> list[str]:
    return [f"{kind}.tif" if name == "prediction" else f"{kind}_{name}.tif" for kind in MAPS]


def _write_maps(one: Judgement, grid: GeoGrid, folder: Path) -> dict[str, str]:
    """The maps of a diagnosis as float32 GeoTIFFs with styles, one pixel a patch."""
    if one.diagnosis is None:
        return {}
    maps = one.diagnosis.maps
    names = dict(zip(MAPS, _map_names(one.name), strict=True))
    for kind, name in names.items():
        values: NDArray[np.float32] = getattr(maps, kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                folder / name,
                "w",
                driver="GTiff",
                height=values.shape[0],
                width=values.shape[1],
                count=1,
                dtype="float32",
                crs=grid.crs,
                transform=grid.drawing_transform @ Affine.scale(maps.patch),
                nodata=float("nan"),
                compress="deflate",
            ) as file:
                file.write(values, 1)
                file.set_band_description(1, f"{kind} of patches of {maps.patch} pixels, {Path(one.path).name}")
        write_sidecar(folder / name, MAPS[kind]())
    return {name.removesuffix(".tif"): name for name in names.values()}
