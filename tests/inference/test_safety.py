"""What a run must never do to a user's files, and calls that cannot be meant."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

import prngeo
from prngeo import PredictOptions, PrngeoError, UsageError
from prngeo.files import publish
from tests.conftest import write_scene


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", min_area=0)


def test_an_output_never_replaces_an_input(tmp_path: Path, options: PredictOptions) -> None:
    scene = tmp_path / "scene.gpkg"
    with rasterio.open(write_scene(tmp_path / "plain.tif", 64, 64)) as file:
        values, profile = file.read(), file.profile
    place = {"crs": profile["crs"], "transform": profile["transform"]}
    with rasterio.open(scene, "w", driver="GPKG", height=64, width=64, count=3, dtype="uint8", **place) as file:
        file.write(values)
    before = scene.read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        prngeo.predict(scene, None, replace(options, overwrite=True))
    assert scene.read_bytes() == before
    area = geopandas.GeoDataFrame(geometry=[box(500_000, 4_999_990, 500_020, 5_000_000)], crs="EPSG:32631")
    area.to_file(tmp_path / "plain.gpkg")
    with pytest.raises(UsageError, match="would replace the input"):
        prngeo.predict(tmp_path / "plain.tif", None, replace(options, overwrite=True, aoi=tmp_path / "plain.gpkg"))


def test_an_edited_style_is_kept_unless_told(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 64, 64)
    style = tmp_path / "scene_roads_mask.qml"
    style.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        prngeo.predict(scene, None, options)
    assert style.read_text() == "mine"


def test_a_failed_publish_moves_everything_back(tmp_path: Path) -> None:
    hidden, folder = tmp_path / "hidden", tmp_path / "out"
    hidden.mkdir()
    folder.mkdir()
    for name in ("a", "b", "c"):
        (hidden / name).write_text("new")
    (folder / "a").write_text("old")
    (folder / "c").mkdir()
    (folder / "c" / "x").touch()
    with pytest.raises(PrngeoError, match="could not be replaced"):
        publish(hidden, folder, ["a", "b", "c"])
    assert (folder / "a").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c"]


def test_a_folder_in_an_outputs_place_is_refused_before_the_run(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 64, 64)
    (tmp_path / "scene_roads_mask.tif").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        prngeo.predict(scene, None, replace(options, overwrite=True))


def test_area_of_interest_without_a_pixel_center_is_refused(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 64, 64)
    area = geopandas.GeoDataFrame(geometry=[box(500_000.05, 4_999_999.85, 500_000.1, 4_999_999.95)], crs="EPSG:32631")
    area.to_file(tmp_path / "aoi.gpkg")
    with pytest.raises(UsageError, match="covers no valid pixel"):
        prngeo.predict(scene, tmp_path / "out", replace(options, aoi=tmp_path / "aoi.gpkg"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("gsd", [1e9, 1e-9, 1000.0])
def test_an_absurd_gsd_is_refused_at_once(tmp_path: Path, options: PredictOptions, gsd: float) -> None:
    with pytest.raises(UsageError, match="--gsd"):
        prngeo.predict(write_scene(tmp_path / "scene.tif", 64, 64), tmp_path / "out", replace(options, gsd=gsd))


def test_far_too_coarse_is_refused_and_coarse_is_warned_about(tmp_path: Path, options: PredictOptions) -> None:
    with pytest.raises(UsageError, match="cannot be seen"):
        prngeo.predict(write_scene(tmp_path / "a.tif", 20, 20, gsd=30.0), tmp_path / "out", options)
    result = prngeo.predict(write_scene(tmp_path / "b.tif", 20, 20, gsd=3.0), tmp_path / "out", options)
    assert any("coarser" in warning for warning in result.warnings)
    told = replace(options, gsd=0.5, overwrite=True)
    result = prngeo.predict(tmp_path / "b.tif", tmp_path / "out", told)
    assert any("--gsd says" in warning for warning in result.warnings)


def test_pixels_without_size_are_refused(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 64, 64)
    with rasterio.open(scene, "r+") as file:
        file.transform = Affine(0, 0, 500_000, 0, 0, 5_000_000)
    with pytest.raises(UsageError, match="geotransform without area"):
        prngeo.predict(scene, tmp_path / "out", options)


def test_unwritable_scratch_is_a_usage_error(tmp_path: Path, options: PredictOptions) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc, a folder nobody can write")
    with pytest.raises(UsageError, match="--scratch"):
        prngeo.predict(
            write_scene(tmp_path / "scene.tif", 64, 64), tmp_path / "out", replace(options, scratch=Path("/proc"))
        )
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_found_before_the_scene_is_read(tmp_path: Path, options: PredictOptions) -> None:
    broken = shutil.copytree(options.model, tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="SHA-256"):
        prngeo.predict(write_scene(tmp_path / "scene.tif", 64, 64), tmp_path / "out", replace(options, model=broken))


def test_areas_in_web_mercator_are_areas_on_the_ground(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 200, 200)
    with rasterio.open(scene, "r+") as file:
        file.crs = "EPSG:3857"
        file.transform = Affine(1, 0, 0, 0, -1, 8_400_000)
    result = prngeo.predict(scene, tmp_path / "out", options)
    layer = geopandas.read_file(result.vectors[0], layer="roads")
    true = layer.to_crs("EPSG:32631").area.sum()
    np.testing.assert_allclose(layer["area_m2"].sum(), true, rtol=0.01)
