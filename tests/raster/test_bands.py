import numpy as np
import pytest
from rasterio.enums import ColorInterp as C

from prngeo.errors import UsageError
from prngeo.raster.scene import open_scene
from prngeo.tiling.grid import Window


def test_rgb_is_found_by_color_interpretation(write_raster, noise):
    values = noise(4, 20, 30)
    path = write_raster(values, colorinterp=(C.blue, C.green, C.red, C.undefined))
    with open_scene(path) as scene:
        assert scene.bands == (3, 2, 1)
        image, _ = scene.read(Window(0, 0, 20, 30))
    np.testing.assert_array_equal(image, values[[2, 1, 0]] / np.float32(255))


@pytest.mark.parametrize("count", [3, 4, 8])
def test_first_bands_without_color_interpretation(write_raster, noise, count):
    path = write_raster(noise(count, 20, 30, "uint16"), colorinterp=(C.undefined,) * count)
    with open_scene(path) as scene:
        assert scene.bands == (1, 2, 3)
        assert scene.count == count


def test_alpha_is_never_an_image_band_by_itself(write_raster, noise):
    path = write_raster(noise(4, 9, 9), colorinterp=(C.alpha, C.undefined, C.undefined, C.undefined))
    with open_scene(path) as scene:
        assert scene.bands == (2, 3, 4)


def test_models_of_other_band_counts(write_raster, noise):
    path = write_raster(noise(8, 9, 9))
    with open_scene(path, n_bands=5) as scene:
        assert scene.bands == (1, 2, 3, 4, 5)
    with open_scene(path, n_bands=1) as scene:
        assert scene.read(Window(0, 0, 9, 9))[0].shape == (1, 9, 9)


def test_given_bands_are_read_in_their_order_and_may_repeat(write_raster, noise):
    values = noise(3, 20, 30)
    with open_scene(write_raster(values), bands=[3, 1, 3]) as scene:
        image, _ = scene.read(Window(5, 5, 10, 10))
    np.testing.assert_array_equal(image, values[[2, 0, 2], 5:15, 5:15] / np.float32(255))


def test_gray_scene_asks_for_the_repeated_band(write_raster, noise):
    path = write_raster(noise(1, 9, 9))
    with pytest.raises(UsageError, match=r"has 1 band .*the model takes 3.*`--bands 1,1,1`"):
        open_scene(path)
    with open_scene(path, bands=(1, 1, 1)) as scene:
        assert scene.read(Window(0, 0, 9, 9))[0].shape == (3, 9, 9)


def test_two_bands_list_what_there_is(write_raster, noise):
    path = write_raster(noise(2, 9, 9, "int16"), colorinterp=(C.gray, C.undefined))
    with pytest.raises(UsageError, match=r"(?s)has 2 bands.*--bands.*band 1: int16, gray\s+band 2: int16, undef"):
        open_scene(path)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((1, 2, 4), r"(?s)has no band 4 .*`--bands 1,2,4`.*band 1: uint8, red"),
        ((0, 1, 2), "has no band 0"),
        ((1, 2), "was given 2 bands .* but the model takes 3"),
        ((), "was given 0 bands"),
    ],
)
def test_wrong_band_numbers_are_named(write_raster, noise, bands, message):
    with pytest.raises(UsageError, match=message) as caught:
        open_scene(write_raster(noise(3, 9, 9)), bands=bands)
    assert caught.value.exit_code == 2


def test_palette_image_says_how_to_expand_it(write_raster, noise):
    path = write_raster(noise(1, 9, 9), colorinterp=(C.palette,), photometric="palette")
    for bands in (None, (1, 1, 1)):
        with pytest.raises(UsageError, match=r"palette image.*gdal_translate -of VRT -expand rgb"):
            open_scene(path, bands=bands)


def test_complex_values_are_refused(write_raster):
    with pytest.raises(UsageError, match="complex values"):
        open_scene(write_raster(np.ones((3, 4, 4), "complex64")))


def test_mixed_data_types_are_refused_only_where_selected(write_raster, noise, tmp_path):
    parts = [write_raster(noise(1, 9, 9, dtype), f"{dtype}.tif") for dtype in ("uint8", "float32")]
    path = tmp_path / "mixed.vrt"
    text = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{i}"><SimpleSource><SourceFilename>{part}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (dtype, part) in enumerate([("Byte", parts[0]), ("Byte", parts[0]), ("Float32", parts[1])], 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{text}</VRTDataset>')
    with pytest.raises(UsageError, match="different data types"):
        open_scene(path)
    with open_scene(path, bands=(1, 2, 1)) as scene:
        assert scene.dtype == "uint8"
