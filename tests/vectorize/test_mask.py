"""Masks of any tool and probabilities are read as what they mean, or refused with a way out."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from prngeo.errors import UsageError
from prngeo.vectorize import mask as module
from prngeo.vectorize.mask import as_mask


def read(path, **options):
    with rasterio.open(path) as src:
        mask = as_mask(src, **options)
        return mask.read(0, src.height).tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("top", [1, 100])
def test_the_one_value_beside_zero_is_the_object(raster, dtype, top):
    assert read(raster(np.array([[0, top, 0]], dtype))) == [[0, 1, 0]]


def test_255_is_the_object_beside_zero_and_missing_beside_one(raster):
    assert read(raster([[0, 255]])) == [[0, 1]]
    assert read(raster([[0, 1, 255]])) == [[0, 1, 255]]
    assert read(raster([[0, 255, 7]], nodata=7)) == [[0, 1, 255]]
    assert read(raster([[0, 1, 255]], nodata=255)) == [[0, 1, 255]]


def test_nodata_of_other_kinds(raster):
    assert read(raster(np.array([[0, 1, -9999]], np.int16), nodata=-9999)) == [[0, 1, 255]]
    assert read(raster(np.array([[0, 1, np.nan]], np.float32))) == [[0, 1, 255]]
    assert read(raster([[0, 1]], nodata=0)) == [[0, 1]], "a background tagged as no-data is background"


def test_a_mask_band_and_an_alpha_band_tell_of_missing_pixels(raster, tmp_path):
    path = raster([[0, 1, 1]])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.array([[255, 255, 0]], np.uint8))
    assert read(path) == [[0, 1, 255]]
    with rasterio.open(path) as file:
        profile = file.profile | {"count": 2, "alpha": "yes"}
    with rasterio.open(tmp_path / "alpha.tif", "w", **profile) as file:
        file.write(np.array([[[0, 1, 1]], [[255, 0, 255]]], np.uint8))
    assert read(tmp_path / "alpha.tif") == [[0, 255, 1]]


def test_a_class_map_needs_a_value(raster):
    path = raster([[0, 1, 2, 3]])
    with pytest.raises(UsageError, match=r"it holds 1, 2, 3 and more beside 0\. Give .* --value, or.* --threshold"):
        read(path)
    assert read(path, value=2) == [[0, 0, 1, 0]]
    assert read(path, value=0) == [[1, 0, 0, 0]]
    with pytest.raises(UsageError, match="3 is the nodata value of"):
        read(raster([[0, 3]], nodata=3), value=3)


def test_an_empty_mask_has_no_objects(raster):
    assert read(raster([[0, 0]])) == [[0, 0]]
    assert read(raster([[255, 0]], nodata=255)) == [[255, 0]]


def test_a_threshold_counts_in_the_bands_unit(raster):
    steps = raster([[0, 124, 125, 126, 255]], scale=0.004)
    assert read(steps, threshold=0.5) == [[0, 0, 1, 1, 255]]
    shares = raster(np.array([[0.1, 0.5, 0.49, np.nan]], np.float32))
    assert read(shares, threshold=0.5) == [[0, 1, 0, 255]]
    assert read(raster([[0, 127, 128, 255]]), threshold=128) == [[0, 0, 1, 1]]


def test_a_probability_of_prngeo_knows_its_threshold(raster):
    path = raster([[0, 100, 150, 255]], scale=0.004, nodata=255, tags={"PRNGEO_THRESHOLD": "0.6"})
    assert read(path) == [[0, 0, 1, 255]]
    assert read(path, threshold=0.4) == [[0, 1, 1, 255]]
    mask = raster([[0, 1, 255]], nodata=255, tags={"PRNGEO_THRESHOLD": "0.6"})
    assert read(mask) == [[0, 1, 255]], "the tag of a mask is not applied a second time"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[0, 1]], {"value": 1, "threshold": 0.5}, "exclude each other"),
        ([[0, 200]], {"threshold": 0.5}, "whole numbers without a scale.*such as 128"),
        ([[0, 200]], {"threshold": 400}, "does not divide the values .* 0 to 255"),
        ([[0, 200]], {"threshold": float("nan")}, "must be a number"),
        (np.ones((1, 2), np.complex64), {}, "complex"),
    ],
)
def test_what_cannot_be_meant_is_refused(raster, values, options, message):
    with pytest.raises(UsageError, match=message):
        read(raster(values), **options)


@pytest.mark.parametrize(("height", "width", "block"), [(100, 90, 16), (48, 48, 48), (33, 7, None)])
@pytest.mark.parametrize("pixels", [1, 1000, 10**6])
def test_strips_cover_the_raster_once_in_whole_blocks(raster, monkeypatch, height, width, block, pixels):
    tiled = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
    monkeypatch.setattr(module, "STRIP_PIXELS", pixels)
    with rasterio.open(raster(np.zeros((height, width), np.uint8), **tiled)) as src:
        found = list(module.strips(src))
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == height
    if block and block * width <= pixels:
        assert all(start % block == 0 for start, _ in found)
