import hashlib
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from prngeo.errors import PrngeoError, ReadError, UsageError
from prngeo.raster.scene import open_scene
from prngeo.raster.source import is_remote, public_path, scene_name
from prngeo.tiling.grid import Window
from tests.serving import serving

WINDOW = Window(3, 4, 30, 40)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path) as running:
        yield running.url


@pytest.fixture
def plain(write_raster, noise):
    values = noise(3, 90, 110)
    return write_raster(values), values[:, 3:33, 4:44] / np.float32(255)


def test_vrt(plain, tmp_path):
    path, expected = plain
    vrt = tmp_path / "mosaic.vrt"
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, vrt, driver="VRT")
    with open_scene(vrt) as scene:
        np.testing.assert_array_equal(scene.read(WINDOW)[0], expected)
        assert (scene.driver, scene.name) == ("VRT", "mosaic")
        before = scene.identity()
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((3, 90, 110), "uint8"))
    with open_scene(vrt) as scene:
        assert scene.identity()["sha256"] != before["sha256"]


def test_what_is_in_a_vrt_inside_a_vrt_is_part_of_what_it_is(plain, tmp_path):
    inner, outer = tmp_path / "inner.vrt", tmp_path / "outer.vrt"
    with rasterio.open(plain[0]) as file:
        rasterio.shutil.copy(file, inner, driver="VRT")
    name = r"<SourceFilename.*</SourceFilename>"
    outer.write_text(re.sub(name, f"<SourceFilename>{inner}</SourceFilename>", inner.read_text()))
    with open_scene(outer) as scene:
        before = scene.identity()
    assert [Path(source["path"]).name for source in before["sources"]] == ["inner.vrt", Path(plain[0]).name]
    with rasterio.open(plain[0], "r+") as file:
        file.write(np.zeros((3, 90, 110), "uint8"))
    with open_scene(outer) as scene:
        assert scene.identity()["sha256"] != before["sha256"]


def test_a_vrt_on_a_server_is_what_its_sources_are(plain, tmp_path, server):
    with rasterio.open(plain[0]) as file:
        rasterio.shutil.copy(file, tmp_path / "all.vrt", driver="VRT")
    with open_scene(f"{server}/all.vrt") as scene:
        identity = scene.identity()
    assert identity["path"] == f"{server}/all.vrt"
    assert [Path(source["path"]).name for source in identity["sources"]] == [Path(plain[0]).name]


def test_a_mask_beside_a_file_is_part_of_what_it_is_and_statistics_are_not(plain):
    path, _ = plain

    def seen():
        with open_scene(path) as scene:
            return scene.identity()["sha256"]

    def mask(values):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as file:
            file.write_mask(values)

    alone = seen()
    Path(f"{path}.aux.xml").write_text("<PAMDataset/>", encoding="utf-8")
    assert seen() == alone
    mask(np.ones((90, 110), bool))
    masked = seen()
    mask(np.zeros((90, 110), bool))
    assert len({alone, masked, seen()}) == 3


@pytest.mark.parametrize("form", ["/vsizip/{}/inner/b.tif", "zip://{}!inner/b.tif"])
def test_file_in_a_zip(plain, tmp_path, form):
    path, expected = plain
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "inner/b.tif")
    with open_scene(form.format(archive)) as scene:
        np.testing.assert_array_equal(scene.read(WINDOW)[0], expected)
        assert scene.name == "b"
        assert scene.identity()["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("driver", ["COG", "PNG"])
def test_other_formats(plain, tmp_path, driver):
    path, expected = plain
    other = tmp_path / f"other.{driver.lower()}"
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, other, driver=driver)
    with open_scene(other) as scene:
        np.testing.assert_array_equal(scene.read(WINDOW)[0], expected)


@pytest.mark.parametrize("form", ["{}/scene.tif?key=secret", "/vsicurl/{}/scene.tif"])
def test_remote_file(plain, server, form):
    with open_scene(form.format(server)) as scene:
        np.testing.assert_array_equal(scene.read(WINDOW)[0], plain[1])
        assert scene.name == "scene"
        identity = scene.identity()
    assert identity["etag"] == '"abc"'
    assert identity["size"] == Path(plain[0]).stat().st_size
    assert "secret" not in str(identity)


def test_missing_remote_file_is_a_failed_run_without_its_key(server):
    with pytest.raises(PrngeoError, match=r"gone\.tif could not be opened: .*404") as caught:
        open_scene(f"{server}/gone.tif?key=secret")
    assert caught.value.exit_code == 1
    assert "secret" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"No such file: .*gone\.tif"):
        open_scene(tmp_path / "gone.tif")


@pytest.mark.parametrize("content", [b"", b"just some text", b"II*\x00\x08\x00\x00\x00"])
def test_what_is_no_raster_is_refused(tmp_path, content):
    path = tmp_path / "notes.tif"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"notes\.tif cannot be read as a raster: .*gdalinfo"):
        open_scene(path)


def test_folder_is_no_raster(tmp_path):
    with pytest.raises(UsageError, match="cannot be read as a raster"):
        open_scene(tmp_path)


@pytest.mark.parametrize("gsd_range", [None, (1.5, 1.5)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_truncated_tiff_names_file_and_place(write_raster, noise, dtype, gsd_range):
    path = Path(write_raster(noise(3, 400, 500, dtype), tiled=True, blockxsize=128, blockysize=128))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_scene(path, gsd_range=gsd_range) as scene:
        message = r"scene\.tif: rows \d+-\d+, columns \d+-\d+ could not be read: .*gdalinfo -checksum"
        with pytest.raises(ReadError, match=message) as caught:
            scene.read(Window(0, 0, scene.model_height, scene.model_width))
    assert caught.value.exit_code == 1


def test_truncated_jpeg_is_no_gray_area(tmp_path, noise):
    path = tmp_path / "photo.jpg"
    with rasterio.open(
        path, "w", driver="JPEG", height=300, width=300, count=3, dtype="uint8", crs="EPSG:32630",
        transform=rasterio.Affine(0.5, 0, 0, 0, -0.5, 10),
    ) as file:  # fmt: skip
        file.write(noise(3, 300, 300))
    path.write_bytes(path.read_bytes()[:20_000])
    with open_scene(path) as scene, pytest.raises(PrngeoError, match="Premature end of JPEG"):
        scene.read(Window(0, 0, 300, 300))


def test_identity_of_a_file_is_its_hash(plain):
    data = Path(plain[0]).read_bytes()
    with open_scene(plain[0]) as scene:
        digest = hashlib.sha256(data).hexdigest()
        assert scene.identity() == {"path": plain[0], "size_bytes": len(data), "sha256": digest}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/scene.tif", "scene"),
        ("tile.1.tif", "tile.1"),
        ("my town.tif", "my town"),
        ("/vsizip/a.zip/b.tif", "b"),
        ("/vsizip/{/x/a.zip}/b.tif", "b"),
        ("zip://a.zip!b.tif", "b"),
        ("https://host/x/town%20a.tif?sig=b.c/d#e", "town a"),
        ("/vsicurl/https://u:p@host/b.tif?x=/y.z", "b"),
        ("/vsis3/bucket/b.tif", "b"),
        ('NETCDF:"x/y.nc":band', "y"),
        ("<VRTDataset/>", "scene"),
    ],
)
def test_outputs_are_named_after_the_stem(path, name):
    assert scene_name(path) == name


def test_keys_in_addresses_are_not_shown():
    assert public_path("/vsicurl/https://u:p@host:80/b.tif?x=y") == "/vsicurl/https://host:80/b.tif"
    assert public_path("https://host/b.tif?x=y") == "https://host/b.tif"
    assert public_path("zip://a?.zip!b.tif") == "zip://a?.zip!b.tif"


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("a.tif", False),
        ("zip://a.zip!b.tif", False),
        ("/vsizip/a.zip/b.tif", False),
        ("file:///a.tif", False),
        ("https://host/a.tif", True),
        ("s3://b/a.tif", True),
        ("/vsicurl/https://host/a.tif", True),
        ("/vsizip//vsicurl/https://host/a.zip/b.tif", True),
        ("/vsizip/vsicurl/https://host/a.zip/b.tif", True),
    ],
)
def test_remote_paths_are_told_from_local_ones(path, remote):
    assert is_remote(path) == remote
