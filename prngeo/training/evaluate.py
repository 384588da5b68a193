"""What the test areas say of a model: figures with intervals from a bootstrap over blocks.

None stands for a figure that is undefined.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prngeo.config import TrainConfig
from prngeo.evaluation.bias import joint_iou, tuned_threshold
from prngeo.evaluation.bootstrap import Table, pooled
from prngeo.evaluation.results import Comparison, Curves, Figure, measure
from prngeo.inference.mosaic import Networks
from prngeo.models.bundle import Bundle
from prngeo.models.card import AreaCard
from prngeo.progress import Report, silent
from prngeo.training.count import PATCH, PRN, TUNED, Area, count_tests
from prngeo.training.regions import CachedRegion
from prngeo.training.tiles import Ranking


@dataclass(frozen=True)
class Prediction:
    """One of the three predictions of a target.

    Attributes:
        temperature: probability = sigmoid(logit / temperature).
        threshold: probability from which a pixel is predicted.
        pixels: tp, fp, fn, tn.
        metrics: by name, see prngeo.evaluation.metrics.METRICS.
        curves: over thresholds and bins of probability; None for BASE, whose curves are those of TUNED.
    """

    temperature: float
    threshold: float
    pixels: dict[str, int]
    metrics: dict[str, Figure]
    curves: Curves | None


@dataclass(frozen=True)
class Ceiling:
    """What thresholds that know the truth would make of the base network; upper bounds, not results.

    Attributes:
        threshold: the best single one.
        single: its IoU.
        patch: side of a patch in scene pixels.
        joint: IoU of the joint oracle, one threshold a patch.
    """

    threshold: float
    single: float
    patch: int
    joint: float


@dataclass(frozen=True)
class AreaResult:
    """What is said of a target on the test areas of one data set.

    Attributes:
        source: name of the data set.
        target: name of the target.
        used: the prediction that the model writes: prn, or tuned where the gate is off.
        scenes: number of scenes.
        known_pixels: labelled pixels with data.
        true_pixels: of them those of the target.
        blocks: number of bootstrap blocks.
        predictions: by name: base, tuned and, if the model has a refiner, prn.
        gain: PRN against the tuned base network, on the same draws of blocks.
        ceiling: None without a true pixel.
    """

    source: str
    target: str
    used: str
    scenes: int
    known_pixels: int
    true_pixels: int
    blocks: int
    predictions: dict[str, Prediction]
    gain: Comparison | None
    ceiling: Ceiling | None


@dataclass(frozen=True)
class Findings:
    """What the test areas say of a model.

    Attributes:
        results: one a data set and target with a known pixel.
        tiles: by target, the best and the worst ones.
        seconds: wall-clock time it took.
    """

    results: list[AreaResult]
    tiles: dict[str, Ranking]
    seconds: float


def evaluate_tests(
    config: TrainConfig, regions: Sequence[CachedRegion], bundle: Bundle, networks: Networks, report: Report = silent
) -> Findings:
    """Judge a model on its test areas, data set by data set; a pure function of the model and the cache.

    Args:
        config: the run; it says how the scenes of a source are read.
        regions: of role test.
        bundle: the model with its gates and thresholds.
        networks: its runtime.
        report: is told of every block.

    Raises:
        UsageError: a scene can no longer be read.
    """
    started = time.monotonic()
    areas, tiles = count_tests(config, regions, bundle, networks, report)
    return Findings([_result(area) for area in areas], tiles, time.monotonic() - started)


def _result(area: Area) -> AreaResult:
    tables = {name: area.table(name) for name in area.rows}
    totals = pooled(tables[TUNED])
    true = int(totals["tp"] + totals["fn"])
    return AreaResult(
        source=area.source,
        target=area.plan.target,
        used=area.plan.used,
        scenes=len(area.scenes),
        known_pixels=true + int(totals["fp"] + totals["tn"]),
        true_pixels=true,
        blocks=len(area.rows[TUNED]),
        predictions={name: _prediction(area, name, table) for name, table in tables.items()},
        gain=Comparison.of(tables[PRN], tables[TUNED]) if PRN in tables else None,
        ceiling=_ceiling(area, totals),
    )


def _prediction(area: Area, name: str, table: Table) -> Prediction:
    totals, calibration = pooled(table), area.plan.calibrations[name]
    return Prediction(
        temperature=calibration.temperature,
        threshold=calibration.threshold,
        pixels={key: int(totals[key]) for key in ("tp", "fp", "fn", "tn")},
        metrics=measure(table),
        curves=Curves.of(totals["levels"], totals["bins"]) if "levels" in totals else None,
    )


def _ceiling(area: Area, totals: Table) -> Ceiling | None:
    best = tuned_threshold(totals["levels"])
    if best is None:
        return None
    joint = joint_iou(lambda: (part.astype(np.float64) for part in area.patches))
    return Ceiling(threshold=round(best[0], 6), single=best[1], patch=PATCH, joint=joint)


def area_cards(results: Sequence[AreaResult]) -> list[AreaCard]:
    """What a model's card says of its test areas; data sets without a true pixel are left out."""
    return [_card(found) for found in results if found.true_pixels]


def _card(found: AreaResult) -> AreaCard:
    base, used = found.predictions[TUNED].metrics, found.predictions[found.used].metrics
    iou, other = base["iou"], used["iou"]
    gain = Figure(0.0) if found.used == TUNED or found.gain is None else found.gain.figure("iou")
    assert iou.value is not None
    assert other.value is not None
    return AreaCard(
        source=found.source,
        target=found.target,
        scenes=found.scenes,
        megapixels=round(found.known_pixels / 1e6, 2),
        base_iou=round(iou.value, 4),
        refined_iou=round(other.value, 4),
        blocks=found.blocks,
        base_interval=_interval(iou),
        refined_interval=_interval(other),
        gain_interval=_interval(gain),
        base_relaxed_f1=_rounded(base["relaxed_f1"].value),
        refined_relaxed_f1=_rounded(used["relaxed_f1"].value),
    )


def _interval(figure: Figure) -> tuple[float, float] | None:
    if figure.low is None or figure.high is None:
        return None
    return round(figure.low, 4), round(figure.high, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
