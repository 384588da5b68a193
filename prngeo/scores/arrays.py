"""Refiners of scores on arrays: NumPy, or anything that becomes it, such as torch tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.inference.chunks import TargetPlan
from prngeo.inference.mosaic import Logits
from prngeo.inference.options import Device
from prngeo.models.bundle import PrnBundle, open_prn, write_prn
from prngeo.models.card import PrnCard, ScoreValues
from prngeo.progress import silent
from prngeo.raster.values import Meaning, check_values, in_unit, on_unit_scale
from prngeo.scores.classes import alike, file_name
from prngeo.scores.scene import IGNORE, LIMIT, ArrayScene
from prngeo.scores.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoreRefiner:
    """A fitted refiner in memory.

    Attributes:
        card: classes, calibration, gate and more; `card.targets[name].refine` tells whether the gate lets it correct.
        tensors: weights by name.
    """

    card: PrnCard
    tensors: dict[str, Tensor]

    def save(self, folder: str | Path) -> PrnBundle:
        """Write a bundle for `prngeo refine apply` and `load_refiner`; one already there is replaced."""
        return write_prn(Path(folder), self.card, self.tensors)


@dataclass(frozen=True)
class Refined:
    """Refined scores; all (classes, H, W).

    Attributes:
        probability: float32, calibrated; 0 where there is no score.
        mask: bool, probability at or above the threshold of its class.
        correction: float32, refined minus base logit; 0 for a class that the gate leaves alone.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    correction: NDArray[np.float32]


def load_refiner(folder: str | Path) -> ScoreRefiner:
    """Open a bundle.

    Raises:
        UsageError: it is no refiner of scores, or damaged.
    """
    bundle = open_prn(folder)
    return ScoreRefiner(bundle.card, bundle.tensors())


def fit_arrays(
    scores: Sequence[Any],
    labels: Sequence[Any],
    images: Sequence[Any] | None = None,
    *,
    classes: Sequence[str] | None = None,
    values: ScoreValues = "unit",
    settings: Settings | None = None,
) -> ScoreRefiner:
    """Fit a refiner on arrays. The scores must be of scenes that the segmenter was not trained on.

    Args:
        scores: for each scene (H, W), or (classes, H, W): one-vs-rest for every class. NaN is no score, an infinite
            logit is one. An array of shape (N, H, W) or (N, classes, H, W) is N scenes.
        labels: for each scene (H, W), or (classes, H, W): 0, 1 (or True), and 255 where there is no label.
        images: for each scene (bands, H, W) in 0..1; the refiner reads none if None.
        classes: their names; class_1, class_2, ... if None ("objects" if there is one).
        values: what the numbers of the scores mean: probability in 0..1 (unit), 0..100 (percent) or 0..255 (byte), or
            logit.
        settings: see Settings.

    Returns:
        The refiner. Its gate is off for a class in which it does not beat the best single threshold on what was held
        out, see prngeo.refine.calibrate.LEAST_GAIN.

    Raises:
        UsageError: shapes or values do not fit, or the labels do not suffice.
    """
    from prngeo.scores.learn import Subject, learn

    given = [scores, labels, *([images] if images is not None else [])]
    if len({len(part) for part in given}) > 1 or not len(scores):
        raise UsageError(
            f"scores, labels and images are of the same scenes, got {[len(part) for part in given]} of them."
        )
    scenes = [
        _scene(index, scores[index], labels[index], None if images is None else images[index], values)
        for index in range(len(scores))
    ]
    counts = {(len(scene.labels), len(scene.stack)) for scene in scenes}
    if len(counts) > 1:
        raise UsageError(f"all scenes have the same classes and image bands, got (classes, both) of {sorted(counts)}.")
    (number, both) = counts.pop()
    names = (
        tuple(classes or (f"class_{index + 1}" for index in range(number))) if classes or number > 1 else ("objects",)
    )
    if len(names) != number:
        raise UsageError(f"the scores have {number} classes, but {len(names)} are named: {', '.join(names)}.")
    wrong = [name for name in names if not name or file_name(name) != name]
    if wrong or alike(names):
        raise UsageError(f"every class needs a name of its own that can be a part of a file's name, got {list(names)}.")
    class_values = tuple(range(1, number + 1)) if number > 1 else ()
    subject = Subject("arrays", names, class_values, both - number, values)
    with tempfile.TemporaryDirectory() as scratch:
        return ScoreRefiner(*learn(scenes, subject, settings or Settings(), Path(scratch), silent))


def apply_arrays(
    refiner: ScoreRefiner,
    scores: Any,
    image: Any | None = None,
    *,
    values: ScoreValues | None = None,
    device: Device = "auto",
) -> Refined:
    """Refine the scores of one scene.

    Args:
        refiner: from `fit_arrays` or `load_refiner`.
        scores: (H, W) or (classes, H, W), as for `fit_arrays`.
        image: (bands, H, W) in 0..1, if the refiner reads one.
        values: what the numbers mean; the same as in the fit if None.
        device: auto, cpu, cuda or mps.

    Raises:
        UsageError: shapes or values do not fit the refiner.
    """
    from prngeo.models.devices import choose_compute
    from prngeo.scores.refining import load_networks, score_mosaic, target_plans

    card = refiner.card
    given = _array(scores, "scores", (2, 3))
    known = given[~np.isnan(given)]
    guess = values is None and card.values != "unit" and known.dtype.kind == "f" and known.size
    if guess and known.min() < known.max() and in_unit(known.min(), known.max()):
        raise on_unit_scale("the array of scores", card.values, "values")
    scene = _scene(0, given, None, image, values or card.values)
    classes, bands = len(scene.labels), len(scene.stack) - len(scene.labels)
    if (classes, bands) != (len(card.targets), card.image_bands):
        raise UsageError(
            f"the refiner takes scores of {len(card.targets)} classes and {card.image_bands} image bands, got "
            f"{classes} and {bands}."
        )
    refine = [target.refine for target in card.targets.values()]
    networks = load_networks(PrnBundle(Path(card.name), card), refiner.tensors, choose_compute(device))
    extent = scene.grid.extent
    with tempfile.TemporaryDirectory() as scratch:
        logits = score_mosaic(scene, networks, card, refine, [extent], Path(scratch)).read(extent)
    return _refined(logits, scene.valid, target_plans(card))


def _refined(logits: Logits, valid: NDArray[np.bool_], targets: Sequence[TargetPlan]) -> Refined:
    temperature = np.array([target.final.temperature for target in targets], np.float32)[:, None, None]
    threshold = np.array([target.final.threshold for target in targets], np.float32)[:, None, None]
    final = logits.base + logits.correction
    probability = np.where(valid, 0.5 + 0.5 * np.tanh(final * (0.5 / temperature)), 0).astype(np.float32)
    return Refined(probability, (probability >= threshold) & valid, np.where(valid, logits.correction, 0))


def _array(values: Any, what: str, ndims: tuple[int, ...]) -> NDArray[Any]:
    """A NumPy array of a tensor (on any device) or of what NumPy takes."""
    detach = getattr(values, "detach", None)
    if detach is not None:
        tensor = detach().cpu()
        values = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    array = np.asarray(values)
    if array.ndim not in ndims or not array.size or array.dtype.kind not in "buif":
        raise UsageError(
            f"{what}: expected numbers of shape (H, W) or (channels, H, W), got {array.shape} {array.dtype}."
        )
    return array if array.ndim == 3 else array[None]


def _scene(index: int, scores: Any, labels: Any | None, image: Any | None, values: ScoreValues) -> ArrayScene:
    if values not in get_args(ScoreValues):
        raise UsageError(f"values is one of {', '.join(get_args(ScoreValues))}, got {values!r}.")
    what = f"scores of scene {index}"
    raw = _array(scores, what, (2, 3))
    valid = ~np.isnan(raw).any(0) if values == "logit" else np.isfinite(raw).all(0)
    top = {"unit": 1, "percent": 100, "byte": 255, "logit": 1}[values]
    step = 1 / top if raw.dtype.kind in "iu" else 0.0
    told = "a logit" if values == "logit" else f"a probability in 0..{top}"
    meaning = Meaning(
        "probability", 1 / top, 0.0, values == "logit", told, "values", values=values, step=step, masks=False,
        missing="set them to NaN",
    )  # fmt: skip
    check_values(what, raw[:, valid], meaning)
    logits = np.where(valid, meaning.logits(np.where(valid, raw, 0), LIMIT), 0)
    truth = np.full(raw.shape, IGNORE, np.uint8)
    if labels is not None:
        given = _array(labels, f"labels of scene {index}", (2, 3))
        if given.shape != raw.shape:
            raise UsageError(f"scene {index} has scores of shape {raw.shape} and labels of shape {given.shape}.")
        found = np.unique(given)
        if not set(found.tolist()) <= {0, 1, IGNORE}:
            raise UsageError(f"labels of scene {index} are 0, 1 and {IGNORE} (no label), got {found[:8].tolist()}.")
        truth = np.where(valid, given, IGNORE).astype(np.uint8)
    stack = logits
    if image is not None:
        picture = _array(image, f"image of scene {index}", (2, 3)).astype(np.float32)
        if picture.shape[1:] != valid.shape:
            raise UsageError(f"scene {index} has scores of {valid.shape} pixels and an image of {picture.shape[1:]}.")
        finite = picture[np.isfinite(picture)]
        if finite.size and not (finite.min() >= 0 and finite.max() <= 1):
            raise UsageError(f"the image of scene {index} is to lie in 0..1, got {finite.min():g} to {finite.max():g}.")
        stack = np.concatenate([logits, np.where(valid, np.nan_to_num(picture), 0)])
    return ArrayScene(f"scene_{index}", cast(NDArray[np.float32], stack.astype(np.float32)), valid, truth)
