import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from prngeo.refine.losses import LOSSES, _focal, edge_map, paper_loss, segmentation_loss

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    truth = (torch.rand(2, 3, 8, 8, generator=generator) < 0.4).float()
    known = (torch.rand(2, 3, 8, 8, generator=generator) < 0.6).float()
    return logits, truth, known


@every_loss
def test_perfect_prediction_costs_nothing_and_its_opposite_most(loss):
    _, truth, known = case()
    sign = truth * 2 - 1
    assert loss(30 * sign, truth, known) < 1e-4
    assert loss(-30 * sign, truth, known) > 0.9
    assert segmentation_loss(-30 * sign, truth, known) > 25


@every_loss
def test_unlabelled_pixels_have_neither_value_nor_gradient(loss):
    logits, truth, known = case()
    expected = loss(logits, truth, known)
    other = torch.where(known > 0, logits, 50.0).requires_grad_()
    found = loss(other, torch.where(known > 0, truth, 1 - truth), known)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert not other.grad[known == 0].any()
    assert other.grad[known > 0].any()


@every_loss
def test_an_unlabelled_target_does_not_count(loss):
    logits, truth, known = case()
    known[:, 1] = 0
    expected = loss(logits[:, [0, 2]], truth[:, [0, 2]], known[:, [0, 2]])
    torch.testing.assert_close(loss(logits, truth, known), expected)


@every_loss
def test_nothing_labelled_costs_nothing_and_has_a_gradient(loss):
    logits, truth, known = case()
    logits.requires_grad_()
    value = loss(logits, truth, known * 0)
    assert value == 0
    value.backward()
    assert not logits.grad.any()


def test_value_by_hand():
    """One labelled pixel with p = 0.5: cross-entropy ln 2, soft Jaccard 1 - (0.5 + 1) / (1 + 1)."""
    logits = torch.zeros(1, 1, 2, 2)
    truth, known = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    known[0, 0, 0, 0] = 1
    assert segmentation_loss(logits, truth, known) == pytest.approx(0.6931 + 0.25, abs=1e-4)


def by_pixels(name, logits, truth, known):
    """The losses pixel by pixel, in float64."""
    values = []
    for target in range(logits.shape[1]):
        cross = focal = hits = predicted = positive = count = 0.0
        for z, t, k in zip(logits[:, target].ravel(), truth[:, target].ravel(), known[:, target].ravel(), strict=True):
            if k:
                p = 1 / (1 + np.exp(-z))
                right = p if t else 1 - p
                cross -= np.log(right)
                focal -= (0.75 if t else 0.25) * (1 - right) ** 2 * np.log(right)
                hits, predicted, positive, count = hits + p * t, predicted + p, positive + t, count + 1
        if count:
            jaccard = 1 - (hits + 1) / (predicted + positive - hits + 1)
            dice = 1 - (2 * hits + 1) / (predicted + positive + 1)
            tversky = 1 - (hits + 1) / (hits + 0.3 * (predicted - hits) + 0.7 * (positive - hits) + 1)
            values.append(
                {"bce+jaccard": cross / count + jaccard, "bce+dice": cross / count + dice,
                 "focal": focal / count, "tversky": tversky}[name]
            )  # fmt: skip
    return float(np.mean(values)) if values else 0.0


@given(
    st.sampled_from(list(LOSSES)), st.integers(0, 10**6), st.integers(1, 2), st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0.0, 0.05, 0.5]),
)  # fmt: skip
def test_every_loss_is_its_formula(name, seed, count, targets, share, rare):
    rng = np.random.default_rng(seed)
    shape = (count, targets, 4, 3)
    logits, truth, known = rng.normal(0, 2, shape), rng.random(shape) < rare, rng.random(shape) < share
    found = LOSSES[name](*(torch.tensor(part, dtype=torch.float32) for part in (logits, truth, known)))
    assert float(found) == pytest.approx(by_pixels(name, logits, truth, known), rel=1e-4, abs=1e-6)


def test_a_missed_pixel_costs_tversky_more_than_a_false_one():
    known = torch.ones(1, 1, 4, 4)
    truth = torch.zeros(1, 1, 4, 4)
    truth[..., 1:3, 1:3] = 1
    missed, false = (torch.where(truth > 0, 9.0, -9.0) for _ in range(2))
    missed[..., 1, 1], false[..., 0, 0] = -9, 9
    assert LOSSES["tversky"](missed, truth, known) > 1.5 * LOSSES["tversky"](false, truth, known)


def paper(logits, truth, pseudo, known=None, weight=0.7):
    maps = [torch.tensor(part, dtype=torch.float32)[None, None] for part in (logits, truth, pseudo)]
    known = torch.ones_like(maps[0]) if known is None else torch.tensor(known, dtype=torch.float32)[None, None]
    return float(paper_loss([maps[0], maps[0]], *maps[1:], known, weight))


def test_the_papers_loss_by_hand():
    """A single pixel has no edge, which leaves focal loss and weighted cross-entropy."""
    p = 1 / (1 + np.exp(-0.4))
    focal = 0.75 * (1 - p) ** 2 * -np.log(p)
    ground = -np.log(1 - p)
    edges = -np.log(1)  # no edge in either
    expected = 0.7 * (0.7 * focal + 0.3 * edges) + 0.3 * ground
    assert paper([[0.4]], [[0.0]], [[1.0]]) == pytest.approx(expected, rel=1e-5)
    assert paper([[0.4]], [[1.0]], [[1.0]], weight=0.0) == pytest.approx(-1.12 * np.log(p), rel=1e-5)


def test_focal_loss_is_torchvisions():
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(2, 50, generator=generator), (torch.rand(2, 50, generator=generator) > 0.5).float()
    torch.testing.assert_close(_focal(logits, truth), sigmoid_focal_loss(logits, truth, alpha=0.75, gamma=2))


def test_an_edge_is_where_a_pixel_rises_over_its_neighbors():
    flat = edge_map(torch.full((1, 1, 5, 5), 0.7))
    torch.testing.assert_close(flat, torch.zeros_like(flat), atol=1e-5, rtol=0)
    square = torch.zeros(1, 1, 7, 7)
    square[..., 2:5, 2:5] = 1
    edges = edge_map(square)[0, 0]
    assert (edges[2:5, 2:5] > 0.9).sum() == 8
    assert edges[3, 3] == 0
    assert edges[square[0, 0] == 0].sum() == 0


def test_unknown_pixels_have_no_part_in_the_papers_loss():
    logits, truth, pseudo = np.random.default_rng(0).normal(size=(3, 6, 6))
    truth, pseudo = (truth > 0).astype(float), (pseudo > 0).astype(float)
    known = np.ones((6, 6))
    known[:, 3:] = 0
    other = truth.copy()
    other[:, 3:] = 1 - other[:, 3:]
    assert paper(logits, truth, pseudo, known) == paper(logits, other, pseudo, known)
    assert paper(logits, truth, pseudo, np.zeros((6, 6))) == 0


def test_the_papers_loss_is_that_of_float32_under_autocast():
    branches = [torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    truth, known = (branches[0] > 0.5).float(), torch.ones(1, 1, 8, 8)
    expected = paper_loss(branches, truth, truth, known)
    with torch.autocast("cpu", torch.bfloat16):
        assert paper_loss(branches, truth, truth, known) == expected


def test_the_papers_loss_may_be_computed_on_a_gpu_in_mixed_precision():
    """By tensors without data: binary cross-entropy of probabilities is refused under CUDA's autocast."""
    try:
        torch.set_autocast_enabled("cuda", True)  # torch.autocast does not where there is no GPU
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        with FakeTensorMode():
            part = torch.empty(1, 1, 8, 8, device="cuda")
            with pytest.raises(RuntimeError, match="unsafe to autocast"):
                torch.nn.functional.binary_cross_entropy(part, part)
            assert paper_loss([part.bfloat16(), part.bfloat16()], part, part, part).dtype == torch.float32
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)
