"""Logits of a scene before and after a refiner, window by window, through the mosaic that predictions use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prngeo.inference.chunks import TargetPlan
from prngeo.inference.mosaic import Mosaic
from prngeo.models.bundle import PrnBundle
from prngeo.models.card import PrnCard
from prngeo.models.devices import Compute
from prngeo.models.runtime import correction, fill, make_refiner
from prngeo.raster.store import TileStore
from prngeo.refine.branches import Refiner
from prngeo.scores.scene import ScoreScene
from prngeo.tiling.grid import Window

TILE = 512
"""Side of the tiles in which scores are read, in pixels; they do not overlap, so scores come back as they are."""
STORE = 1 << 30
"""Bytes of tiles that wait in memory; the rest goes to a scratch folder."""


class ScoreNetworks:
    """Scores in place of a base network, and a refiner.

    Args:
        refiner: in evaluation mode, on the device.
        compute: device and precision.
    """

    batch = 1

    def __init__(self, refiner: Refiner, compute: Compute) -> None:
        self._refiner = refiner
        self._compute = compute

    def segment(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float16]:
        """The logits that lie in front of the image's bands, (N, classes, S, S) float16."""
        return (image[:, : self._refiner.targets] * valid[:, None]).astype(np.float16)

    def refine(
        self, logits: NDArray[np.float32], image: NDArray[np.float32], valid: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        """The correction of a window, (classes, W, W) float16."""
        return correction(self._refiner, self._compute, logits, image[self._refiner.targets :], valid)


def refiner_of(card: PrnCard) -> Refiner:
    """The network of a card, untrained."""
    refiner: Refiner = make_refiner(card.refiner, len(card.targets), card.image_bands)
    return refiner


def load_networks(bundle: PrnBundle, tensors: dict[str, Tensor], compute: Compute) -> ScoreNetworks:
    """A bundle made ready to compute.

    Raises:
        PrngeoError: the weights do not fit the card.
    """
    refiner = refiner_of(bundle.card)
    fill(refiner, tensors, "refiner.", bundle)
    return ScoreNetworks(refiner.to(compute.device).eval(), compute)


def target_plans(card: PrnCard) -> list[TargetPlan]:
    """How the logits of every class become probabilities and masks."""
    return [
        TargetPlan(name, channel, target.calibration(target.refine), target.base)
        for channel, (name, target) in enumerate(card.targets.items())
    ]


def score_mosaic(
    scene: ScoreScene,
    networks: ScoreNetworks,
    card: PrnCard,
    refine: Sequence[bool],
    requests: Iterable[Window],
    scratch: Path,
    on_tile: Callable[[bool], None] = lambda _: None,
) -> Mosaic:
    """The logits of a scene and their correction.

    Args:
        scene: read from one thread beside the caller's, never from both at once.
        networks: see `load_networks`.
        card: of the refiner.
        refine: for each class, whether it is corrected.
        requests: the windows that will be read, in order.
        scratch: an existing folder.
        on_tile: see prngeo.inference.mosaic.Mosaic.
    """
    shape = scene.grid.height, scene.grid.width
    store = TileStore(STORE, scratch)
    return Mosaic(scene, shape, networks, card, refine, store, requests, tile=TILE, overlap=0, on_tile=on_tile)
