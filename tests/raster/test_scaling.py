import numpy as np
import pytest

from prngeo.raster import scaling
from prngeo.raster.scene import Scaling, open_scene
from prngeo.tiling.grid import Window


def test_uint8_is_divided_by_255(write_raster):
    values = np.arange(256, dtype="uint8").reshape(1, 16, 16).repeat(3, axis=0)
    with open_scene(write_raster(values)) as scene:
        image, _ = scene.read(Window(0, 0, 16, 16))
        assert scene.stretch == ((0.0, 255.0),) * 3
    assert image.dtype == np.float32
    assert image.max() == 1
    np.testing.assert_array_equal(image, values.astype("float32") / 255)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_other_types_are_stretched_band_by_band_between_percentiles(write_raster, dtype):
    ramp = np.arange(10_000).reshape(100, 100)
    values = np.stack([ramp, ramp + 5000, ramp * 3]).astype(dtype)
    with open_scene(write_raster(values), scaling=Scaling(percentiles=(2, 98))) as scene:
        np.testing.assert_allclose(scene.stretch, [(200, 9799), (5200, 14799), (599, 29397)], atol=1)
        image, _ = scene.read(Window(0, 0, 100, 100))
    low, high = scene.stretch[1]
    np.testing.assert_allclose(image[1], np.clip((values[1].astype(float) - low) / (high - low), 0, 1), atol=1e-6)


def test_uint8_can_be_stretched_too(write_raster, noise):
    with open_scene(write_raster(noise(3, 64, 64) // 4), scaling=Scaling(uint8="percentile")) as scene:
        image, _ = scene.read(Window(0, 0, 64, 64))
        assert all(high < 60 for _, high in scene.stretch)
    assert image.max() == 1


def test_large_numbers_keep_their_differences(write_raster):
    ramp = 2_000_000_000 + np.arange(10_000).reshape(1, 100, 100).repeat(3, axis=0)
    with open_scene(write_raster(ramp.astype("int32"))) as scene:
        image, _ = scene.read(Window(0, 0, 100, 100))
    assert len(np.unique(image[0])) > 9_000


def test_stretch_is_taken_over_valid_pixels_only(write_raster, noise):
    values = noise(3, 64, 64, "int16")
    values[:, :32] = -9999
    with open_scene(write_raster(values, nodata=-9999)) as scene:
        assert all(0 < low < high < 200 for low, high in scene.stretch)


def test_flat_band_becomes_zero_without_warning(write_raster):
    for value in (0, 7, 1e30):
        with open_scene(write_raster(np.full((3, 9, 9), value, "float32"))) as scene:
            image, valid = scene.read(Window(0, 0, 9, 9))
        assert valid.all()
        np.testing.assert_array_equal(image, 0)


def test_scene_without_a_valid_pixel_opens_and_says_so(write_raster):
    with open_scene(write_raster(np.full((3, 40, 40), np.nan, "float32"))) as scene:
        assert scene.valid_share == 0
        image, valid = scene.read(Window(0, 0, 40, 40))
    assert not valid.any()
    assert not image.any()


def test_one_valid_pixel_is_never_overlooked(write_raster, monkeypatch):
    monkeypatch.setattr(scaling, "_DECIMATED_SIDE", 16)
    values = np.zeros((3, 300, 300), "uint16")
    values[:, 201, 77] = 500
    with open_scene(write_raster(values, nodata=0)) as scene:
        assert scene.valid_share == 1 / 90_000
        assert scene.stretch == ((500, 1000),) * 3


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_stretch_of_a_large_scene_is_near_that_of_all_its_pixels(write_raster, monkeypatch, overviews):
    monkeypatch.setattr(scaling, "_SMALL_SCENE", 200_000)  # the coarsest overview is smaller
    rng = np.random.default_rng(1)
    values = rng.gamma(4, 300, (3, 1500, 1400)).astype("uint16")
    path = write_raster(values, overviews=overviews, tiled=True)
    with open_scene(path) as scene, open_scene(path) as again:
        assert scene.stretch == again.stretch
        if not overviews:  # averaging overviews narrow the spread of noise
            np.testing.assert_allclose(scene.stretch, np.percentile(values, (1, 99), axis=(1, 2)).T, rtol=0.02)


def test_stretch_does_not_depend_on_what_was_read(write_raster, noise):
    path, window = write_raster(noise(3, 300, 300, "uint16")), Window(10, 10, 64, 64)
    with open_scene(path) as scene, open_scene(path) as other:
        scene.read(Window(200, 200, 50, 50))
        np.testing.assert_array_equal(scene.read(window)[0], other.read(window)[0])


def test_percentiles_are_checked():
    with pytest.raises(ValueError, match="rising"):
        Scaling(percentiles=(99, 1))
