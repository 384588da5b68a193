"""Networks of whole evaluations: from lines and from masks."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from tests.evaluation.conftest import NORTH_UP, UTM, judge, values, write_raster


def test_lines_are_as_wide_as_told_and_their_network_is_compared(tmp_path):
    mask = np.zeros((300, 400), bool)
    mask[100:110], mask[:, 200:210] = True, True
    path = write_raster(tmp_path / "roads.tif", mask.astype("uint8"))
    axes = [[(0, 105), (400, 105)], [(205, 0), (205, 300)]]
    lines = [shapely.LineString([NORTH_UP @ point for point in axis]) for axis in axes]
    gpd.GeoDataFrame(geometry=lines, crs=UTM).to_file(tmp_path / "truth.gpkg", layer="roads")
    result = judge(path, f"{tmp_path / 'truth.gpkg'}|layername=roads", line_width=5.0)
    assert result.target == "roads"
    assert values(result)["iou"] == 1
    network = result.prediction.network
    assert network.apls.score == pytest.approx(1, abs=0.02)
    assert network.junctions.f1 == 1
    assert network.topo.f1 == pytest.approx(1, abs=0.02)
    assert network.connectivity.truth_km == pytest.approx(0.35, abs=0.002)
    assert result.prediction.objects is None


def test_lines_are_cut_where_the_other_side_knows_nothing(tmp_path):
    mask = np.zeros((200, 400), "uint8")
    mask[100:110] = 1
    mask[:, 100:200] = 255
    path = write_raster(tmp_path / "roads.tif", mask, nodata=255)
    line = shapely.LineString([NORTH_UP @ (-50, 105), NORTH_UP @ (450, 105)])
    gpd.GeoDataFrame(geometry=[line], crs=UTM).to_file(tmp_path / "lines.gpkg")
    network = judge(path, tmp_path / "lines.gpkg", line_width=5, target="roads").prediction.network
    assert network.connectivity.truth_km == pytest.approx(0.15, abs=0.001)
    assert network.connectivity.truth_components == 2
    assert network.lengths.recall == pytest.approx(1, abs=0.01)


def test_scores_that_know_less_limit_all_that_is_compared(tmp_path):
    mask = np.zeros((200, 400), "uint8")
    mask[100:110] = 1
    scores = mask.astype("float32")
    scores[:, 200:] = np.nan
    paths = [write_raster(tmp_path / f"{i}.tif", part) for i, part in enumerate((mask, scores))]
    result = judge(paths[0], paths[0], scores=str(paths[1]), values="unit", target="roads")
    assert result.known_pixels == 200 * 200
    assert result.prediction.network.connectivity.truth_km == pytest.approx(0.1, abs=0.006)


@pytest.mark.parametrize("angle", [0, 10, 22.5, 45])
def test_the_mask_of_a_road_has_the_network_of_the_road(tmp_path, angle):
    """However the road runs across the pixels, and however wide it is."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    for width in (6, 14):
        axis = shapely.LineString([(100, 30), (100 + 250 * c, 30 + 250 * s)])
        street = shapely.LineString([(100 + 150 * c - 60 * s, 30 + 150 * s + 60 * c), (100 + 150 * c, 30 + 150 * s)])
        lines = gpd.GeoDataFrame(
            geometry=shapely.transform([axis, street], lambda xy: xy * [1, -1] + [500_000, 6_000_000]), crs=UTM
        )
        lines.to_file(tmp_path / f"{width}.gpkg")
        mask = rasterio.features.rasterize(
            lines.buffer(width / 2, cap_style="flat"), (600, 800), transform=NORTH_UP, dtype="uint8"
        )
        path = write_raster(tmp_path / f"{width}.tif", mask)
        network = judge(path, tmp_path / f"{width}.gpkg", line_width=width, target="roads").prediction.network
        assert network.connectivity.predicted_km == pytest.approx(network.connectivity.truth_km, rel=0.06)
        assert network.apls.score > 0.9
        assert network.junctions.f1 == 1
        assert network.junctions.predicted == 1
        assert network.topo.f1 > 0.93


def test_apls_has_an_interval_around_it(tmp_path):
    mask = np.zeros((500, 500), "uint8")
    for place in range(30, 500, 60):
        mask[place : place + 8], mask[:, place : place + 8] = 1, 1
    cut = mask.copy()
    cut[100:130, :300] = 0
    paths = [write_raster(tmp_path / f"{i}.tif", part) for i, part in enumerate((cut, mask))]
    network = judge(*paths, target="roads").prediction.network
    low, high = network.apls_interval
    assert low < network.apls.score < high < 1
