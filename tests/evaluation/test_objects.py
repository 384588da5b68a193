"""Objects found by windows, and how they match, against whole arrays and hand-drawn cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label, regionprops

from prngeo.evaluation.objects import Labels, Numbered, Overlaps, block_counts, match, object_metrics
from prngeo.tiling.grid import Grid, Window

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans())


def compared(predicted, true, size=None):
    """(predicted objects, true objects, matching) of two masks cut in windows."""
    height, width = predicted.shape
    grid = Grid(height, width, size or max(height, width))
    mine, theirs, overlaps = Labels(width), Labels(width), Overlaps()
    for index in grid.indices():
        window = grid.window(index).intersect(grid.extent)
        cut = window.within(grid.extent)
        overlaps.add(mine.add(window, predicted[cut]), theirs.add(window, true[cut]))
    one, other = mine.finish(), theirs.finish()
    return one, other, match(one, other, *overlaps.finish(one, other))


def mask(shape, *boxes):
    drawn = np.zeros(shape, bool)
    for row, col, height, width in boxes:
        drawn[row : row + height, col : col + width] = True
    return drawn


@settings(deadline=None, max_examples=60)
@given(drawn=MASKS, size=st.integers(1, 7))
def test_windows_find_the_objects_of_the_whole(drawn, size):
    objects = compared(drawn, drawn, size)[0]
    regions = regionprops(label(drawn, connectivity=1))
    assert objects.area.tolist() == [region.area for region in regions]
    firsts = [region.coords[np.lexsort((region.coords[:, 1], region.coords[:, 0]))[0]] for region in regions]
    assert objects.first.tolist() == [row * drawn.shape[1] + col for row, col in firsts]


@settings(deadline=None, max_examples=60)
@given(one=MASKS, seed=st.integers(0, 50), size=st.integers(1, 7))
def test_matching_does_not_depend_on_windows(one, seed, size):
    other = one ^ (np.random.default_rng(seed).random(one.shape) < 0.1)
    whole, parts = compared(one, other)[2], compared(one, other, size)[2]
    np.testing.assert_array_equal(whole.matched, parts.matched)
    np.testing.assert_array_equal(whole.iou, parts.iou)
    np.testing.assert_array_equal(whole.split, parts.split)
    np.testing.assert_array_equal(whole.merging, parts.merging)


def test_a_matched_a_shifted_and_a_missed_object():
    true = mask((20, 30), (0, 0, 4, 4), (8, 0, 4, 10), (15, 20, 3, 3))
    predicted = mask((20, 30), (0, 0, 4, 4), (8, 2, 4, 10), (0, 20, 2, 2))
    one, other, matching = compared(predicted, true)
    assert sorted(matching.iou) == pytest.approx([8 / 12, 1.0])
    counts = block_counts(matching, np.zeros(3, int), np.zeros(3, int), 1)[0]
    assert counts[0].tolist() == [2, 1, 1]  # at 0.5
    assert counts[4].tolist() == [1, 2, 2]  # at 0.7
    found = object_metrics(counts)
    assert (found["object_precision"], found["object_recall"], found["object_f1"]) == pytest.approx((2 / 3,) * 3)
    assert found["object_f1_50_95"] == pytest.approx((4 * 2 / 3 + 6 * 1 / 3) / 10)
    assert len(one.area) == len(other.area) == 3


def test_an_object_in_two_pieces_is_split_and_two_in_one_are_merged():
    true = mask((10, 40), (0, 0, 5, 11), (0, 20, 5, 5), (0, 26, 5, 5))
    predicted = mask((10, 40), (0, 0, 5, 5), (0, 6, 5, 5), (0, 20, 5, 11))
    _, _, matching = compared(predicted, true)
    assert matching.split.tolist() == [True, False, False]
    assert matching.merging.tolist() == [False, False, True]
    assert not len(matching.iou)


def test_at_an_iou_of_exactly_half_an_object_matches_once():
    true = mask((1, 8), (0, 0, 1, 8))
    predicted = mask((1, 8), (0, 0, 1, 4), (0, 5, 1, 3))
    assert len(compared(predicted, true)[2].iou) == 1
    halves = Numbered(2, 8), Labels(8), Overlaps()
    window = Window(0, 0, 1, 8)
    numbers = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    halves[2].add(halves[0].add(window, numbers), halves[1].add(window, true))
    one, other = halves[0].finish(), halves[1].finish()
    assert match(one, other, *halves[2].finish(one, other)).iou.tolist() == [0.5]


def test_numbered_objects_that_touch_stay_apart_and_those_without_a_pixel_do_not_count():
    numbers = np.zeros((4, 9), np.int64)
    numbers[:, :3], numbers[:, 3:6] = 5, 2
    counted = Numbered(7, 9)
    for col in (0, 4):
        window = Window(0, col, 4, min(4, 9 - col) if col == 0 else 5)
        counted.add(window, numbers[window.within(Window(0, 0, 4, 9))])
    objects = counted.finish()
    assert objects.area.tolist() == [12, 12]
    assert objects.first.tolist() == [0, 3]
    assert objects.component[[0, 5, 2, 1]].tolist() == [-1, 0, 1, -1]


def test_without_objects_figures_are_undefined():
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    for predicted, true, expected in (
        (empty, empty, (np.nan, np.nan, np.nan)),
        (full, empty, (0, np.nan, np.nan)),
        (empty, full, (np.nan, 0, 0)),
    ):
        one, other, matching = compared(predicted, true)
        numbers = np.zeros(len(one.area), int), np.zeros(len(other.area), int)
        found = object_metrics(block_counts(matching, *numbers, 1)[0])
        values = [found[f"object_{name}"] for name in ("precision", "recall", "f1")]
        np.testing.assert_array_equal(values, expected)


def test_a_pair_counts_in_the_block_of_the_true_object():
    true, predicted = mask((1, 20), (0, 3, 1, 6)), mask((1, 20), (0, 2, 1, 6), (0, 15, 1, 2))
    _, _, matching = compared(predicted, true)
    counts = block_counts(matching, np.array([0, 1]), np.array([1]), 2)[:, 0]
    assert counts.tolist() == [[0, 0, 0], [1, 1, 0]]
