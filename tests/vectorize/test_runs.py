"""Runs tell the same objects and holes as the pixels do."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from prngeo.vectorize import mask as masks
from prngeo.vectorize import runs as runs_module
from prngeo.vectorize.mask import as_mask
from prngeo.vectorize.runs import fill_holes, read_runs, runs_of, touches_edge, without_small

NEIGHBORS = {4: ndimage.generate_binary_structure(2, 1), 8: np.ones((3, 3), bool)}
arrays = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
connectivities = st.sampled_from([4, 8])


def pixels(runs, shape, labels=None):
    result = np.zeros((shape[0], shape[1] + 1), int)
    for number, (start, stop) in enumerate(zip(runs.start, runs.stop, strict=True)):
        assert not result.ravel()[start:stop].any()
        result.ravel()[start:stop] = 1 if labels is None else labels[number] + 1
    assert not result[:, -1].any()
    return result[:, :-1]


@given(mask=arrays, connectivity=connectivities, at_once=st.sampled_from([1, 3, 1000]))
def test_components_are_those_of_the_pixels(mask, connectivity, at_once):
    runs = runs_of(mask)
    assert (pixels(runs, mask.shape) == mask).all()
    expected = ndimage.label(mask, NEIGHBORS[connectivity])[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "AT_ONCE", at_once)
        assert (pixels(runs, mask.shape, runs.components(connectivity)) == expected).all()


@given(mask=arrays, connectivity=connectivities, smallest=st.integers(0, 8))
def test_small_objects_go(mask, connectivity, smallest):
    label = ndimage.label(mask, NEIGHBORS[connectivity])[0]
    expected = mask & (np.bincount(label.ravel()) >= smallest)[label]
    assert (pixels(without_small(runs_of(mask), connectivity, smallest)[0], mask.shape) == expected).all()


@given(mask=arrays, connectivity=connectivities, smallest=st.integers(0, 9))
def test_small_holes_are_filled_with_what_lies_in_them(mask, connectivity, smallest):
    outside = ndimage.label(~np.pad(mask, 1), NEIGHBORS[12 - connectivity])[0]
    size = np.bincount(outside.ravel())
    holes = (size < smallest)[outside] & (outside != outside[0, 0]) & (outside > 0)
    filled = fill_holes(runs_of(mask), mask.shape[0], connectivity, smallest)
    assert (pixels(filled, mask.shape) == (mask | holes[1:-1, 1:-1])).all()
    assert (filled.pixels > 0).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data(), connectivity=connectivities, smallest=st.integers(0, 6), strip=st.sampled_from([1, 20, 40]))
def test_reading_in_strips_changes_nothing(raster, data, connectivity, smallest, strip):
    shape = st.tuples(st.integers(1, 12), st.integers(1, 12))
    values = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 1, 255])))
    with pytest.MonkeyPatch.context() as patch, rasterio.open(raster(values, nodata=255)) as src:
        patch.setattr(masks, "STRIP_PIXELS", strip)
        runs, beside = read_runs(as_mask(src, 1), connectivity, smallest)
    kept, _ = without_small(runs, connectivity, smallest)
    whole, _ = without_small(runs_of(values == 1), connectivity, smallest)
    assert (kept.start == whole.start).all()
    assert (kept.stop == whole.stop).all()
    near = ndimage.binary_dilation(values == 255, NEIGHBORS[connectivity]) & (values == 1)
    assert (pixels(beside, values.shape).astype(bool) == near).all()


def test_small_objects_inside_a_strip_are_dropped_at_once(raster, monkeypatch):
    values = np.zeros((40, 40), np.uint8)
    values[::2, ::2] = 1
    monkeypatch.setattr(masks, "STRIP_PIXELS", 400)
    with rasterio.open(raster(values)) as src:
        runs, _ = read_runs(as_mask(src, 1), 4, 2)
    rows = set((runs.start // runs.pitch).tolist())
    assert rows <= {0, 10, 20, 30, 9, 19, 29}, "only what lies on a seam may wait"


def test_polygons_at_the_border_or_beside_missing_pixels_touch_the_edge():
    mask = np.zeros((7, 9), bool)
    mask[3, 2] = mask[3, 5] = mask[6, 7] = True
    runs = runs_of(mask)
    beside = runs_of(np.eye(7, 9, -1, dtype=bool) & mask)
    assert touches_edge(runs, runs.components(4), beside, 7).tolist() == [True, False, True]
