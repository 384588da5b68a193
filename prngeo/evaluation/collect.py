"""The one pass over the pixels: windows of all sources become counts of blocks, patches, objects and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.evaluation.bias import PATCH, PatchHistograms
from prngeo.evaluation.inputs import Inputs, Prediction
from prngeo.evaluation.objects import Labels, Matching, Numbered, Objects, Overlaps, block_counts, match
from prngeo.evaluation.options import EvaluateOptions
from prngeo.evaluation.pixel import BINS, LEVELS, STEP, Floats, bin_of, ratio
from prngeo.evaluation.sources import Reading, Source
from prngeo.evaluation.values import level_of
from prngeo.progress import Progress, Report
from prngeo.tiling.dilate import dilate
from prngeo.tiling.grid import Grid, Window

WINDOW = 2048
"""Side of the windows that are read, in pixels, if a block is no larger."""
MOST_BLOCKS = 4096
PICTURE = 900
"""Side of the overview picture in pixels, at most."""


@dataclass
class Judged:
    """What was counted of one prediction.

    Attributes:
        name: prediction or baseline.
        table: counts by name, one row a block with a known pixel.
        patches: histograms of its scores, if it has scores.
        level_pixels: (LEVELS,) pixels of every level of probability.
        level_sum: (LEVELS,) sum of their probabilities.
        objects: predicted objects and their matching, if objects were compared.
        picture: (h, w, 3) float: shares of true positives, false positives and false negatives in a cell.
    """

    name: str
    table: dict[str, Floats]
    patches: PatchHistograms | None
    level_pixels: Floats
    level_sum: Floats
    picture: Floats
    objects: tuple[Objects, Matching] | None = None

    @property
    def level_probability(self) -> Floats:
        """(LEVELS,) mean probability of a level's pixels; its lower end where there are none."""
        return np.where(self.level_pixels > 0, ratio(self.level_sum, self.level_pixels), np.arange(LEVELS) * STEP)


@dataclass
class Collected:
    """What was counted of all predictions.

    Attributes:
        block: side of a block in pixels.
        grid: blocks of the scene, anchored to its origin.
        blocks: (n, 2) row and column of the blocks with a known pixel.
        known: (n,) their known pixels.
        judged: the prediction and, if given, the baseline.
        true_objects: objects of the truth, if objects were compared.
        cell: side of a cell of the pictures in pixels.
        picture_known: (h, w) share of known pixels in a cell.
    """

    block: int
    grid: Grid
    blocks: NDArray[np.int64]
    known: NDArray[np.int64]
    judged: list[Judged]
    true_objects: Objects | None
    cell: int
    picture_known: Floats


def collect(inputs: Inputs, options: EvaluateOptions, scratch: Path, objects: bool, report: Report) -> Collected:
    """Read everything once.

    Args:
        inputs: what is compared.
        options: see EvaluateOptions.
        scratch: existing folder for histograms of patches.
        objects: compare objects too.
        report: is told of every window.

    Raises:
        UsageError: no pixel is known in all inputs.
        PrngeoError: a file could not be read.
    """
    extent = inputs.ground.grid.extent
    block = options.block
    while len(Grid(*extent.shape, block)) > MOST_BLOCKS:
        block *= 2
    run = _Run(inputs, options, scratch, objects, block)
    grid = Grid(*extent.shape, block * max(1, WINDOW // block))
    for done, index in enumerate(grid.indices()):
        report(Progress(Path(inputs.predictions[0].path).name, "compare", done, len(grid)))
        run.add(grid.window(index).intersect(extent))
    report(Progress(Path(inputs.predictions[0].path).name, "compare", len(grid), len(grid)))
    return run.finish()


@dataclass
class _Counting:
    """The state of one prediction during the pass."""

    prediction: Prediction
    sums: dict[str, NDArray[np.int64]]
    bins: Floats | None
    patches: PatchHistograms | None
    labels: Labels | Numbered | None
    picture: Floats
    known: int = 0
    overlaps: Overlaps = field(default_factory=Overlaps)
    level_pixels: Floats = field(default_factory=lambda: np.zeros(LEVELS))
    level_sum: Floats = field(default_factory=lambda: np.zeros(LEVELS))


_SUMS = ("tp", "fp", "fn", "tn", "near_predicted", "near_true", "edge_common", "edge_any")


class _Run:
    def __init__(self, inputs: Inputs, options: EvaluateOptions, scratch: Path, objects: bool, block: int) -> None:
        self.inputs, self.block = inputs, block
        extent = inputs.ground.grid.extent
        self.extent = extent
        self.blocks = Grid(*extent.shape, block)
        shape = self.blocks.rows, self.blocks.cols
        gsd_x, gsd_y = inputs.ground.gsd
        self.relax = options.relax / gsd_y, options.relax / gsd_x
        # Less than a pixel would leave no band at all.
        self.boundary = max(1.0, options.boundary / gsd_y), max(1.0, options.boundary / gsd_x)
        self.margin = math.ceil(max(*self.relax, *self.boundary)) + 1
        self.cell = max(1, -(-max(extent.shape) // PICTURE))
        cells = -(-extent.height // self.cell), -(-extent.width // self.cell)
        self.picture_known = np.zeros(cells)
        self.known = np.zeros(shape, np.int64)
        self.truth_known = 0
        self.true_labels = _labels(inputs.truth, extent.width) if objects else None
        self.counting = []
        for number, prediction in enumerate(inputs.predictions):
            scored = prediction.scores is not None
            folder = scratch / str(number)
            folder.mkdir()
            self.counting.append(
                _Counting(
                    prediction,
                    {name: np.zeros(shape, np.int64) for name in _SUMS},
                    np.zeros((*shape, BINS)) if scored else None,
                    PatchHistograms(folder, *(-(-side // PATCH) for side in extent.shape)) if scored else None,
                    _labels(prediction.source, extent.width) if objects else None,
                    np.zeros((*cells, 3)),
                )
            )

    def add(self, core: Window) -> None:
        outer = core.expand(self.margin).intersect(self.extent)
        here = core.within(outer)
        truth = self.inputs.truth.read(outer)
        readings = [one.prediction.source.read(outer) for one in self.counting]
        scores = [self._scores(one, reading, outer) for one, reading in zip(self.counting, readings, strict=True)]
        parts = [part.known[here] for part in (truth, *readings, *scores) if part is not None]
        known = self.inputs.known(core, *parts)
        self.truth_known += int(truth.known[here].sum())
        true = truth.mask[here] & known
        at = self._block_slices(core)
        self.known[at] += _by_block(known, self.block)
        self._draw(self.picture_known, known, core)
        numbers = _number(self.true_labels, core, true, truth, here)
        near_truth = dilate(truth.mask, *self.relax)[here] if known.any() else None
        edge_true = self._edge(truth)[here] if known.any() else None
        for one, reading, score in zip(self.counting, readings, scores, strict=True):
            one.known += int(reading.known[here].sum())
            predicted = reading.mask[here] & known
            mine = _number(one.labels, core, predicted, reading, here)
            if near_truth is None or edge_true is None:
                continue
            if mine is not None and numbers is not None:
                one.overlaps.add(mine, numbers)
            edge = self._edge(reading)[here]
            flags = {
                "tp": predicted & true,
                "fp": predicted & ~true,
                "fn": true & ~predicted,
                "tn": known & ~true & ~predicted,
                "near_predicted": predicted & near_truth,
                "near_true": true & dilate(reading.mask, *self.relax)[here],
                "edge_common": edge & edge_true & known,
                "edge_any": (edge | edge_true) & known,
            }
            for name, flag in flags.items():
                one.sums[name][at] += _by_block(flag, self.block)
            for channel, name in enumerate(("tp", "fp", "fn")):
                self._draw(one.picture[..., channel], flags[name], core)
            if score is not None and score.probability is not None:
                self._histograms(one, core, score.probability[here], known, true, at)

    def _scores(self, one: _Counting, reading: Reading, outer: Window) -> Reading | None:
        scores = one.prediction.scores
        return reading if scores is one.prediction.source else None if scores is None else scores.read(outer)

    def _edge(self, reading: Reading) -> NDArray[np.bool_]:
        """Object pixels within the boundary's width of known background."""
        return reading.mask & dilate(reading.known & ~reading.mask, *self.boundary)

    def _block_slices(self, core: Window) -> tuple[slice, slice]:
        rows = slice(core.row // self.block, -(-core.row_end // self.block))
        return rows, slice(core.col // self.block, -(-core.col_end // self.block))

    def _draw(self, picture: Floats, flag: NDArray[np.bool_], core: Window) -> None:
        """Add the share of each cell of the picture that is flagged."""
        rows = np.arange(core.row // self.cell, -(-core.row_end // self.cell))
        cols = np.arange(core.col // self.cell, -(-core.col_end // self.cell))
        starts = [np.maximum(rows * self.cell - core.row, 0), np.maximum(cols * self.cell - core.col, 0)]
        sums = np.add.reduceat(np.add.reduceat(flag, starts[0], axis=0, dtype=np.int32), starts[1], axis=1)
        picture[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] += sums / self.cell**2

    def _histograms(
        self,
        one: _Counting,
        core: Window,
        probability: Floats,
        known: NDArray[np.bool_],
        true: NDArray[np.bool_],
        at: tuple[slice, slice],
    ) -> None:
        level = level_of(probability)
        shape = -(-core.height // PATCH), -(-core.width // PATCH)
        patch = np.arange(core.height)[:, None] // PATCH * shape[1] + np.arange(core.width)[None, :] // PATCH
        key = ((patch * 2 + true) * LEVELS + level)[known]
        counts = np.bincount(key, minlength=shape[0] * shape[1] * 2 * LEVELS).reshape(*shape, 2, LEVELS)
        if one.patches is not None and one.bins is not None:
            one.patches.put(core.row // PATCH, core.col // PATCH, counts)
            block_shape = one.bins[at].shape[:2]
            block = np.arange(core.height)[:, None] // self.block * block_shape[1]
            key = ((block + np.arange(core.width)[None, :] // self.block) * BINS + bin_of(level))[known]
            sums = np.bincount(key, probability[known], block_shape[0] * block_shape[1] * BINS)
            one.bins[at] += sums.reshape(*block_shape, BINS)
        one.level_pixels += counts.sum((0, 1, 2))
        one.level_sum += np.bincount(level[known], probability[known], LEVELS)

    def finish(self) -> Collected:
        if not self.known.any():
            raise UsageError(self._nothing_known())
        blocks = np.argwhere(self.known > 0)
        true_objects = self.true_labels.finish() if self.true_labels is not None else None
        judged = [self._judged(one, blocks, true_objects) for one in self.counting]
        return Collected(
            self.block,
            self.blocks,
            blocks,
            self.known[self.known > 0],
            judged,
            true_objects,
            self.cell,
            self.picture_known,
        )

    def _judged(self, one: _Counting, blocks: NDArray[np.int64], true_objects: Objects | None) -> Judged:
        rows, cols = blocks.T
        table = {name: counts[rows, cols].astype(np.float64) for name, counts in one.sums.items()}
        if one.patches is not None and one.bins is not None:
            table["bins"] = one.bins[rows, cols]
            table["levels"] = _levels(one.patches, self.block // PATCH, blocks)
        compared = None
        if one.labels is not None and true_objects is not None:
            mine = one.labels.finish()
            matching = match(mine, true_objects, *one.overlaps.finish(mine, true_objects))
            of = self._block_number(mine, blocks), self._block_number(true_objects, blocks)
            table["objects"] = block_counts(matching, *of, len(blocks))
            compared = mine, matching
        return Judged(one.prediction.name, table, one.patches, one.level_pixels, one.level_sum, one.picture, compared)

    def _block_number(self, objects: Objects, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the block in which each object begins."""
        number = np.full(len(self.blocks), -1)
        number[blocks[:, 0] * self.blocks.cols + blocks[:, 1]] = np.arange(len(blocks))
        row, col = np.divmod(objects.first, self.extent.width)
        found: NDArray[np.int64] = number[row // self.block * self.blocks.cols + col // self.block]
        return found

    def _nothing_known(self) -> str:
        prediction, truth = self.counting[0], self.inputs.truth
        if not self.truth_known:
            return (
                f"{truth.what} holds no valid pixel on the pixels of the comparison: it is all nodata, or of another "
                "place. Check its extent and nodata value with `gdalinfo`."
            )
        if not prediction.known:
            return (
                f"{prediction.prediction.source.what} holds no valid pixel on the pixels of the comparison: it is all "
                "nodata, or of another place. Check its extent and nodata value with `gdalinfo`."
            )
        also = ", --aoi" if self.inputs.aoi is not None else ""
        return (
            f"No pixel is valid in {prediction.prediction.source.what}, {truth.what}{also} and what else was given at "
            "once: they know different parts of the scene."
        )


def _labels(source: Source, width: int) -> Labels | Numbered:
    return Numbered(source.objects, width) if source.kind == "polygons" else Labels(width)


def _number(
    labels: Labels | Numbered | None,
    core: Window,
    mask: NDArray[np.bool_],
    reading: Reading,
    here: tuple[slice, slice],
) -> NDArray[np.int64] | None:
    """Objects of a window, if objects are compared."""
    if labels is None:
        return None
    if isinstance(labels, Labels):
        return labels.add(core, mask)
    return None if reading.numbers is None else labels.add(core, np.where(mask, reading.numbers[here], 0))


def _by_block(flag: NDArray[np.bool_], block: int) -> NDArray[np.int64]:
    """Flagged pixels of every block of a window."""
    starts = [np.arange(0, side, block) for side in flag.shape]
    rows = np.add.reduceat(flag, starts[0], axis=0, dtype=np.int64)
    return np.asarray(np.add.reduceat(rows, starts[1], axis=1))


def _levels(patches: PatchHistograms, size: int, blocks: NDArray[np.int64]) -> Floats:
    """(blocks, 2, LEVELS) histograms of the blocks with a known pixel."""
    levels = np.zeros((len(blocks), 2, LEVELS))
    for number, part in _rows(patches, size):
        chosen = blocks[:, 0] == number
        levels[chosen] = part[blocks[chosen, 1]]
    return levels


def _rows(patches: PatchHistograms, size: int) -> Iterator[tuple[int, Floats]]:
    for start, part in patches.strips(size):
        yield from enumerate(part, start)
