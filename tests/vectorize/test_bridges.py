"""Bridges follow a road's last metres and cross nothing, whatever else is bridged."""

from __future__ import annotations

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


@given(
    st.lists(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=4), max_size=12),
    st.sampled_from([0.7, 5.0, 100.0]),
)
def test_what_is_drawn_is_found_wherever_it_is_crossed(lines: list[list[tuple[int, int]]], side: float) -> None:
    drawn = Drawn(side)
    before: list[shapely.LineString] = []
    for points in lines:
        line = shapely.LineString(points)
        assert drawn.crosses(line) == any(line.crosses(other) for other in before)
        drawn.add(line)
        before.append(line)
