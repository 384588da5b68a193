"""Lines as areas of widths of their own."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString

from prngeo.raster.lines import widened


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=6))
def test_lines_that_do_not_meet_have_the_area_of_their_lengths_and_widths(widths):
    lines = np.array([LineString([(0, 100 * i), (40, 100 * i)]) for i in range(len(widths))])
    areas = widened(lines, np.array(widths))
    assert shapely.area(areas) == pytest.approx([40 * width for width in widths])


@pytest.mark.parametrize(("widths", "joint"), [([6, 2], 2), ([6, 6], 6), ([2, 6, 4], 4), ([2, 6, 6], 6)])
def test_a_joint_is_as_wide_as_the_second_widest_line_that_ends_there(widths, joint):
    ends = [(-40, 0), (0, 40), (0, -40)]
    lines = np.array([LineString([end, (0, 0)]) for end, _ in zip(ends, widths, strict=False)])
    areas = widened(lines, np.array(widths, float))
    assert len(areas) == len(lines) + 1
    assert areas[-1].bounds == pytest.approx([-joint / 2, -joint / 2, joint / 2, joint / 2])


def test_a_single_end_is_flat():
    (area,) = widened(np.array([LineString([(0, 0), (10, 0)])]), np.array([4.0]))
    assert area.bounds == pytest.approx([0, -2, 10, 2])
