"""Cross-fitting: who is left out with whom, and that no map comes from a network that saw its scene."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo.refine.fit import LogitMap
from prngeo.tiling.grid import Window
from prngeo.training.folds import cross_fit, cut_blocks, split_folds
from prngeo.training.regions import CachedRegion, Region


def region(key, block="", source="a", side=8):
    whole = Window(0, 0, side, side)
    described = Region(key, source, "train", (1.0, 1.0), (side, side), ("roads",), key, whole, block=block)
    return CachedRegion(described, np.zeros((side, side, 4), np.uint8), np.zeros((side, side, 1), np.uint8))


blocks_of_sources = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 20)), min_size=1, max_size=20
)


@given(blocks_of_sources, st.integers(2, 4))
def test_a_block_is_never_cut_and_every_fold_of_a_source_has_some(drawn, count):
    regions = [region(str(i), f"{s}{block}", s, side) for i, (s, block, side) in enumerate(drawn)]
    folds = split_folds(regions, count)
    for source in "ab":
        own = [
            (item.region.block, fold) for item, fold in zip(regions, folds, strict=True) if item.region.source == source
        ]
        found = dict(own)
        assert all(found[block] == fold for block, fold in own)
        if len(found) < count:
            assert set(found.values()) <= {None}
        else:
            assert set(found.values()) == set(range(count))


def test_folds_have_about_the_same_area():
    regions = [region(str(i), str(i), side=side) for i, side in enumerate([30, 10, 10, 10, 10, 20, 20])]
    area = [0, 0]
    for item, fold in zip(regions, split_folds(regions, 2), strict=True):
        area[fold] += item.region.shape[0] ** 2
    assert abs(area[0] - area[1]) <= 200


@pytest.mark.parametrize("count", [2, 3])
def test_every_map_comes_from_a_network_that_did_not_see_its_block(count):
    regions = [region(str(i), f"block{i // 2}") for i in range(8)] + [region("lone", source="b")]

    def train(fold, seen):
        blocks = {item.region.block for item in seen}

        def predict(item):
            assert item.region.block not in blocks
            assert any(other.region.key == "lone" for other in seen)
            empty = np.zeros((1, 8, 8), np.float16)
            return LogitMap(item.region.key, empty, empty, empty[0], np.zeros((1, 8, 8), np.uint8))

        return predict

    maps = cross_fit(regions, count, train)
    assert sorted(item.source for item in maps) == [str(i) for i in range(8)]


def scene(key, x, y, height, width, *, gap, forbidden=(), block="one", crs="metres"):
    """A region whose labels are the numbers of its pixels on the ground, so that a map tells where it comes from."""
    ground = (np.arange(height)[:, None] - y) * 1000 + np.arange(width) + x
    described = Region(
        key, "a", "train", (1.0, 1.0), (height, width), ("roads",), key, Window(0, 0, height, width),
        forbidden=tuple(forbidden), block=block, crs=crs, transform=(1, 0, x, 0, -1, y), gap=gap,
    )  # fmt: skip
    return CachedRegion(described, np.zeros((height, width, 4), np.uint8), ground[..., None])


def places(items):
    """The (row, column) of every pixel that regions may train on."""
    found = []
    for item in items:
        allowed = np.ones(item.region.shape, bool)
        for window in item.region.forbidden:
            allowed[window.intersect(Window(0, 0, *item.region.shape)).within(Window(0, 0, *item.region.shape))] = False
        found.append(item.labels[allowed][:, 0])
    numbers = np.concatenate(found)
    return np.stack([numbers // 1000, numbers % 1000], -1)


LAYOUTS = {
    "one scene": [scene("s", 0, 0, 60, 100, gap=12.0)],
    "one upright scene": [scene("s", 0, 0, 100, 60, gap=12.0)],
    "one scene beside a held-out area": [scene("s", 0, 0, 60, 100, gap=12.0, forbidden=[Window(0, 40, 30, 80)])],
    "scenes that abut": [scene(str(i), 30 * i, 0, 40, 30, gap=8.0) for i in range(4)],
    "scenes that overlap": [scene(str(i), 25 * i, -3 * i, 40, 40, gap=8.0) for i in range(4)],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("count", [2, 3])
def test_a_source_of_one_block_is_cut_into_folds_that_keep_the_gap(name, count):
    regions = LAYOUTS[name]
    gap, mapped = regions[0].region.gap, []

    def train(fold, seen):
        def predict(item):
            own, other = places([item]), places(seen)
            apart = np.abs(own[:, None] - other[None]).max(-1).min()
            assert apart >= gap, "the map's pixels lie nearer to what its network saw"
            mapped.append(item)
            empty = np.zeros((1, 8, 8), np.float16)
            return LogitMap(item.region.key, empty, empty, empty[0], np.zeros((1, 8, 8), np.uint8))

        return predict

    maps = cross_fit(regions, count, train)
    assert len(maps) == len(mapped) >= count
    assert np.array_equal(np.sort(places(mapped), 0), np.sort(places(regions), 0)), "every pixel once"
    for item in mapped:
        assert item.image.shape[:2] == item.labels.shape[:2] == item.region.shape


@pytest.mark.parametrize(
    "regions",
    [
        [scene("s", 0, 0, 60, 100, gap=51.0)],
        [scene("s", 0, 0, 60, 100, gap=0.0)],
        [scene("s", 0, 0, 60, 100, gap=5.0), scene("t", 0, 0, 60, 100, gap=5.0, crs="others")],
    ],
    ids=["too small for the gap", "no gap known", "two systems"],
)
def test_a_source_that_cannot_be_cut_is_not_in_any_fold(regions):
    assert cut_blocks(regions, 2) == regions
    assert split_folds(cut_blocks(regions, 2), 2) == [None] * len(regions)


def test_a_block_that_would_fill_nearly_all_is_cut_so_that_folds_are_even():
    large = [scene(str(i), 40 * (i % 3), 40 * (i // 3), 40, 40, gap=6.0, block="large") for i in range(9)]
    regions = [*large, scene("far", 900, 0, 40, 40, gap=6.0, block="small")]
    parts = cut_blocks(regions, 2)
    assert np.array_equal(np.sort(places(parts), 0), np.sort(places(regions), 0)), "every pixel once"
    areas = [0, 0]
    for item, fold in zip(parts, split_folds(parts, 2), strict=True):
        areas[fold] += len(places([item]))
    assert min(areas) >= 0.4 * sum(areas)
    assert [item.region.key for item in parts if item.region.block == "small"] == ["far"]


def test_blocks_of_like_size_stay_whole():
    regions = [scene(str(i), 100 * i, 0, 40, 40 + 10 * i, gap=6.0, block=str(i)) for i in range(3)]
    assert cut_blocks(regions, 2) == regions


def test_folds_that_stay_uneven_are_told(caplog):
    regions = [region("large", "one", side=90), region("small", "two", side=10)]  # without a gap nothing is cut
    cross_fit(regions, 2, lambda fold, seen: lambda item: None)
    assert "source a: the folds that PRN is fitted with hold from 1 to 99 % of its pixels" in caplog.text
    caplog.clear()
    cross_fit([region("a", "one"), region("b", "two")], 2, lambda fold, seen: lambda item: None)
    assert not caplog.records
