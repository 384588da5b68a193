from itertools import combinations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.vectorize.planar import meetings
from prngeo.vectorize.smooth import simplified, thinned


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(0.01, 2), st.integers(0, 99))
def test_a_thinned_line_keeps_its_ends_and_stays_near(count, tolerance, seed):
    line = np.cumsum(np.random.default_rng(seed).normal(0.3, 0.4, (count, 2)), axis=0)
    thin = thinned(line, tolerance)
    assert (thin[[0, -1]] == line[[0, -1]]).all()
    assert {tuple(point) for point in thin} <= {tuple(point) for point in line}
    assert shapely.hausdorff_distance(shapely.linestrings(thin), shapely.linestrings(line)) <= tolerance + 1e-9


def test_a_straight_line_is_its_ends_and_a_loop_stays_one():
    assert len(thinned(np.stack([np.arange(50.0)] * 2, 1), 0.01)) == 2
    turn = np.linspace(0, 2 * np.pi, 100)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    ring[-1] = ring[0]
    assert 8 < len(thinned(ring, 0.01)) < 60


def met(one, other):
    """In how many places two lines meet, and along which length."""
    (shared,) = meetings(np.array([one], object), np.array([other], object))
    return 0 if shared.is_empty else shapely.get_num_geometries(shared), shared.length


@settings(deadline=None)
@given(st.integers(2, 9), st.floats(0.1, 3), st.integers(0, 999))
def test_simplified_lines_meet_no_more_than_before_and_stay_near(count, tolerance, seed):
    random = np.random.default_rng(seed)
    x = np.linspace(0, 20, 41)
    lines = [np.stack([x, random.normal(0, 0.8, 41) + number], 1) for number in range(count)]
    lines.append(np.stack([np.full(30, 10.2), np.linspace(-3, count, 30)], 1))
    lines[1][[0, -1]] = lines[0][[0, -1]]
    simple = simplified(lines, tolerance)
    assert sum(map(len, simple)) < sum(map(len, lines))
    before, after = ([shapely.linestrings(line) for line in some] for some in (lines, simple))
    for one, other in combinations(range(len(lines)), 2):
        (places, length), (most, longest) = met(after[one], after[other]), met(before[one], before[other])
        assert places <= most
        assert length == 0 or longest > 0
    for line, was in zip(after, before, strict=True):
        assert (line.coords[0], line.coords[-1]) == (was.coords[0], was.coords[-1])
        assert line.is_simple or not was.is_simple
        assert shapely.hausdorff_distance(line, was) <= tolerance + 1e-9


def test_lines_that_cross_once_do_not_become_one():
    curve = np.array([(0.0, 0.0), (5.0, 0.6), (10.0, -0.6), (15.0, 0.0)])
    one, other = (shapely.linestrings(line) for line in simplified([curve, curve * (1, -1)], 2.0))
    assert met(one, other) == (1, 0)


def test_a_line_does_not_pass_over_another():
    road, side = np.array([(0, 0), (3, 2), (37, 2), (40, 0)], float), np.array([(0, 0), (5, 1), (36, 1)], float)
    assert len(simplified([road], 2.25)[0]) == 2
    assert len(simplified([road, side], 2.25)[0]) == 4
    street = np.array([(10, 1), (30, 1)], float)
    assert len(simplified([road, street], 2.25)[0]) == 4
    assert len(simplified([road, street + np.array((0, 2))], 2.25)[0]) == 2


def test_lines_side_by_side_become_simple_together():
    zigzag = np.stack([np.arange(41.0), np.where(np.arange(41) % 2, 0.9, -0.9)], 1)
    zigzag[[0, -1], 1] = 0
    assert {len(line) for line in simplified([zigzag + np.array((0, 0.6 * number)) for number in range(20)], 2.0)} == {
        2
    }


def test_a_loop_does_not_become_a_point():
    there_and_back = np.array([(0.0, 0.0), (0.5, 0.2), (0.0, 0.0)])
    assert len(simplified([there_and_back, np.array([(0.0, 0.0), (9.0, 0.0)])], 2.0)[0]) == 3


def test_a_line_is_simplified_less_where_it_would_cross_another():
    bent = np.array([(0.0, 0.0), (5.0, 1.0), (10.0, 0.0)])
    below = np.array([(5.0, 0.2), (5.0, -9.0)])
    assert len(simplified([bent], 2.0)[0]) == 2
    (kept, _), alone = simplified([bent, below], 2.0), simplified([bent, below - (0, 1)], 2.0)
    assert len(kept) == 3
    assert len(alone[0]) == 2


def test_small_loops_and_two_roads_between_the_same_places_stay_apart():
    turn = np.linspace(0, 2 * np.pi, 30)
    loop = np.stack([np.cos(turn), np.sin(turn)], 1)
    loop[-1] = loop[0]
    bow = np.stack([np.linspace(10, 20, 30), np.sin(np.linspace(0, np.pi, 30))], 1)
    simple = [shapely.linestrings(line) for line in simplified([loop, bow, bow * (1, -1)], 5.0)]
    assert simple[0].is_closed
    assert simple[0].is_simple
    assert simple[0].length > 4
    assert not simple[1].covers(simple[2])


def test_nothing_is_simplified_to_nothing():
    assert simplified([], 1.0) == []
