"""What the numbers of a raster mean: a mask, or probabilities on one of the scales that tools write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.source import reading
from prngeo.raster.validity import ValidityRule
from prngeo.tiling.grid import Window

Values = Literal["auto", "mask", "unit", "percent", "byte", "logit"]
"""What the numbers of a raster mean: 0/1, probability in 0..1, 0..100 or 0..255, or a logit."""

OVERSHOOT = 1e-3
"""Of a probability: cubic resampling leaves values that far outside of 0..1, which are cut."""
_SAMPLES = 6  # windows along each axis that are looked at
_SIDE = 128  # their side in pixels
SLACK = 4e-7
"""Of a probability: float32 rounding of a stored value does not put it below a threshold or outside 0..1."""
_CLASSES = 20  # integer values up to here look like class numbers, not like percent


class NoValidPixelError(UsageError):
    """A raster all of whose pixels are nodata: nothing tells what its numbers mean."""


@dataclass(frozen=True)
class Meaning:
    """How stored values become a mask or probabilities.

    Attributes:
        kind: mask or probability.
        scale: probability = stored * scale + offset, or logit of it.
        offset: see scale.
        logit: True if that is a logit.
        told: how a message describes it.
        option: the option that says otherwise.
        top: of a mask that was recognized by its values, the value of objects (1 or 255); None if the user called it
            a mask, and then everything but 0 is an object.
        guessed: a scale of probabilities that values alone told, so that it should be shown.
        values: the user's word for it.
        step: distance of stored probabilities; 0 for floats.
        masks: True if the option takes "mask".
        missing: what a message advises for pixels that are missing data.
    """

    kind: Literal["mask", "probability"]
    scale: float
    offset: float
    logit: bool
    told: str
    option: str
    top: int | None = None
    guessed: bool = False
    values: Values = "unit"
    step: float = 0.0
    masks: bool = True
    missing: str = "mark them with `gdal_edit.py -a_nodata`"

    def probability(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of stored values of any shape."""
        scaled = values.astype(np.float64) * self.scale + self.offset
        return 0.5 + 0.5 * np.tanh(0.5 * scaled) if self.logit else np.clip(scaled, 0, 1)

    def logits(self, values: NDArray[Any], limit: float) -> NDArray[np.float32]:
        """Logits log(p / (1 - p)) of stored values of any shape.

        A probability nearer to 0 or 1 than half a stored step is taken for half a step, as it may have been rounded;
        where 0 and 1 are all that can be stored, they are taken for 0.25 and 0.75.

        Args:
            values: as stored.
            limit: logits are clamped to this absolute value.
        """
        if self.logit:
            logits = values.astype(np.float64) * self.scale + self.offset
        else:
            least = min(self.step / 2, 0.25) or 1e-12
            probability = np.clip(self.probability(values), least, 1 - least)
            logits = np.log(probability) - np.log1p(-probability)
        clamped: NDArray[np.float32] = np.clip(logits, -limit, limit).astype(np.float32)
        return clamped


def find_meaning(
    path: str,
    what: str,
    dataset: DatasetReader,
    rule: ValidityRule,
    wanted: Values,
    option: str,
    masks: bool = True,
) -> Meaning:
    """What the numbers of an open raster mean.

    Args:
        path: as opened.
        what: how messages call it, such as `TRUTH roads.tif`.
        dataset: the raster.
        rule: tells its valid pixels and the bands that count, all of the same kind.
        wanted: what the user says; "auto" looks at samples of the values. A band that carries a scale needs no more
            than that to be a probability, so "percent" and "byte" are not applied on top of it.
        option: the option by which the user says it.
        masks: False if masks are of no use, and no message should offer them.

    Raises:
        UsageError: the values fit nothing known, or not what was told.
    """
    first = rule.bands[0] - 1
    scale, offset = float(dataset.scales[first]), float(dataset.offsets[first])
    step = 1.0 if np.dtype(dataset.dtypes[first]).kind in "iu" else 0.0
    if (scale, offset) != (1.0, 0.0) and wanted in ("auto", "unit", "percent", "byte"):
        told = f"a probability, stored with scale {scale:g}"
        return Meaning("probability", scale, offset, False, told, option, step=step * abs(scale), masks=masks)
    sample, guessed = _sample(path, dataset, rule), False
    if not sample.size:
        sample = _first_valid(path, what, dataset, rule)
    if wanted == "mask":
        return Meaning("mask", 1.0, 0.0, False, "a mask", option, values="mask")
    if wanted == "auto":
        objects = set(np.unique(sample).tolist()) - {0}
        if objects <= {1} or objects <= {255} or (len(objects) == 1 and sample.dtype.kind in "ub"):
            top = int(max(objects, default=1))
            return Meaning("mask", 1.0, 0.0, False, f"a mask of 0 and {top}", option, top, values="mask")
        wanted, guessed = _guess(what, sample, option, masks), True
    top = {"unit": 1, "percent": 100, "byte": 255, "logit": 1}[wanted]
    told = "a logit" if wanted == "logit" else f"a probability in 0..{top}"
    meaning = Meaning(
        "probability",
        scale / top,
        offset / top,
        wanted == "logit",
        told,
        option,
        guessed=guessed and top > 1,
        values=wanted,
        step=step / top,
        masks=masks,
    )
    check_values(what, sample, meaning)
    return meaning


def check_values(what: str, values: NDArray[Any], meaning: Meaning) -> None:
    """Refuse valid values that contradict the meaning found from samples.

    Raises:
        UsageError: there are some.
    """
    if meaning.logit or not values.size or (meaning.kind == "mask" and meaning.top is None):
        return
    if meaning.kind == "mask":
        others = values[(values != 0) & (values != meaning.top)]
        if not others.size:
            return
        if {0, 1, meaning.top} | set(np.unique(others).tolist()) <= {0, 1, 255}:
            raise UsageError(_unmarked(what, meaning.option, meaning.masks))
    else:
        low, high = (float(value) * meaning.scale + meaning.offset for value in (values.min(), values.max()))
        if in_unit(low, high):
            return
    raise UsageError(
        f"{what} was read as {meaning.told}, but holds values from {float(values.min()):g} to "
        f"{float(values.max()):g}. {_choice(meaning.option, meaning.masks)} If some pixels are missing data, "
        f"{meaning.missing}."
    )


def in_unit(low: float, high: float) -> bool:
    """True if values from low to high can be probabilities in 0..1."""
    return low >= -OVERSHOOT and high <= 1 + OVERSHOOT


def on_unit_scale(what: str, known: Values, option: str) -> UsageError:
    """Scores that all lie in 0..1 where others are expected, and nobody said what they mean.

    Args:
        what: how messages call the scores.
        known: what they are expected to mean.
        option: by which the user says it.
    """
    meant = {"percent": "probabilities in 0..100", "byte": "probabilities in 0..255"}.get(known, "logits")
    return UsageError(
        f"{what} holds nothing below 0 or above 1, but the refiner was fitted on {meant}. Say what the values mean: "
        f"{option} unit if they are probabilities in 0..1, {option} {known} if not."
    )


def _choice(option: str, masks: bool) -> str:
    kinds = f"{'mask, ' * masks}unit (0..1), percent (0..100), byte (0..255) or logit"
    return f"Say what they mean with {option} {kinds}."


def _unmarked(what: str, option: str, masks: bool) -> str:
    other = f"give {option} mask, which takes everything but 0 for an object." if masks else _choice(option, masks)
    return (
        f"{what} holds 0, 1 and 255, and does not say whether 255 is nodata. If it is, mark it with `gdal_edit.py "
        f"-a_nodata 255`; otherwise {other[0].lower()}{other[1:]}"
    )


def _guess(what: str, sample: NDArray[Any], option: str, masks: bool) -> Literal["unit", "percent", "byte"]:
    """The scale of probabilities of which some are neither 0 nor the top."""
    found = np.unique(sample)
    low, high = float(found[0]), float(found[-1])
    shown = f"{what} holds values from {low:g} to {high:g}"
    if sample.dtype.kind == "f":
        if in_unit(low, high):
            return "unit"
        no = "neither a mask nor a probability" if masks else "no probability"
        logits = " They may be logits." if low < 0 else ""
        raise UsageError(f"{shown}, which is {no} in 0..1.{logits} {_choice(option, masks)}")
    if set(found.tolist()) <= {0, 1, 255}:
        raise UsageError(_unmarked(what, option, masks))
    if low < 0 or high > 255:
        raise UsageError(
            f"{shown}, which is no probability as it stands. If they are scaled, say so in the file, for example with "
            f"`gdal_edit.py -scale {1 / 10 ** len(str(int(high))):g}`. {_choice(option, masks)}"
        )
    if high <= _CLASSES:
        raise UsageError(
            f"{shown}: these look like class numbers. Take one class out of them, for example with "
            f'`gdal_calc.py -A in.tif --calc="A==1" --outfile=mask.tif`. {_choice(option, masks)}'
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
                values = dataset.read(list(rule.bands), window=place)
                valid = rule.read(dataset, window, values=values)
            parts.append(values[:, valid].ravel())
    return np.concatenate(parts)


def _first_valid(path: str, what: str, dataset: DatasetReader, rule: ValidityRule) -> NDArray[Any]:
    """The first valid values of a raster, for one with few.

    Raises:
        UsageError: there are none.
    """
    rows = max(1, (1 << 22) // dataset.width)
    for row in range(0, dataset.height, rows):
        window = Window(row, 0, min(rows, dataset.height - row), dataset.width)
        with reading(path, window):
            values = dataset.read(list(rule.bands), window=((window.row, window.row_end), (0, dataset.width)))
            valid = rule.read(dataset, window, values=values)
        if valid.any():
            return np.asarray(values[:, valid].ravel())
    raise NoValidPixelError(
        f"{what} holds no valid pixel: all of it is nodata. Check its nodata value with `gdalinfo -stats`."
    )


def _starts(length: int) -> list[int]:
    last = max(0, length - _SIDE)
    return sorted({round(last * index / (_SAMPLES - 1)) for index in range(_SAMPLES)})
