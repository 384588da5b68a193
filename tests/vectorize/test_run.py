"""A raster becomes the file that was asked for, or nothing changes."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from shapely import box

from prngeo import UsageError, VectorizeOptions, vectorize_raster
from prngeo.qgis.styles import polygon_style
from prngeo.vectorize import run as module

ALL = VectorizeOptions(min_area=0)


@pytest.fixture
def mask(raster):
    values = np.zeros((40, 50), np.uint8)
    values[5:15, 10:30] = 255
    values[25:30, 3:9] = 255
    values[8:10, 12:14] = 0
    return raster(values, "town.mask.tif")


@pytest.mark.parametrize("name", ["a.gpkg", "b.parquet", "c.geoparquet", "d.fgb", "e.geojson", "f.json", "G.GPKG"])
def test_the_suffix_tells_the_format(mask, tmp_path, name):
    report = []
    result = vectorize_raster(mask, tmp_path / name, ALL, report.append)
    path = tmp_path / name
    assert result.output == str(path)
    found = gpd.read_parquet(path) if "parquet" in name else gpd.read_file(path, layer=0)
    assert sorted(found["area_m2"]) == [7.5, 49.0]
    assert len(result.layers["buildings"]) == 2
    assert [step.done for step in report] == list(range(report[0].total + 1))
    styles = [] if path.suffix.lower() == ".gpkg" else [path.with_suffix(".qml")]
    assert sorted(tmp_path.iterdir()) == sorted([mask, path, *styles])
    assert [style.read_text() for style in styles] == [polygon_style("buildings")] * len(styles)


def test_the_default_is_a_styled_geopackage_beside_the_raster(mask):
    result = vectorize_raster(mask, options=replace(ALL, target="roofs"))
    path = mask.with_name("town.mask.gpkg")
    assert result.output == str(path)
    assert [name for name, _ in pyogrio.list_layers(path)] == ["roofs", "layer_styles"]
    style = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)["styleQML"][0]
    assert style == polygon_style("roofs")


def test_options_reach_the_polygons(mask, raster, tmp_path):
    def count(**options):
        result = vectorize_raster(mask, tmp_path / "x.gpkg", replace(ALL, overwrite=True, **options))
        return result.layers["buildings"]

    assert len(count(min_area=10)) == 1
    assert count(min_hole=2)["area_m2"].tolist() == [50.0, 7.5]
    assert len(count(value=0)) == 2
    assert count(regularize=True).geometry.count_coordinates().tolist() == [10, 5]
    assert len(count(simplify=3)) == 2
    certain = raster(np.full((40, 50), 200, np.uint8), "p.tif", scale=0.004)
    assert count(probability=certain)["probability"].tolist() == pytest.approx([0.8, 0.8])
    corner = raster([[1, 0], [0, 1]], "corner.tif")
    result = vectorize_raster(corner, tmp_path / "y.gpkg", replace(ALL, connectivity=8))
    assert result.layers["buildings"].geom_type.tolist() == ["MultiPolygon"]


def test_another_threshold_needs_no_new_inference(raster, tmp_path):
    values = np.zeros((20, 20), np.uint8)
    values[5:15, 5:15], values[8:12, 8:12], values[0, 0] = 150, 200, 255
    path = raster(values, scale=0.004, nodata=255, tags={"PRNGEO_THRESHOLD": "0.5"})
    for threshold, area in ((None, 25.0), (0.7, 4.0)):
        options = replace(ALL, threshold=threshold, overwrite=True)
        frame = vectorize_raster(path, tmp_path / "out.gpkg", options).layers["buildings"]
        assert frame["area_m2"].tolist() == [area]
        inside = values[values >= (threshold or 0.5) * 250]
        assert frame["probability"][0] == pytest.approx(inside[inside < 255].mean() * 0.004)


def test_an_existing_output_is_kept_unless_told(mask, tmp_path):
    (tmp_path / "out.gpkg").write_text("mine")
    with pytest.raises(UsageError, match="already exists. Pass --overwrite"):
        vectorize_raster(mask, tmp_path / "out.gpkg", ALL)
    assert (tmp_path / "out.gpkg").read_text() == "mine"
    vectorize_raster(mask, tmp_path / "out.gpkg", replace(ALL, overwrite=True))
    assert len(gpd.read_file(tmp_path / "out.gpkg", layer="buildings")) == 2


def test_the_style_of_a_raster_is_never_replaced_by_that_of_its_polygons(mask, tmp_path):
    style = mask.with_suffix(".qml")
    style.write_text("<qgis/>")
    vectorize_raster(mask, mask.with_suffix(".fgb"), ALL)
    assert style.read_text() == "<qgis/>"
    (tmp_path / "other.qml").write_text("<qgis/>")
    with pytest.raises(UsageError, match=r"other\.qml already exists"):
        vectorize_raster(mask, tmp_path / "other.fgb", ALL)
    vectorize_raster(mask, mask.with_suffix(".gpkg"), ALL)
    assert len(pyogrio.list_layers(mask.with_suffix(".gpkg"))) == 2, "a GeoPackage carries its own"


def test_an_input_is_never_written_over(mask, tmp_path):
    with rasterio.open(mask) as src:
        profile, values = src.profile, src.read(1)
    raster = tmp_path / "mask.gpkg"
    place = {"crs": profile["crs"], "transform": profile["transform"]}
    with rasterio.open(raster, "w", driver="GPKG", height=40, width=50, count=1, dtype="uint8", **place) as dst:
        dst.write(values, 1)
    before = raster.read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        vectorize_raster(raster, None, replace(ALL, overwrite=True, value=255))
    with pytest.raises(UsageError, match="would replace the input"):
        vectorize_raster(mask, raster, replace(ALL, overwrite=True, probability=raster))
    assert raster.read_bytes() == before


def test_a_failed_run_leaves_nothing(mask, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "polygon_batches", broken)
    with pytest.raises(KeyboardInterrupt):
        vectorize_raster(mask, tmp_path / "out.gpkg", ALL)
    assert list(tmp_path.iterdir()) == [mask]


@pytest.mark.parametrize(
    ("output", "message"),
    [("out.shp", r"\.gpkg, \.parquet, \.fgb, \.geojson, or a database"), ("no/out.gpkg", "folder .* does not exist")],
)
def test_outputs_that_cannot_be_written_are_refused_first(mask, tmp_path, monkeypatch, output, message):
    monkeypatch.setattr(module, "polygon_batches", lambda *arguments, **options: pytest.fail("too late"))
    with pytest.raises(UsageError, match=message):
        vectorize_raster(mask, tmp_path / output, ALL)


@pytest.mark.parametrize("target", ["", "a/b", 'a"b'])
def test_a_target_is_a_layers_name(target):
    with pytest.raises(UsageError, match="names a layer"):
        VectorizeOptions(target=target)


def test_geojson_is_wgs84_with_counterclockwise_outer_rings(mask, tmp_path):
    vectorize_raster(mask, tmp_path / "out.geojson", ALL)
    content = json.loads((tmp_path / "out.geojson").read_text())
    for feature in content["features"]:
        outer = np.array(feature["geometry"]["coordinates"][0])
        assert (np.diff(outer[:, 0]) * (outer[:-1, 1] + outer[1:, 1])).sum() < 0
        assert box(84, 27, 86, 28).contains(box(*outer.min(0), *outer.max(0)))


@pytest.mark.parametrize(("name", "files"), [("a.gpkg", 1), ("b.fgb", 4)])
def test_roads_have_centerlines_too(raster, tmp_path, name, files):
    mask = np.zeros((200, 200), np.uint8)
    mask[95:107], mask[:, 40:50] = 1, 1
    path = raster(mask)
    result = vectorize_raster(path, tmp_path / name, replace(ALL, target="roads"))
    assert list(result.layers) == ["roads", "road_centerlines"]
    assert result.layers["road_centerlines"]["length_m"].sum() == pytest.approx(200, rel=0.1)
    written = sorted(set(tmp_path.iterdir()) - {path})
    assert len(written) == files
    last = tmp_path / (name if files == 1 else "b_road_centerlines.fgb")
    found = gpd.read_file(last, layer="road_centerlines")
    assert set(found.geom_type) == {"LineString"}
    assert len(found) == len(result.layers["road_centerlines"])
