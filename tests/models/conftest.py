"""A small bundle with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prngeo.models.bundle import Bundle, write_bundle
from prngeo.models.card import Calibration, Card, Gate, NetworkCard, RefinerCard, TargetCard
from prngeo.models.runtime import build_refiner, build_segmenter

MakeCard = Callable[..., Card]


@pytest.fixture(scope="session")
def make_card() -> MakeCard:
    """A card that suits a small network."""

    def make(**values: Any) -> Card:
        gate = Gate(enabled=True, base_iou=0.5, refined_iou=0.6, joint_oracle_iou=0.7, pixels=1000)
        defaults: dict[str, Any] = {
            "name": "small",
            "version": "1",
            "license": "none",
            "targets": {
                "roads": TargetCard(refined=Calibration(temperature=1.25, threshold=0.48), gate=gate),
                "buildings": TargetCard(),
            },
            "gsd": (0.25, 1.25),
            "network": NetworkCard(
                architecture="unet", encoder="tu-lcnet_050", mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25]
            ),
            "refiner": RefinerCard(window=128, overlap=32, width=4),
        }
        return Card.model_validate(defaults | values)

    return make


@pytest.fixture(scope="session")
def tensors(make_card: MakeCard) -> dict[str, torch.Tensor]:
    """Random weights of that network; the refiner's head is not zero."""
    torch.manual_seed(0)
    bundle = Bundle(Path(), make_card())
    network, refiner = build_segmenter(bundle), build_refiner(bundle)
    torch.nn.init.normal_(refiner.head.weight, std=0.3)
    parts = {"network.": network.state_dict(), "refiner.": refiner.state_dict()}
    return {prefix + name: tensor for prefix, state in parts.items() for name, tensor in state.items()}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, make_card: MakeCard, tensors: Any) -> Bundle:
    """The bundle, written."""
    return write_bundle(tmp_path_factory.mktemp("models") / "small", make_card(), tensors)
