"""Scenes on a server: read by windows, as the same file on the disk would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from shapely.geometry import box

import prngeo
from prngeo import PredictOptions, PrngeoError
from tests.conftest import write_scene
from tests.serving import Server, serving


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a COG."""
    folder = tmp_path_factory.mktemp("bucket")
    plain = write_scene(tmp_path_factory.mktemp("plain") / "plain.tif", 1400, 1400)
    rasterio.shutil.copy(plain, folder / "scene.tif", driver="COG", compress="deflate", blocksize=128)
    (folder / "bucket").mkdir()
    (folder / "bucket" / "scene.tif").hardlink_to(folder / "scene.tif")  # as a bucket of S3
    return folder


@pytest.fixture
def server(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    with serving(bucket) as running:
        yield running


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", targets=("buildings",), refine=False)


def mask(result: prngeo.PredictResult) -> np.ndarray:
    with rasterio.open(result.rasters["buildings"]["mask"]) as file:
        return np.asarray(file.read(1))


@pytest.fixture(scope="module")
def local(bucket: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The mask of the file on the disk."""
    options = PredictOptions(model=tiny_model, device="cpu", targets=("buildings",), refine=False)
    return mask(prngeo.predict(bucket / "scene.tif", tmp_path_factory.mktemp("local"), options))


def s3_settings(server: Server) -> dict[str, str]:
    """GDAL's, by which /vsis3/ finds the server."""
    return {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }


def address(server: Server, form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if form == "/vsis3/":
        for name, value in s3_settings(server).items():
            monkeypatch.setenv(name, value)
        return "/vsis3/bucket/scene.tif"
    return ("/vsicurl/" if form == "/vsicurl/" else "") + f"{server.url}/scene.tif"


@pytest.mark.parametrize("form", ["http", "/vsicurl/", "/vsis3/"])
def test_an_area_of_a_remote_cog_is_read_without_the_rest(
    bucket: Path, server: Server, options: PredictOptions, local: np.ndarray, form: str, tmp_path: Path, monkeypatch
) -> None:
    aoi = tmp_path / "aoi.gpkg"
    area = box(500_000 + 10, 5_000_000 - 60, 500_000 + 60, 5_000_000 - 10)
    geopandas.GeoDataFrame(geometry=[area], crs="EPSG:32631").to_file(aoi)
    scene = address(server, form, monkeypatch)
    result = prngeo.predict(scene, tmp_path / "out", replace(options, aoi=aoi, chunk=512))
    expected = np.full_like(local, 255)
    expected[20:120, 20:120] = local[20:120, 20:120]
    np.testing.assert_array_equal(mask(result), expected)
    size = (bucket / "scene.tif").stat().st_size
    assert 10_000 < server.told()["bytes"] < size / 3
    with rasterio.open(result.rasters["buildings"]["mask"]) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.slow
def test_settings_of_rasterio_hold_in_a_process_of_the_networks(
    bucket: Path, server: Server, options: PredictOptions, local: np.ndarray, tmp_path: Path
) -> None:
    with rasterio.Env(**s3_settings(server)):
        result = prngeo.predict("/vsis3/bucket/scene.tif", tmp_path, replace(options, apart=True))
    np.testing.assert_array_equal(mask(result), local)


@pytest.mark.slow
def test_a_whole_remote_cog_is_that_of_the_disk_and_comes_once(
    bucket: Path, server: Server, options: PredictOptions, local: np.ndarray, tmp_path: Path
) -> None:
    result = prngeo.predict(f"{server.url}/scene.tif", tmp_path / "out", options)
    np.testing.assert_array_equal(mask(result), local)
    assert server.told()["bytes"] < 1.1 * (bucket / "scene.tif").stat().st_size


@pytest.mark.slow
def test_a_server_that_fails_for_a_moment_is_asked_again(
    server: Server, options: PredictOptions, local: np.ndarray, tmp_path: Path
) -> None:
    server.told(failures=[0, 503, 503, None, 500, None, 502])
    result = prngeo.predict(f"{server.url}/scene.tif", tmp_path / "out", options)
    np.testing.assert_array_equal(mask(result), local)
    assert server.told()["failures"] == []


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"ranges": False}, r"scene\.tif could not be opened: Range downloading not supported.* download the file"),
        ({"always": 503}, r"scene\.tif could not be opened: .*Check the address, the network"),
        ({"failures": [0], "always": 503}, r"could not be read: .*The server or the network may have failed"),
        ({"failures": [0], "always": None}, r"could not be read: .*The server or the network may have failed"),
    ],
)
@pytest.mark.slow
def test_a_server_that_keeps_failing_is_told_with_its_address(
    server: Server, options: PredictOptions, tmp_path: Path, state, message: str
) -> None:
    server.told(**state)
    with pytest.raises(PrngeoError, match=message) as told:
        prngeo.predict(f"{server.url}/scene.tif", tmp_path / "out", options)
    assert told.value.exit_code == 1
    assert server.url in str(told.value)


@pytest.mark.slow
def test_remote_scenes_make_a_mosaic(
    bucket: Path, server: Server, options: PredictOptions, local: np.ndarray, tmp_path: Path
) -> None:
    result = prngeo.predict_mosaic([f"{server.url}/scene.tif"], tmp_path / "out", options)
    np.testing.assert_array_equal(mask(result), local)
    assert f"/vsicurl/{server.url}/scene.tif" in Path(result.scene).read_text()
