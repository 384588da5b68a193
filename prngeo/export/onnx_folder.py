"""`--to onnx`: a folder that ONNX Runtime runs, for other programs and for `prngeo predict -m` without torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from prngeo.export.convert import Precision, to_onnx
from prngeo.export.gate import enabled, gate_note
from prngeo.export.graphs import RefinerGraph
from prngeo.export.verify import TOLERANCE, example_image, example_valid, verify
from prngeo.files import file_hash
from prngeo.models.bundle import BASE_GRAPH, CARD, REFINER_GRAPH, Bundle
from prngeo.models.card import GraphsCard
from prngeo.models.runtime import load_networks

TRACED, VERIFIED = 2, 3
"""Tiles in a batch when the graph is made and when it is verified: that they differ shows that the batch is free."""


def write_folder(bundle: Bundle, folder: Path, precision: Precision) -> list[str]:
    """Write the graphs and the card.

    `base.onnx`: image (N, bands, S, S) in 0..1 and valid (N, 1, S, S) to logits (N, targets, S, S), S the card's tile;
    normalization is inside. `refiner.onnx`, if a target uses PRN: mosaicked logits (N, targets, W, W), image
    (N, bands, W/r, W/r) and valid (N, 1, W/r, W/r), the mean and the share of valid pixels, to correction and
    refined logits (N, targets, W, W), W the card's window and r its reduction.

    Args:
        bundle: the model.
        folder: exists.
        precision: how weights are stored.

    Returns:
        What to tell the user, a sentence or two a line.

    Raises:
        PrngeoError: ONNX Runtime does not compute what torch does.
        UsageError: a package is missing.
    """
    network, refiner = load_networks(bundle)
    card = bundle.card
    base = to_onnx(network, _base_inputs(bundle, TRACED), ["logits"], precision)
    differences = [f"base logits within {verify(base, network, _base_inputs(bundle, VERIFIED), 'logits'):.1e}"]
    (folder / BASE_GRAPH).write_bytes(base)
    hashes = {"base": file_hash(folder / BASE_GRAPH)}
    if refiner is not None and any(enabled(card)):
        graph = RefinerGraph(refiner, enabled(card)).eval()
        outputs = ["correction", "refined"]
        content = to_onnx(graph, _refiner_inputs(bundle, TRACED), outputs, precision)
        differences.append(
            f"refined logits within {verify(content, graph, _refiner_inputs(bundle, VERIFIED), 'corrections'):.1e}"
        )
        (folder / REFINER_GRAPH).write_bytes(content)
        hashes["refiner"] = file_hash(folder / REFINER_GRAPH)
    exported = card.model_copy(update={"graphs": GraphsCard(precision=precision, **hashes)})
    (folder / CARD).write_text(exported.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return [
        f"Verified with ONNX Runtime: {', '.join(differences)} of torch (allowed: {TOLERANCE:g}).",
        gate_note(card),
    ]


def _base_inputs(bundle: Bundle, batch: int) -> dict[str, Tensor]:
    side = bundle.card.tile
    return {"image": example_image(batch, len(bundle.card.bands), side), "valid": example_valid(batch, side)}


def _refiner_inputs(bundle: Bundle, batch: int) -> dict[str, Tensor]:
    card = bundle.card
    assert card.refiner is not None
    small = card.refiner.window // card.refiner.reduction
    logits = torch.logit(example_image(batch, len(card.targets), card.refiner.window, seed=1), 1e-3)
    valid = example_valid(batch, small)
    return {
        "logits": logits,
        "image": example_image(batch, len(card.bands), small) * valid,
        "valid": valid,
    }
