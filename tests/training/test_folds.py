"""Cross-fitting: who is left out with whom, and that no map comes from a network that saw its scene."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo.refine.fit import LogitMap
from prngeo.tiling.grid import Window
from prngeo.training.folds import cross_fit, split_folds
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
