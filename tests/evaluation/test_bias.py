"""Thresholds of patches against brute force, the torch version, and bias that was planted."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.evaluation.bias import (
    PATCH,
    SIZES,
    PatchHistograms,
    best_thresholds,
    bias_maps,
    headroom,
    joint_oracle,
    tuned_threshold,
)
from prngeo.evaluation.pixel import LEVELS
from prngeo.refine.pseudo_labels import pseudo_labels


def stored(folder, level, truth, known=None):
    """Histograms of (H, W) levels and truth, sides multiples of 64."""
    known = np.ones(level.shape, bool) if known is None else known
    rows, cols = level.shape[0] // PATCH, level.shape[1] // PATCH
    patches = PatchHistograms(folder, rows, cols)
    row, col = np.indices(level.shape) // PATCH
    key = (((row * cols + col) * 2 + truth) * LEVELS + level)[known]
    patches.put(0, 0, np.bincount(key, minlength=rows * cols * 2 * LEVELS).reshape(rows, cols, 2, LEVELS))
    return patches


def few(folder, counts):
    """Histograms of a row of patches given as {level: (background, objects)}."""
    patches = PatchHistograms(folder, 1, len(counts))
    for col, levels in enumerate(counts):
        cell = np.zeros((1, 1, 2, LEVELS), np.int64)
        for level, pixels in levels.items():
            cell[0, 0, :, level] = pixels
        patches.put(0, col, cell)
    return patches


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(
        st.dictionaries(st.integers(0, 250), st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_the_joint_oracle_is_the_best_of_all_combinations(tmp_path_factory, counts):
    patches = few(tmp_path_factory.mktemp("patches"), counts)
    true = sum(pixels[1] for levels in counts for pixels in levels.values())
    found = joint_oracle(patches, 1)
    if not true:
        assert np.isnan(found) or found == 0
        return
    best = 0.0
    for cuts in itertools.product(*([*levels, LEVELS] for levels in counts)):
        chosen = [
            pixels for cut, levels in zip(cuts, counts, strict=True) for level, pixels in levels.items() if level >= cut
        ]
        hits, false = sum(pixels[1] for pixels in chosen), sum(pixels[0] for pixels in chosen)
        best = max(best, hits / (true + false))
    assert found == pytest.approx(best)


@pytest.mark.parametrize("size", [1, 2])
def test_it_agrees_with_the_pseudo_labels_that_prn_is_trained_on(tmp_path, size):
    rng = np.random.default_rng(size)
    truth = rng.random((4 * PATCH, 6 * PATCH)) < 0.2
    level = np.clip(rng.normal(100, 40, truth.shape) + 50 * truth, 0, 250).astype(int)
    known = rng.random(truth.shape) < 0.9
    maps = (torch.from_numpy(part)[None] for part in (level.astype(np.float32), truth, known))
    best = pseudo_labels(*maps, PATCH * size)[0].numpy() & known
    expected = (best & truth).sum() / ((best | truth) & known).sum()
    assert joint_oracle(stored(tmp_path, level, truth, known), size) == pytest.approx(expected)


def biased(rng, shift):
    """Levels that are too high in the left half by `shift`, and truth."""
    truth = rng.random((8 * PATCH, 8 * PATCH)) < 0.3
    level = 90 + 70 * truth + rng.normal(0, 25, truth.shape)
    level[:, : 4 * PATCH] += shift
    return np.clip(level, 0, 250).astype(int), truth


def test_planted_bias_is_seen_and_foretold_by_neighbors(tmp_path):
    level, truth = biased(np.random.default_rng(0), 70)
    patches = stored(tmp_path, level, truth)
    total = sum(part.sum((0, 1)) for _, part in patches.strips(1))
    _, tuned = tuned_threshold(total)
    found = headroom(patches, 1, tuned)
    assert found.joint - tuned > 0.1
    assert found.neighbors - tuned > 0.8 * (found.joint - tuned)
    maps = bias_maps(patches, 1, tuned, np.arange(LEVELS) * 0.004)
    assert (maps.bias[:, :4].mean() - maps.bias[:, 4:].mean()) == pytest.approx(70 * 0.004, abs=0.03)
    assert maps.threshold[:, :4].min() > maps.threshold[:, 4:].max()


def test_without_bias_neighbors_gain_nothing(tmp_path):
    level, truth = biased(np.random.default_rng(1), 0)
    patches = stored(tmp_path, level, truth)
    total = sum(part.sum((0, 1)) for _, part in patches.strips(1))
    _, tuned = tuned_threshold(total)
    for size in SIZES:
        found = headroom(patches, size, tuned)
        assert (found.neighbors or 0.0) <= tuned + 0.001
        assert tuned <= found.joint + 1e-12 <= tuned + 0.02


def test_a_single_patch_has_no_neighbors(tmp_path):
    level, truth = biased(np.random.default_rng(3), 20)
    patches = stored(tmp_path, level, truth)
    assert headroom(patches, 8, 0.5).neighbors is None
    assert headroom(patches, 4, 0.5).neighbors > 0


def test_larger_patches_are_sums_of_smaller_ones_whatever_the_strip(tmp_path, monkeypatch):
    level, truth = biased(np.random.default_rng(2), 20)
    patches = stored(tmp_path, level, truth)
    whole = patches.read(2, 0, 4)
    assert whole.sum() == level.size
    monkeypatch.setattr("prngeo.evaluation.bias._STRIP", 8)
    parts = np.concatenate([part for _, part in patches.strips(2)])
    np.testing.assert_array_equal(parts, whole)
    margins = [part for _, part in patches.strips(2, margin=1)]
    np.testing.assert_array_equal(np.concatenate([part[1:-1] for part in margins]), whole)
    assert not margins[0][0].any()
    assert not margins[-1][-1].any()


def test_patches_with_little_known_have_no_place_on_the_maps(tmp_path):
    level, truth = np.full((PATCH, 2 * PATCH), 125), np.zeros((PATCH, 2 * PATCH), int)
    truth[:, PATCH:] = 1
    known = np.ones(truth.shape, bool)
    known[: PATCH * 4 // 5, :PATCH] = False
    maps = bias_maps(stored(tmp_path, level, truth, known), 1, 0.5, np.arange(LEVELS) * 0.004)
    assert np.isnan(maps.bias[0, 0])
    assert maps.bias[0, 1] == pytest.approx(0.5 - 1)


def test_a_patch_without_truth_has_no_best_threshold_and_a_hopeless_one_predicts_nothing():
    levels = np.zeros((3, 2, LEVELS))
    levels[0, 0, 200] = 50  # background alone
    levels[1, 0, 200], levels[1, 1, 10] = 500, 1  # its object is lower than all background
    levels[2, 0, 100], levels[2, 1, 180] = 50, 50
    found = best_thresholds(levels, 0.5)
    assert np.isnan(found[0])
    assert found[1] > 1
    assert 0.4 < found[2] <= 0.72
    assert tuned_threshold(levels[0]) is None
