"""What an evaluation writes: complete or not at all, and readable by what it is meant for."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

import prngeo
from prngeo import EvaluateOptions, PrngeoError, UsageError
from prngeo.evaluation.metrics import METRICS
from tests.evaluation.conftest import GSD, write_raster

NAMES = {"report.html", "metrics.json", "blocks.gpkg", "bias.tif", "bias.qml", "threshold.tif", "threshold.qml"}


def write(place, folder, **options):
    options = {"block": 64, "patch": 64} | options
    return prngeo.evaluate(place["scores"], place["truth"], folder, EvaluateOptions(**options))


def test_all_files_are_there_and_nothing_else(place, tmp_path):
    result = write(place, tmp_path / "report", baseline=str(place["scores"]))
    both = NAMES | {f"{kind}_baseline.{end}" for kind in ("bias", "threshold") for end in ("tif", "qml")}
    assert {path.name for path in (tmp_path / "report").iterdir()} == both
    assert {path.name for path in result.files.values()} == {name for name in both if not name.endswith("qml")}


def test_json_holds_every_figure_with_its_definition(place, tmp_path):
    result = write(place, tmp_path / "report")
    content = json.loads((tmp_path / "report/metrics.json").read_text(), parse_constant=pytest.fail)
    (one,) = content["predictions"]
    assert one["metrics"]["iou"]["value"] == result.prediction.metrics["iou"].value
    assert set(one["metrics"]) <= set(content["definitions"]) == set(METRICS)
    assert len(one["curves"]["threshold"]) == len(one["curves"]["iou"]) == 250
    assert [item["patch"] for item in one["diagnosis"]["headroom"]] == [64, 128, 256, 512]
    assert content["options"]["block"] == 64
    assert content["known_pixels"] == place["true"].size


def test_undefined_figures_are_null(place, tmp_path):
    empty = write_raster(tmp_path / "empty.tif", np.zeros(place["true"].shape, "uint8"))
    prngeo.evaluate(place["scores"], empty, tmp_path / "report", EvaluateOptions(block=64))
    content = json.loads((tmp_path / "report/metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["predictions"][0]["metrics"]["iou"] == {"value": None, "low": None, "high": None}
    page = (tmp_path / "report/report.html").read_text()
    assert "\N{EM DASH}" in page
    assert "nan" not in page.split("</style>")[1].replace("base64", "").lower().split("<img")[0]


def test_blocks_add_up_to_the_whole_and_lie_in_their_places(place, tmp_path):
    result = write(place, tmp_path / "report")
    blocks = gpd.read_file(tmp_path / "report/blocks.gpkg", layer="blocks")
    assert len(blocks) == result.blocks == 4 * 6
    for name in ("tp", "fp", "fn"):
        assert blocks[name].sum() == result.prediction.pixels[name]
    assert blocks.crs.to_epsg() == 32630
    assert blocks.total_bounds == pytest.approx([500_000, 6_000_000 - 200 * GSD, 500_000 + 330 * GSD, 6_000_000])
    true, probability = place["true"][64:128, 128:192], place["probability"][64:128, 128:192] * 0.004
    block = blocks[(blocks["row"] == 1) & (blocks["col"] == 2)].iloc[0]
    assert block["true_share"] == pytest.approx(true.mean())
    assert block["bias"] == pytest.approx(probability.mean() - true.mean())
    mask = probability >= 0.5 - 1e-9
    assert block["iou"] == pytest.approx((mask & true).sum() / (mask | true).sum())


def test_bias_maps_lie_on_the_scene(place, tmp_path):
    write(place, tmp_path / "report")
    with rasterio.open(tmp_path / "report/bias.tif") as file:
        assert file.shape == (4, 6)
        assert file.res == (64 * GSD, 64 * GSD)
        assert (file.bounds.left, file.bounds.top) == (500_000, 6_000_000)
        assert file.crs.to_epsg() == 32630
        found = file.read(1)
    true, probability = place["true"][64:128, 128:192], place["probability"][64:128, 128:192] * 0.004
    assert found[1, 2] == pytest.approx(probability.mean() - true.mean(), abs=1e-6)


@pytest.mark.slow
def test_a_report_is_only_replaced_when_told(place, tmp_path):
    write(place, tmp_path / "report")
    before = (tmp_path / "report/metrics.json").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        write(place, tmp_path / "report", threshold=0.7)
    assert (tmp_path / "report/metrics.json").read_bytes() == before
    write(place, tmp_path / "report", threshold=0.7, overwrite=True)
    assert (tmp_path / "report/metrics.json").read_bytes() != before


def test_an_input_is_never_replaced(place, tmp_path):
    folder = place["scores"].parent
    truth = place["truth"].rename(folder / "bias.tif")
    with pytest.raises(UsageError, match="would replace the input"):
        prngeo.evaluate(place["scores"], truth, folder, EvaluateOptions(overwrite=True))
    assert truth.exists()


@pytest.mark.parametrize("broken", ["render", "write_layers", "write_sidecar"])
def test_a_run_that_fails_leaves_nothing(place, tmp_path, monkeypatch, broken):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"prngeo.evaluation.files.{broken}", fail)
    with pytest.raises(PrngeoError, match=r"could not be written in .*report.*No space left"):
        write(place, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_folder_that_is_a_file_is_refused(place, tmp_path):
    Path(tmp_path / "report").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write(place, tmp_path / "report")


@pytest.mark.slow
def test_a_layer_of_the_folder_is_never_replaced_by_its_name(place, tmp_path):
    write(place, tmp_path / "report")
    truth = f"{tmp_path / 'report/blocks.gpkg'}|layername=blocks"
    before = (tmp_path / "report/blocks.gpkg").read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        prngeo.evaluate(place["scores"], truth, tmp_path / "report", EvaluateOptions(overwrite=True))
    assert (tmp_path / "report/blocks.gpkg").read_bytes() == before


@pytest.mark.slow
def test_maps_of_an_earlier_report_go_with_it(place, tmp_path):
    write(place, tmp_path / "report", baseline=str(place["scores"]))
    prngeo.evaluate(place["mask"], place["truth"], tmp_path / "report", EvaluateOptions(block=64, overwrite=True))
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "metrics.json", "blocks.gpkg"}


def test_a_folder_that_cannot_be_is_told_before_the_work(place, monkeypatch):
    monkeypatch.setattr("prngeo.evaluation.run.collect", None)
    with pytest.raises(UsageError, match="cannot be written"):
        write(place, place["mask"] / "report")
