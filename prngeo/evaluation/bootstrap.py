"""Confidence intervals from a bootstrap over blocks of a scene.

Neighboring pixels are not independent, so blocks are drawn with replacement, not pixels (Kunsch, Annals of
Statistics 1989; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, for the percentile interval). Two
predictions are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Table = Mapping[str, Floats]
"""Counts by name; the first dimension of every array is the block."""
Metrics = Callable[[Mapping[str, Floats]], dict[str, Floats]]

RESAMPLES = 1000
FEW_BLOCKS = 20
"""Below this number of blocks intervals are called rough."""
INTERVAL = (2.5, 97.5)
"""Percentiles of the 95 % interval."""


def pooled(table: Table) -> dict[str, Floats]:
    """Counts summed over all blocks."""
    return {name: counts.sum(0) for name, counts in table.items()}


def resample(table: Table, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Floats]:
    """Counts summed over blocks drawn with replacement.

    Args:
        table: see `Table`.
        resamples: number of draws.
        seed: decides them; tables with the same number of blocks get the same draws for the same seed.

    Returns:
        The same names; the first dimension is the draw.
    """
    blocks = len(next(iter(table.values())))
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples).astype(np.float64)
    drawn = {}
    for name, counts in table.items():
        flat = counts.reshape(blocks, -1)
        drawn[name] = (weights @ flat).reshape(resamples, *counts.shape[1:])
    return drawn


def interval(values: Floats) -> tuple[float, float] | None:
    """The 95 % interval of a metric over its draws; None if more than a twentieth of them are undefined."""
    known = values[~np.isnan(values)]
    if len(known) < 0.95 * len(values) or not len(known):
        return None
    low, high = np.percentile(known, INTERVAL)
    return float(low), float(high)


def intervals(table: Table, metrics: Metrics, seed: int = 0) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of all metrics; None with fewer than two blocks.

    Args:
        table: see `Table`.
        metrics: figures from summed counts.
        seed: see `resample`.
    """
    drawn = metrics(resample(table, seed=seed))
    if len(next(iter(table.values()))) < 2:
        return dict.fromkeys(drawn)
    return {name: interval(values) for name, values in drawn.items()}


def paired_intervals(
    one: Table, other: Table, metrics: Metrics, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of the differences `one - other`, both on the same draws of blocks.

    Args:
        one: counts of a prediction.
        other: counts of another on the same blocks.
        metrics: figures from summed counts.
        seed: see `resample`.
    """
    mine, theirs = metrics(resample(one, seed=seed)), metrics(resample(other, seed=seed))
    if len(next(iter(one.values()))) < 2:
        return dict.fromkeys(mine)
    return {name: interval(mine[name] - theirs[name]) for name in mine if name in theirs}
