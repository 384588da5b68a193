"""Touching roofs are split where the probability dips, and their shared walls stay shared."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from prngeo.errors import UsageError
from prngeo.vectorize import mask as masks
from prngeo.vectorize import split as module
from prngeo.vectorize.polygons import polygonize

SCALE = 0.004
HALF = {"threshold": 0.5, "connectivity": 4}
IN_FOLDER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def roofs(dip: float, size: int = 40, turn: bool = False) -> np.ndarray:
    """Two roofs side by side, between them a joint where the probability is lower by `dip`; raw values."""
    values = np.full((2 * size, 3 * size), 0.1)
    values[10:-10, 10:-10] = 0.9
    values[10:-10, size + 3 : size + 6] = 0.9 - dip * np.array([0.5, 1, 0.5])
    values = values.T if turn else values
    return np.rint(values / SCALE).astype(np.uint8)


def clouds(seed: int, shape: tuple[int, int] = (70, 90)) -> np.ndarray:
    """Smooth random probabilities, raw values, with some missing."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.random(shape), rng.uniform(1.5, 4))
    values = (values - values.min()) / np.ptp(values)
    raw = np.rint(np.clip(values * 1.2, 0, 1) / SCALE).astype(np.uint8)
    raw[rng.random(shape) < 0.01] = 255
    return raw


@pytest.mark.parametrize("turn", [False, True])
def test_a_deep_dip_splits_and_a_shallow_one_does_not(raster, turn):
    path = raster(roofs(0.2, turn=turn), scale=SCALE, nodata=255)
    assert len(polygonize(path, **HALF)) == 1
    assert len(polygonize(path, **HALF, split=0.25)) == 1
    frame = polygonize(path, **HALF, split=0.15)
    assert len(frame) == 2
    whole = polygonize(path, **HALF)
    assert frame["area_m2"].sum() == whole["area_m2"].sum()
    assert np.average(frame["probability"], weights=frame["area_m2"]) == pytest.approx(whole["probability"][0])
    wall = frame.geometry[0].intersection(frame.geometry[1])
    assert 30 <= wall.length <= 36, "straight but for a pixel's jog at some rows"


@pytest.mark.parametrize("options", [{"simplify": 1.0}, {"regularize": True}, {"regularize": True, "simplify": 2.0}])
def test_split_roofs_are_rectangles_that_share_a_wall(raster, options):
    path = raster(roofs(0.2), scale=SCALE, nodata=255)
    frame = polygonize(path, **HALF, split=0.15, **options)
    assert all(len(shape.exterior.coords) <= (5 if "regularize" in options else 6) for shape in frame.geometry)
    assert frame.geometry[0].intersection(frame.geometry[1]).length == pytest.approx(30, abs=0.3)
    assert frame["area_m2"].tolist() == pytest.approx(frame.area.tolist())


def test_small_parts_stay_with_their_neighbor(raster):
    values = roofs(0.2)
    values[30:33, 20:23] = 250
    values[28:35, 18:25][values[28:35, 18:25] == 225] = 180
    path = raster(values, scale=SCALE, nodata=255)
    assert len(polygonize(path, **HALF, split=0.15)) == 3
    frame = polygonize(path, **HALF, split=0.15, min_area=20)
    assert len(frame) == 2
    assert frame["area_m2"].sum() == polygonize(path, **HALF)["area_m2"].sum()


@given(seed=st.integers(0, 10**6), strip=st.sampled_from([90, 900, 10**6]), block=st.sampled_from([16, 64]))
@IN_FOLDER
@pytest.mark.slow
def test_parts_do_not_depend_on_how_the_raster_is_read(raster, seed, strip, block):
    values = clouds(seed)
    options = {"scale": SCALE, "nodata": 255}
    whole = polygonize(raster(values, **options), **HALF, split=0.05, min_area=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "STRIP_PIXELS", strip)
        tiled = raster(values, "tiled.tif", tiled=True, blockxsize=block, blockysize=block, **options)
        assert polygonize(tiled, **HALF, split=0.05, min_area=2).equals(whole)


@given(
    seed=st.integers(0, 10**6),
    tolerance=st.sampled_from([0.0, 0.4, 1.0, 3.0]),
    regularize=st.booleans(),
    depth=st.sampled_from([0.02, 0.1]),
)
@IN_FOLDER
@pytest.mark.slow
def test_shared_walls_have_neither_gaps_nor_overlaps(raster, seed, tolerance, regularize, depth):
    path = raster(clouds(seed), scale=SCALE, nodata=255)
    options = {**HALF, "simplify": tolerance, "min_area": 2.0, "min_hole": 1.0}
    whole = polygonize(path, **options, regularize=regularize)
    frame = polygonize(path, **options, regularize=regularize, split=depth)
    assert frame.geometry.is_valid.all()
    assert (frame.area > 0).all()
    exact = polygonize(path, **HALF, min_area=2.0, min_hole=1.0, split=depth)
    assert len(frame) == len(exact) >= len(whole)
    united = frame.union_all()
    assert united.area == pytest.approx(frame.area.sum(), rel=1e-6)
    # A gap between neighbors would be a hole, or a part, that their objects do not have.
    merged = exact.union_all()
    assert len(shapely.get_rings(united)) <= len(shapely.get_rings(merged))
    neighbors = exact.sjoin(exact, predicate="touches")
    for one, other in zip(neighbors.index, neighbors["index_right"], strict=True):
        shared = exact.geometry[one].intersection(exact.geometry[other]).length
        if shared > 6:
            assert frame.geometry[one].intersection(frame.geometry[other]).length > 0


def test_too_large_an_object_stays_whole_and_is_told_of(raster, monkeypatch):
    path = raster(roofs(0.2), scale=SCALE, nodata=255)
    monkeypatch.setattr(module, "LARGEST", 1000)
    frame = polygonize(path, **HALF, split=0.15)
    assert len(frame) == 1
    assert frame.attrs["left_whole"] == 1


def test_a_mask_is_split_by_the_probability_beside_it(raster):
    values = roofs(0.2)
    path = raster(values, "probability.tif", scale=SCALE, nodata=255)
    mask = raster((values > 125).astype(np.uint8), "mask.tif")
    assert len(polygonize(mask, path, split=0.15)) == 2
    with pytest.raises(UsageError, match="needs a probability raster.*--probability"):
        polygonize(mask, split=0.15)


@pytest.mark.parametrize("depth", [0, 1, -0.1, float("nan")])
def test_depths_that_cannot_be_meant_are_refused(raster, depth):
    with pytest.raises(UsageError, match="between 0 and 1"):
        polygonize(raster([[1]]), split=depth)
    with pytest.raises(UsageError, match="connectivity 4 only"):
        polygonize(raster([[1]]), split=0.1, connectivity=8)


def test_nothing_to_split(raster):
    path = raster(np.zeros((4, 5), np.uint8), scale=SCALE)
    assert len(polygonize(path, **HALF, split=0.1, regularize=True)) == 0
    with rasterio.open(path) as src:
        assert src.scales == (SCALE,)
