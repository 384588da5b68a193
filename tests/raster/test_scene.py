import math
import subprocess
import sys
import threading

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp as C
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from prngeo.raster import scene as scene_module
from prngeo.raster.scene import open_scene
from prngeo.tiling.grid import Grid, Window

SIZES = [(1, 1), (37, 53), (513, 511)]
LOCAL = Affine.identity()
ROTATED = Affine.translation(500_000, 6_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


@pytest.fixture
def holed(write_raster, noise):
    """A float scene with a nodata hole, a NaN and an overview-free 0.1 m grid."""
    values = noise(3, 300, 280, "float32")
    values[:, 100:140, 90:160] = -9999
    values[1, 200, 200] = np.nan
    return write_raster(values, nodata=-9999, transform=Affine(0.1, 0, 5e5, 0, -0.1, 6e6))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows_beyond_the_raster_are_invalid_there(write_raster, noise, size, dtype):
    height, width = size
    with open_scene(write_raster(noise(3, height, width, dtype))) as scene:
        whole, _ = scene.read(Window(0, 0, height, width))
        image, valid = scene.read(Window(-7, -5, height + 20, width + 30))
        outside, none = scene.read(Window(height + 3, width, 8, 8))
    assert image.shape == (3, height + 20, width + 30)
    np.testing.assert_array_equal(image[:, 7 : 7 + height, 5 : 5 + width], whole)
    assert valid.sum() == height * width
    assert valid[7 : 7 + height, 5 : 5 + width].all()
    assert not none.any()
    assert not outside.any()


@pytest.mark.parametrize("factor", [0.4, 1.7, 3.0, 12.5])
@pytest.mark.parametrize("size", SIZES)
def test_resampled_scene_covers_every_valid_scene_pixel(write_raster, noise, size, factor):
    height, width = size
    values = noise(3, height, width)
    values[:, height // 3 : height // 2, width // 3 :] = 0
    with open_scene(write_raster(values, nodata=0), gsd=1.0, gsd_range=(factor, factor)) as scene:
        assert (scene.model_height, scene.model_width) == (
            math.ceil(height / factor),
            math.ceil(width / factor),
        )
        image, valid = scene.read(Window(-2, -3, scene.model_height + 4, scene.model_width + 6))
        known = scene.read_valid(Window(0, 0, height, width))
    assert not image[:, ~valid].any()
    rows, cols = (((np.arange(n) + 0.5) / factor).astype(int) + m for n, m in ((height, 2), (width, 3)))
    assert valid[np.ix_(rows, cols)][known].all()
    inside = np.zeros_like(valid)
    inside[2:-2, 3:-3] = True
    assert not valid[~inside].any()


@pytest.mark.parametrize("gsd_range", [(0.25, 0.25), (0.3, 0.3), (0.04, 0.04), (1.3, 1.3)])
def test_resampled_pixels_do_not_depend_on_the_window(holed, gsd_range):
    with open_scene(holed, gsd_range=gsd_range) as scene, open_scene(holed, gsd_range=gsd_range) as other:
        assert scene.resampled
        extent = Window(0, 0, scene.model_height, scene.model_width)
        image, valid = scene.read(extent)
        grid = Grid(*extent.shape, 61, 13)
        for index in reversed(list(grid.indices())):
            window = grid.window(index)
            part, part_valid = other.read(window)
            inside = window.intersect(extent)
            cut, whole = inside.within(window), inside.within(extent)
            np.testing.assert_array_equal(part[:, *cut], image[:, *whole])
            np.testing.assert_array_equal(part_valid[cut], valid[whole])


def test_resampling_in_steps_changes_nothing(holed, monkeypatch):
    window = Window(-3, -3, 70, 70)
    with open_scene(holed, gsd_range=(0.5, 0.5)) as scene:
        image, valid = scene.read(window)
        monkeypatch.setattr(scene_module, "_STEP_PIXELS", 3000)
        again, valid_again = scene.read(window)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(valid, valid_again)


def test_resampled_pixels_from_overviews_do_not_depend_on_the_window(write_raster, noise):
    path = write_raster(noise(3, 513, 511), overviews=(2, 4))
    with open_scene(path, gsd=0.1, gsd_range=(0.45, 0.45)) as scene:
        image, _ = scene.read(Window(0, 0, scene.model_height, scene.model_width))
        for row, col in ((0, 0), (17, 33), (60, 71)):
            np.testing.assert_array_equal(
                scene.read(Window(row, col, 40, 40))[0], image[:, row : row + 40, col : col + 40]
            )


@pytest.mark.parametrize("overviews", [(), (2, 4)])
@pytest.mark.parametrize("factor", [0.4, 1.6, 2.5, 5.2])
@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32630", ROTATED), (None, LOCAL)])
def test_feature_stays_within_half_a_model_pixel(write_raster, factor, crs, transform, overviews):
    values = np.zeros((3, 400, 400), "uint8")
    values[:, 203:227, 81:123] = 255  # its middle lies at column 102, row 215
    path = write_raster(values, crs=crs, transform=transform, overviews=overviews)
    with open_scene(path, gsd=1, gsd_range=(factor, factor), gsd_tolerance=0) as scene:
        image, _ = scene.read(Window(0, 0, scene.model_height, scene.model_width))
        rows, cols = np.indices(image.shape[1:]) + 0.5
        weight = image[0] / image[0].sum()
        found = scene.model_transform @ ((cols * weight).sum(), (rows * weight).sum())
        col, row = ~scene.transform @ found
    assert abs(col - 102) < 0.2 * factor
    assert abs(row - 215) < 0.2 * factor


def test_feature_far_from_the_origin_stays_when_the_overview_does_not_divide_the_scene(write_raster):
    values = np.zeros((3, 515, 515), "uint8")
    values[:, 440:480, 456:504] = 255  # its middle lies at column 480, row 460
    path = write_raster(values, overviews=(8,))  # 65 pixels: 7.92 scene pixels each
    with open_scene(path, gsd=1, gsd_range=(8, 8), gsd_tolerance=0) as scene:
        image, _ = scene.read(Window(0, 0, scene.model_height, scene.model_width))
        rows, cols = np.indices(image.shape[1:]) + 0.5
        weight = image[0] / image[0].sum()
    assert (8 * (cols * weight).sum(), 8 * (rows * weight).sum()) == pytest.approx((480, 460), abs=1)


def test_geographic_scene_is_resampled_to_square_pixels(write_raster):
    values = np.zeros((3, 200, 400), "uint8")
    values[:, 50:100, 100:200] = 255  # a square on the ground at 60 N
    path = write_raster(values, crs="EPSG:4326", transform=Affine(1e-6, 0, 10, 0, -1e-6, 60))
    with open_scene(path, gsd_range=(0.25, 1.25)) as scene:
        image, _ = scene.read(Window(0, 0, scene.model_height, scene.model_width))
    height, width = (image[0].max(axis=axis).astype(bool).sum() for axis in (1, 0))
    assert abs(height - width) <= 1
    assert height >= 22


@pytest.mark.parametrize("factor", [0.4, 1.7, 3.0])
@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask", "nan"])
def test_hole_does_not_darken_its_neighbors(write_raster, kind, factor):
    dtype = "float32" if kind == "nan" else "uint8"
    values = np.full((4 if kind == "alpha" else 3, 120, 120), 100, dtype)
    mask, options = np.full((120, 120), 255, "uint8"), {}
    mask[40:71, 33:80] = 0
    values[:3, mask == 0] = np.nan if kind == "nan" else 0
    if kind == "alpha":
        values[3] = mask
        options["colorinterp"] = (C.red, C.green, C.blue, C.alpha)
    elif kind == "nodata":
        options["nodata"] = 0
    elif kind == "mask":
        options["mask"] = mask
    path = write_raster(values, **options)
    with open_scene(path, gsd=1, gsd_range=(factor, factor)) as scene:
        image, valid = scene.read(Window(-2, -2, scene.model_height + 4, scene.model_width + 4))
    expected = 0 if kind == "nan" else 100 / 255  # a flat float scene stretches to 0
    np.testing.assert_allclose(image[:, valid], expected, atol=1e-6)
    assert 0 < valid.mean() < 1
    assert abs((~valid[2:-2, 2:-2]).sum() * factor**2 / (31 * 47) - 1) < 0.25


def test_averages_agree_with_gdal(write_raster, noise):
    path = write_raster(noise(3, 300, 300), transform=Affine(0.1, 0, 5e5, 0, -0.1, 6e6))
    with open_scene(path, gsd_range=(0.25, 0.25)) as scene, rasterio.open(path) as file:
        image, _ = scene.read(Window(0, 0, 120, 120))
        size = {"height": 120, "width": 120, "resampling": Resampling.average}
        with WarpedVRT(file, crs=file.crs, transform=scene.model_transform, **size) as warped:
            np.testing.assert_allclose(image * 255, warped.read(), atol=0.51)


def test_scene_within_tolerance_is_read_as_it_is(write_raster, noise):
    values = noise(3, 50, 50)
    with open_scene(write_raster(values), gsd=0.2, gsd_range=(0.25, 1.25)) as scene:
        assert scene.factor == (1.0, 1.0)
        np.testing.assert_array_equal(scene.read(Window(0, 0, 50, 50))[0], values / np.float32(255))


def test_reopened_scene_reads_the_same_in_another_thread_without_new_statistics(holed, monkeypatch):
    window, found = Window(10, 10, 50, 50), {}
    with open_scene(holed, gsd_range=(0.25, 1.25)) as scene:
        expected, stretch = scene.read(window), scene.stretch
        monkeypatch.setattr(scene_module, "take_sample", None)

        def work() -> None:
            with scene.reopen() as own:
                found["read"], found["stretch"] = own.read(window), own.stretch

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found["stretch"] == stretch
        for a, b in zip(found["read"], expected, strict=True):
            np.testing.assert_array_equal(a, b)
        scene.read(window)  # closing the copy leaves this one open


def test_statistics_are_taken_before_the_first_copy_is_made(holed, monkeypatch):
    with open_scene(holed) as scene:
        own = scene.reopen()
        monkeypatch.setattr(scene_module, "take_sample", None)
        with own:
            assert own.stretch == scene.stretch


def test_reader_does_not_import_torch():
    code = "import sys, prngeo.raster.scene; sys.exit('torch' in sys.modules or 'geopandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
