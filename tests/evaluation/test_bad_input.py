"""What evaluation refuses, and what it says: what was given, what was expected, what mends it."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from prngeo import UsageError
from tests.evaluation.conftest import NORTH_UP, UTM, judge, polygons, values, write_raster


def refused(match, prediction, truth, **options):
    with pytest.raises(UsageError, match=match):
        judge(prediction, truth, **options)


def test_disjoint_rasters(place, tmp_path):
    far = write_raster(tmp_path / "far.tif", place["true"].astype("uint8"), NORTH_UP @ Affine.translation(9999, 0))
    refused(r"TRUTH .*far.tif holds no valid pixel.*another place", place["mask"], far)


def test_disjoint_layers(place, tmp_path):
    polygons(place["true"], NORTH_UP @ Affine.translation(9999, 0)).to_file(tmp_path / "far.gpkg")
    polygons(place["true"]).to_file(tmp_path / "near.gpkg")
    refused("does not touch the raster", place["mask"], tmp_path / "far.gpkg")
    refused("layers do not touch", tmp_path / "near.gpkg", tmp_path / "far.gpkg", gsd=0.5)


def test_all_nodata(place, tmp_path):
    none = write_raster(tmp_path / "none.tif", np.full(place["true"].shape, 255, "uint8"), nodata=255)
    refused(r"TRUTH .*none.tif holds no valid pixel", place["mask"], none)
    refused(r"PREDICTION .*none.tif holds no valid pixel", none, place["truth"])


def test_parts_that_do_not_meet(place, tmp_path):
    left, right = place["true"].astype("uint8"), place["true"].astype("uint8")
    left[:, 100:], right[:, :100] = 255, 255
    paths = [write_raster(tmp_path / f"{i}.tif", half, nodata=255) for i, half in enumerate((left, right))]
    refused("No pixel is valid in .* at once", *paths)


def test_a_missing_system(place, tmp_path):
    plain = write_raster(tmp_path / "plain.tif", place["true"].astype("uint8"), NORTH_UP, None)
    refused("TRUTH .* has no coordinate system, the raster beside it EPSG:32630", place["mask"], plain)
    polygons(place["true"], crs=None).to_file(tmp_path / "plain.geojson", driver="GeoJSON")
    frame = gpd.read_file(tmp_path / "plain.geojson").set_crs(None, allow_override=True)
    frame.to_file(tmp_path / "plain.shp")
    refused("has no coordinate system", place["mask"], tmp_path / "plain.shp")


def test_values_of_no_known_meaning(place, tmp_path):
    logits = write_raster(tmp_path / "logit.tif", (place["probability"].astype("float32") - 125) / 20)
    refused("neither a mask nor a probability.*--values", logits, place["truth"])
    assert values(judge(logits, place["truth"], values="logit", threshold=0.5))["iou"] > 0.3


@pytest.mark.parametrize("tag", ["auto", "0", "1", "nan"])
def test_a_tag_that_is_no_threshold(place, tmp_path, tag):
    path = write_raster(tmp_path / "tagged.tif", place["probability"], scale=0.004, tags={"PRNGEO_THRESHOLD": tag})
    refused("tag PRNGEO_THRESHOLD of .* Give --threshold", path, place["truth"])
    assert judge(path, place["truth"], threshold=0.5).known_pixels


def test_mixed_layers_and_filters_of_qgis(place, tmp_path):
    line = shapely.LineString([NORTH_UP @ (0, 0), NORTH_UP @ (9, 9)])
    mixed = gpd.GeoDataFrame(geometry=[*polygons(place["true"]).geometry, line], crs=UTM)
    mixed.to_file(tmp_path / "mixed.gpkg")
    refused("polygons and 1 lines; one kind", place["mask"], tmp_path / "mixed.gpkg")
    refused(r"not \|subset", place["mask"], f'{tmp_path / "mixed.gpkg"}|layername=mixed|subset="a" = 1')


def test_layers_without_geometry(place, tmp_path):
    gpd.GeoDataFrame(geometry=[None, None], crs=UTM).to_file(tmp_path / "none.gpkg")
    refused("2 features, and none of them has a geometry", place["mask"], tmp_path / "none.gpkg")


def test_sizes_that_differ_without_a_place(place, tmp_path):
    small = write_raster(tmp_path / "s.tif", place["true"][:50].astype("uint8"), Affine.identity(), None)
    large = write_raster(tmp_path / "l.tif", place["true"].astype("uint8"), Affine.identity(), None)
    refused("330 x 50 pixels, the raster beside it 330 x 200", large, small)


def test_a_plane_that_is_nowhere(place, tmp_path):
    wkt = 'LOCAL_CS["here",UNIT["metre",1]]'
    local = write_raster(tmp_path / "local.tif", place["true"].astype("uint8"), crs=wkt)
    refused("cannot be brought from|coordinate system", place["mask"], local)
    complex_numbers = write_raster(tmp_path / "complex.tif", place["true"].astype("complex64"))
    refused("complex numbers", place["mask"], complex_numbers)


def test_layers_at_the_pole(tmp_path):
    box = gpd.GeoDataFrame(geometry=[shapely.box(0, 89.5, 1, 89.6)], crs=4326)
    box.to_file(tmp_path / "pole.gpkg")
    refused("no UTM zone", tmp_path / "pole.gpkg", tmp_path / "pole.gpkg", gsd=10)


def test_a_baseline_of_another_place_is_named(place, tmp_path):
    far = write_raster(tmp_path / "far.tif", place["true"].astype("uint8"), NORTH_UP @ Affine.translation(9999, 0))
    refused("--baseline .*far.tif holds no valid pixel", place["mask"], place["truth"], baseline=str(far))


def test_scores_that_are_a_mask(place):
    refused("--scores .* scores are a raster of probabilities", place["mask"], place["truth"],
                 scores=str(place["truth"]))  # fmt: skip


def test_two_layers_without_a_pixel_size(place, tmp_path):
    polygons(place["true"]).to_file(tmp_path / "a.gpkg")
    refused("--gsd METRES", tmp_path / "a.gpkg", tmp_path / "a.gpkg")


def test_lines_without_a_width_and_points(place, tmp_path):
    line = shapely.LineString([NORTH_UP @ (0, 50), NORTH_UP @ (300, 60)])
    gpd.GeoDataFrame(geometry=[line], crs=UTM).to_file(tmp_path / "line.gpkg")
    refused("--line-width METRES", place["mask"], tmp_path / "line.gpkg")
    gpd.GeoDataFrame(geometry=[line.centroid], crs=UTM).to_file(tmp_path / "point.gpkg")
    refused("holds Points; polygons or lines", place["mask"], tmp_path / "point.gpkg")


def test_an_image(place, tmp_path):
    with rasterio.open(tmp_path / "rgb.tif", "w", driver="GTiff", height=9, width=9, count=3, dtype="uint8",
                       crs=UTM, transform=NORTH_UP) as file:  # fmt: skip
        file.write(np.arange(243, dtype="uint8").reshape(3, 9, 9))
    refused("holds 3 bands", tmp_path / "rgb.tif", place["truth"])


def test_several_layers(place, tmp_path):
    for name in ("one", "two"):
        polygons(place["true"]).to_file(tmp_path / "many.gpkg", layer=name)
    refused(r"holds 2 layers \(one, two\).*layername=one", place["mask"], tmp_path / "many.gpkg")
    assert judge(place["mask"], f"{tmp_path / 'many.gpkg'}|layername=two").known_pixels
    assert judge(place["mask"], tmp_path / "many.gpkg", target="two").known_pixels


def test_missing_and_unreadable_files(place, tmp_path):
    refused("No such file", tmp_path / "x.tif", place["truth"])
    refused("TRUTH .*x.gpkg: no such file", place["mask"], tmp_path / "x.gpkg")
    (tmp_path / "text.gpkg").write_text("text")
    refused("cannot be read as a vector layer", place["mask"], tmp_path / "text.gpkg")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"threshold": 1.5}, "--threshold"),
        ({"relax": 0}, "--relax is a length"),
        ({"boundary": -1}, "--boundary is a length"),
        ({"block": 100}, "--block is a multiple of 64"),
        ({"block": 4096}, "from 64 to 2048"),
        ({"truth_values": "x"}, "--truth-values is one of"),
        ({"scratch": Path("nosuch")}, "--scratch nosuch is not a folder"),
        ({"gsd": 0.01, "relax": 50}, "reach 5001 pixels here"),
        ({"patch": 100}, "--patch is one of 64, 128, 256, 512"),
        ({"values": "x"}, "--values is one of"),
        ({"baseline_scores": "x.tif"}, "--baseline-scores belongs to --baseline"),
    ],
)
def test_options(place, options, match):
    refused(match, place["mask"], place["truth"], **options)
