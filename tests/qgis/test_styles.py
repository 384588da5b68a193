"""Styles say what they should, and QGIS, where it is installed, shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely import LineString, box

from prngeo.qgis.styles import (
    class_colors,
    class_style,
    correction_style,
    line_style,
    mask_colormap,
    mask_style,
    polygon_style,
    probability_style,
    target_color,
    write_sidecar,
)
from prngeo.vectorize.write import write_layers
from tests.qgis.real import run_in_qgis, skip_if_missing

TARGETS = ["roads", "buildings", "swimming pools", 'odd "<&>" name']
STYLES = [polygon_style, line_style, mask_style, probability_style, correction_style]


def test_a_class_map_shows_every_class_in_a_color_of_its_own() -> None:
    classes = {"roads": 3, 'odd "<&>" name': 1, "water": 7, "trees": 250}
    entries = ElementTree.fromstring(class_style(classes)).findall(".//paletteEntry")
    assert {entry.attrib["label"]: int(entry.attrib["value"]) for entry in entries} == classes
    assert len({entry.attrib["color"] for entry in entries}) == 4
    assert class_colors(classes)[3] == target_color("roads")
    assert class_colors(classes)[0].alpha == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("style", STYLES)
def test_styles_are_well_formed_for_any_name(style: Any, target: str) -> None:
    assert ElementTree.fromstring(style(target)).tag == "qgis"
    assert style(target) == style(target)


def test_colors_tell_targets_apart() -> None:
    roads, buildings, pools = (target_color(target) for target in TARGETS[:3])
    assert len({roads, buildings, pools}) == 3
    assert roads.red > roads.green > roads.blue, "orange"
    assert buildings.red > buildings.blue > buildings.green, "magenta red"


def test_background_of_a_mask_is_transparent() -> None:
    entries = ElementTree.fromstring(mask_style("roads")).findall(".//paletteEntry")
    assert [(entry.get("value"), entry.get("alpha")) for entry in entries] == [("0", "0"), ("1", "200")]
    assert [entry.get("label") for entry in entries] == ["no roads", "roads"]
    assert mask_colormap("roads") == {0: (0, 0, 0, 0), 1: (*target_color("roads"),)}


def test_colormap_goes_into_a_tiff(tmp_path: Path) -> None:
    path = raster(tmp_path / "mask.tif", np.array([[0, 1]], np.uint8), nodata=255, colors=mask_colormap("roads"))
    with rasterio.open(path) as src:
        assert src.colormap(1)[1] == target_color("roads")


@pytest.mark.parametrize(("scale", "top"), [(0.004, 1.0), (1 / 254, 1.0), (0.3, 0.9)])
def test_probability_ramp_runs_from_nothing_to_full_color(scale: float, top: float) -> None:
    values, alphas = ramp(probability_style("roads", scale))
    assert values == pytest.approx([0, top / 4, top / 2, top * 0.75, top])
    assert (alphas[0], alphas[-1]) == (0, 255)


def test_correction_ramp_diverges_from_transparent_zero() -> None:
    values, alphas = ramp(correction_style("roads", 2))
    assert values == [-2, -1, 0, 1, 2]
    assert alphas == [230, 115, 0, 115, 230]
    items = ElementTree.fromstring(correction_style("roads", 2)).findall(".//item")
    assert [item.get("label") for item in items] == [
        "-2 less roads",
        "-1 less roads",
        "unchanged",
        "+1 more roads",
        "+2 more roads",
    ]


def test_sidecar_lies_beside_its_raster_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = write_sidecar(tmp_path / "scene.v2_mask.tif", "<old/>")
    assert path == tmp_path / "scene.v2_mask.qml"
    write_sidecar(tmp_path / "scene.v2_mask.tif", "<qgis>é</qgis>")
    assert path.read_text(encoding="utf-8") == "<qgis>é</qgis>"
    assert list(tmp_path.iterdir()) == [path]


LOAD = """
import json, os, sys
from qgis.core import QgsApplication, QgsPointXY, QgsRasterLayer, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
shown = {}
for name, source in json.loads(sys.argv[1]).items():
    if ".gpkg" in source:
        layer = QgsVectorLayer(source, name, "ogr")
        renderer = layer.renderer()
        symbol = renderer.symbol()
        line = symbol.symbolLayer(0)
        shown[name] = {
            "type": renderer.type(), "valid": layer.isValid(), "count": layer.featureCount(),
            "fill": line.fillColor().getRgb(), "outline": line.strokeColor().getRgb(),
            "symbol": line.layerType(), "color": line.color().getRgb(),
            "width": line.width() if line.layerType() == "SimpleLine" else line.strokeWidth(),
            "labels": layer.labelsEnabled(), "crs": layer.crs().authid(),
        }
    else:
        layer = QgsRasterLayer(source, name)
        renderer = layer.renderer()
        provider = layer.dataProvider()
        colors = renderer.block(1, layer.extent(), layer.width(), layer.height())
        values = provider.block(1, layer.extent(), layer.width(), layer.height())
        across = range(layer.width())
        shown[name] = {
            "type": renderer.type(), "valid": layer.isValid(),
            "legend": [[label, color.getRgb()] for label, color in renderer.legendSymbologyItems()],
            "colors": [[colors.color(0, i) >> shift & 255 for shift in (16, 8, 0, 24)] for i in across],
            "values": [None if values.isNoData(0, i) else values.value(0, i) for i in across],
        }
    del layer, renderer
print("SHOWN" + json.dumps(shown))
sys.stdout.flush()
application.exitQgis()
"""


def open_in_qgis(folder: Path, sources: dict[str, str]) -> dict[str, Any]:
    """What a fresh QGIS profile shows for layers opened by their paths alone."""
    return run_in_qgis(folder, LOAD, sources)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    skip_if_missing()
    folder = tmp_path_factory.mktemp("qgis")
    frame = gpd.GeoDataFrame({"area_m2": [1.0]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:32645")
    layers = {"roads": frame, "buildings": frame, "pools": frame.iloc[:0]}
    styles = {name: polygon_style(name) for name in layers} | {"road_centerlines": line_style("roads")}
    layers["road_centerlines"] = gpd.GeoDataFrame(geometry=[LineString([(0, 0), (1, 1)])], crs="EPSG:32645")
    (package,) = write_layers(layers, folder / "scene", "gpkg", styles)
    mask = raster(folder / "mask.tif", np.array([[0, 1, 255]], np.uint8), nodata=255, colors=mask_colormap("roads"))
    raw = np.array([[0, 125, 250, 255]], np.uint8)
    probability = raster(folder / "probability.tif", raw, nodata=255, scale=0.004)
    steps = np.array([[-400, -200, 0, 200, 900, -32768]], np.int16)
    correction = raster(folder / "correction.tif", steps, nodata=-32768, scale=0.01)
    write_sidecar(mask, mask_style("roads"))
    write_sidecar(probability, probability_style("roads", 0.004))
    write_sidecar(correction, correction_style("roads"))
    sources = {name: f"{package}|layername={name}" for name in layers}
    sources |= {path.stem: str(path) for path in (mask, probability, correction)}
    return open_in_qgis(folder, sources)


@pytest.mark.qgis
@pytest.mark.parametrize("target", ["roads", "buildings", "pools"])
def test_qgis_opens_the_geopackage_styled(shown: dict[str, Any], target: str) -> None:
    layer, color = shown[target], target_color(target)
    assert layer["valid"]
    assert layer["count"] == (0 if target == "pools" else 1)
    assert layer["crs"] == "EPSG:32645"
    assert layer["type"] == "singleSymbol"
    assert layer["fill"] == list(color.opacity(90))
    assert layer["outline"] == list(color)
    assert not layer["labels"]


@pytest.mark.qgis
def test_qgis_opens_centerlines_styled(shown: dict[str, Any]) -> None:
    layer = shown["road_centerlines"]
    assert (layer["valid"], layer["count"], layer["type"], layer["labels"]) == (True, 1, "singleSymbol", False)
    assert (layer["symbol"], layer["width"]) == ("SimpleLine", 0.6)
    assert layer["color"] == list(target_color("roads"))


@pytest.mark.qgis
def test_qgis_shows_only_the_target_of_a_mask(shown: dict[str, Any]) -> None:
    layer = shown["mask"]
    assert layer["type"] == "paletted"
    assert layer["legend"] == [
        ["no roads", [0, 0, 0, 0]],
        ["roads", list(target_color("roads").opacity(200))],
    ]
    assert [color[3] for color in layer["colors"]] == [0, 200, 0]


@pytest.mark.qgis
def test_qgis_applies_the_scale_of_a_probability(shown: dict[str, Any]) -> None:
    layer = shown["probability"]
    assert layer["type"] == "singlebandpseudocolor"
    assert layer["values"] == pytest.approx([0, 0.5, 1, None])
    assert [color[3] for color in layer["colors"]] == pytest.approx([0, 128, 255, 0], abs=1)
    assert layer["colors"][2] == list(target_color("roads"))


@pytest.mark.qgis
def test_qgis_shows_both_directions_of_a_correction(shown: dict[str, Any]) -> None:
    layer = shown["correction"]
    assert layer["type"] == "singlebandpseudocolor"
    assert layer["values"] == pytest.approx([-4, -2, 0, 2, 9, None])
    assert [color[3] for color in layer["colors"]] == pytest.approx([230, 115, 0, 115, 230, 0], abs=1)
    less, more = layer["colors"][0], layer["colors"][4]
    assert less[2] > less[0]
    assert more[0] > more[2]


def ramp(qml: str) -> tuple[list[float], list[int]]:
    items = ElementTree.fromstring(qml).findall(".//item")
    return [float(item.attrib["value"]) for item in items], [int(item.attrib["alpha"]) for item in items]


def raster(
    path: Path,
    values: Any,
    *,
    nodata: float,
    scale: float | None = None,
    colors: dict[int, Any] | None = None,
) -> Path:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs="EPSG:32645",
        transform=from_origin(300000, 3000000, 1, 1),
        nodata=nodata,
    ) as dst:
        dst.write(values, 1)
        if scale:
            dst.scales = (scale,)
        if colors:
            dst.write_colormap(1, colors)
    return path
