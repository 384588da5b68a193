import pytest
import torch

from prngeo.refine.network import LOGIT_LIMIT, FastRefiner

SIZES = [(64, 64), (128, 64), (192, 256)]


def inputs(targets, bands, size, reduction, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = [length // reduction for length in size]
    logits = 20 * torch.randn(2, targets, *size, generator=generator)
    image = torch.rand(2, max(1, bands), *small, generator=generator)
    return logits, image, (torch.rand(2, 1, *small, generator=generator) < 0.8).float()


def trained(refiner):
    """A refiner whose head is not zero."""
    torch.manual_seed(1)
    torch.nn.init.normal_(refiner.head.weight, std=0.3)
    torch.nn.init.normal_(refiner.head.bias, std=0.3)
    return refiner.eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("targets", "bands", "reduction"), [(2, 3, 4), (1, 0, 4), (3, 4, 2), (2, 3, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_untrained_is_exactly_the_identity(size, targets, bands, reduction, training):
    refiner = FastRefiner(targets, bands, width=4, reduction=reduction).train(training)
    logits, image, valid = inputs(targets, bands, size, reduction)
    with torch.no_grad():
        correction = refiner(logits, image, valid)
    assert correction.shape == logits.shape
    assert (correction == 0).all()
    assert torch.equal(logits + correction, logits)


def test_untrained_is_the_identity_in_bfloat16_too():
    refiner = FastRefiner(2, 3, width=4).eval()
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (refiner(logits, image, valid) == 0).all()


def test_an_untrained_head_still_learns():
    refiner = FastRefiner(2, 3, width=4).train()
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    (refiner(logits, image, valid) * logits).sum().backward()
    assert refiner.head.weight.grad.any()
    assert refiner.head.bias.grad.any()


def test_it_reads_the_image_only_if_told():
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    with torch.no_grad():
        for bands, reads in ((3, True), (0, False)):
            refiner = trained(FastRefiner(2, bands, width=4))
            same = torch.equal(refiner(logits, image, valid), refiner(logits, 1 - image, valid))
            assert same != reads


def test_what_lies_under_nodata_is_not_read():
    refiner = trained(FastRefiner(2, 3, width=4))
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    shown = valid.repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        expected = refiner(logits, image, valid)
        other = torch.where(shown > 0, logits, -logits)
        found = refiner(other, torch.where(valid > 0, image, 1 - image), valid)
    known = shown.expand_as(logits) > 0
    assert torch.equal(found[known], expected[known])


def test_extreme_logits_are_clamped():
    refiner = trained(FastRefiner(1, 0, width=4))
    logits, image, valid = inputs(1, 0, (64, 64), 4)
    sign = torch.sign(logits)
    with torch.no_grad():
        assert torch.equal(refiner(sign * 1e4, image, valid), refiner(sign * LOGIT_LIMIT, image, valid))


def test_parameters_are_few():
    """A refiner of the default size is to cost a tenth of its base network at most."""
    assert sum(p.numel() for p in FastRefiner(2, 3).parameters()) < 400_000
