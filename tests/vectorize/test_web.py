"""A network keeps its points, and can be numbered by place."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prngeo.vectorize.web import Web, in_order, length_of

PLACES = np.array([(0, 0), (4, 0), (4, 3), (0, 3), (9, 9)], float)
LINES = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (2, 0), (4, 4)]


def drawn(order: list[int], turned: list[bool]) -> Web:
    """The network with its lines added in this order and direction; two lines join the same nodes, one is a loop."""
    web, numbers = Web(), dict[int, int]()
    for line in order:
        start, end = LINES[line]
        middle = PLACES[[start, end]].mean(axis=0) + np.array((0.1 * line, 0.2))
        places = [PLACES[start], middle, middle + np.array((0.5, 0.1)), PLACES[end]]
        points = np.column_stack([places, np.full((4, 2), 0.5 * line), np.zeros(4)])
        if turned[line]:
            start, end, points = end, start, points[::-1]
        for node in (start, end):
            if node not in numbers:
                numbers[node] = web.add_node(PLACES[node])
        web.add(numbers[start], numbers[end], points)
    return web


@given(st.permutations(range(len(LINES))), st.lists(st.booleans(), min_size=len(LINES), max_size=len(LINES)))
def test_a_network_in_order_does_not_depend_on_how_it_came_to_be(order: list[int], turned: list[bool]) -> None:
    one, other = (in_order(drawn(*how)) for how in ((order, turned), (sorted(order), [False] * len(LINES))))
    assert one.ends == other.ends
    assert {node: place.tolist() for node, place in one.nodes.items()} == {
        node: place.tolist() for node, place in other.nodes.items()
    }
    for line, points in other.points.items():
        np.testing.assert_array_equal(one.points[line], points)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=30))
def test_a_line_is_as_long_in_both_directions(places: list[tuple[float, float]]) -> None:
    points = np.array(places)
    assert length_of(points) == length_of(points[::-1])
