"""What `prngeo check` finds, and that it agrees with what a prediction does."""

import shutil

import geopandas
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp

import prngeo
from prngeo import PredictOptions, PrngeoError, UsageError
from prngeo.inference.pipeline import prepare
from prngeo.inspection.check import check_scene, count_tiles
from prngeo.models.bundle import CARD
from prngeo.models.card import Card, NetworkCard
from tests.conftest import write_scene


def _check(path, model, **options):
    report = check_scene(path, PredictOptions(model=model, **options))
    return report, {finding.name: finding for finding in report.findings}


def test_a_scene_that_suits_has_only_ok(tmp_path, tiny_model):
    report, found = _check(write_scene(tmp_path / "a.tif"), tiny_model)
    assert report.can_run
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["GSD"].scene.startswith("0.5 m")
    assert report.estimate is not None
    assert report.estimate.peak_memory > 0
    assert report.estimate.network_seconds is None


@pytest.mark.parametrize(
    ("scene", "name", "advice"),
    [
        ({"count": 1}, "bands", "--bands 1,1,1"),
        ({"count": 2}, "bands", "--bands"),
        ({"crs": None}, "GSD", "--gsd"),
        ({"nodata": 0, "holes": [(slice(None), slice(None))]}, "nodata", "gdalinfo"),
    ],
)
def test_what_stops_a_run_is_an_error_with_advice(tmp_path, tiny_model, scene, name, advice):
    report, found = _check(write_scene(tmp_path / "a.tif", 64, 64, **scene), tiny_model)
    assert not report.can_run
    assert report.estimate is None
    assert found[name].status == "error"
    assert advice in found[name].advice
    with pytest.raises(UsageError):
        prngeo.predict(tmp_path / "a.tif", tmp_path / "out", PredictOptions(model=tiny_model))


def test_several_mismatches_are_told_at_once(tmp_path, tiny_model):
    hole = (slice(None), slice(None))
    _, found = _check(write_scene(tmp_path / "a.tif", 64, 64, crs=None, nodata=0, holes=[hole]), tiny_model)
    assert [name for name, finding in found.items() if finding.status == "error"] == ["GSD", "nodata"]


def test_options_mend_what_the_advice_says(tmp_path, tiny_model):
    path = write_scene(tmp_path / "a.tif", 64, 64, crs=None, count=1)
    report, found = _check(path, tiny_model, gsd=0.5, bands=(1, 1, 1))
    assert report.can_run
    assert found["CRS"].status == "warning"
    assert "pixel coordinates" in found["CRS"].advice


def test_a_coarse_scene_is_resampled_and_warned_about(tmp_path, tiny_model):
    _, coarse = _check(write_scene(tmp_path / "coarse.tif", gsd=3.0), tiny_model)
    assert coarse["GSD"].status == "warning"
    assert "resampled on the fly to 1.25 m" in coarse["GSD"].model
    _, fine = _check(write_scene(tmp_path / "fine.tif", gsd=0.05), tiny_model)
    assert fine["GSD"].status == "ok"
    assert "resampled on the fly to 0.25 m" in fine["GSD"].model


def test_bands_that_the_file_does_not_name_are_a_warning(tmp_path, tiny_model):
    path = write_scene(tmp_path / "a.tif", 64, 64, count=4)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.undefined] * 4
    report, found = _check(path, tiny_model)
    assert report.can_run
    assert found["bands"].status == "warning"
    assert "--bands" in found["bands"].advice


def test_other_data_types_tell_their_stretch(tmp_path, tiny_model):
    _, found = _check(write_scene(tmp_path / "a.tif", dtype="uint16"), tiny_model)
    assert found["values"].scene == "uint16"
    assert "percentiles 1 and 99" in found["values"].model


def test_a_dark_scene_is_a_warning(tmp_path, tiny_model):
    card = Card.model_validate_json((tiny_model / CARD).read_text())
    model = shutil.copytree(tiny_model, tmp_path / "model")
    update = {"band_mean": [0.01] * 3, "band_std": [0.02] * 3}
    (model / CARD).write_text(card.model_copy(update=update).model_dump_json())
    report, found = _check(write_scene(tmp_path / "a.tif"), model)
    assert report.can_run
    assert found["statistics"].status == "warning"


@pytest.mark.parametrize("options", [{"max_memory": 10 << 20}, {"targets": ("rivers",)}, {"overlap": 96}])
def test_options_that_do_not_suit_are_errors(tmp_path, tiny_model, options):
    report, found = _check(write_scene(tmp_path / "a.tif"), tiny_model, **options)
    assert not report.can_run
    assert found["options"].status == "error"
    assert "--" in found["options"].advice


def test_wrong_calls_are_raised(tmp_path, tiny_model):
    path = write_scene(tmp_path / "a.tif")
    with pytest.raises(UsageError, match="No such file"):
        _check(tmp_path / "nosuch.tif", tiny_model)
    with pytest.raises(UsageError, match="No such model"):
        _check(path, "nosuch")
    with pytest.raises(UsageError, match="--gsd"):
        _check(path, tiny_model, gsd=0.0)


def test_a_damaged_file_is_raised(tmp_path, tiny_model):
    path = write_scene(tmp_path / "a.tif", dtype="uint16")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(PrngeoError, match=r"a\.tif"):
        _check(path, tiny_model)


@pytest.mark.parametrize("area", [None, (0, 0, 60, 60), (150, 100, 200, 140)])
@pytest.mark.slow
def test_as_many_tiles_are_announced_as_run(tmp_path, tiny_model, area):
    path = write_scene(tmp_path / "a.tif", 700, 900)
    aoi = None
    if area:
        with rasterio.open(path) as file:
            left, top = file.bounds.left, file.bounds.top
        box = shapely.box(left + area[0], top - area[3], left + area[2], top - area[1])
        aoi = tmp_path / "aoi.gpkg"
        geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32631").to_file(aoi)
    options = PredictOptions(model=tiny_model, aoi=aoi, chunk=512)
    with prepare(path, None, options) as job:
        announced = count_tiles(job)
    steps = []
    prngeo.predict(path, tmp_path / "out", options, steps.append)
    assert {step.total for step in steps if step.stage == "segment" and not step.note} == {announced}


def test_time_is_estimated_where_it_was_measured(tmp_path, tiny_model):
    card = Card.model_validate_json((tiny_model / CARD).read_text())
    model = shutil.copytree(tiny_model, tmp_path / "model")
    network = NetworkCard(architecture="unet", encoder="tu-tf_efficientnet_lite0", mean=[0.5] * 3, std=[0.2] * 3)
    (model / CARD).write_text(card.model_copy(update={"network": network, "tile": 512}).model_dump_json())
    report, _ = _check(write_scene(tmp_path / "a.tif", 600, 600), model)
    assert report.estimate is not None
    assert report.estimate.tiles == 4
    assert report.estimate.network_seconds == pytest.approx((0.4, 0.8))
    report, _ = _check(tmp_path / "a.tif", model, tta=True)
    assert report.estimate is not None
    assert report.estimate.network_seconds == pytest.approx((1.6, 3.2))
