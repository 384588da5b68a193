import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp as C
from rasterio.enums import Resampling

from prngeo.raster.scene import open_scene
from prngeo.tiling.grid import Window

WHOLE = Window(0, 0, 37, 53)


def both(path, **options):
    """The mask of the model grid, after checking it against that of the scene grid and the image's zeros."""
    with open_scene(path, **options) as scene:
        image, valid = scene.read(WHOLE)
        np.testing.assert_array_equal(valid, scene.read_valid(WHOLE))
        assert not image[:, ~valid].any()
        assert np.isfinite(image).all()
        assert scene.valid_share == pytest.approx(valid.mean())
    return valid


def test_everything_is_valid_without_a_marker(write_raster, noise):
    path = write_raster(noise(3, 37, 53))
    assert both(path).all()
    with open_scene(path) as scene:
        assert scene.always_valid


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha_zero_is_no_data(write_raster, noise, dtype):
    values = noise(4, 37, 53, dtype)
    values[3] = 255
    values[3, 5:9, 7:20] = 0
    values[3, 20, 20] = 1
    path = write_raster(values, colorinterp=(C.red, C.green, C.blue, C.alpha))
    np.testing.assert_array_equal(both(path), values[3] > 0)


def test_alpha_chosen_as_image_band_is_no_mask(write_raster, noise):
    values = noise(4, 37, 53)
    values[3, 5:9] = 0
    path = write_raster(values, colorinterp=(C.red, C.green, C.blue, C.alpha))
    assert both(path, bands=(4, 1, 2)).all()


def test_internal_mask(write_raster, noise):
    mask = np.full((37, 53), 255, "uint8")
    mask[:, 40:] = 0
    np.testing.assert_array_equal(both(write_raster(noise(3, 37, 53), mask=mask)), mask > 0)


def test_black_nodata_takes_all_bands(write_raster, noise):
    values = noise(3, 37, 53)
    values[0, :10] = 0  # a dark roof: no red at all
    values[:, 20:25, 30:] = 0
    expected = np.ones((37, 53), bool)
    expected[20:25, 30:] = False
    np.testing.assert_array_equal(both(write_raster(values, nodata=0)), expected)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_sentinel_nodata_in_one_band_is_enough(write_raster, noise, dtype):
    values = noise(3, 37, 53, dtype)
    values[1, 3:6, 3:6] = -9999
    expected = np.ones((37, 53), bool)
    expected[3:6, 3:6] = False
    path = write_raster(values, nodata=-9999)
    np.testing.assert_array_equal(both(path), expected)
    with open_scene(path) as scene:
        assert min(low for low, _ in scene.stretch) >= 1


def test_nodata_of_an_unselected_band_does_not_count(write_raster, noise):
    values = noise(4, 37, 53, "int16")
    values[3] = -9999
    assert both(write_raster(values, nodata=-9999)).all()


def test_nodata_outside_the_data_type_is_ignored(write_raster, noise, tmp_path):
    source = write_raster(noise(3, 37, 53))
    path = tmp_path / "odd.vrt"
    text = "".join(
        f'<VRTRasterBand dataType="Byte" band="{i}"><NoDataValue>-9999</NoDataValue><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>"
        for i in (1, 2, 3)
    )
    path.write_text(f'<VRTDataset rasterXSize="53" rasterYSize="37">{text}</VRTDataset>')
    assert both(path).all()


def test_nan_and_infinity_in_any_band_are_no_data(write_raster, noise):
    values = noise(3, 37, 53, "float32")
    values[0, 1, 1], values[1, 2, 2], values[2, 3, 3] = np.nan, np.inf, -np.inf
    values[:, 30:, 50:] = -3.4028234663852886e38
    expected = np.ones((37, 53), bool)
    expected[[1, 2, 3], [1, 2, 3]] = False
    expected[30:, 50:] = False
    np.testing.assert_array_equal(both(write_raster(values, nodata=-3.4028234663852886e38)), expected)


def test_markers_add_up(write_raster, noise):
    values = noise(4, 37, 53, "float32")
    values[3] = 1
    values[3, :5] = 0
    values[0, 10, 10] = np.nan
    values[:3, 20, 20] = -1
    path = write_raster(values, nodata=-1, colorinterp=(C.red, C.green, C.blue, C.alpha))
    expected = np.ones((37, 53), bool)
    expected[:5] = expected[10, 10] = expected[20, 20] = False
    np.testing.assert_array_equal(both(path), expected)


def test_mask_without_overviews_still_masks_what_is_read_from_the_bands_overviews(write_raster, noise):
    path = write_raster(noise(3, 512, 512), overviews=(2, 4))
    mask = np.full((512, 512), 255, "uint8")
    mask[128:256, 128:256] = 0
    with rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    with rasterio.open(path, overview_level=0) as file:
        assert file.read_masks(1).all(), "GDAL now finds masks here: the detour in ValidityRule can go"
    with open_scene(path, gsd_range=(1, 1), gsd_tolerance=0) as scene:
        assert scene.factor == (2, 2)
        _, valid = scene.read(Window(0, 0, 256, 256))
    np.testing.assert_array_equal(valid, mask[::2, ::2] > 0)


def test_mask_beside_the_file(write_raster, noise, tmp_path):
    path = write_raster(noise(3, 37, 53))
    mask = np.full((37, 53), 255, "uint8")
    mask[:, :9] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert (tmp_path / "scene.tif.msk").exists()
    np.testing.assert_array_equal(both(path), mask > 0)


def test_overviews_carry_the_mask(write_raster, noise):
    values, mask = noise(3, 512, 512), np.full((512, 512), 255, "uint8")
    mask[128:256, 128:256] = 0
    path = write_raster(values, mask=mask, overviews=(2, 4))
    with rasterio.open(path) as file:
        assert file.read_masks(1, out_shape=(128, 128), resampling=Resampling.nearest)[40, 40] == 0
    with open_scene(path, gsd_range=(2, 2), gsd_tolerance=0) as scene:
        _, valid = scene.read(Window(0, 0, 128, 128))
    np.testing.assert_array_equal(valid, mask[::4, ::4] > 0)
