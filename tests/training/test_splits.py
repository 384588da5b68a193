"""Splits by blocks: no pixel that trains is nearer to one that tests than the gap, and shares are as wished."""

import json

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.config import Split
from prngeo.errors import UsageError
from prngeo.tiling.grid import Window
from prngeo.training import splits
from prngeo.training.apart import keep_apart, smallest_distance
from prngeo.training.folds import cut_blocks, split_folds
from prngeo.training.pictures import Refused
from prngeo.training.places import Place, around, free, joined
from prngeo.training.prepare import prepare
from prngeo.training.receptive import receptive_field
from prngeo.training.regions import Region, load_regions
from prngeo.training.splits import Land, split_blocks

GSD = 0.5


def everywhere(window):
    area = window.height * window.width
    return area, np.array([area // 3])


def split_scenes(layout, split, gap, seed):
    """Regions of scenes (x, y, width, height in metres, GSD) that are labelled everywhere."""
    places, drafts, lands = {}, [], []
    for i, (x, y, width, height, gsd) in enumerate(layout):
        shape = max(1, round(height / gsd)), max(1, round(width / gsd))
        places[str(i)] = Place("metres", True, (gsd, 0, x, 0, -gsd, y), (gsd, gsd))
        lands.append(Land(places[str(i)], shape, everywhere))
    for i, (land, windows) in enumerate(zip(lands, split_blocks(lands, split, gap, seed), strict=True)):
        windows = windows | {"train": [Window(0, 0, *land.shape)]}
        for role, window in ((name, own) for name in windows for own in windows[name]):
            drafts.append(
                Region(f"{i}-{role}-{window.row}-{window.col}", "a", role, land.place.gsd, window.shape, ("roads",),
                       str(i), window, transform=land.place.transform, gap=gap, arrays=str(i))
            )  # fmt: skip
    return keep_apart(drafts, places, {"a"}, {"a": Refused.none()}), places


def boxes(regions, places, role):
    """(n, 4) left, bottom, right, top in metres of the pixels of a role that are used."""
    found = []
    for region in regions:
        if region.role == role:
            gsd, _, x, _, _, y = places[region.arrays].transform
            for part in free(region.shape, region.forbidden):
                row, col = part.row + region.window.row, part.col + region.window.col
                found.append(
                    (x + col * gsd, y - (row + part.height) * gsd, x + (col + part.width) * gsd, y - row * gsd)
                )
    return np.array(found, float).reshape(-1, 4)


def distances(one, other):
    """(n, m) metres between boxes."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.hypot(*np.moveaxis(np.maximum(low - high, 0), -1, 0))


scenes = st.lists(
    st.tuples(
        st.floats(0, 900), st.floats(0, 900), st.floats(20, 300), st.floats(20, 300), st.sampled_from([0.5, 0.7, 2.0])
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(scenes, st.floats(0, 150), st.integers(0, 3), st.sampled_from([0.0, 0.15]), st.sampled_from([None, 60.0]))
def test_no_pixel_that_trains_is_nearer_to_one_that_judges_than_the_gap(layout, gap, seed, refine, block):
    split = Split(test=0.2, validation=0.15, refine=refine, block=block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_DRAWS", 4)  # any draw keeps the gap; many serve the shares
        regions, places = split_scenes(layout, split, gap, seed)
    train, test = (boxes(regions, places, role) for role in ("train", "test"))
    validation, refining = (boxes(regions, places, role) for role in ("validation", "refine"))
    for learns, judges in ((train, test), (train, validation), (train, refining), (refining, test)):
        if len(learns) and len(judges):
            assert distances(learns, judges).min() >= gap - 1e-3
    if len(test) and len(validation):
        shared = np.minimum(test[:, None, 2:], validation[None, :, 2:]) - np.maximum(
            test[:, None, :2], validation[None, :, :2]
        )
        assert shared.min(-1).max() < 2.01, "they may abut, to a pixel of the coarser scene"
    if len(train) and len(test):
        assert smallest_distance(regions, places, "a", "test") == pytest.approx(distances(train, test).min(), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.sampled_from([(1, 3000), (1, 1500), (30, 200)]))
@pytest.mark.slow
def test_shares_are_about_those_wished_where_there_is_room(seed, size):
    count, side = size
    layout = [(i % 6 * 800.0, i // 6 * 800.0, side, side, 2.0) for i in range(count)]
    regions, places = split_scenes(layout, Split(), 40.0, seed)
    area = {
        role: np.prod(boxes(regions, places, role)[:, 2:] - boxes(regions, places, role)[:, :2], 1).sum()
        for role in ("train", "validation", "test")
    }
    total = count * side**2
    assert area["test"] / total == pytest.approx(0.2, abs=0.05)
    assert area["validation"] / total == pytest.approx(0.15, abs=0.05)
    assert area["train"] / total > 0.5


def test_a_split_follows_from_the_seed():
    layout = [(0, 0, 900, 700, 1.0)]
    found = [split_scenes(layout, Split(), 40.0, seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert found[0] == found[1]
    assert len({str(each) for each in found}) > 1


def test_blocks_are_as_large_as_told_on_a_grid_from_the_scene_s_corner():
    regions, _ = split_scenes([(0, 0, 900, 700, 1.0)], Split(block=100), 20.0, 0)
    held = [region.window for region in regions if region.role != "train"]
    for window in held:
        edges = [window.row, window.col, window.row_end, window.col_end]
        assert all(edge % 100 == 0 or edge in (700, 900) for edge in edges)


@pytest.mark.slow
def test_every_role_has_objects_of_every_target_if_that_can_be():
    """A target in three small corners of a large scene."""
    corners = [Window(0, 0, 60, 60), Window(0, 940, 60, 60), Window(940, 0, 60, 60)]

    def counts(window):
        rare = sum(c.intersect(window).height * c.intersect(window).width for c in corners)
        return window.height * window.width, np.array([window.height * window.width // 2, rare])

    place = Place("metres", True, (1, 0, 0, 0, -1, 0), (1.0, 1.0))
    for seed in range(4):
        (windows,) = split_blocks([Land(place, (1000, 1000), counts)], Split(), 30.0, seed)
        held = {role: sum(counts(window)[1][1] for window in own) for role, own in windows.items()}
        assert held["test"] > 0
        assert held["validation"] > 0
        assert held["test"] + held["validation"] < 3 * 3600


rectangles = st.lists(
    st.builds(Window, st.integers(-5, 25), st.integers(-5, 25), st.integers(0, 20), st.integers(0, 20)), max_size=6
)


@given(st.integers(1, 30), st.integers(1, 30), rectangles)
def test_what_is_free_is_all_that_is_not_forbidden_once(height, width, forbidden):
    expected, found = np.ones((height, width), int), np.zeros((height, width), int)
    extent = Window(0, 0, height, width)
    for window in forbidden:
        expected[window.intersect(extent).within(extent)] = 0
    parts = free((height, width), tuple(forbidden))
    for window in parts:
        found[window.within(extent)] += 1
    np.testing.assert_array_equal(found, expected)
    assert joined(parts) == parts


@given(st.floats(0, 50), st.floats(0.1, 3), st.floats(0.1, 3))
def test_what_lies_around_a_box_is_all_within_the_gap(gap, x, y):
    window = around((10, 20, 30, 50), gap, (x, y))
    assert (10 - window.row + 1) * y >= gap - 1e-3 >= (10 - window.row - 1) * y - 1e-2
    assert (window.col_end - 50 + 1) * x >= gap - 1e-3


@pytest.mark.parametrize("encoder", ["tu-lcnet_050", "tu-mobilenetv3_small_050"])
def test_the_receptive_field_is_at_most_the_tile_and_the_generator_is_left_alone(encoder):
    import torch

    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = receptive_field("unet", encoder, 4, 128)
    assert 16 < found <= 128
    assert torch.equal(torch.get_rng_state(), state)
    receptive_field.cache_clear()
    assert receptive_field("unet", encoder, 4, 128) == found


@pytest.fixture
def large(write):
    """One scene of 300 x 240 m with a mask."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((12, 15)) < 0.3, np.ones((40, 40))).astype("uint8")
    place = Affine(GSD, 0, 500_000.0, 0, -GSD, 6_000_000.0)
    write("images/s.tif", rng.integers(1, 255, (3, 480, 600)).astype("uint8"), place)
    write("masks/s.tif", mask[None], place)
    return mask


def test_one_scene_is_split_and_the_file_tells_gap_and_distances(tmp_path, large, config):
    settings = config(tmp_path, split={}, tile=64, overlap=16)
    found = prepare(settings, tmp_path / "cache")
    assert {region.role for region in found} == {"train", "validation", "test"}
    told = json.loads((tmp_path / "cache" / "split.json").read_text())["sources"]["a"]
    field = receptive_field("unet", "tu-lcnet_050", 3, 64)
    assert told["gap_m"] == pytest.approx((64 + field) * GSD)
    assert told["smallest_distance_m"]["test"] >= told["gap_m"] - 1e-6
    assert told["smallest_distance_m"]["validation"] >= told["gap_m"] - 1e-6
    assert told["left_out"] == told["skipped"] == []
    for role in ("train", "validation", "test"):
        for item in load_regions(tmp_path / "cache", role):
            here = item.region.window.within(Window(0, 0, *large.shape))
            np.testing.assert_array_equal(item.labels[..., 1], large[here])
            assert item.image.shape[:2] == item.region.shape
            left, bottom, right, top = item.region.bounds
            assert (left, top) == (500_000 + item.region.window.col * GSD, 6_000_000 - item.region.window.row * GSD)
            assert ((right - left) / GSD, (top - bottom) / GSD) == item.region.shape[::-1]
            assert "UTM zone 30N" in item.region.crs


def test_one_scene_that_was_split_can_be_cross_fitted(tmp_path, large, config):
    prepare(config(tmp_path, split={}, tile=64, overlap=16), tmp_path / "cache")
    parts = cut_blocks(load_regions(tmp_path / "cache", "train"), 2)
    assert sorted(split_folds(parts, 2)) == [0, 1]


def test_a_gap_that_leaves_nothing_names_what_mends_it(tmp_path, large, config):
    with pytest.raises(UsageError, match=r"within 150 m .*\(as split\.gap says\).* cover 7\.2 ha.*`tile`.*split\.gap"):
        prepare(config(tmp_path, split={"gap": 150}), tmp_path / "cache")
    with pytest.raises(UsageError, match=r"a tile of 512 and a receptive field of \d+ pixels of 0\.5 m"):
        prepare(config(tmp_path, split={}), tmp_path / "cache")


def test_a_gap_of_less_than_a_tile_is_warned_about(tmp_path, large, config, caplog):
    prepare(config(tmp_path, split={"gap": 10}, tile=128, overlap=32), tmp_path / "cache")
    assert "split.gap is 10 m; a tile sees 64 m" in caplog.text


def test_a_source_with_roles_of_its_own_keeps_them(tmp_path, large, scene, config):
    scene("t", Affine(GSD, 0, 510_000.0, 0, -GSD, 6_000_000.0))
    named = {"test": ["t"], "gap": 1.0}
    found = prepare(config(tmp_path, named, split={"gap": 20}), tmp_path / "cache")
    assert {region.key: region.role for region in found} == {"a-s": "train", "a-t": "test"}


def test_two_sources_of_one_scene_hold_out_the_same_ground(tmp_path, large, config):
    second = {"name": "b", "labels": {"buildings": "masks/*.tif"}}
    found = prepare(config(tmp_path, {}, second, split={"gap": 20}), tmp_path / "cache")
    windows = {
        name: {(region.role, region.window) for region in found if region.source == name and region.role != "train"}
        for name in "ab"
    }
    assert windows["a"] == windows["b"]
    places = {key: Place("utm", True, (GSD, 0, 0, 0, -GSD, 0), (GSD, GSD)) for key in ("a-s", "b-s")}
    train, test = (boxes(found, places, role) for role in ("train", "test"))
    assert distances(train, test).min() >= 20 - 1e-6


def test_blocks_too_many_to_weigh_are_an_error_that_names_the_key(tmp_path, large, config, monkeypatch):
    monkeypatch.setattr(splits, "MOST_BLOCKS", 3)
    with pytest.raises(UsageError, match=r"Blocks of split\.block 5 m are .*; at most 3 .* Make split\.block larger"):
        prepare(config(tmp_path, tile=64, overlap=16, split={"block": 5}), tmp_path / "cache")


def test_too_small_a_scene_to_split_is_an_error(tmp_path, scene, config):
    scene("s", shape=(8, 8))
    with pytest.raises(UsageError, match="0% of its labels are left to train on"):
        prepare(config(tmp_path, split={"gap": 5}), tmp_path / "cache")


def test_assumptions_of_the_layouts_hold():
    """The property test would not fail on layouts that leave nothing to train on: some do leave it."""
    regions, _ = split_scenes([(0, 0, 300, 300, 0.5), (250, 0, 300, 300, 0.7)], Split(), 50.0, 0)
    assert {region.role for region in regions} == {"train", "validation", "test"}
