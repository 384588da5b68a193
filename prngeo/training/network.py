"""The base network of a training before its first step: architecture, normalization, initial weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter
from prngeo.models.weights import find_bundle, load_weights
from prngeo.training.regions import CachedRegion

_IMAGENET = {
    band: (mean, std) for band, mean, std in zip(("red", "green", "blue"), IMAGENET_MEAN, IMAGENET_STD, strict=True)
}
_SMALLEST_STD = 0.01
"""Of a band that hardly varies, which would otherwise be blown up to noise."""


def new_network(config: TrainConfig, regions: Sequence[CachedRegion]) -> Segmenter:
    """The network of a configuration with random weights.

    Args:
        config: the run.
        regions: what it is trained on.

    Raises:
        UsageError: the architecture or encoder is unknown, or the images have another number of bands.
    """
    for item in regions:
        found = item.image.shape[2] - 1
        if found != len(config.bands):
            raise UsageError(
                f"{item.region.scene} gives {found} bands, the model takes {len(config.bands)}: "
                f"{', '.join(config.bands)}. Correct bands, or the bands of source {item.region.source}."
            )
    mean, std = normalization(config, regions)
    return Segmenter(config.network.architecture, config.network.encoder, len(config.targets), mean, std)


def check_network(config: TrainConfig) -> None:
    """Refuse a network or weights before hours are spent on scenes.

    Raises:
        UsageError: architecture, encoder or weights are unknown, or do not go together.
    """
    neutral = [0.5] * len(config.bands)
    network = Segmenter(config.network.architecture, config.network.encoder, len(config.targets), neutral, neutral)
    initialize(network, config)


def initialize(network: Segmenter, config: TrainConfig) -> None:
    """Fill in the weights that `network.weights` names.

    Raises:
        UsageError: see `load_weights`.
    """
    load_weights(network, config.network.weights, config.targets, config.root)


def normalization(config: TrainConfig, regions: Sequence[CachedRegion]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every band, 0..1, by which the network sees it.

    By the band's name: those of the model that is fine-tuned; else ImageNet's for red, green and blue; else those of
    the training pixels.
    """
    known = dict(_IMAGENET)
    start = find_bundle(config.network.weights, config.root)
    if start is not None:
        card = start.card
        known |= dict(zip(card.bands, zip(card.network.mean, card.network.std, strict=True), strict=True))
    missing = [band for band in config.bands if band not in known]
    if missing:
        own = zip(*band_statistics(regions), strict=True)
        known = {
            band: (mean, max(std, _SMALLEST_STD)) for band, (mean, std) in zip(config.bands, own, strict=True)
        } | known
    pairs = [known[band] for band in config.bands]
    return [mean for mean, _ in pairs], [std for _, std in pairs]


def band_statistics(regions: Sequence[CachedRegion]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each band over valid pixels (every 16th row and column), 0..1."""
    pixels = [item.image[::16, ::16].reshape(-1, item.image.shape[2]) for item in regions]
    values = np.concatenate([part[part[:, -1] > 0, :-1] for part in pixels]).astype(np.float64) / 255
    return [round(float(v), 4) for v in values.mean(0)], [round(float(v), 4) for v in values.std(0)]
