"""Straightened outlines have the corners of what was rasterized."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely import affinity

from prngeo.vectorize.outlines import trace
from prngeo.vectorize.regularize import LIMIT, regularize
from prngeo.vectorize.runs import runs_of

SIZE = 420
L = shapely.Polygon([(0, 0), (120, 0), (120, 50), (50, 50), (50, 110), (0, 110)])
T = shapely.Polygon([(0, 0), (140, 0), (140, 45), (95, 45), (95, 110), (45, 110), (45, 45), (0, 45)])
U = shapely.Polygon([(0, 0), (140, 0), (140, 100), (95, 100), (95, 40), (45, 40), (45, 100), (0, 100)])
COURT = shapely.box(0, 0, 150, 120) - shapely.box(50, 40, 100, 80)


def pixels(shape: shapely.Polygon) -> np.ndarray:
    return rasterize([shape], out_shape=(SIZE, SIZE)).astype(bool)


def outlines(mask: np.ndarray) -> np.ndarray:
    runs = runs_of(mask)
    return trace(runs, runs.components(4)).geometry()


def straight(mask: np.ndarray, tolerance: float = 2.0, limit: float = LIMIT) -> tuple[shapely.Polygon, shapely.Polygon]:
    """The exact and the regular outline of the only object."""
    exact = outlines(mask)
    simple = shapely.coverage_simplify(exact, tolerance)
    (regular,) = regularize(exact, simple, np.zeros(1, np.int32), np.diag([1.0, -1.0]), tolerance, limit)
    return exact[0], regular


def turned(shape: shapely.Polygon, degrees: float, x: float, y: float) -> shapely.Polygon:
    return affinity.translate(affinity.rotate(shape, degrees, origin="centroid"), 130 + x, 140 + y)


def iou(one: shapely.Polygon, other: shapely.Polygon) -> float:
    return one.intersection(other).area / one.union(other).area


def corners(polygon: shapely.Polygon) -> int:
    return len(shapely.get_coordinates(polygon)) - len(shapely.get_rings(polygon))


def right_angles(polygon: shapely.Polygon) -> bool:
    for ring in shapely.get_rings(polygon):
        steps = np.diff(shapely.get_coordinates(ring), axis=0)
        steps = steps / np.hypot(*steps.T)[:, None]
        if np.abs((steps * np.roll(steps, 1, 0)).sum(1)).max() > 1e-6:
            return False
    return True


@settings(deadline=None, max_examples=60)
@given(
    degrees=st.floats(0, 180),
    width=st.integers(100, 160),
    depth=st.integers(100, 130),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    tolerance=st.sampled_from([1.5, 2.0, 4.0]),
)
def test_a_rectangle_at_any_angle_comes_back_within_one_percent(degrees, width, depth, x, y, tolerance):
    truth = turned(shapely.box(0, 0, width, depth), degrees, x, y)
    exact, found = straight(pixels(truth), tolerance)
    assert corners(found) == 4
    assert right_angles(found)
    # Pixels along an axis, or its diagonal, do not tell where between two of them a wall runs.
    told = np.abs((degrees + 22.5) % 45 - 22.5) > 1
    assert iou(found, truth) >= (0.99 if told else min(0.99, iou(exact, truth) - 0.001))


@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 62, 88])
@pytest.mark.parametrize(("shape", "count"), [(L, 6), (T, 8), (U, 8), (COURT, 8)], ids=["L", "T", "U", "court"])
def test_corners_stay(shape, count, degrees):
    truth = turned(shape, degrees, 0, 0)
    _, found = straight(pixels(truth))
    assert corners(found) == count
    assert right_angles(found)
    assert iou(found, truth) > 0.985


@settings(deadline=None, max_examples=30)
@given(radius=st.floats(4, 120), x=st.floats(0, 1), y=st.floats(0, 1))
def test_round_tanks_stay_round(radius, x, y):
    truth = shapely.Point(200 + x, 200 + y).buffer(radius, quad_segs=64)
    exact, found = straight(pixels(truth))
    middle = shapely.get_coordinates(found.centroid)[0]
    reach = np.hypot(*(shapely.get_coordinates(found) - middle).T)
    assert np.ptp(reach) < 1e-6 * radius
    assert corners(found) >= 16
    assert iou(found, truth) >= iou(exact, truth) - 0.001


def test_a_square_is_not_round():
    for side in (5, 6, 8, 12, 30):
        for degrees in (0, 20, 45):
            _, found = straight(pixels(turned(shapely.box(0, 0, side, side), degrees, 0.3, 0.2)), 1.5)
            assert corners(found) < 16


def test_a_perfect_rectangle_turned_by_thirty_degrees_keeps_its_area():
    truth = turned(shapely.box(0, 0, 20, 10), 30, 0.2, 0.4)
    _, found = straight(pixels(affinity.scale(truth, 4, 4)))
    assert corners(found) == 4
    assert found.area == pytest.approx(truth.area * 16, rel=0.02)


def test_a_wall_at_another_angle_keeps_it():
    truth = shapely.Polygon([(100, 100), (260, 100), (260, 160), (200, 220), (100, 220)])
    _, found = straight(pixels(truth))
    assert corners(found) == 5
    assert iou(found, truth) > 0.99


def test_a_skewed_wall_is_not_moved_farther_than_the_tolerance():
    truth = shapely.Polygon([(50, 100), (350, 100), (350, 250), (50, 200)])
    _, found = straight(pixels(truth))
    assert shapely.hausdorff_distance(found, truth) < 3


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10**6), density=st.floats(0.3, 0.9), limit=st.sampled_from([0.7, 0.85, 0.95, 1.0]))
def test_no_outline_gets_worse_than_the_limit(seed, density, limit):
    rng = np.random.default_rng(seed)
    coarse = rng.random((12, 12)) < density
    mask = np.zeros((60, 60), bool)
    mask[6:54, 6:54] = np.kron(coarse, np.ones((4, 4), bool))
    mask &= rng.random(mask.shape) < 0.98
    exact = outlines(mask)
    simple = shapely.coverage_simplify(exact, 2.0)
    found = regularize(exact, simple, np.arange(len(exact), dtype=np.int32), np.eye(2), 2.0, limit)
    assert shapely.is_valid(found).all()
    for before, kept, after in zip(exact, simple, found, strict=True):
        assert after is kept or iou(after, before) >= limit
    assert shapely.union_all(found).area == pytest.approx(shapely.area(found).sum(), abs=1e-3)
