"""What is held out: enough to judge by, and nothing of it, nor near it, to learn from."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.scores.holdout import MANY, hold_out
from prngeo.scores.learn import pieces
from prngeo.scores.scene import IGNORE, ArrayScene
from prngeo.scores.settings import Settings
from prngeo.tiling.grid import Window
from tests.scores.conftest import UTM


class Placed:
    """Labels with a place on the map."""

    def __init__(self, labels, x, crs=UTM):
        self.name = f"at {x}"
        self.labels = labels
        self.grid = GeoGrid(*labels.shape[1:], Affine(1, 0, 500_000 + x, 0, -1, 5_000_000), crs)

    def truth(self, window):
        return self.labels[:, window.row : window.row_end, window.col : window.col_end].copy()


def scene(seed, side=256, classes=1, density=0.2):
    rng = np.random.default_rng(seed)
    labels = (rng.random((classes, side, side)) < density).astype(np.uint8)
    zeros = np.zeros((classes, side, side), np.float32)
    return ArrayScene(f"s{seed}", zeros, np.ones((side, side), bool), labels)


def covered(windows, shape):
    mask = np.zeros(shape, bool)
    for window in windows:
        inside = window.intersect(Window(0, 0, *shape))
        mask[inside.row : inside.row_end, inside.col : inside.col_end] = True
    return mask


def test_blocks_of_few_scenes_are_held_out_with_a_gap():
    held = hold_out([scene(0), scene(1)], ["a"], Settings())
    for windows, forbidden in zip(held.windows, held.forbidden, strict=True):
        inside, kept_away = covered(windows, (256, 256)), covered(forbidden, (256, 256))
        assert inside.any()
        assert not (inside & ~kept_away).any()
        grown = covered([window.expand(16) for window in windows], (256, 256))
        np.testing.assert_array_equal(grown, kept_away)
    assert 0.2 <= held.pixels / held.total <= 0.3
    assert "of 32 blocks, gap 16 px" in held.told


def test_of_many_scenes_whole_ones_are_held_out():
    scenes = [scene(seed, side=64) for seed in range(MANY)]
    held = hold_out(scenes, ["a"], Settings())
    assert sum(map(bool, held.windows)) == MANY // 4
    assert all(windows == [Window(0, 0, 64, 64)] for windows in held.windows if windows)


def test_named_scenes_are_held_out_whole():
    held = hold_out([scene(0), scene(1), scene(22)], ["a"], Settings(validation=("s2*", "s0")))
    assert [bool(windows) for windows in held.windows] == [True, False, True]
    with pytest.raises(UsageError, match="--validation x\\* names no scene; there are s0, s1"):
        hold_out([scene(0), scene(1)], ["a"], Settings(validation=("x*",)))


def test_a_rare_class_is_on_both_sides():
    scenes = [scene(0, side=256, classes=2)]
    scenes[0].labels[1] = 0
    scenes[0].labels[1, 10, 10] = scenes[0].labels[1, 200, 200] = 1
    for seed in range(5):
        held = hold_out(scenes, ["a", "rare"], Settings(seed=seed))
        inside = covered(held.windows[0], (256, 256))
        assert scenes[0].labels[1][inside].sum() == 1


def test_a_scene_of_one_block_is_refused_with_what_would_help():
    with pytest.raises(UsageError, match="one block of 20 x 20 pixels of s0: .* Give labels of a second scene"):
        hold_out([scene(0, side=20)], ["a"], Settings())


def test_a_class_in_one_place_is_refused():
    scenes = [scene(0, side=256, classes=2)]
    scenes[0].labels[1] = 0
    scenes[0].labels[1, 10, 10] = 1
    with pytest.raises(UsageError, match="Nothing of rare is left to"):
        hold_out(scenes, ["a", "rare"], Settings())


def test_scenes_on_the_same_ground_do_not_learn_from_what_is_held_out():
    labels = (np.random.default_rng(0).random((1, 100, 100)) < 0.3).astype(np.uint8)
    scenes = [Placed(labels, 0), Placed(labels, 60), Placed(labels, 500)]
    held = hold_out(scenes, ["a"], Settings(validation=("at 0",)))
    assert held.forbidden[1] == [Window(0, 0, 100, 40 + 25)]
    assert held.forbidden[2] == []


def test_another_coordinate_system_does_not_hide_the_same_ground():
    labels = (np.random.default_rng(0).random((1, 100, 100)) < 0.3).astype(np.uint8)
    west = Placed(labels, 0)
    degrees = Placed(labels, 1)
    degrees.name = "degrees"
    from rasterio.warp import transform_bounds

    left, bottom, right, top = transform_bounds(UTM, "EPSG:4326", 500_000, 4_999_900, 500_100, 5_000_000)
    degrees.grid = GeoGrid(100, 100, Affine((right - left) / 100, 0, left, 0, (bottom - top) / 100, top), "EPSG:4326")
    held = hold_out([west, degrees], ["a"], Settings(validation=("at 0",)))
    (window,) = held.forbidden[1]
    assert window.height * window.width > 0.95 * 100 * 100


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), step=st.sampled_from([4, 16, 24]))
def test_pieces_cover_a_scene_once(height, width, step):
    count = np.zeros((height, width), int)
    for window in pieces((height, width), 200, step):
        assert window.row % step == window.col % step == window.height % step == window.width % step == 0
        assert max(window.shape) <= 200 + step
        count[window.row : window.row_end, window.col : window.col_end] += 1
    assert (count == 1).all()


def test_ignored_labels_do_not_count():
    one = scene(0)
    one.labels[:, :128] = IGNORE
    held = hold_out([one], ["a"], Settings())
    assert held.total == 128 * 256
    assert not covered(held.windows[0], (256, 256))[:128].any()
