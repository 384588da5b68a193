"""What an evaluation returns; None stands for a figure that is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.bias import BiasMaps, Headroom
from prngeo.evaluation.bootstrap import Table, intervals, paired_intervals, pooled
from prngeo.evaluation.collect import Collected
from prngeo.evaluation.metrics import block_gain, figures
from prngeo.evaluation.pixel import THRESHOLDS, Floats, reliability, threshold_curve

if TYPE_CHECKING:
    from prngeo.evaluation.roads import Network


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 % interval.

    Attributes:
        value: None if undefined.
        low: lower end of the interval; None if there are too few blocks or the metric is undefined in many draws.
        high: upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: object, interval: tuple[float, float] | None) -> Figure:
        """From a number, in which NaN means undefined."""
        number = float(value)  # type: ignore[arg-type]
        if math.isnan(number):
            return cls(None)
        return cls(number, *(interval or (None, None)))


@dataclass(frozen=True)
class Curves:
    """Figures over thresholds and bins, as lists with None where undefined.

    Attributes:
        threshold: probabilities.
        iou: IoU at each.
        precision: likewise.
        recall: likewise.
        f1: likewise.
        bin_pixels: pixels in every bin of probability.
        bin_probability: mean probability of a bin.
        bin_share: share of objects in it.
    """

    threshold: list[float | None]
    iou: list[float | None]
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    bin_pixels: list[float | None]
    bin_probability: list[float | None]
    bin_share: list[float | None]

    @classmethod
    def of(cls, levels: Floats, bins: Floats) -> Curves:
        """From counts.

        Args:
            levels: (2, LEVELS) pixels by truth and level of probability.
            bins: (BINS,) sum of the probabilities of the pixels in every bin.
        """
        curve = threshold_curve(levels)
        return cls(
            THRESHOLDS.round(6).tolist(),
            *(numbers(curve[name]) for name in ("iou", "precision", "recall", "f1")),
            *(numbers(values) for values in reliability(levels, bins)),
        )


@dataclass(frozen=True)
class Diagnosis:
    """How biased probabilities are, region by region.

    Attributes:
        mean_bias: mean probability minus share of objects, over the scene.
        mean_absolute_bias: mean of its absolute value over patches of the maps.
        tuned_threshold: the best single threshold on this truth; None without objects in the truth.
        tuned_iou: its IoU.
        headroom: what thresholds of patches would reach, small patches first; empty without objects in the truth.
        maps: one value a patch.
    """

    mean_bias: float
    mean_absolute_bias: float | None
    tuned_threshold: float | None
    tuned_iou: float | None
    headroom: list[Headroom]
    maps: BiasMaps


@dataclass(frozen=True)
class ObjectCounts:
    """Objects of prediction and truth.

    Attributes:
        predicted: number of predicted objects.
        true: number of true ones.
        matched: pairs with an IoU of at least 0.5.
        mean_iou: of these pairs.
        split: true objects in which two or more predicted ones mostly lie (over-segmentation).
        merging: predicted objects in which two or more true ones mostly lie (under-segmentation).
        f1_by_iou: F1 at IoU 0.5, 0.55, ..., 0.95.
    """

    predicted: int
    true: int
    matched: int
    mean_iou: float | None
    split: int
    merging: int
    f1_by_iou: list[float | None]


@dataclass(frozen=True)
class Judgement:
    """What is said of one prediction.

    Attributes:
        name: prediction or baseline.
        path: as given.
        kind: mask, probability, polygons or lines.
        threshold: from which a probability counted as predicted.
        scores: path of the probabilities, if there are any.
        pixels: tp, fp, fn, tn.
        metrics: by name, see prngeo.evaluation.metrics.METRICS.
        curves: with scores.
        diagnosis: with scores.
        objects: unless roads were compared.
        network: for roads.
    """

    name: str
    path: str
    kind: str
    threshold: float | None
    scores: str | None
    pixels: dict[str, int]
    metrics: dict[str, Figure]
    curves: Curves | None
    diagnosis: Diagnosis | None
    objects: ObjectCounts | None
    network: Network | None

    def figure(self, name: str) -> Figure:
        """A metric; undefined where it was not computed, such as calibration without scores."""
        return self.metrics.get(name, Figure(None))


@dataclass(frozen=True)
class Comparison:
    """Prediction against baseline, on the same pixels and the same draws of blocks.

    Attributes:
        differences: prediction minus baseline by metric.
        better: blocks in which the prediction's IoU is larger.
        worse: blocks in which it is smaller.
        equal: blocks in which it is the same.
    """

    differences: dict[str, Figure]
    better: int
    worse: int
    equal: int

    @classmethod
    def of(cls, mine: Table, theirs: Table) -> Comparison:
        """From counts of the same blocks."""
        one, other = figures(pooled(mine)), figures(pooled(theirs))
        ends = paired_intervals(mine, theirs, figures)
        gain = block_gain(mine, theirs)
        return cls(
            {name: Figure.of(one[name] - other[name], ends[name]) for name in one if name in other},
            better=int((gain > 0).sum()),
            worse=int((gain < 0).sum()),
            equal=int((gain == 0).sum()),
        )

    def figure(self, name: str) -> Figure:
        """A difference; undefined where one of the two was not computed."""
        return self.differences.get(name, Figure(None))


@dataclass(frozen=True)
class Evaluation:
    """A prediction judged by a truth.

    Attributes:
        truth: as given.
        target: what the objects are, if known.
        height: rows of the grid of the comparison.
        width: its columns.
        crs: its coordinate system.
        gsd: metres a pixel (x, y).
        unit: of lengths: m, or px where nothing tells the size of a pixel.
        known_pixels: pixels that were compared.
        true_share: share of them that are objects.
        block: side of a bootstrap block in pixels.
        blocks: number of blocks with a known pixel.
        relax: tolerance of relaxed metrics in `unit`.
        boundary: width of the boundary's band in `unit`.
        predictions: the prediction and, if given, the baseline.
        comparison: if there is a baseline.
        warnings: what a reader should know.
        files: what was written, by name.
    """

    truth: str
    target: str | None
    height: int
    width: int
    crs: str | None
    gsd: tuple[float, float]
    unit: str
    known_pixels: int
    true_share: float
    block: int
    blocks: int
    relax: float
    boundary: float
    predictions: list[Judgement]
    comparison: Comparison | None
    warnings: list[str]
    collected: Collected = field(repr=False)
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def prediction(self) -> Judgement:
        """What is said of the prediction itself."""
        return self.predictions[0]


def measure(table: Table) -> dict[str, Figure]:
    """All metrics that the counts of blocks allow, with intervals."""
    values, ends = figures(pooled(table)), intervals(table, figures)
    return {name: Figure.of(value, ends[name]) for name, value in values.items()}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and what holds them, as JSON knows it."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def numbers(values: NDArray[np.floating]) -> list[float | None]:
    """A list with None for NaN."""
    return [None if math.isnan(value) else float(value) for value in values]
