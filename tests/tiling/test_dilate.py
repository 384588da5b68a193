import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import distance_transform_edt

from prngeo.tiling.dilate import dilate


def brute_force(mask, rows, cols):
    grown = np.zeros_like(mask)
    for row, col in np.argwhere(mask):
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        inside = np.zeros(mask.shape)
        for distance, axis in ((y - row, rows), (x - col, cols)):
            with np.errstate(divide="ignore", invalid="ignore"):
                inside = inside + np.where(distance == 0, 0, (distance / axis) ** 2)
        grown |= inside <= 1 + 1e-9
    return grown


@settings(deadline=None)
@given(
    mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()),
    rows=st.sampled_from([0, 0.7, 1, 1.5, 2, 3.2, 12]),
    cols=st.sampled_from([0, 0.7, 1, 1.5, 2, 3.2, 12]),
)
@example(mask=np.ones((1, 1), bool), rows=3, cols=3)
def test_a_pixel_is_reached_if_its_center_lies_in_the_ellipse(mask, rows, cols):
    np.testing.assert_array_equal(dilate(mask, rows, cols), brute_force(mask, rows, cols))


def test_a_circle_is_the_euclidean_distance():
    mask = np.random.default_rng(0).random((60, 90)) > 0.98
    for radius in (1, 2.5, 4, 7.3):
        np.testing.assert_array_equal(dilate(mask, radius, radius), distance_transform_edt(~mask) <= radius)


def test_wide_circles_agree_with_narrow_ones(monkeypatch):
    mask = np.random.default_rng(0).random((150, 170)) > 0.999
    whole = dilate(mask, 65.5, 70)
    monkeypatch.setattr("prngeo.tiling.dilate._MANY_PASSES", 1000)
    np.testing.assert_array_equal(whole, dilate(mask, 65.5, 70))
    assert not dilate(np.zeros((9, 9), bool), 70, 70).any()
