"""Scores in files, of any tool."""

import numpy as np
import pytest

from prngeo.errors import UsageError
from prngeo.scores.rasters import open_scores, with_images
from prngeo.scores.scene import LIMIT
from prngeo.tiling.grid import Window
from tests.scores.conftest import planted, sigmoid

WHOLE = Window(0, 0, 64, 64)


def read(path, wanted="auto"):
    with open_scores([path], wanted) as (raster,):
        return raster.read(WHOLE)


def logits():
    return planted(0)[0]


@pytest.mark.parametrize(
    ("values", "wanted", "options", "tolerance"),
    [
        (sigmoid(logits()).astype("float32"), "auto", {}, 1e-4),
        (np.rint(sigmoid(logits()) * 255).astype("uint8"), "auto", {}, 0.06),
        (np.rint(sigmoid(logits()) * 100).astype("uint8"), "auto", {}, 0.15),
        (np.rint(sigmoid(logits()) * 250).astype("uint8"), "auto", {"scale": 0.004}, 0.06),
        (np.rint(sigmoid(logits()) * 10000).astype("uint16"), "auto", {"scale": 0.0001}, 0.01),
        (sigmoid(logits()).astype("float32") * 100, "percent", {}, 1e-4),
        (logits(), "logit", {}, 1e-6),
    ],
)
def test_scales_of_many_tools_give_the_same_logits(write, values, wanted, options, tolerance):
    found, valid = read(write(values, "a.tif", **options), wanted)
    assert valid.all()
    np.testing.assert_allclose(found[0], logits(), atol=tolerance)


def test_certain_probabilities_stay_finite_and_in_order(write):
    values = np.zeros((64, 64), np.uint8)
    values[0, :4] = 1, 128, 254, 255
    found, _ = read(write(values, "a.tif"), "byte")
    assert np.isfinite(found).all()
    low, one, middle, high, top = found[0, 1, 1], *found[0, 0, :4]
    assert low < one < middle < high < top
    assert top == -low


def test_infinite_logits_are_scores_of_0_and_1(write):
    values = logits()
    values[0, :3] = np.inf, -np.inf, np.nan
    found, valid = read(write(values, "a.tif"), "logit")
    assert found[0, 0, :2].tolist() == [LIMIT, -LIMIT]
    assert valid.sum() == valid.size - 1
    _, valid = read(write(values, "b.tif", nodata=-np.inf), "logit")
    assert valid[0, :3].tolist() == [True, False, False]
    found, valid = read(write(np.full((64, 64), -np.inf, "float32"), "c.tif"), "logit")
    assert valid.all()
    assert (found == -LIMIT).all()


def test_nodata_nan_and_what_lies_beyond_are_no_scores(write):
    values = sigmoid(logits()).astype("float32")
    values[:, :8], values[:8, 8:] = -1, np.nan
    with open_scores([write(values, "a.tif", nodata=-1)], "auto") as (raster,):
        found, valid = raster.read(Window(-4, -4, 80, 80))
    expected = np.zeros((80, 80), bool)
    expected[12:68, 12:68] = True
    np.testing.assert_array_equal(valid, expected)
    assert not found[0][~valid].any()


def test_an_alpha_band_is_no_class(write):
    values = np.stack([np.rint(sigmoid(logits()) * 255), np.full((64, 64), 255)]).astype("uint8")
    path = write(values, "a.png", crs=None)
    with open_scores([path], "auto") as (raster,):
        assert raster.bands == (1,)


def test_dark_byte_rasters_are_read_like_the_others(write):
    bright = np.rint(sigmoid(logits()) * 255).astype("uint8")
    dark = bright // 4
    with open_scores([write(dark, "dark.tif"), write(bright, "bright.tif")], "auto") as rasters:
        assert [raster.meaning.values for raster in rasters] == ["byte", "byte"]


@pytest.mark.parametrize(
    ("values", "wanted", "message"),
    [
        (planted(0)[1], "auto", "is a mask of 0 and 1, not scores"),
        (planted(0)[1] * 255, "auto", "is a mask of 0 and 255, not scores"),
        (logits(), "auto", "no probability in 0..1. They may be logits. Say .* --values unit"),
        (logits() + 9, "auto", "no probability in 0..1. Say .* --values unit"),
        (np.full((64, 64), np.nan, "float32"), "auto", "holds no valid pixel"),
        (sigmoid(logits()).astype("float32") * 3, "unit", "was read as a probability in 0..1, but holds"),
    ],
)
def test_what_is_no_score_is_refused(write, values, wanted, message):
    with pytest.raises(UsageError, match=message):
        read(write(values, "a.tif"), wanted)


def test_all_scores_have_the_same_bands(write):
    values = sigmoid(logits()).astype("float32")
    paths = [write(values, "a.tif"), write(np.stack([values, values]), "b.tif")]
    with pytest.raises(UsageError, match="b.tif has 2 bands, .*a.tif 1 band"), open_scores(paths, "auto"):
        pass


def test_an_image_is_read_beside_its_scores(write):
    scores = write(sigmoid(logits()).astype("float32"), "a.tif")
    image = write(np.full((3, 64, 64), 51, np.uint8), "image.tif")
    with open_scores([scores], "auto") as rasters, with_images(rasters, [image], None) as bands:
        stack, _ = rasters[0].read(WHOLE)
    assert bands == 3
    np.testing.assert_allclose(stack[1:], 0.2, atol=1e-6)


def test_an_image_of_other_pixels_is_refused_with_the_command_that_helps(write):
    scores = write(sigmoid(logits()).astype("float32"), "a.tif")
    image = write(np.zeros((3, 64, 64), np.uint8), "image.tif", origin=(500_001, 5_000_000))
    plain = write(np.zeros((3, 32, 64), np.uint8), "image.png", crs=None)
    with open_scores([scores], "auto") as rasters:
        expected = "gdalwarp -t_srs EPSG:32631 -te 500000 4999968 500032 5000000 -ts 64 64"
        with pytest.raises(UsageError, match=expected), with_images(rasters, [image], None):
            pass
        with pytest.raises(UsageError, match="Bring both to one size"), with_images(rasters, [plain], None):
            pass
