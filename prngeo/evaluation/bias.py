"""Regional bias of a probability map: how much the best threshold of every patch would gain over a single one.

A segmentation network is often too sure in one part of a scene and too shy in another (Nagendra, Shen and Kifer, WACV
2024). Three figures, all IoU pooled over the scene, tell how much of that there is, before a refiner is trained:

- *tuned*: the best single threshold, chosen on this very truth;
- *joint oracle*: one threshold a patch, all chosen together with the truth (Dinkelbach, Management Science 1967: for a
  ratio L every patch takes the threshold that maximizes TP - L * (TP + FP + FN), L becomes the pooled IoU that this
  reaches, and so on until it no longer grows). No refiner can know that much: it is an upper bound;
- *neighbors*: every patch takes the threshold that its eight neighbors, and with the weight of one more the rest of the
  scene, choose. Its own truth is not looked at, so what this gains is bias that is really regional; much of what the
  oracle gains beyond it is noise that no neighborhood foretells.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import PrngeoError
from prngeo.evaluation.pixel import LEVELS, STEP, THRESHOLDS, Floats, ratio, tail_counts, threshold_curve

PATCH = 64
"""Side of the smallest patch in pixels."""
SIZES = (1, 2, 4, 8)
"""Sides of the patches that are compared, in smallest patches."""
LEAST_KNOWN = 0.25
"""Share of a patch that has to be labelled for it to get a place on the maps."""
_STRIP = 1 << 13  # histograms held at once: 16 MB in float64


class PatchHistograms:
    """Pixels of every patch by truth and level of probability, kept in a scratch file.

    Args:
        folder: existing folder for the file.
        rows: rows of smallest patches.
        cols: columns.

    Raises:
        PrngeoError: the disk is full.
    """

    def __init__(self, folder: Path, rows: int, cols: int) -> None:
        self.rows, self.cols = rows, cols
        shape = (rows, cols, 2, LEVELS)
        path, size = folder / "patches.bin", math.prod(shape) * np.dtype(np.uint16).itemsize
        try:
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # a full disk is told now, not by a crash when pages are written
                    os.posix_fallocate(file.fileno(), 0, size)
                elif shutil.disk_usage(folder).free < size:
                    raise OSError(errno.ENOSPC, "No space left on device")
                else:
                    file.truncate(size)
        except OSError as error:
            raise PrngeoError(
                f"Histograms of {rows * cols:,} patches need {size / 2**20:,.0f} MB in {folder.parent.parent}: "
                f"{error.strerror}. Free some space, or choose another folder with --scratch."
            ) from error
        self._counts = np.memmap(path, np.uint16, "r+", shape=shape)

    def put(self, row: int, col: int, counts: NDArray[np.integer]) -> None:
        """Store (r, c, 2, LEVELS) counts from a patch row and column on; a patch holds at most 4096 pixels."""
        self._counts[row : row + counts.shape[0], col : col + counts.shape[1]] = counts

    def grid(self, size: int) -> tuple[int, int]:
        """Rows and columns of patches of `size` x `size` smallest ones."""
        return -(-self.rows // size), -(-self.cols // size)

    def read(self, size: int, start: int, stop: int) -> Floats:
        """Counts of rows of larger patches.

        Args:
            size: side of a larger patch in smallest ones.
            start: first row of larger patches; may be negative, and rows outside hold 0.
            stop: one past the last.

        Returns:
            (stop - start, columns, 2, LEVELS) float64.
        """
        rows, cols = self.grid(size)
        result = np.zeros((stop - start, cols, 2, LEVELS))
        for row in range(max(start, 0), min(stop, rows)):
            strip = self._counts[row * size : (row + 1) * size].sum(0, dtype=np.float64)
            result[row - start] = np.add.reduceat(strip, np.arange(cols) * size, axis=0)
        return result

    def strips(self, size: int, margin: int = 0) -> Iterator[tuple[int, Floats]]:
        """First row and counts of strips that together hold all larger patches, with `margin` rows around each."""
        rows, cols = self.grid(size)
        step = max(1, _STRIP // (cols * 2) - 2 * margin)
        for start in range(0, rows, step):
            yield start, self.read(size, start - margin, min(start + step, rows) + margin)


@dataclass(frozen=True)
class Headroom:
    """What thresholds of patches would reach; IoU pooled over the scene.

    Attributes:
        patch: side of a patch in pixels.
        patches: number of patches with a labelled pixel.
        tuned: IoU of the best single threshold.
        neighbors: IoU where every patch takes the threshold of its neighbors; None for a single patch.
        joint: IoU of the joint oracle.
    """

    patch: int
    patches: int
    tuned: float
    neighbors: float | None
    joint: float


def tuned_threshold(levels: NDArray[np.generic]) -> tuple[float, float] | None:
    """The best single threshold and its IoU; None without a true pixel.

    Args:
        levels: (2, LEVELS) pixels by truth and level of probability.
    """
    curve = threshold_curve(levels)["iou"]
    if np.isnan(curve).all():
        return None
    best = int(np.nanargmax(curve))
    return float(THRESHOLDS[best]), float(curve[best])


def headroom(patches: PatchHistograms, size: int, tuned: float) -> Headroom:
    """Figures for patches of one size.

    Args:
        patches: of the scene, with at least one true pixel.
        size: side in smallest patches.
        tuned: IoU of the best single threshold.
    """
    count, total = 0, np.zeros((2, LEVELS))
    for _, part in patches.strips(size):
        count += int((part.sum((2, 3)) > 0).sum())
        total += part.sum((0, 1))
    reached = _Reached()
    for _, part in patches.strips(size, margin=1):
        own = part[1:-1]
        # The rest of the scene counts as one more neighbor, for patches that have few.
        reached.add(own, _cuts(_around(part) + (total - own) / count, tuned))
    neighbors = reached.iou if count > 1 else None
    return Headroom(size * PATCH, count, tuned, neighbors, joint_oracle(patches, size))


def joint_oracle(patches: PatchHistograms, size: int) -> float:
    """Pooled IoU of jointly optimal thresholds of all patches of one size; NaN without a true pixel."""
    return joint_iou(lambda: (part for _, part in patches.strips(size)))


def joint_iou(parts: Callable[[], Iterable[Floats]]) -> float:
    """Pooled IoU of jointly optimal thresholds; NaN without a true pixel.

    Args:
        parts: called until the optimum is found; gives the patches as arrays (..., 2, LEVELS). Those without a true
            pixel may be left out: nothing is predicted there.
    """
    best = 0.0
    while True:
        reached = _Reached()
        for part in parts():
            reached.add(part, _cuts(part, best))
        if not reached.iou > best:
            return reached.iou if reached.union else float("nan")
        best = reached.iou


def best_thresholds(levels: Floats, goal: float) -> Floats:
    """The threshold of every patch that maximizes TP - goal * (TP + FP + FN).

    Args:
        levels: (..., 2, LEVELS).
        goal: an IoU.

    Returns:
        (...,) probability; NaN without a true pixel, and more than 1 where predicting nothing is best.
    """
    cuts = _cuts(levels, goal) * STEP
    return np.where(levels[..., 1, :].sum(-1) > 0, cuts, np.nan)


class _Reached:
    def __init__(self) -> None:
        self.hits = self.union = 0.0

    def add(self, levels: Floats, cuts: NDArray[np.int64]) -> None:
        hits, false = (_with_nothing(part) for part in tail_counts(levels))
        self.hits += float(np.take_along_axis(hits, cuts[..., None], -1).sum())
        self.union += float(np.take_along_axis(false, cuts[..., None], -1).sum() + levels[..., 1, :].sum())

    @property
    def iou(self) -> float:
        return self.hits / self.union if self.union else float("nan")


def _cuts(levels: Floats, goal: float) -> NDArray[np.int64]:
    """(...,) the level from which a patch predicts; LEVELS for nothing. Of equally good ones the highest."""
    hits, false = tail_counts(levels)
    score = _with_nothing(hits) - goal * (_with_nothing(false) + hits[..., :1])
    return LEVELS - np.asarray(score[..., ::-1].argmax(-1))


def _with_nothing(tails: Floats) -> Floats:
    return np.concatenate([tails, np.zeros((*tails.shape[:-1], 1))], -1)


def _around(part: Floats) -> Floats:
    """Sums of the eight neighbors of patches; the first and last row are margins."""
    wide = np.pad(part, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    return np.asarray(rows[:-2] + rows[1:-1] + rows[2:] - part[1:-1])


@dataclass(frozen=True)
class BiasMaps:
    """One value a patch, float32 (rows, cols), NaN where too little is labelled.

    Attributes:
        patch: side of a patch in pixels.
        bias: mean probability minus share of true pixels: above 0 the map is over-confident, below 0 too shy.
        threshold: the threshold that is best for the patch (see `best_thresholds`), at most 1; NaN without truth.
    """

    patch: int
    bias: NDArray[np.float32]
    threshold: NDArray[np.float32]


def bias_maps(patches: PatchHistograms, size: int, goal: float, level_probability: Floats) -> BiasMaps:
    """Maps of bias and best threshold.

    Args:
        patches: of the scene.
        size: side of a patch of the maps in smallest patches.
        goal: the IoU that thresholds aim at, usually that of the best single one.
        level_probability: (LEVELS,) mean probability of the pixels of a level.
    """
    shape = patches.grid(size)
    bias, threshold = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for start, part in patches.strips(size):
        rows = slice(start, start + len(part))
        pixels = part.sum((2, 3))
        known = pixels >= LEAST_KNOWN * (size * PATCH) ** 2
        mean = ratio(part.sum(2) @ level_probability, pixels)
        bias[rows] = np.where(known, mean - ratio(part[..., 1, :].sum(-1), pixels), np.nan)
        threshold[rows] = np.where(known, np.minimum(best_thresholds(part, goal), 1.0), np.nan)
    return BiasMaps(size * PATCH, bias, threshold)
