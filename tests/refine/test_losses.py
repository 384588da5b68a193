import pytest
import torch

from prngeo.refine.losses import segmentation_loss


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    truth = (torch.rand(2, 3, 8, 8, generator=generator) < 0.4).float()
    known = (torch.rand(2, 3, 8, 8, generator=generator) < 0.6).float()
    return logits, truth, known


def test_perfect_prediction_costs_nothing_and_its_opposite_most():
    _, truth, known = case()
    sign = truth * 2 - 1
    assert segmentation_loss(30 * sign, truth, known) < 1e-4
    assert segmentation_loss(-30 * sign, truth, known) > 25


def test_unlabelled_pixels_have_neither_value_nor_gradient():
    logits, truth, known = case()
    expected = segmentation_loss(logits, truth, known)
    other = torch.where(known > 0, logits, 50.0).requires_grad_()
    found = segmentation_loss(other, torch.where(known > 0, truth, 1 - truth), known)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert not other.grad[known == 0].any()
    assert other.grad[known > 0].any()


def test_an_unlabelled_target_does_not_count():
    logits, truth, known = case()
    known[:, 1] = 0
    expected = segmentation_loss(logits[:, [0, 2]], truth[:, [0, 2]], known[:, [0, 2]])
    torch.testing.assert_close(segmentation_loss(logits, truth, known), expected)


def test_nothing_labelled_costs_nothing_and_has_a_gradient():
    logits, truth, known = case()
    logits.requires_grad_()
    loss = segmentation_loss(logits, truth, known * 0)
    assert loss == 0
    loss.backward()
    assert not logits.grad.any()


def test_value_by_hand():
    """One labelled pixel with p = 0.5: cross-entropy ln 2, soft Jaccard 1 - (0.5 + 1) / (1 + 1)."""
    logits = torch.zeros(1, 1, 2, 2)
    truth, known = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    known[0, 0, 0, 0] = 1
    assert segmentation_loss(logits, truth, known) == pytest.approx(0.6931 + 0.25, abs=1e-4)
