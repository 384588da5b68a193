"""What lets a model do worse on a scene than its card promises: place, scale, values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.models.card import Card
from prngeo.raster.gsd import measure_gsd
from prngeo.raster.scene import Scene
from prngeo.tiling.grid import Window

COARSE = "The scene is coarser than the model's training data: small objects will be missed."
FAR_MEAN = 1.5
"""A band is far if its mean lies this many training standard deviations from the training mean."""
LOW_SPREAD = 1 / 3
"""A band is flat if its standard deviation is below this share of the training data's."""
_WINDOWS, _SIDE = 4, 128  # sample windows along each axis, and their side in model pixels


@dataclass(frozen=True)
class Statistics:
    """Values of a scene as the network sees them, 0..1.

    Attributes:
        mean: of each band's valid pixels.
        std: their standard deviation.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def is_coarse(scene: Scene, card: Card) -> bool:
    """True if a scene's pixels are larger than the model takes."""
    return scene.resampled and scene.gsd[0] * scene.gsd[1] > card.gsd[1] ** 2


def position_warnings(scene: Scene, card: Card) -> Iterator[str]:
    """What is missing or doubtful of a scene's place and scale on Earth."""
    if is_coarse(scene, card):
        yield COARSE
    if scene.gsd_source == "option":
        told = measure_gsd(scene.crs.to_wkt() if scene.crs else None, scene.transform, scene.height, scene.width)
        if told is not None and not 0.8 < max(told[0]) / max(scene.gsd) < 1.25:
            yield (
                f"--gsd says {max(scene.gsd):.3g} m, the scene's coordinate system {max(told[0]):.3g} m: the network "
                "sees the first, areas are measured with the second."
            )
    if scene.crs is None:
        place = "no coordinate system" if scene.georeferenced else "no georeferencing"
        yield f"{scene.name} has {place}: outputs are in its own coordinates."


def scene_warnings(scene: Scene, card: Card, statistics: Statistics | None = None) -> list[str]:
    """What lets a model do worse on a scene than its card promises, judged from a few windows.

    Args:
        scene: opened for the model.
        card: its card; without training statistics nothing is said.
        statistics: of the scene, if they were taken already.

    Raises:
        PrngeoError: the file could not be read.
    """
    if not card.band_mean or len(card.band_mean) != len(card.bands) or len(card.band_std) != len(card.bands):
        return []
    statistics = statistics or sample_statistics(scene)
    if statistics is None:
        return []
    far = list(_far_bands(card, statistics))
    if not far:
        return []
    stretched = "stretched " if not scene.scaling.is_fixed(scene.dtype) else ""
    return [
        f"{scene.name}: its {stretched}values lie far from what the model {card.name} was trained on "
        f"({'; '.join(far)}; 0 is black, 1 white): expect worse results. Check the order of --bands; a dark, pale "
        "or flat scene gets better by a stretch (`gdal_translate -scale`)."
    ]


def sample_statistics(scene: Scene) -> Statistics | None:
    """Mean and standard deviation of each band over a grid of windows; None if these hold no valid pixel.

    Raises:
        PrngeoError: the file could not be read.
    """
    parts = []
    for window in _windows(scene.model_height, scene.model_width):
        image, valid = scene.read(window)
        parts.append(image[:, valid])
    values = np.concatenate(parts, axis=1).astype(np.float64)
    return Statistics(values.mean(axis=1), values.std(axis=1)) if values.shape[1] else None


def _windows(height: int, width: int) -> Iterator[Window]:
    """A grid of windows, or the whole scene if that is no larger."""
    whole = Window(0, 0, height, width)
    if max(height, width) <= _WINDOWS * _SIDE:
        yield whole
        return
    for i in range(_WINDOWS):
        for j in range(_WINDOWS):
            row = (2 * i + 1) * height // (2 * _WINDOWS) - _SIDE // 2
            col = (2 * j + 1) * width // (2 * _WINDOWS) - _SIDE // 2
            yield Window(row, col, _SIDE, _SIDE).intersect(whole)


def _far_bands(card: Card, statistics: Statistics) -> Iterator[str]:
    own_values = statistics.mean, statistics.std
    training = zip(card.bands, card.band_mean, card.band_std, *own_values, strict=True)
    for name, usual, spread, own, own_spread in training:
        if abs(own - usual) > FAR_MEAN * spread:
            yield f"{name} has mean {own:.2f}, usual is {usual:.2f} ± {spread:.2f}"
        elif own_spread < LOW_SPREAD * spread:
            yield f"{name} varies by ± {own_spread:.3f}, usual is ± {spread:.2f}"
