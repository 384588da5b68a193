"""What labels there are for scenes: masks or layers, which scenes they lie on, and what their attributes tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas
import numpy as np
import pandas
import pyogrio
import shapely
from rasterio.crs import CRS

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import is_layer, polygons, read_layer, split_layer
from prngeo.raster.source import open_dataset
from prngeo.raster.sources import guess_target
from prngeo.scores.match import overlap
from prngeo.training.scene_survey import SceneFacts, Scenes, files_of

LINE_WIDTH = 8.0
"""Metres that are written for lines of which nothing tells the width."""
SAMPLED = 8
"""Masks that are looked into."""
_WIDTH = re.compile(r"(road_?)?width(_?m)?|carriagewa\w*|breite|largeur|ancho|anchura|larghezza|largura", re.IGNORECASE)
_PLAUSIBLE = (0.5, 100.0)


@dataclass(frozen=True)
class LabelFacts:
    """The labels of one target.

    Attributes:
        path: as given.
        target: what they show.
        kind: how they are kept; a layer of polygons may hold lines, too.
        count: masks or features on the scenes.
        scenes: numbers of the scenes that have labels, in the order of the survey.
        share: of the labelled pixels that show the target, about.
        system: their coordinate system; empty if they have none.
        width: of lines: metres, or `osm` for what OpenStreetMap's tags tell.
        width_field: attribute that holds metres.
        width_known: False if nothing told the width.
        where: OGR SQL that leaves out what does not show the target.
        covered: share of the area of the scenes that the features spread over; 1 for masks.
    """

    path: str
    target: str
    kind: Literal["masks", "polygons", "lines"]
    count: int
    scenes: tuple[int, ...]
    share: float
    system: str = ""
    width: float | Literal["osm"] | None = None
    width_field: str | None = None
    width_known: bool = True
    where: str | None = None
    covered: float = 1.0


def survey_labels(path: str, target: str | None, scenes: Scenes) -> LabelFacts:
    """Look at the labels of one target.

    Args:
        path: a mask, a pattern of masks, or a layer (`file.gpkg|layername=roads`).
        target: what they show; guessed from names if None.
        scenes: what they lie on.

    Raises:
        UsageError: no such labels, labels of another kind, a layer that has to be named, or none that touches a scene.
    """
    return _layer(path, target, scenes) if is_layer(path) else _masks(path, target, scenes)


def survey_area(path: str, scenes: Scenes) -> int:
    """Number of scenes that an area of interest touches.

    Raises:
        UsageError: it cannot be read, holds no polygon or touches no scene.
    """
    what = f"--aoi {path}"
    name = _one_layer(path, what)
    area = polygons(read_layer(name, what).geometry)
    if not len(area):
        raise UsageError(f"{what} holds no polygon; it is to say where labels are complete.")
    touched = _touched(area, scenes, what, path)
    return len(set(touched[0].tolist()))


def _masks(path: str, target: str | None, scenes: Scenes) -> LabelFacts:
    found = files_of(path, "--labels", "masks, or a layer such as roads.gpkg")
    files = [file.path for file in found]
    by_name = {Path(file.path).stem: file.path for file in found} | {file.key: file.path for file in found}
    of_scene = {number: by_name[scene.key] for number, scene in enumerate(scenes.found) if scene.key in by_name}
    unnamed = [number for number in range(len(scenes.found)) if number not in of_scene]
    if unnamed and len(set(of_scene.values())) < len(files):
        of_scene |= _by_place(files, unnamed, scenes.found)
    if not of_scene:
        raise UsageError(
            f"--labels {path}: none of {len(files)} masks belongs to a scene. The first is called "
            f"{found[0].key}, the first scene {scenes.found[0].key}: give masks the names of their "
            "scenes (ortho/a.tif and masks/a.tif), or georeference both."
        )
    chosen = sorted(of_scene)[:: max(1, len(of_scene) // SAMPLED)][:SAMPLED]
    shares = [_positive_share(of_scene[number]) for number in chosen]
    known = sum(pixels for _, pixels in shares)
    return LabelFacts(
        path=path,
        target=target or _guess(path, [Path(path).name, *reversed(Path(path).parent.parts)]),
        kind="masks",
        count=len(set(of_scene.values())),
        scenes=tuple(sorted(of_scene)),
        share=sum(hits for hits, _ in shares) / known if known else 0.0,
        system=_system(open_dataset(files[0]).crs),
    )


def _by_place(files: Sequence[str], numbers: Sequence[int], scenes: Sequence[SceneFacts]) -> dict[int, str]:
    """The first mask that lies on each of some scenes."""
    grids = {}
    for file in files:
        with open_dataset(file) as mask:
            grids[file] = GeoGrid(mask.height, mask.width, mask.transform, mask.crs)
    found = {}
    for number in numbers:
        here = next((file for file, grid in grids.items() if overlap(grid, scenes[number].grid)), None)
        if here is not None:
            found[number] = here
    return found


def _positive_share(path: str) -> tuple[int, int]:
    """Pixels of the target and labelled pixels of a mask, seen at up to 512 x 512.

    Raises:
        UsageError: it is no mask of one target.
    """
    with open_dataset(path) as mask:
        if sum(meaning.name != "alpha" for meaning in mask.colorinterp) > 1:
            raise UsageError(f"--labels: {path} has {mask.count} bands; a mask has one, with 0 and 1 or 0 and 255.")
        shape = min(512, mask.height), min(512, mask.width)
        values, nodata = mask.read(1, out_shape=shape), mask.nodata
    found = np.unique(values)
    tagged = nodata is not None and nodata != 0
    labels = [value for value in found.tolist() if not (tagged and value == nodata)]
    if not set(labels) <= {0, 1} and not (not tagged and set(labels) <= {0, 255}):
        shown = ", ".join(f"{value:g}" for value in labels[:6]) + (", ..." if len(labels) > 6 else "")
        raise UsageError(
            f"--labels: {path} holds the values {shown}; a mask of one target holds 0 and 1 or 0 and 255, besides a "
            "nodata value of its own. Make one mask a target, for example with `gdal_calc.py --calc 'A==2'`."
        )
    known = values != nodata if tagged else np.ones(values.shape, bool)
    return int(((values > 0) & known).sum()), int(known.sum())


def _layer(path: str, target: str | None, scenes: Scenes) -> LabelFacts:
    what = f"--labels {path}"
    name = _one_layer(path, what)
    frame = read_layer(name, what)
    if not len(frame):
        raise UsageError(f"{what} holds no feature. Where there really is nothing, give a mask of zeros.")
    kinds = frame.geometry.explode(ignore_index=True).explode(ignore_index=True).geom_type
    lines, areas = kinds.isin(["LineString", "LinearRing"]).any(), (kinds == "Polygon").any()
    if not lines and not areas:
        held = f"{kinds.dropna().iloc[0]}s" if kinds.notna().any() else "features without geometry"
        raise UsageError(f"{what} holds {held}; labels are polygons, lines with a width, or masks.")
    pairs = _touched(frame.geometry, scenes, what, path)
    fields = [str(field) for field in frame.columns if field != frame.geometry.name]
    shown = target or _guess(path, [split_layer(name)[1] or "", split_layer(name)[0]], fields)
    here = frame.iloc[np.unique(pairs[1])]
    # Polygons of an OpenStreetMap extract are of all kinds: those that are buildings have a tag of that name.
    tagged = here["building"].notna() if shown == "buildings" and "building" in fields else None
    mixed = tagged is not None and tagged.any() and not tagged.all()
    here = here[tagged] if mixed else here
    kind: Literal["polygons", "lines"] = "lines" if lines and not areas else "polygons"
    width, width_field, told = _widths(here, fields) if lines else (None, None, True)
    outlines = scenes.footprints(_crs(frame)).iloc[np.unique(pairs[0])]
    return LabelFacts(
        path=name,
        target=shown,
        kind=kind,
        count=len(here),
        scenes=tuple(np.unique(pairs[0]).tolist()),
        share=_share(here.geometry, outlines, width if isinstance(width, float) else LINE_WIDTH),
        system=_system(_crs(frame)),
        width=width,
        width_field=width_field,
        width_known=told,
        where="building IS NOT NULL" if mixed else None,
        covered=_covered(here.geometry, outlines),
    )


def _one_layer(path: str, what: str) -> str:
    """The name of a layer that stands alone or is named.

    Raises:
        UsageError: there are several to choose from.
    """
    file, layer = split_layer(path)
    if layer is not None or Path(file).suffix.lower() == ".parquet" or not Path(file).exists():
        return path
    try:
        names = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
    except pyogrio.errors.DataSourceError as error:
        raise UsageError(f"{what} cannot be read as a vector layer: {str(error).rstrip('.')}.") from error
    if len(names) < 2:
        return path
    infos = {name: pyogrio.read_info(file, layer=name) for name in names}
    told = [f"{name} ({_features(info)})" for name, info in infos.items()]
    drawn = next((name for name, info in infos.items() if "Point" not in str(info["geometry_type"])), names[0])
    raise UsageError(f"{what} holds {len(names)} layers: {', '.join(told)}. Name one: '{file}|layername={drawn}'.")


def _features(info: dict[str, object]) -> str:
    count = int(str(info["features"]))  # -1 where counting takes reading the whole file
    return f"{info['geometry_type']}" + (f", {count} features" if count >= 0 else "")


def _touched(geometry: geopandas.GeoSeries, scenes: Scenes, what: str, path: str) -> np.ndarray:
    """(2, pairs): numbers of a scene and of a geometry that lies on it.

    Raises:
        UsageError: there are none, or only one side has a coordinate system.
    """
    crs = None if geometry.crs is None or geometry.crs.is_engineering else geometry.crs
    if (crs is None) == scenes.georeferenced:
        found = (
            f"{what} has no coordinate system, and the scenes are in {scenes.systems[0]}"
            if crs is None
            else f"{what} is in {crs.to_string()}, and the scenes have no coordinate system"
        )
        raise UsageError(
            f"{found}: nothing tells how they lie to each other. Define the missing one, for example with "
            "`ogr2ogr -a_srs` or `gdal_edit.py -a_srs`, or give masks with the names of their scenes."
        )
    outlines = scenes.footprints(None if crs is None else CRS.from_wkt(crs.to_wkt()))
    pairs: np.ndarray = shapely.STRtree(geometry.to_numpy()).query(outlines.to_numpy(), predicate="intersects")
    if pairs.size:
        return pairs
    raise UsageError(
        f"{what} never touches the scenes: none of its {len(geometry)} features lies on one. {Path(path).name} covers "
        f"{_extent(geometry)}, the scenes {_extent(outlines)}. Check that both are of the same place and in the "
        "coordinate system they claim."
    )


def _extent(geometry: geopandas.GeoSeries) -> str:
    """Bounds in degrees, or in pixels without coordinate system."""
    placed = geometry.crs is not None and not geometry.crs.is_engineering
    left, bottom, right, top = (geometry.to_crs("EPSG:4326") if placed else geometry).total_bounds
    if not placed:
        return f"x {left:g} to {right:g} and y {bottom:g} to {top:g} (pixels)"
    return f"{left:.4f} to {right:.4f} degrees east and {bottom:.4f} to {top:.4f} north"


def _widths(frame: geopandas.GeoDataFrame, fields: Sequence[str]) -> tuple[float | Literal["osm"], str | None, bool]:
    """Width and attribute of widths, and whether something told them."""
    if {"highway", "fclass"} & set(fields):
        return "osm", None, True
    for field in fields:
        if _WIDTH.fullmatch(field):
            metres = pandas.to_numeric(frame[field], errors="coerce")
            metres = metres[(metres >= _PLAUSIBLE[0]) & (metres <= _PLAUSIBLE[1])]
            if len(metres):
                return float(round(2 * metres.median()) / 2), field, True
    return LINE_WIDTH, None, False


def _share(geometry: geopandas.GeoSeries, outlines: geopandas.GeoSeries, width: float) -> float:
    """Share of the footprints that features cover, about; lines are `width` metres wide."""
    if geometry.crs is not None and not geometry.crs.is_engineering:
        metric = outlines.estimate_utm_crs() if geometry.crs.is_geographic else geometry.crs
        geometry, outlines = geometry.to_crs(metric), outlines.to_crs(metric)
    inside = geometry.clip_by_rect(*outlines.total_bounds)
    covered = inside.area.sum() + inside[inside.geom_type.str.contains("Line")].length.sum() * width
    return float(min(1.0, covered / outlines.area.sum()))


def _covered(geometry: geopandas.GeoSeries, outlines: geopandas.GeoSeries) -> float:
    """Share of the footprints' area inside the hull of the features."""
    hull = shapely.convex_hull(shapely.geometrycollections(geometry.to_numpy()))
    area = outlines.union_all()
    return float(area.intersection(hull).area / area.area)


def _crs(frame: geopandas.GeoDataFrame) -> CRS | None:
    return None if frame.crs is None or frame.crs.is_engineering else CRS.from_wkt(frame.crs.to_wkt())


def _system(crs: CRS | None) -> str:
    return "" if crs is None else str(crs.to_string())


def _guess(path: str, names: Sequence[str], fields: Sequence[str] = ()) -> str:
    """What labels show, by their names, else by their attributes.

    Raises:
        UsageError: nothing tells.
    """
    by_field = {"highway": "roads", "building": "buildings"}
    found = guess_target(list(names)) or next((by_field[field] for field in fields if field in by_field), None)
    if found is None:
        raise UsageError(
            f"--labels {path}: no name tells what they show. Say it with --target, such as --target roads."
        )
    return found
