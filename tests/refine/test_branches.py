"""The published network as a refiner: its correction, its loss, and that it learns."""

import numpy as np
import pytest
import torch

from prngeo.refine.branches import PaperCorrection
from prngeo.refine.fit import FitOptions, fit_refiner
from prngeo.refine.losses import paper_loss
from prngeo.refine.network import LOGIT_LIMIT, Batch
from prngeo.refine.paper import refined_logit
from tests.refine.test_fit import planted


def window(targets=2, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(1, targets, size, size, generator=generator)
    return logits, torch.zeros(1, 0, size // 4, size // 4), torch.ones(1, 1, size // 4, size // 4)


def test_the_correction_turns_base_logits_into_those_of_the_papers_rule():
    torch.manual_seed(0)
    refiner = PaperCorrection(2, patch=16).eval()
    logits, image, valid = window()
    with torch.no_grad():
        correction = refiner(logits, image, valid)
        for target, network in enumerate(refiner.networks):
            whole, local = network(logits[:, target : target + 1].clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sigmoid())
            refined = logits[:, target : target + 1] + correction[:, target : target + 1]
            torch.testing.assert_close(refined, refined_logit(whole, local), atol=1e-4, rtol=1e-4)


def test_each_target_has_a_network_of_its_own():
    torch.manual_seed(0)
    refiner = PaperCorrection(2, patch=16).eval()
    logits, image, valid = window()
    other = logits.clone()
    other[:, 1] = 0
    with torch.no_grad():
        one, two = refiner(logits, image, valid), refiner(other, image, valid)
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.equal(one[:, 1], two[:, 1])


def test_where_there_is_no_data_the_network_sees_no_object():
    torch.manual_seed(0)
    refiner = PaperCorrection(1, patch=16).eval()
    logits, _, valid = window(1)
    valid[..., :4] = 0
    other = logits.clone()
    other[..., :16] += 5
    with torch.no_grad():
        one, two = refiner.branches(logits, valid), refiner.branches(other, valid)
    for mine, theirs in zip(one[0], two[0], strict=True):
        assert torch.equal(mine, theirs)


def test_targets_without_labels_have_no_part_in_the_loss():
    torch.manual_seed(0)
    refiner = PaperCorrection(2, patch=16).eval()
    logits, image, valid = window()
    truth = (logits > 0).float()
    known = torch.ones_like(logits)
    known[:, 1] = 0
    with torch.no_grad():
        found = refiner.loss(Batch(logits, image, valid, truth, truth, known), 0.7)
        alone = paper_loss(refiner.branches(logits, valid)[0], truth[:, :1], truth[:, :1], known[:, :1], 0.7)
        nothing = refiner.loss(Batch(logits, image, valid, truth, truth, known * 0), 0.7)
    torch.testing.assert_close(found, alone)
    assert nothing == 0


@pytest.mark.slow
def test_fitting_lowers_the_loss_on_a_map_it_has_not_seen():
    torch.manual_seed(0)
    refiner = PaperCorrection(1, patch=32)
    options = FitOptions(
        window=64, patch=32, pseudo="per_patch", pseudo_weight=0.7, steps=40, batch=2, learning_rate=2e-3
    )
    unseen = planted(101, 3.0)
    logits, image, valid, truth = (
        torch.from_numpy(part.astype(np.float32))[None]
        for part in (unseen.logits, unseen.image, unseen.valid[None], unseen.labels)
    )
    batch = Batch(logits, image, valid, truth, truth, torch.ones_like(truth))

    def loss() -> float:
        with torch.inference_mode():
            return float(refiner.train().loss(batch, 0.7))

    before = loss()
    fit_refiner(refiner, [planted(seed, 3.0) for seed in range(4)], options, torch.device("cpu"))
    after = loss()
    assert after < 0.8 * before
