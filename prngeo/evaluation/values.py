"""What the numbers of a raster mean: a mask, or probabilities on one of the scales that tools write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.evaluation.options import Values
from prngeo.evaluation.pixel import LEVELS, STEP
from prngeo.raster.source import reading
from prngeo.raster.validity import ValidityRule
from prngeo.tiling.grid import Window

_SAMPLES = 6  # windows along each axis that are looked at
_SIDE = 128  # their side in pixels
SLACK = 4e-7
"""Of a probability: float32 rounding of a stored value does not put it below a threshold or outside 0..1."""
_CLASSES = 20  # integer values up to here look like class numbers, not like percent


@dataclass(frozen=True)
class Meaning:
    """How stored values become a mask or probabilities.

    Attributes:
        kind: mask or probability.
        scale: probability = stored * scale + offset, or logit of it.
        offset: see scale.
        logit: True if that is a logit.
        told: how a message describes it.
        guessed: the user did not say so.
    """

    kind: Literal["mask", "probability"]
    scale: float
    offset: float
    logit: bool
    told: str
    guessed: bool = True

    def probability(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of stored values of any shape."""
        scaled = values.astype(np.float64) * self.scale + self.offset
        return 0.5 + 0.5 * np.tanh(0.5 * scaled) if self.logit else scaled


def level_of(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """Levels 0..250 of probabilities: the number of whole steps of 0.004 in them."""
    return np.clip(np.floor((probability + SLACK) / STEP), 0, LEVELS - 1).astype(np.int64)


def find_meaning(path: str, what: str, dataset: DatasetReader, rule: ValidityRule, wanted: Values) -> Meaning:
    """What the numbers of an open raster mean.

    Args:
        path: as opened.
        what: how messages call it, such as `TRUTH roads.tif`.
        dataset: the raster; its first band counts.
        rule: tells its valid pixels.
        wanted: what the user says; "auto" looks at samples of the values.

    Raises:
        UsageError: the values fit nothing known, or not what was told.
    """
    scale, offset = float(dataset.scales[0]), float(dataset.offsets[0])
    if wanted == "auto" and (scale, offset) != (1.0, 0.0):
        return Meaning("probability", scale, offset, False, f"a probability, stored with scale {scale:g}")
    sample = _sample(path, dataset, rule)
    guessed = wanted == "auto"
    if wanted == "auto":
        wanted = _guess(what, sample)
    if wanted == "mask":
        return Meaning("mask", 1.0, 0.0, False, "a mask of 0 and 1, or 0 and 255", guessed)
    top = {"unit": 1, "percent": 100, "byte": 255, "logit": 1}[wanted]
    told = "a logit" if wanted == "logit" else f"a probability in 0..{top}"
    meaning = Meaning("probability", scale / top, offset / top, wanted == "logit", told, guessed)
    check_values(what, sample, meaning)
    return meaning


def check_values(what: str, values: NDArray[Any], meaning: Meaning) -> None:
    """Refuse valid values that contradict the meaning found from samples.

    Raises:
        UsageError: there are some.
    """
    if meaning.logit or not values.size:
        return
    if meaning.kind == "mask":
        fits = not meaning.guessed or bool(((values == 0) | (values == 1) | (values == 255)).all())
    else:
        low, high = (float(value) * meaning.scale + meaning.offset for value in (values.min(), values.max()))
        fits = low >= -SLACK and high <= 1 + SLACK
    if not fits:
        raise UsageError(
            f"{what} was read as {meaning.told}, but holds values from {float(values.min()):g} to "
            f"{float(values.max()):g}. Say what they mean with --values mask, unit (0..1), percent (0..100), byte "
            "(0..255) or logit; or mark missing pixels as nodata with `gdal_edit.py -a_nodata`."
        )


def _guess(what: str, sample: NDArray[Any]) -> Values:
    found = np.unique(sample)
    if set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {0, 255}:
        return "mask"
    low, high = float(found[0]), float(found[-1])
    shown = f"{what} holds values from {low:g} to {high:g}"
    choice = "Say what they mean with --values mask, unit (0..1), percent (0..100), byte (0..255) or logit."
    if sample.dtype.kind == "f":
        if low >= -SLACK and high <= 1 + SLACK:
            return "unit"
        raise UsageError(f"{shown}, which is neither a mask nor a probability in 0..1. {choice}")
    if set(found.tolist()) <= {0, 1, 255}:
        raise UsageError(
            f"{what} holds 0, 1 and 255, and does not say whether 255 is nodata. If it is, mark it with "
            f"`gdal_edit.py -a_nodata 255`; otherwise give --values mask, which takes everything but 0 for an object."
        )
    if low < 0 or high > 255:
        raise UsageError(f"{shown}, which is no probability. {choice}")
    if high <= _CLASSES:
        raise UsageError(
            f"{shown}: these look like class numbers. Take one class out of them, for example with "
            f'`gdal_calc.py -A in.tif --calc="A==1" --outfile=mask.tif`, or say what they mean with --values.'
        )
    return "percent" if high <= 100 else "byte"


def _sample(path: str, dataset: DatasetReader, rule: ValidityRule) -> NDArray[Any]:
    """Valid values of windows spread evenly over the raster, at full resolution."""
    parts = []
    for row in _starts(dataset.height):
        for col in _starts(dataset.width):
            window = Window(row, col, min(_SIDE, dataset.height - row), min(_SIDE, dataset.width - col))
            with reading(path, window):
                place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
                values = dataset.read([1], window=place)
                valid = rule.read(dataset, window, values=values)
            parts.append(values[0][valid])
    return np.concatenate(parts)


def _starts(length: int) -> list[int]:
    last = max(0, length - _SIDE)
    return sorted({round(last * index / (_SAMPLES - 1)) for index in range(_SAMPLES)})
