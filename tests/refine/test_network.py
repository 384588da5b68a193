from itertools import product

import pytest
import torch

from prngeo.refine.network import LOGIT_LIMIT, FastRefiner, patch_statistics

SIZES = [(64, 64), (128, 64), (192, 256)]


@pytest.fixture(autouse=True)
def _seeded():
    """The same weights whatever ran before: some draws leave every unit of so small a network silent."""
    torch.manual_seed(0)


def inputs(targets, bands, size, reduction, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = [length // reduction for length in size]
    logits = 20 * torch.randn(2, targets, *size, generator=generator)
    image = torch.rand(2, max(1, bands), *small, generator=generator)
    return logits, image, (torch.rand(2, 1, *small, generator=generator) < 0.8).float()


def trained(refiner):
    """A refiner whose last layers are not zero."""
    torch.manual_seed(1)
    for layer in (refiner.head, refiner.detail):
        if layer is not None:
            torch.nn.init.normal_(layer.weight, std=0.3)
            torch.nn.init.normal_(layer.bias, std=0.3)
    return refiner.eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("targets", "bands", "reduction"), [(2, 3, 4), (1, 0, 4), (3, 4, 2), (2, 3, 1)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("more", [{}, {"detail": True}, {"statistics": True}])
def test_untrained_is_exactly_the_identity(size, targets, bands, reduction, training, more):
    refiner = FastRefiner(targets, bands, width=4, reduction=reduction, **more).train(training)
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


@pytest.mark.parametrize("layer", ["head", "detail"])
def test_untrained_last_layers_still_learn(layer):
    refiner = FastRefiner(2, 3, width=4, detail=True).train()
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    (refiner(logits, image, valid) * logits).sum().backward()
    assert getattr(refiner, layer).weight.grad.any()
    assert getattr(refiner, layer).bias.grad.any()


@pytest.mark.parametrize("detail", [True, False])
def test_only_with_detail_a_pixel_is_corrected_by_itself(detail):
    """Two pixels of one coarse pixel that swap their logits swap their corrections, or share one gain and bias."""
    refiner = FastRefiner(1, 0, width=4, detail=detail).eval()
    trained(refiner)
    logits, image, valid = inputs(1, 0, (64, 64), 4)
    valid = torch.ones_like(valid)
    other = logits.clone()
    other[..., 0, 1], other[..., 0, 2] = logits[..., 0, 2], logits[..., 0, 1]
    with torch.no_grad():
        gain = [(refiner(part, image, valid)[..., 32:, 32:]) for part in (logits, other)]
    assert torch.allclose(*gain, atol=1e-4) != detail


def test_it_reads_the_image_only_if_told():
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    with torch.no_grad():
        for bands, reads in ((3, True), (0, False)):
            refiner = trained(FastRefiner(2, bands, width=4))
            same = torch.equal(refiner(logits, image, valid), refiner(logits, 1 - image, valid))
            assert same != reads


@pytest.mark.parametrize("more", [{}, {"detail": True}, {"statistics": True}])
def test_what_lies_under_nodata_is_not_read(more):
    refiner = trained(FastRefiner(2, 3, width=4, **more))
    logits, image, valid = inputs(2, 3, (64, 64), 4)
    shown = valid.repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        expected = refiner(logits, image, valid)
        other = torch.where(shown > 0, logits, -logits)
        found = refiner(other, torch.where(valid > 0, image, 1 - image), valid)
    known = shown.expand_as(logits) > 0
    assert torch.equal(found[known], expected[known])


def test_statistics_of_a_patch_are_those_of_its_valid_pixels():
    generator = torch.Generator().manual_seed(0)
    logits, confidence = (torch.randn(2, 3, 8, 12, generator=generator) for _ in range(2))
    valid = (torch.rand(2, 1, 8, 12, generator=generator) < 0.7).float()
    valid[0, :, :4, :4] = 0
    found = patch_statistics(logits, confidence, valid, 4)
    for n, t, row, col in product(range(2), range(3), range(0, 8, 4), range(0, 12, 4)):
        place = (slice(row, row + 4), slice(col, col + 4))
        seen = valid[n, 0][place] > 0
        values, shares = logits[n, t][place][seen], confidence[n, t][place][seen]
        expected = [values.mean(), values.std(correction=0), shares.mean()] if seen.any() else [0, 0, 0]
        for part, figure in enumerate(expected):
            assert torch.allclose(found[n, 3 * part + t][place], torch.as_tensor(figure).float(), atol=1e-4)


def test_extreme_logits_are_clamped():
    refiner = trained(FastRefiner(1, 0, width=4))
    logits, image, valid = inputs(1, 0, (64, 64), 4)
    sign = torch.sign(logits)
    with torch.no_grad():
        assert torch.equal(refiner(sign * 1e4, image, valid), refiner(sign * LOGIT_LIMIT, image, valid))


def test_parameters_are_few():
    """A refiner of the default size is to cost a tenth of its base network at most."""
    assert sum(p.numel() for p in FastRefiner(2, 3, detail=True).parameters()) < 400_000
