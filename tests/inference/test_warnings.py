"""Warnings about scenes that look unlike the training data."""

import numpy as np
import pytest
import rasterio

from prngeo.inference.warnings import sample_statistics, scene_warnings
from prngeo.models.bundle import open_bundle
from prngeo.raster.scene import open_scene
from tests.conftest import write_scene


@pytest.fixture
def card(tiny_model):
    return open_bundle(tiny_model).card.model_copy(update={"band_mean": [0.5, 0.5, 0.5], "band_std": [0.2, 0.2, 0.2]})


def _rewrite(path, change):
    with rasterio.open(path, "r+") as file:
        file.write(change(file.read()))


def _warnings(path, card):
    with open_scene(path) as scene:
        return scene_warnings(scene, card)


def test_a_usual_scene_is_not_warned_about(tmp_path, card):
    assert _warnings(write_scene(tmp_path / "a.tif"), card) == []


def test_a_dark_scene_is(tmp_path, card):
    path = write_scene(tmp_path / "dark.tif")
    _rewrite(path, lambda image: image // 8)
    (warning,) = _warnings(path, card)
    assert warning.startswith("dark: its values lie far from what the model tiny was trained on (red has mean 0.06")


def test_a_flat_scene_is(tmp_path, card):
    path = write_scene(tmp_path / "flat.tif")
    _rewrite(path, lambda image: np.full_like(image, 128))
    (warning,) = _warnings(path, card)
    assert "red varies by ± 0.000, usual is ± 0.20" in warning


def test_without_statistics_in_the_card_or_valid_pixels_nothing_is_said(tmp_path, card):
    path = write_scene(tmp_path / "dark.tif", nodata=0)
    _rewrite(path, np.zeros_like)
    assert _warnings(path, card) == []
    _rewrite(path, lambda image: image + 1)
    assert len(_warnings(path, card)) == 1
    assert _warnings(path, card.model_copy(update={"band_mean": []})) == []


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (512, 512), (1500, 700)])
def test_statistics_are_those_of_the_valid_pixels(tmp_path, size):
    hole = (slice(0, size[0] // 2), slice(0, size[1] // 2))
    path = write_scene(tmp_path / "a.tif", *size, nodata=0, holes=[hole])
    with rasterio.open(path) as file:
        values = file.read()[:, file.read(1) != 0] / 255
    with open_scene(path) as scene:
        statistics = sample_statistics(scene)
    assert statistics is not None
    exact = max(size) <= 512
    np.testing.assert_allclose(statistics.mean, values.mean(axis=1), atol=1e-6 if exact else 0.06)
    np.testing.assert_allclose(statistics.std, values.std(axis=1), atol=1e-6 if exact else 0.06)
