"""Temperature, operating threshold and the gate, all from validation maps.

Everything is computed from two histograms of logits a source (positives and negatives), so maps are read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.models.card import Calibration, Gate, TargetCard

LOW, HIGH, BINS = -16.0, 16.0, 3200
CENTERS = LOW + (np.arange(BINS) + 0.5) * (HIGH - LOW) / BINS
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 81))
LEVELS = np.arange(1, 250) / 250
LEAST_GAIN = 0.001
"""IoU by which PRN has to beat the best single threshold: less is rounding and chance."""


@dataclass
class Histogram:
    """Counts of logits by truth.

    Attributes:
        positive: (BINS,) pixels of the object.
        negative: (BINS,) pixels of the background.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Histogram:
        """A histogram of nothing."""
        return cls(np.zeros(BINS), np.zeros(BINS))

    def add(self, logits: NDArray[np.floating], labels: NDArray[np.uint8]) -> None:
        """Count pixels.

        Args:
            logits: any shape, float.
            labels: same shape, uint8: 0, 1; anything else is ignored.
        """
        edges = (LOW, HIGH)
        clipped = np.clip(logits.astype(np.float32), LOW, np.nextafter(np.float32(HIGH), np.float32(0)))
        self.positive += np.histogram(clipped[labels == 1], BINS, edges)[0]
        self.negative += np.histogram(clipped[labels == 0], BINS, edges)[0]

    def iou(self, temperature: float, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """IoU at probability thresholds; NaN if there is neither truth nor prediction."""
        cut = temperature * np.log(thresholds / (1 - thresholds))
        first = np.searchsorted(CENTERS, cut)
        hits = np.append(self.positive[::-1].cumsum()[::-1], 0)[first]
        false = np.append(self.negative[::-1].cumsum()[::-1], 0)[first]
        union = self.positive.sum() + false
        ratio: NDArray[np.float64] = np.divide(hits, union, out=np.full(len(first), np.nan), where=union > 0)
        return ratio

    def log_loss(self, temperature: float) -> float:
        """Mean binary cross-entropy of sigmoid(logit / temperature)."""
        scaled = CENTERS / temperature
        total = self.positive @ np.logaddexp(0, -scaled) + self.negative @ np.logaddexp(0, scaled)
        return float(total / max(1.0, self.positive.sum() + self.negative.sum()))


@dataclass(frozen=True)
class Tuned:
    """What validation says of one kind of logits.

    Attributes:
        temperature: minimizes the mean over sources of the log loss.
        threshold: a multiple of 0.004; maximizes the mean over sources of IoU.
        iou: that mean.
        by_source: IoU of every source at the threshold.
        pixels: labelled pixels.
    """

    temperature: float
    threshold: float
    iou: float
    by_source: dict[str, float]
    pixels: int


def tune(histograms: Mapping[str, Histogram]) -> Tuned:
    """Choose temperature and threshold; every source counts the same.

    Args:
        histograms: source -> its counts; sources without positives are left out.

    Raises:
        ValueError: no source has positives.
    """
    usable = {name: item for name, item in histograms.items() if item.positive.sum() > 0}
    if not usable:
        raise ValueError("no validation source has positive pixels")
    losses = [np.mean([item.log_loss(t) for item in usable.values()]) for t in TEMPERATURES]
    temperature = float(TEMPERATURES[int(np.argmin(losses))])
    curves = np.array([item.iou(temperature, LEVELS) for item in usable.values()])
    best = int(np.argmax(curves.mean(0)))
    return Tuned(
        temperature=round(temperature, 4),
        threshold=float(LEVELS[best]),
        iou=float(curves[:, best].mean()),
        by_source={name: float(curve[best]) for name, curve in zip(usable, curves, strict=True)},
        pixels=int(sum(item.positive.sum() + item.negative.sum() for item in usable.values())),
    )


def beats(refined: Tuned, base: Tuned) -> bool:
    """The gate's rule, see `LEAST_GAIN`."""
    return refined.iou - base.iou >= LEAST_GAIN


def verdict(base: Tuned, refined: Tuned, joint_oracle_iou: float, note: str, by_source: bool) -> TargetCard:
    """What a card says of a target: both calibrations, and the gate, see `beats`.

    Args:
        base: of the base logits.
        refined: of the refined logits, on the same pixels.
        joint_oracle_iou: IoU if the best threshold of every patch were known.
        note: what the figures are.
        by_source: whether the gate lists the IoU of every source.
    """
    gate = Gate(
        enabled=beats(refined, base),
        base_iou=round(base.iou, 4),
        refined_iou=round(refined.iou, 4),
        joint_oracle_iou=round(joint_oracle_iou, 4),
        pixels=base.pixels,
        by_source={
            source: {"base": round(base.by_source[source], 4), "refined": round(refined.by_source[source], 4)}
            for source in (base.by_source if by_source else ())
        },
        note=note,
    )
    return TargetCard(
        base=Calibration(temperature=base.temperature, threshold=base.threshold),
        refined=Calibration(temperature=refined.temperature, threshold=refined.threshold),
        gate=gate,
    )
