import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.vectorize.smooth import thinned


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
