"""Refiners of scores on arrays."""

import numpy as np
import pytest
import torch

import prngeo
from prngeo.errors import UsageError
from prngeo.refine import Settings, apply_arrays, fit_arrays, load_refiner
from tests.scores.conftest import best_iou, iou, make_prn, planted, sigmoid


@pytest.mark.slow
def test_planted_bias_is_removed_on_scenes_that_the_fit_did_not_see():
    scenes = [planted(seed) for seed in range(8)]
    refiner = fit_arrays(
        [logits for logits, _ in scenes],
        [truth for _, truth in scenes],
        values="logit",
        settings=Settings(steps=100, reduction=4),
    )
    gate = refiner.card.targets["objects"].gate
    assert gate.enabled
    assert gate.refined_iou > gate.base_iou
    won_back = []
    for seed in (100, 101):
        logits, truth = planted(seed)
        biased, unbiased = best_iou(logits, truth), best_iou(planted(seed, bias=0)[0], truth)
        won_back.append((iou(apply_arrays(refiner, logits).mask[0], truth) - biased) / (unbiased - biased))
    assert min(won_back) > 0.4


@pytest.mark.slow
def test_every_class_is_refined_against_the_rest():
    scenes = [planted(seed) for seed in range(8)]
    scores = [np.stack([logits, -logits]) for logits, _ in scenes]  # objects and background
    labels = [np.stack([truth, 1 - truth]) for _, truth in scenes]
    refiner = fit_arrays(scores, labels, values="logit", settings=Settings(steps=100, reduction=4))
    assert list(refiner.card.targets) == ["class_1", "class_2"]
    logits, truth = planted(100)
    refined = apply_arrays(refiner, np.stack([logits, -logits]))
    assert refined.mask.shape == (2, 64, 64)
    for index, (own, there) in enumerate([(logits, truth), (-logits, 1 - truth)]):
        assert refiner.card.targets[f"class_{index + 1}"].gate.enabled
        assert iou(refined.mask[index], there) > best_iou(own, there) + 0.02


@pytest.mark.slow
def test_the_published_network_is_fitted_and_applied(tmp_path):
    scenes = [planted(seed) for seed in range(2)]
    settings = Settings(variant="paper", steps=1)
    fitted = fit_arrays([s[0] for s in scenes], [s[1] for s in scenes], values="logit", settings=settings)
    assert fitted.card.refiner.variant == "paper"
    assert fitted.card.refiner.patch == 8
    fitted.save(tmp_path / "my.prn")
    assert apply_arrays(load_refiner(tmp_path / "my.prn"), scenes[0][0]).mask.shape == (1, 64, 64)


def test_a_refiner_that_does_not_help_is_disabled_and_the_correction_is_zero(quick):
    scenes = [planted(seed, bias=0) for seed in range(4)]  # nothing to correct
    refiner = fit_arrays([s[0] for s in scenes], [s[1] for s in scenes], values="logit", settings=quick)
    target = refiner.card.targets["objects"]
    assert not target.refine
    refined = apply_arrays(refiner, scenes[0][0])
    assert not refined.correction.any()
    expected = sigmoid(scenes[0][0].astype(np.float16) / target.base.temperature)
    np.testing.assert_allclose(refined.probability[0], expected, atol=1e-3)
    np.testing.assert_array_equal(refined.mask[0], refined.probability[0] >= np.float32(target.base.threshold))


def test_a_saved_refiner_gives_what_the_fitted_one_gives(quick, tmp_path):
    scenes = [planted(seed) for seed in range(4)]
    fitted = fit_arrays([s[0] for s in scenes], [s[1] for s in scenes], values="logit", settings=quick)
    target = fitted.card.targets["objects"]
    gate = target.gate.model_copy(update={"enabled": True})
    card = fitted.card.model_copy(update={"targets": {"objects": target.model_copy(update={"gate": gate})}})
    fitted = type(fitted)(card, fitted.tensors)
    fitted.save(tmp_path / "my.prn")
    ours, theirs = (apply_arrays(r, scenes[0][0]) for r in (fitted, load_refiner(tmp_path / "my.prn")))
    assert ours.correction.any()
    np.testing.assert_array_equal(ours.correction, theirs.correction)


def test_the_same_seed_gives_the_same_refiner(quick):
    scenes = [planted(seed) for seed in range(4)]
    one, other = (
        fit_arrays([s[0] for s in scenes], [s[1] for s in scenes], values="logit", settings=quick) for _ in range(2)
    )
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_tensors_and_arrays_give_the_same(tmp_path):
    refiner = load_refiner(make_prn(tmp_path / "a.prn", classes=2, image_bands=3))
    rng = np.random.default_rng(0)
    scores, image = rng.random((2, 70, 90), np.float32), rng.random((3, 70, 90), np.float32)
    given = apply_arrays(refiner, scores, image)
    np.testing.assert_array_equal(apply_arrays(refiner, torch.tensor(scores), torch.tensor(image)).mask, given.mask)
    assert given.probability.shape == given.mask.shape == given.correction.shape == (2, 70, 90)


@pytest.mark.parametrize(
    ("values", "top", "dtype"), [("unit", 1, "float32"), ("percent", 100, "float32"), ("byte", 255, "uint8")]
)
def test_scales_of_scores_mean_the_same(tmp_path, values, top, dtype):
    refiner = load_refiner(make_prn(tmp_path / "a.prn"))
    bytes_ = np.random.default_rng(0).integers(0, 256, (64, 64))
    scores = bytes_.astype("uint8") if dtype == "uint8" else (bytes_ / 255 * top).astype(dtype)
    expected = apply_arrays(refiner, np.clip(bytes_ / 255, 0.5 / 255, 1 - 0.5 / 255), values="unit")
    given = apply_arrays(refiner, np.clip(scores, 0.5 / 255 * top, None) if dtype != "uint8" else scores, values=values)
    inner = (bytes_ > 0) & (bytes_ < 255)
    np.testing.assert_allclose(given.probability[0][inner], expected.probability[0][inner], atol=0.02)


@pytest.mark.parametrize("known", ["percent", "byte", "logit"])
def test_scores_in_0_to_1_are_refused_by_a_refiner_of_others_unless_told(tmp_path, known):
    refiner = load_refiner(make_prn(tmp_path / "a.prn", values=known))
    scores = np.random.default_rng(0).random((64, 64), np.float32)
    with pytest.raises(UsageError, match=f"values unit if they are probabilities in 0..1, values {known} if not"):
        apply_arrays(refiner, scores)
    assert apply_arrays(refiner, scores, values="unit").mask.any()
    apply_arrays(refiner, scores, values=known)


def test_infinite_logits_are_scores_and_nan_is_none(tmp_path):
    refiner = load_refiner(make_prn(tmp_path / "a.prn", enabled=False, values="logit"))
    scores = np.zeros((64, 64), np.float32)
    scores[0, :3] = np.inf, -np.inf, np.nan
    refined = apply_arrays(refiner, scores)
    assert refined.mask[0, 0, :3].tolist() == [True, False, False]
    assert refined.probability[0, 0, 0] > 0.99


def test_tensors_of_bfloat16_are_scores(tmp_path):
    refiner = load_refiner(make_prn(tmp_path / "a.prn"))
    scores = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    np.testing.assert_array_equal(apply_arrays(refiner, scores).mask, apply_arrays(refiner, scores.float()).mask)


def test_pixels_without_a_score_are_left_out(tmp_path):
    refiner = load_refiner(make_prn(tmp_path / "a.prn"))
    scores = np.full((64, 64), 0.9, np.float32)
    scores[:, :8] = np.nan
    refined = apply_arrays(refiner, scores)
    for part in (refined.probability, refined.mask, refined.correction):
        assert np.isfinite(part).all()
        assert not part[:, :, :8].any()


def _fit(**changes):
    scores, labels = planted(0)
    given = {"scores": [scores] * 2, "labels": [labels] * 2, "values": "logit"} | changes
    return fit_arrays(given.pop("scores"), given.pop("labels"), settings=Settings(steps=1), **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [planted(0)[1]]}, "of the same scenes"),
        ({"scores": [], "labels": []}, "of the same scenes"),
        ({"labels": [np.zeros((9, 9), np.uint8)] * 2}, "scores of shape .* and labels of shape"),
        ({"labels": [planted(0)[1] * 7] * 2}, "labels of scene 0 are 0, 1 and 255"),
        ({"labels": [np.full((64, 64), 255, np.uint8)] * 2}, "No pixel has both a score and a label"),
        ({"labels": [np.zeros((64, 64), np.uint8)] * 2}, "No labelled pixel is objects"),
        ({"labels": [np.ones((64, 64), np.uint8)] * 2}, "Every labelled pixel is objects"),
        ({"scores": [np.full((64, 64), np.nan)] * 2}, "No pixel has both a score and a label"),
        ({"values": "unit"}, "was read as a probability in 0..1, but holds values"),
        ({"values": "odds"}, "values is one of"),
        ({"classes": ["a/b"]}, "every class needs a name of its own"),
        ({"classes": ["a", "b"]}, "have 1 classes, but 2 are named"),
        ({"images": [np.full((3, 64, 64), 7.0)] * 2}, "is to lie in 0..1"),
        ({"images": [np.zeros((3, 9, 9))] * 2}, "an image of"),
        ({"scores": [planted(0)[0], np.zeros((64, 64, 3, 1))]}, "expected numbers of shape"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(UsageError, match=message):
        _fit(**changes)


def test_scores_of_other_classes_are_refused(tmp_path):
    refiner = load_refiner(make_prn(tmp_path / "a.prn", classes=2))
    with pytest.raises(UsageError, match="takes scores of 2 classes and 0 image bands, got 1 and 0"):
        apply_arrays(refiner, np.zeros((64, 64)))


def test_the_package_offers_it_without_a_second_import():
    assert prngeo.refine.fit_arrays is fit_arrays
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = prngeo.refine.nosuch
