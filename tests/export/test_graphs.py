import numpy as np
import pytest
import torch

from prngeo.export.gate import enabled, gate_note
from prngeo.export.graphs import RefinerGraph, TileGraph
from prngeo.models.bundle import open_bundle
from prngeo.models.card import TargetCard
from prngeo.models.devices import Compute
from prngeo.models.runtime import Runtime, load_networks


@pytest.fixture(scope="module")
def networks(tiny_model):
    return load_networks(open_bundle(tiny_model))


@pytest.fixture(scope="module")
def card(tiny_model):
    return open_bundle(tiny_model).card


def image_with_hole(side=128):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    image[..., :30, :50] = 0
    return image


def test_a_target_whose_prn_is_disabled_keeps_the_base_logits_exactly(networks, card):
    assert enabled(card) == [True, False]
    graph = RefinerGraph(networks[1], enabled(card)).eval()
    logits = torch.randn(2, 2, 256, 256) * 4
    with torch.inference_mode():
        correction, refined = graph(logits, torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64))
    assert torch.equal(refined[:, 1], logits[:, 1])
    assert not correction[:, 1].any()
    assert correction[:, 0].abs().max() > 0.01
    assert torch.equal(refined[:, 0], logits[:, 0] + correction[:, 0])


def test_the_gate_is_told(card):
    assert gate_note(card).startswith("PRN is on for roads. PRN is off for buildings, disabled by its gate")
    assert gate_note(card.model_copy(update={"targets": {"roads": TargetCard()}})) == "The model has no PRN."


def test_a_tile_model_computes_what_the_runtime_does_with_one_tile(networks, card, tiny_model):
    """The refiner sees the tile as its window: logits, and mean and share of the valid pixels of 4 x 4 blocks."""
    image = image_with_hole()
    valid = (image[0].amax(0) > 0).numpy()
    runtime = Runtime(open_bundle(tiny_model), Compute("cpu", "float32"))
    logits = runtime.segment(image.numpy(), valid[None])[0].astype(np.float32)
    blocks = valid.reshape(32, 4, 32, 4)
    count = blocks.sum((1, 3))
    mean = image[0].numpy().reshape(3, 32, 4, 32, 4).sum((2, 4)) / np.maximum(count, 1)
    correction = runtime.refine(logits, mean.astype(np.float32), (count / 16).astype(np.float32))
    refined = logits + correction * np.float32(enabled(card))[:, None, None]

    calibrations = [target.calibration(target.refine) for target in card.targets.values()]
    graph = TileGraph(networks[0], RefinerGraph(networks[1], enabled(card)), calibrations).eval()
    with torch.inference_mode():
        found = graph(image)[0].numpy()
    assert (found[1:, ~valid] == 0).all()
    assert (found[0, ~valid] == 1).all()
    np.testing.assert_array_equal(found[0], 1 - found[1:].max(0))
    for channel, part in enumerate(calibrations):
        probability = 1 / (1 + np.exp(-refined[channel] / part.temperature))
        odds = (1 - part.threshold) / part.threshold * probability / (1 - probability)
        expected = np.where(valid, odds / (1 + odds), 0)
        np.testing.assert_allclose(found[1 + channel], expected, atol=5e-3)
        clear = np.abs(probability - part.threshold) > 5e-3
        inside = probability >= part.threshold
        assert 0.05 < inside[valid].mean() < 0.95
        np.testing.assert_array_equal((found[1 + channel] >= 0.5)[valid & clear], inside[valid & clear])


def test_without_prn_a_tile_model_is_the_base_network(networks, card):
    image = image_with_hole()
    calibration = next(iter(card.targets.values())).base
    graph = TileGraph(networks[0], None, [calibration, calibration]).eval()
    with torch.inference_mode():
        valid = (image.amax(1, keepdim=True) > 0).float()
        expected = (networks[0](image, valid) / calibration.temperature).sigmoid() * valid  # threshold 0.5
        torch.testing.assert_close(graph(image)[:, 1:], expected)
