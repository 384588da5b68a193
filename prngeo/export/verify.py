"""Is an exported graph the network it was made from? Both compute the same tiles, and no value may differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prngeo.errors import PrngeoError
from prngeo.models.logits import LOGIT_RANGE
from prngeo.models.onnx_runtime import load_graph

TOLERANCE = 1e-3
"""The most by which a value of ONNX Runtime may differ from torch's."""


def example_image(batch: int, bands: int, side: int, seed: int = 0) -> Tensor:
    """(batch, bands, side, side) float32 in 0..1: smooth patches with noise, which excite a network as imagery does."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, bands, side // 16, side // 16, generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
    return 0.8 * smooth + 0.2 * torch.rand(batch, bands, side, side, generator=generator)


def example_valid(batch: int, side: int) -> Tensor:
    """(batch, 1, side, side) float32: 1, but for a corner that holds no data."""
    valid = torch.ones(batch, 1, side, side)
    valid[..., : side // 4, : side // 3] = 0
    return valid


def verify(graph: bytes, module: nn.Module, inputs: Mapping[str, Tensor], what: str) -> float:
    """The largest difference between ONNX Runtime and torch over all outputs.

    Logits are compared within the range in which prngeo stores them.

    Args:
        graph: the exported module.
        module: in float32.
        inputs: by name, in the module's order.
        what: is compared; for the message.

    Raises:
        PrngeoError: a value differs by more than TOLERANCE.
    """
    with torch.inference_mode():
        expected = module(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = load_graph(graph).run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    pairs = zip(found, expected, strict=True)
    clipped = [[np.clip(part, -LOGIT_RANGE, LOGIT_RANGE) for part in (own, other.numpy())] for own, other in pairs]
    difference = max(float(np.abs(own - other).max()) for own, other in clipped)
    if not difference <= TOLERANCE:
        raise PrngeoError(
            f"The exported graph does not compute what torch does: {what} differ by up to {difference:.2g}, allowed is "
            f"{TOLERANCE:g}. Nothing was written. Another version of onnx, onnxscript or onnxruntime may help."
        )
    return difference
