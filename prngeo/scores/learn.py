"""Fitting a refiner on scenes with scores and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prngeo.errors import UsageError
from prngeo.inference.mosaic import reduced
from prngeo.models.card import PrnCard, RefinerCard, ScoreValues, TargetCard
from prngeo.models.devices import choose_compute
from prngeo.progress import Progress, Report
from prngeo.refine.branches import Refiner
from prngeo.refine.fit import FitOptions, LogitMap, fit_refiner, labelled_pixels
from prngeo.scores.holdout import Holdout, hold_out
from prngeo.scores.judge import judge
from prngeo.scores.refining import ScoreNetworks, refiner_of
from prngeo.scores.scene import IGNORE, LabelledScene
from prngeo.scores.settings import Settings, Sizes, sizes
from prngeo.tiling.grid import Window

PIECE = 2048
"""Scenes are learned from in pieces of about this side, in pixels."""
MOST_PIECES = 64
"""No more pieces than that are learned from, so that what is kept on disk does not grow with the scenes."""


@dataclass(frozen=True)
class Subject:
    """What a refiner is for.

    Attributes:
        name: of the bundle.
        classes: names in the order of the logits.
        class_values: values on class maps, in the same order; empty if there is one class.
        image_bands: bands of the image behind the logits.
        values: what the numbers of the scores meant.
        gsd: smallest and largest GSD of the scenes in metres, or None.
        license: of the bundle.
    """

    name: str
    classes: tuple[str, ...]
    class_values: tuple[int, ...] = ()
    image_bands: int = 0
    values: ScoreValues = "unit"
    gsd: tuple[float, float] | None = None
    license: str = ""


def learn(
    scenes: Sequence[LabelledScene], subject: Subject, settings: Settings, scratch: Path, report: Report
) -> tuple[PrnCard, dict[str, Tensor]]:
    """Fit a refiner and judge it on what was held out.

    Args:
        scenes: of one segmenter that was not trained on them.
        subject: classes and more.
        settings: see Settings.
        scratch: an existing folder for what is learned from.
        report: is told of every step.

    Returns:
        The card, and the weights by name.

    Raises:
        UsageError: the labels do not suffice.
    """
    report(Progress(subject.name, "labels", 0, 1))
    holdout = hold_out(scenes, subject.classes, settings)
    chosen = sizes(settings, [(scene.grid.height, scene.grid.width) for scene in scenes])
    card = _card(scenes, subject, settings, chosen, holdout)
    maps, left = _maps(scenes, holdout, card, chosen, settings.seed, scratch)
    compute = choose_compute(settings.device)
    torch.manual_seed(settings.seed)

    options = _options(settings, chosen)
    steps = options.steps_for(maps)
    options = replace(options, steps=steps)

    def on_step(done: int) -> None:
        report(Progress(subject.name, "fit", done, steps))

    on_step(0)
    refiner = fit_refiner(refiner_of(card), maps, options, torch.device(compute.device), on_step)
    _round(refiner)
    report(Progress(subject.name, "judge", 0, 1))
    targets = judge(scenes, holdout.windows, ScoreNetworks(refiner, compute), card, chosen.patch, scratch)
    report(Progress(subject.name, "judge", 1, 1))
    tensors = {f"refiner.{name}": tensor.cpu() for name, tensor in refiner.state_dict().items()}
    fit = card.fit | {"pseudo_weight": options.pseudo_share(refiner), "steps": steps}
    found = {"fit": fit, "targets": targets, "pixels": labelled_pixels(maps), "pieces": len(maps), "left": left}
    return card.model_copy(update=found), tensors


def _card(
    scenes: Sequence[LabelledScene], subject: Subject, settings: Settings, chosen: Sizes, holdout: Holdout
) -> PrnCard:
    return PrnCard(
        name=subject.name,
        license=subject.license,
        targets={name: TargetCard() for name in subject.classes},
        class_values=dict(zip(subject.classes, subject.class_values, strict=False)),
        values=subject.values,
        image_bands=subject.image_bands,
        gsd=subject.gsd,
        refiner=RefinerCard(
            variant=settings.variant,
            window=chosen.window,
            overlap=chosen.overlap,
            reduction=chosen.reduction,
            width=chosen.width,
            use_image=subject.image_bands > 0,
            detail=settings.variant == "fast",
            patch=chosen.patch if settings.variant == "paper" else 64,
        ),
        fit=asdict(settings) | {"window": chosen.window, "patch": chosen.patch, "reduction": chosen.reduction},
        scenes=len(scenes),
        pixels=0,
        validation=holdout.told,
        created=datetime.now(UTC).date().isoformat(),
    )


def _options(settings: Settings, chosen: Sizes) -> FitOptions:
    options = FitOptions(
        window=chosen.window,
        patch=chosen.patch,
        pseudo_weight=settings.pseudo_weight,
        steps=settings.steps,
        batch=chosen.batch,
        seed=settings.seed,
    )
    if settings.variant == "paper":  # pseudo-labels and rate as published
        return replace(options, pseudo="per_patch", learning_rate=8e-4)
    return options


def _maps(
    scenes: Sequence[LabelledScene], holdout: Holdout, card: PrnCard, chosen: Sizes, seed: int, scratch: Path
) -> tuple[list[LogitMap], int]:
    """Labelled pieces of the scenes, kept in files, and the number of pieces beyond `MOST_PIECES`.

    Raises:
        UsageError: there are none.
    """
    step = math.lcm(chosen.patch, chosen.reduction)
    places = [
        (index, window)
        for index, scene in enumerate(scenes)
        for window in pieces((scene.grid.height, scene.grid.width), max(PIECE, chosen.window), step)
    ]
    order = np.random.default_rng(seed).permutation(len(places))
    maps: list[LogitMap] = []
    left = 0
    for tried, number in enumerate(order.tolist(), 1):
        index, window = places[number]
        truth = _learnable(scenes[index], window, holdout.forbidden[index])
        if (truth != IGNORE).any():
            maps.append(_kept(scenes[index], window, truth, card, scratch / str(len(maps))))
        if len(maps) == MOST_PIECES:
            left = len(places) - tried
            break
    if not maps:
        raise UsageError(
            "Nothing is left to learn from beside what is held out, its gap, and other scenes of the same ground. Give "
            "more labelled scenes, or hold out less with --validation."
        )
    return maps, left


def pieces(shape: tuple[int, int], side: int, step: int) -> Iterator[Window]:
    """A scene in windows of about equal size, at most `side` wide and high, that begin and end at multiples of `step`.

    The last of a row or column may reach beyond the scene.
    """
    rows, cols = (_ends(length, side, step) for length in shape)
    for row, height in rows:
        for col, width in cols:
            yield Window(row, col, height, width)


def _ends(length: int, side: int, step: int) -> list[tuple[int, int]]:
    count = math.ceil(length / side)
    part = math.ceil(length / count / step) * step
    return [(start, min(part, math.ceil((length - start) / step) * step)) for start in range(0, length, part)]


def _learnable(scene: LabelledScene, window: Window, forbidden: Sequence[Window]) -> np.ndarray:
    truth = scene.truth(window)
    for place in forbidden:
        common = place.intersect(window)
        if not common.is_empty:
            truth[(slice(None), *common.within(window))] = IGNORE
    return truth


def _kept(scene: LabelledScene, window: Window, truth: np.ndarray, card: PrnCard, path: Path) -> LogitMap:
    stack, valid = scene.read(window)
    classes = len(card.targets)
    small = reduced(stack[classes:], valid, card.refiner.reduction)
    parts = {"logits": stack[:classes].astype(np.float16), "image": small[:-1], "valid": small[-1], "labels": truth}
    path.mkdir()
    for name, values in parts.items():
        np.save(path / f"{name}.npy", values)
    mapped = {
        name: np.load(path / f"{name}.npy", mmap_mode="c" if values.size else None) for name, values in parts.items()
    }
    return LogitMap("scores", **mapped)


def _round(refiner: Refiner) -> None:
    """Give the weights the precision in which they are stored, so that what is judged is what is kept."""
    with torch.no_grad():
        for tensor in (*refiner.parameters(), *refiner.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
