"""Whole evaluations of files: alignment, known areas, figures against whole arrays, and bad input."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score

import prngeo
from prngeo import EvaluateOptions, PrngeoError, UsageError
from tests.evaluation.conftest import GSD, NORTH_UP, UTM, boxes, judge, polygons, values, write_raster


def by_brute_force(true, predicted, relax, boundary, known=None):
    known = np.ones(true.shape, bool) if known is None else known
    t, p = true & known, predicted & known
    near_true, near_predicted = distance_transform_edt(~true) <= relax, distance_transform_edt(~predicted) <= relax
    bands = [mask & (distance_transform_edt(mask) <= boundary) & known for mask in (predicted, true)]
    precision, recall = (p & near_true).sum() / p.sum(), (t & near_predicted).sum() / t.sum()
    return {
        "iou": (t & p).sum() / (t | p).sum(),
        "accuracy": (t == p)[known].mean(),
        "relaxed_precision": precision,
        "relaxed_recall": recall,
        "relaxed_f1": 2 * precision * recall / (precision + recall),
        "boundary_iou": (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum(),
    }


def test_figures_are_those_of_the_whole_arrays(place):
    result = judge(place["mask"], place["truth"], relax=1.5, boundary=1.0)
    expected = by_brute_force(place["true"], place["predicted"], 1.5 / GSD, 1.0 / GSD)
    assert values(result) == pytest.approx(values(result) | expected)
    assert result.known_pixels == place["true"].size
    assert result.unit == "m"
    assert result.gsd == pytest.approx((GSD, GSD))


@pytest.mark.parametrize("window", [64, 128, 192])
def test_figures_do_not_depend_on_the_windows_read(place, monkeypatch, window):
    whole = judge(place["scores"], place["truth"])
    monkeypatch.setattr("prngeo.evaluation.collect.WINDOW", window)
    parts = judge(place["scores"], place["truth"])
    assert parts.predictions[0].metrics == whole.predictions[0].metrics
    assert parts.predictions[0].objects == whole.predictions[0].objects
    np.testing.assert_allclose(parts.collected.judged[0].picture.shares, whole.collected.judged[0].picture.shares)


def test_probabilities_give_curves_and_the_threshold_comes_from_their_tags(place):
    result = judge(place["scores"], place["truth"])
    assert result.target == "buildings"
    assert result.prediction.threshold == 0.5
    expected = average_precision_score(place["true"].ravel(), place["probability"].ravel())
    assert values(result)["average_precision"] == pytest.approx(expected)
    curve = result.prediction.curves
    at = curve.threshold.index(0.5)
    assert curve.iou[at] == pytest.approx(values(result)["iou"])
    other = judge(place["scores"], place["truth"], threshold=curve.threshold[at + 20])
    assert values(other)["iou"] == pytest.approx(curve.iou[at + 20])


def test_scores_of_their_own_join_a_mask(place):
    alone, both = (
        judge(place["mask"], place["truth"]),
        judge(place["mask"], place["truth"], scores=str(place["scores"])),
    )
    assert alone.prediction.curves is None
    assert both.prediction.curves is not None
    assert both.prediction.metrics["iou"] == alone.prediction.metrics["iou"]
    assert both.prediction.scores == str(place["scores"])


def test_the_same_polygons_score_as_their_mask(place, tmp_path):
    polygons(place["predicted"]).to_file(tmp_path / "predicted.gpkg")
    polygons(place["true"]).to_file(tmp_path / "true.geojson")
    raster = judge(place["mask"], place["truth"])
    for pair in (
        (tmp_path / "predicted.gpkg", place["truth"]),
        (place["mask"], tmp_path / "true.geojson"),
    ):
        vector = judge(*pair, target="buildings")
        assert values(vector) == pytest.approx(values(raster))
        assert vector.prediction.objects == raster.prediction.objects
    both = judge(tmp_path / "predicted.gpkg", tmp_path / "true.geojson", gsd=GSD)
    # RFC 7946 rounds degrees to 1 cm, and the layers' bounds begin where the first object does.
    assert values(both)["iou"] == pytest.approx(values(raster)["iou"], abs=2e-3)
    assert both.prediction.objects.true == raster.prediction.objects.true


def test_a_truth_in_another_system_and_grid_is_laid_on_the_prediction(place, tmp_path):
    truth = tmp_path / "geographic.tif"
    transform, width, height = calculate_default_transform(
        UTM, "EPSG:4326", 330, 200, *rasterio.transform.array_bounds(200, 330, NORTH_UP), resolution=0.1 / 111_000
    )
    warped = np.full((height, width), 255, "uint8")
    reproject(
        place["true"].astype("uint8"), warped, src_transform=NORTH_UP, src_crs=UTM, dst_transform=transform,
        dst_crs="EPSG:4326", resampling=Resampling.nearest, dst_nodata=255, init_dest_nodata=True,
    )  # fmt: skip
    write_raster(truth, warped, transform, "EPSG:4326", nodata=255)
    here, there = judge(place["mask"], place["truth"]), judge(place["mask"], truth)
    assert there.known_pixels > 0.99 * here.known_pixels
    assert values(there)["iou"] == pytest.approx(values(here)["iou"], abs=0.02)
    polygons(place["true"]).to_crs(3857).to_file(tmp_path / "mercator.gpkg")
    vector = judge(place["mask"], tmp_path / "mercator.gpkg", target="buildings")
    assert values(vector)["iou"] == pytest.approx(values(here)["iou"], abs=2e-3)


def test_nodata_on_either_side_and_outside_the_aoi_is_not_judged(place, tmp_path):
    known = np.ones(place["true"].shape, bool)
    known[:70, :], known[:, 250:] = False, False
    truth, mask = place["true"].astype("uint8"), place["predicted"].astype("uint8")
    truth[:70], mask[:, 250:] = 255, 255
    truth_path = write_raster(tmp_path / "holes.tif", truth, nodata=255)
    mask_path = write_raster(tmp_path / "part.tif", mask, nodata=255)
    result = judge(mask_path, truth_path)
    expected = by_brute_force(place["true"], place["predicted"], 0, 1, known)
    assert result.known_pixels == known.sum()
    assert values(result)["iou"] == pytest.approx(expected["iou"])
    left, top = NORTH_UP @ (0, 70)
    right, bottom = NORTH_UP @ (250, 200)
    gpd.GeoDataFrame(geometry=[shapely.box(left, bottom, right, top)], crs=UTM).to_crs(4326).to_file(
        tmp_path / "aoi.gpkg"
    )
    area = judge(place["mask"], place["truth"], aoi=tmp_path / "aoi.gpkg")
    assert area.known_pixels == known.sum()
    assert values(area)["iou"] == pytest.approx(expected["iou"])


def test_the_edge_of_the_known_area_is_no_outline(tmp_path):
    """Two masks that fill the raster have no outline there, so nothing is compared."""
    full = write_raster(tmp_path / "full.tif", np.ones((100, 100), "uint8"))
    result = judge(full, full)
    assert values(result)["iou"] == 1
    assert values(result)["boundary_iou"] is None


def test_a_baseline_is_compared_on_common_pixels_and_blocks(place, tmp_path):
    worse = place["predicted"].copy()
    worse[:, ::7] = False
    stored = worse.astype("uint8")
    stored[150:] = 255
    other = write_raster(tmp_path / "other.tif", stored, nodata=255)
    result = judge(place["mask"], place["truth"], baseline=str(other))
    assert result.known_pixels == 150 * 330
    assert [one.name for one in result.predictions] == ["prediction", "baseline"]
    for which, mask in enumerate((place["predicted"], worse)):
        expected = by_brute_force(place["true"][:150], mask[:150], 0, 1)
        assert values(result, which)["iou"] == pytest.approx(expected["iou"])
    found = result.comparison
    gain = found.differences["iou"]
    assert gain.value == pytest.approx(values(result, 0)["iou"] - values(result, 1)["iou"])
    assert 0 < gain.low < gain.value < gain.high
    assert found.better > 5 * found.worse
    assert found.better + found.worse + found.equal <= result.blocks


def test_a_prediction_does_not_differ_from_itself(place):
    result = judge(place["scores"], place["truth"], baseline=str(place["scores"]))
    assert {figure.value for figure in result.comparison.differences.values()} == {0.0}
    assert (result.comparison.better, result.comparison.worse) == (0, 0)


def test_pixels_without_georeferencing_are_compared_one_to_one(place, tmp_path):
    truth = write_raster(tmp_path / "t.tif", place["true"].astype("uint8"), Affine.identity(), None)
    mask = write_raster(tmp_path / "m.tif", place["predicted"].astype("uint8"), Affine.identity(), None)
    result = judge(mask, truth)
    assert result.unit == "px"
    assert values(result)["iou"] == pytest.approx(values(judge(place["mask"], place["truth"]))["iou"])
    assert any("--gsd" in text for text in result.warnings)
    told = judge(mask, truth, gsd=0.5)
    assert (told.unit, told.gsd) == ("m", (0.5, 0.5))
    polygons(place["true"], Affine.scale(1, -1), None).to_file(tmp_path / "t.gpkg")
    assert values(judge(mask, tmp_path / "t.gpkg"))["iou"] == pytest.approx(values(result)["iou"])


def test_a_truth_without_objects_leaves_figures_undefined(place, tmp_path):
    empty = write_raster(tmp_path / "empty.tif", np.zeros(place["true"].shape, "uint8"))
    result = judge(place["scores"], empty)
    found = values(result)
    undefined = ["iou", "recall", "f1", "relaxed_recall", "relaxed_f1", "boundary_iou", "average_precision"]
    assert [found[name] for name in undefined] == [None] * 7
    assert found["object_f1"] is None
    assert found["precision"] == 0
    assert result.prediction.diagnosis.headroom == []
    assert any("holds no object" in text for text in result.warnings)


def test_a_mask_whose_nodata_is_zero_keeps_its_background(place, tmp_path):
    path = write_raster(tmp_path / "zero.tif", place["predicted"].astype("uint8") * 255, nodata=0)
    result = judge(path, place["truth"])
    assert result.known_pixels == place["true"].size
    assert any("calls 0 nodata" in text for text in result.warnings)


def test_a_layer_without_features_predicts_nothing_but_is_no_truth(place, tmp_path):
    polygons(place["true"]).iloc[:0].to_file(tmp_path / "none.gpkg")
    result = judge(tmp_path / "none.gpkg", place["truth"], target="buildings")
    assert values(result)["recall"] == 0
    assert values(result)["precision"] is None
    with pytest.raises(UsageError, match=r"TRUTH .*none.gpkg holds no feature.*mask raster of zeros"):
        judge(place["mask"], tmp_path / "none.gpkg")


def test_many_blocks_are_made_larger(tmp_path, monkeypatch):
    monkeypatch.setattr("prngeo.evaluation.collect.MOST_BLOCKS", 10)
    mask = write_raster(tmp_path / "m.tif", boxes((400, 400), 30, 0).astype("uint8"))
    result = judge(mask, mask)
    assert (result.block, result.blocks) == (256, 4)


def test_metrics_with_a_tolerance_respect_nodata(place, tmp_path):
    """What lies beside unknown pixels still counts as near, but unknown pixels count for nothing."""
    mask = place["predicted"].astype("uint8")
    mask[60:120, 100:200] = 255
    path = write_raster(tmp_path / "hole.tif", mask, nodata=255)
    known = mask != 255
    result = judge(path, place["truth"], relax=1.5, boundary=1.0)
    true, predicted = place["true"], place["predicted"] & known
    near_true, near_predicted = distance_transform_edt(~true) <= 3, distance_transform_edt(~predicted) <= 3
    edges = [
        part & (distance_transform_edt(~(background)) <= 2) & known
        for part, background in ((predicted, known & ~predicted), (true, ~true))
    ]
    expected = {
        "relaxed_precision": (predicted & near_true).sum() / predicted.sum(),
        "relaxed_recall": (true & known & near_predicted).sum() / (true & known).sum(),
        "boundary_iou": (edges[0] & edges[1]).sum() / (edges[0] | edges[1]).sum(),
    }
    assert values(result) == pytest.approx(values(result) | expected)


def test_a_block_without_false_alarms_is_better_than_one_with(tmp_path):
    true, alarms = np.zeros((2, 256, 256), "uint8")
    true[10:30, 10:30] = 1
    alarms[:, ::40] = 1
    alarms[:64, :64] = true[:64, :64]
    paths = [write_raster(tmp_path / f"{i}.tif", part) for i, part in enumerate((true, alarms))]
    found = judge(paths[0], paths[0], baseline=str(paths[1])).comparison
    assert (found.better, found.worse, found.equal) == (15, 0, 1)


@pytest.mark.parametrize("epsg", [32630, 3857, 4326])
def test_lengths_of_two_layers_are_metres_on_the_ground(tmp_path, epsg):
    """At 54 degrees north a metre of Web Mercator is 0.59 m."""
    lines = [[(0, 0), (300, 0)], [(100, -80), (100, 120)]]
    for name, shift in (("truth", 0), ("predicted", 1)):
        shapes = [shapely.LineString([(500_000 + x, 6_000_000 + y + shift) for x, y in line]) for line in lines]
        gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_crs(epsg).to_file(tmp_path / f"{name}.gpkg")
    result = judge(tmp_path / "predicted.gpkg", tmp_path / "truth.gpkg", gsd=0.5, line_width=6, target="roads")
    network = result.prediction.network
    assert network.connectivity.truth_km == pytest.approx(0.5, rel=0.01)
    assert network.lengths.recall == pytest.approx(1, abs=0.01)
    assert values(result)["relaxed_f1"] > 0.99


def test_roads_that_are_lines_keep_their_width_at_the_edge_of_the_grid(tmp_path):
    for name, y in (("truth", 0), ("predicted", 3)):
        line = shapely.LineString([(500_000, 6_000_000 + y), (500_300, 6_000_000 + y)])
        gpd.GeoDataFrame(geometry=[line], crs=UTM).to_file(tmp_path / f"{name}.gpkg")
    result = judge(tmp_path / "predicted.gpkg", tmp_path / "truth.gpkg", gsd=0.5, line_width=6, target="roads")
    assert values(result)["iou"] == pytest.approx(1 / 3, abs=0.01)


def test_a_road_of_two_ways_is_the_road_of_one(tmp_path):
    corner = [NORTH_UP @ point for point in ((20, 20), (20, 100), (150, 100))]
    one, two = [shapely.LineString(corner)], [shapely.LineString(corner[:2]), shapely.LineString(corner[1:])]
    for name, ways in (("one", one), ("two", two)):
        gpd.GeoDataFrame(geometry=ways, crs=UTM).to_file(tmp_path / f"{name}.gpkg")
    result = judge(tmp_path / "one.gpkg", tmp_path / "two.gpkg", gsd=0.25, line_width=8, target="roads")
    assert values(result)["iou"] == 1


def test_what_is_told_of_the_truth_reaches_the_truth(place, tmp_path):
    stored = place["true"].astype("uint8")
    stored[0, 0] = 255
    odd = write_raster(tmp_path / "odd.tif", stored)
    with pytest.raises(UsageError, match="--truth-values mask"):
        judge(place["mask"], odd)
    result = judge(place["mask"], odd, truth_values="mask")
    assert values(result)["iou"] == pytest.approx(values(judge(place["mask"], place["truth"]))["iou"], abs=1e-3)


def test_nodata_of_zero_stays_nodata_where_zero_is_a_value(place, tmp_path):
    logits = (place["probability"].astype("float32") - 125.5) / 20
    logits[:, 200:] = 0
    path = write_raster(tmp_path / "logits.tif", logits, nodata=0)
    assert judge(path, place["truth"], values="logit").known_pixels == 200 * 200


def told(result, text):
    return any(text in warning for warning in result.warnings)


def test_what_was_assumed_is_said(place, tmp_path):
    byte = write_raster(tmp_path / "byte.tif", (place["probability"] // 3).astype("uint8"))
    assert told(judge(byte, place["truth"]), "was read as a probability in 0..100")
    assert told(judge(byte, place["truth"]), "names no threshold; 0.5 was used")
    assert not told(judge(place["mask"], place["truth"], scores=str(byte)), "no threshold")
    assert told(judge(place["mask"], place["truth"], threshold=0.3), "--threshold has no part")
    assert told(judge(place["mask"], place["truth"], gsd=5), "--gsd 5 was taken")
    assert not told(judge(place["mask"], place["truth"], gsd=0.5), "--gsd")
    assert told(judge(place["mask"], place["scores"]), "was read as probabilities; 0.5 and more counts as true")


@pytest.mark.parametrize("top", [2, 127, 200])
def test_an_integer_raster_of_two_values_is_a_mask(place, tmp_path, top):
    path = write_raster(tmp_path / "mask.tif", place["true"].astype("uint8") * top)
    assert values(judge(place["mask"], path)) == values(judge(place["mask"], place["truth"]))


def test_rows_of_a_table_are_objects_whatever_its_index(place, tmp_path):
    frame = polygons(place["true"])
    frame.index = np.zeros(len(frame), int)
    frame.to_parquet(tmp_path / "same.parquet")
    found = judge(tmp_path / "same.parquet", place["truth"], target="buildings").prediction.objects
    assert found.predicted == found.true == len(frame)


@pytest.mark.parametrize("name", ["Roads", "road", "ROADS"])
def test_a_target_is_known_however_it_is_written(place, name):
    assert judge(place["mask"], place["truth"], target=name).prediction.network is not None


def test_a_full_disk_is_told_before_the_work(place, tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(PrngeoError, match="Histograms of 24 patches need .* No space left.*--scratch"):
        judge(place["scores"], place["truth"], scratch=tmp_path)
    assert not list(tmp_path.glob("prngeo-*"))


def test_diagnose_wants_probabilities(place):
    with pytest.raises(UsageError, match="bias can only be seen in probabilities"):
        prngeo.diagnose(place["mask"], place["truth"])
    with pytest.raises(UsageError, match="SCORES nosuch.gpkg: no such file"):
        prngeo.diagnose("nosuch.gpkg", place["truth"])
    result = prngeo.diagnose(place["scores"], place["truth"], options=EvaluateOptions(block=64, patch=64))
    assert result.prediction.objects is None
    assert [one.patch for one in result.prediction.diagnosis.headroom] == [64, 128, 256, 512]


def test_nothing_is_left_in_the_temporary_folder(place, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    judge(place["scores"], place["truth"])
    with pytest.raises(UsageError):
        judge(place["scores"], Path("missing.tif"))
    assert not list(scratch.iterdir())
