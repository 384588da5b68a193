"""Every kind of refiner can be exported; the base network's turn is in test_onnx_folder.py."""

import pytest
import torch

from prngeo.export.convert import to_onnx
from prngeo.export.graphs import RefinerGraph
from prngeo.export.verify import TOLERANCE, verify
from prngeo.models.card import RefinerCard
from prngeo.models.runtime import make_refiner


@pytest.mark.parametrize(
    "card",
    [
        RefinerCard(variant="paper", window=64, overlap=32, patch=32),
        RefinerCard(window=256, overlap=64, width=4, detail=True, statistics=True, use_image=False),
    ],
    ids=["paper", "fast"],
)
@pytest.mark.slow
def test_a_refiner_is_exported_with_a_free_batch(card):
    torch.manual_seed(0)
    refiner = make_refiner(card, targets=1, bands=3).eval()
    with torch.no_grad():
        for name, parameter in refiner.named_parameters():
            if "head" in name or "detail" in name:
                parameter.normal_(std=0.1)
    graph = RefinerGraph(refiner, [True]).eval()

    def inputs(batch):
        small = card.window // card.reduction
        return {
            "logits": torch.randn(batch, 1, card.window, card.window) * 3,
            "image": torch.rand(batch, 3, small, small),
            "valid": torch.ones(batch, 1, small, small),
        }

    content = to_onnx(graph, inputs(2), ["correction", "refined"], "fp32")
    with torch.inference_mode():
        assert graph(*inputs(1).values())[0].std() > 0.01
    assert verify(content, graph, inputs(3), "corrections") < TOLERANCE


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_buffer_may_be_named_like_an_operation(precision):
    class Centered(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.5, 1.5, 2.5]).view(1, -1, 1, 1))

        def forward(self, image):
            centered = image - self.mean
            return centered - centered.mean((2, 3), keepdim=True)

    inputs = {"image": torch.rand(2, 3, 8, 8)}
    content = to_onnx(Centered(), inputs, ["centered"], precision)
    assert verify(content, Centered(), {"image": torch.rand(3, 3, 8, 8)}, "values") < TOLERANCE
