"""Bridges follow a road's last metres and cross nothing, whatever else is bridged."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from prngeo.vectorize.bridges import Drawn, Lattice, bridge
from prngeo.vectorize.web import Web

PIXEL = 0.1


def web_of(*lines: list[tuple[float, float]]) -> Web:
    """Roads in metres, a point every pixel."""
    web = Web()
    for line in lines:
        points = shapely.get_coordinates(shapely.segmentize(shapely.linestrings(line), PIXEL))
        start, end = web.add_node(points[0]), web.add_node(points[-1])
        web.add(start, end, np.column_stack([points, np.ones((len(points), 2)), np.zeros(len(points))]))
    return web


@pytest.mark.parametrize(("turn", "bridged"), [(-40, False), (0, True), (50, True), (120, False)])
def test_a_dead_end_points_where_its_last_ten_metres_do(turn: float, bridged: bool) -> None:
    # From the point ten metres back, the end lies 40 degrees to the left, though the road's last 6.5 m turn by 90.
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    bend = np.array([(40, -1.5), (12, -1.5), (12, 6), (40, 6)]) @ [(cos, sin), (-sin, cos)] + (40, 50)
    web = web_of([(10, 43.5), (40, 43.5), (40, 50)], [tuple(place) for place in bend])
    lattice = Lattice(
        lambda window: np.full(window.shape, 0.9),
        lambda window: np.zeros(window.shape, bool),
        (1000, 1000),
        np.diag([PIXEL, PIXEL]),
    )
    bridge(web, lattice, set(), 30.0, 0.1)
    assert len(web.ends) == (3 if bridged else 2)


def test_two_dead_ends_on_one_ridge_get_one_bridge() -> None:
    web = web_of([(2, 5), (8, 5)], [(2, 6), (8, 6)], [(14, 1), (14, 10)])
    likely = np.full((120, 200), 0.05)
    likely[55, 80:140] = 0.9  # between the roads
    likely[50:61, 80] = 0.9
    lattice = Lattice(
        lambda window: likely[window.row : window.row_end, window.col : window.col_end],
        lambda window: np.zeros(window.shape, bool),
        likely.shape,
        np.diag([PIXEL, PIXEL]),
    )
    bridge(web, lattice, set(), 30.0, 0.1)
    lines = [shapely.linestrings(points[:, :2]) for points in web.points.values()]
    assert len(lines) == 4  # one road that goes on, one that does not, and the two halves of that which it leads to
    assert all(one.intersection(other).length == 0 for one, other in combinations(lines, 2))


@given(
    st.lists(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=4), max_size=12),
    st.sampled_from([0.7, 5.0, 100.0]),
)
def test_what_is_drawn_is_found_wherever_it_is_crossed(lines: list[list[tuple[int, int]]], side: float) -> None:
    drawn = Drawn(side)
    before: list[shapely.LineString] = []
    for points in lines:
        line = shapely.LineString(points)
        expected = any(line.crosses(other) or line.intersection(other).length > 0 for other in before)
        assert drawn.crosses(line) == expected
        drawn.add(line)
        before.append(line)
