"""The QGIS project of a scene's outputs: which layers, in which order, over which scene."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyogrio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from prngeo.errors import PrngeoError, UsageError
from prngeo.files import refuse_existing
from prngeo.inference.outputs import KINDS, LINES, layer_names, project_name, raster_name, raster_style
from prngeo.qgis.project import Bounds, Layer, write_project
from prngeo.qgis.styles import image_style, line_style, polygon_style
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.source import open_dataset, public_path, scene_name
from prngeo.vectorize.write import vector_paths

Record = dict[str, Any]
"""Content of scene.json."""
NEEDED = ("input", "scene", "options", "targets")


@dataclass(frozen=True)
class ProjectResult:
    """A project that was written.

    Attributes:
        path: of the project.
        layers: names in the legend, from top to bottom.
        warning: why the scene is not among them; empty if it is.
    """

    path: Path
    layers: list[str]
    warning: str


def write_scene_project(
    record: Record, name: str, files: Path, folder: Path, scene: str | Path | None = None
) -> ProjectResult:
    """Write the project of one scene's outputs beside them.

    A scene that lies in the folder of the outputs, or below it, moves with them; any other is named by its
    absolute path.

    Args:
        record: content of the scene's record.
        name: of the scene.
        files: folder that holds the outputs now, and gets the project.
        folder: folder in which they will lie in the end.
        scene: path of the scene; the one in the record, or a file of its name beside the outputs, if None.

    Raises:
        OSError: the project cannot be written.
    """
    text = record["scene"]["crs"]
    crs = CRS.from_user_input(text) if text else None
    layers = [layer for target in record["targets"] for layer in _target_layers(record, crs, name, target, files)]
    warning = ""
    try:
        layers.append(_scene_layer(record, crs, name, str(scene or _scene_path(record, folder)), folder))
    except PrngeoError as error:
        warning = f"the scene is not in the project. {error}"
    write_project(files / project_name(name), name, layers, crs, _bounds(record, crs))
    return ProjectResult(folder / project_name(name), [layer.name for layer in layers], warning)


def write_projects(folder: Path, scene: str | None = None, overwrite: bool = False) -> list[ProjectResult]:
    """Write the projects of all scenes that were predicted into a folder.

    Args:
        folder: of the outputs.
        scene: path of the scene, if its record tells another; of several scenes, the one of this name gets it.
        overwrite: replace projects.

    Raises:
        UsageError: the folder holds no outputs, none of this scene, or projects already.
    """
    records = _records(folder)
    if scene is not None:
        name = scene_name(scene)
        if name not in records and len(records) == 1:
            name = next(iter(records))
        if name not in records:
            raise UsageError(f"{folder} holds outputs of {', '.join(records)}, none of --scene {scene}.")
        records = {name: records[name]}
    refuse_existing([folder / project_name(name) for name in records], overwrite)
    return [write_scene_project(record, name, folder, folder, scene) for name, record in records.items()]


def _records(folder: Path) -> dict[str, Record]:
    """The records in a folder by the name of their scene."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and all(isinstance(content.get(key), dict) for key in NEEDED):
            found[path.stem] = content
    if not found:
        raise UsageError(
            f"{folder} holds no outputs of `prngeo predict`: no record such as scene.json was found. Give the folder "
            "that was its -o."
        )
    return found


def _target_layers(record: Record, crs: CRS | None, name: str, target: str, files: Path) -> list[Layer]:
    """The outputs of a target that are there: vectors over rasters."""
    group, layers = target.capitalize(), []
    names = [LINES[target]] if target in LINES else []
    on = CRS.from_epsg(4326) if crs and record["options"]["format"] == "geojson" else crs
    for layer in (*names, target):
        source = _vector_source(record, name, layer, files)
        if source is not None:
            style = polygon_style(target) if layer == target else line_style(target)
            legend = _legend(f"{target} polygons" if layer == target else layer)
            layers.append(Layer(source, legend, "vector", on, style, group))
    for kind in KINDS[1:] + KINDS[:1]:
        raster = raster_name(name, target, kind)
        if (files / raster).exists():
            legend = _legend(f"{target} {kind}")
            layers.append(Layer(f"./{raster}", legend, "raster", crs, raster_style(kind, target), group, shown=False))
    return layers


def _legend(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _vector_source(record: Record, name: str, layer: str, files: Path) -> str | None:
    format, names = record["options"]["format"], layer_names(record["targets"])
    paths = vector_paths(files / name, format, names)
    if format != "gpkg":
        path = paths[names.index(layer)]
        return f"./{path.name}" if path.exists() else None
    if not paths[0].exists() or layer not in pyogrio.list_layers(paths[0])[:, 0]:
        return None
    return f"./{paths[0].name}|layername={layer}"


def _scene_layer(record: Record, crs: CRS | None, name: str, path: str, folder: Path) -> Layer:
    """The scene as the model saw it: its bands and its stretch.

    Raises:
        PrngeoError: it cannot be opened by its name alone, or is another scene.
    """
    source = _scene_source(path, folder)
    with open_dataset(path) as dataset:
        if dataset.shape != (record["scene"]["height"], record["scene"]["width"]):
            raise UsageError(
                f"{path} has another size than the scene of {name}.json; see `prngeo qgis project --help`."
            )
        meanings = list(dataset.colorinterp)
    alpha = meanings.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in meanings else None
    style = image_style(record["scene"]["bands"], record["scene"]["stretch"], alpha)
    return Layer(source, name, "raster", crs, style)


def _scene_path(record: Record, folder: Path) -> str:
    """Where the scene is: where it was, or if it is gone from there, beside its outputs."""
    path = str(record["input"]["path"])
    beside = folder / Path(path).name
    return str(beside) if not os.path.exists(path) and beside.exists() else path


def _scene_source(path: str, folder: Path) -> str:
    """What QGIS opens: relative to the folder if the scene lies in it.

    Raises:
        UsageError: the name alone does not do.
    """
    if os.path.exists(path):
        place, inside = Path(path).resolve(), folder.resolve()
        return f"./{place.relative_to(inside).as_posix()}" if place.is_relative_to(inside) else place.as_posix()
    if path.startswith("/vsi") and public_path(path) == path:
        return path
    if path.startswith(("http://", "https://")) and public_path(path) == path:
        return f"/vsicurl/{path}"
    raise UsageError(
        f"{public_path(path)} is not found by this name alone; `prngeo qgis project DIR --scene PATH` adds the scene."
    )


def _bounds(record: Record, crs: CRS | None) -> Bounds:
    scene = record["scene"]
    transform = GeoGrid(scene["height"], scene["width"], Affine(*scene["transform"]), crs).drawing_transform
    corners = [transform @ (column, row) for column in (0, scene["width"]) for row in (0, scene["height"])]
    across, up = zip(*corners, strict=True)
    return min(across), min(up), max(across), max(up)
