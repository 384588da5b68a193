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
from prngeo.evaluation.picture import Picture
from prngeo.evaluation.pixel import LEVELS, Floats, mask_flags
from prngeo.evaluation.scores import ScoreCounts
from prngeo.progress import Progress, Report
from prngeo.raster.sources import Reading, Source
from prngeo.tiling.dilate import dilate
from prngeo.tiling.grid import Grid, Window

WINDOW = 2048
"""Side of the windows that are read, in pixels, if a block is no larger."""
MOST_BLOCKS = 4096
WIDEST = 1024
"""Pixels around a window that are read for metrics with a tolerance, at most."""

_SUMS = ("tp", "fp", "fn", "tn", "near_predicted", "near_true", "edge_common", "edge_any")


@dataclass
class Judged:
    """What was counted of one prediction.

    Attributes:
        name: prediction or baseline.
        table: counts by name, one row a block with a known pixel.
        scores: counts of its probabilities, if it has any.
        picture: where it is right and wrong.
        objects: predicted objects and their matching, if objects were compared.
    """

    name: str
    table: dict[str, Floats]
    scores: ScoreCounts | None
    picture: Picture
    objects: tuple[Objects, Matching] | None


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
    """

    block: int
    grid: Grid
    blocks: NDArray[np.int64]
    known: NDArray[np.int64]
    judged: list[Judged]
    true_objects: Objects | None


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
    window = block = options.block
    while len(Grid(*extent.shape, block)) > MOST_BLOCKS:
        block *= 2
    while window * 2 <= WINDOW:  # a window holds whole blocks, or a block whole windows
        window *= 2
    run = _Run(inputs, options, scratch, objects, Grid(*extent.shape, block))
    grid = Grid(*extent.shape, window)
    name = Path(inputs.predictions[0].path).name
    for done, index in enumerate(grid.indices()):
        report(Progress(name, "compare", done, len(grid)))
        run.add(grid.window(index).intersect(extent))
    report(Progress(name, "compare", len(grid), len(grid)))
    return run.finish()


@dataclass
class _Counting:
    """The state of one prediction during the pass."""

    prediction: Prediction
    sums: dict[str, NDArray[np.int64]]
    scores: ScoreCounts | None
    labels: Labels | Numbered | None
    picture: Picture
    overlaps: Overlaps = field(default_factory=Overlaps)


class _Run:
    def __init__(self, inputs: Inputs, options: EvaluateOptions, scratch: Path, objects: bool, blocks: Grid) -> None:
        self.inputs, self.blocks = inputs, blocks
        gsd_x, gsd_y = inputs.ground.gsd
        self.relax = options.relax / gsd_y, options.relax / gsd_x
        # Less than a pixel would leave no band at all.
        self.boundary = max(1.0, options.boundary / gsd_y), max(1.0, options.boundary / gsd_x)
        self.margin = math.ceil(max(*self.relax, *self.boundary)) + 1
        if self.margin > WIDEST:
            raise UsageError(
                f"--relax {options.relax:g} and --boundary {options.boundary:g} reach {self.margin} pixels here; at "
                f"most {WIDEST} can be looked at. Give smaller lengths, or compare on coarser pixels."
            )
        shape = blocks.rows, blocks.cols
        self.known = np.zeros(shape, np.int64)
        self.seen: dict[str, int] = {}
        self.true_labels = _labels(inputs.truth, blocks.width) if objects else None
        self.counting = []
        for number, prediction in enumerate(inputs.predictions):
            folder = scratch / str(number)
            folder.mkdir()
            self.counting.append(
                _Counting(
                    prediction,
                    {name: np.zeros(shape, np.int64) for name in _SUMS},
                    ScoreCounts(folder, blocks) if prediction.scores is not None else None,
                    _labels(prediction.source, blocks.width) if objects else None,
                    Picture(blocks.height, blocks.width),
                )
            )

    def add(self, core: Window) -> None:
        """Count a window; windows come in row-major order."""
        outer = core.expand(self.margin).intersect(self.blocks.extent)
        here = core.within(outer)
        truth = self.inputs.truth.read(outer)
        readings = [one.prediction.source.read(outer) for one in self.counting]
        scores = [_scores(one, reading, outer) for one, reading in zip(self.counting, readings, strict=True)]
        parts = [part.known[here] for part in (truth, *readings, *scores) if part is not None]
        known = self.inputs.common(core, parts)
        self._note(self.inputs.truth, truth, here)
        true = truth.mask[here] & known
        numbers = _number(self.true_labels, core, true, truth, here)
        for one, reading in zip(self.counting, readings, strict=True):
            self._note(one.prediction.source, reading, here)
            mine = _number(one.labels, core, reading.mask[here] & known, reading, here)
            if mine is not None and numbers is not None:
                one.overlaps.add(mine, numbers)
        if not known.any():
            return
        at = self._blocks_of(core)
        self.known[at] += _by_block(known, self.blocks.size)
        near_truth, edge_true = dilate(truth.mask, *self.relax)[here], self._edge(truth)[here]
        for one, reading, score in zip(self.counting, readings, scores, strict=True):
            predicted, edge = reading.mask[here] & known, self._edge(reading)[here]
            near = dilate(reading.mask, *self.relax)[here]
            flags = mask_flags(predicted, true, known, near, near_truth) | {
                "edge_common": edge & edge_true & known,
                "edge_any": (edge | edge_true) & known,
            }
            for name, flag in flags.items():
                one.sums[name][at] += _by_block(flag, self.blocks.size)
            one.picture.add(core, known, true, predicted)
            if one.scores is not None and score is not None and score.probability is not None:
                one.scores.add(core, score.probability[here], known, true)

    def _note(self, source: Source, reading: Reading, here: tuple[slice, slice]) -> None:
        self.seen[source.what] = self.seen.get(source.what, 0) + int(np.count_nonzero(reading.known[here]))

    def _edge(self, reading: Reading) -> NDArray[np.bool_]:
        """Object pixels within the boundary's width of known background."""
        return reading.mask & dilate(reading.known & ~reading.mask, *self.boundary)

    def _blocks_of(self, core: Window) -> tuple[slice, slice]:
        side = self.blocks.size
        rows = slice(core.row // side, -(-core.row_end // side))
        return rows, slice(core.col // side, -(-core.col_end // side))

    def finish(self) -> Collected:
        """Counts by block, and objects matched.

        Raises:
            UsageError: no pixel is known in all inputs.
        """
        if not self.known.any():
            raise UsageError(self._nothing_known())
        blocks = np.argwhere(self.known > 0)
        true_objects = self.true_labels.finish() if self.true_labels is not None else None
        judged = [self._judged(one, blocks, true_objects) for one in self.counting]
        return Collected(self.blocks.size, self.blocks, blocks, self.known[self.known > 0], judged, true_objects)

    def _judged(self, one: _Counting, blocks: NDArray[np.int64], true_objects: Objects | None) -> Judged:
        rows, cols = blocks.T
        table = {name: counts[rows, cols].astype(np.float64) for name, counts in one.sums.items()}
        if one.scores is not None:
            table["bins"] = one.scores.bins[rows, cols]
            table["levels"] = _levels(one.scores.patches, self.blocks.size // PATCH, blocks)
        compared = None
        if one.labels is not None and true_objects is not None:
            mine = one.labels.finish()
            matching = match(mine, true_objects, *one.overlaps.finish(mine, true_objects))
            of = self._block_number(mine, blocks), self._block_number(true_objects, blocks)
            table["objects"] = block_counts(matching, *of, len(blocks))
            compared = mine, matching
        return Judged(one.prediction.name, table, one.scores, one.picture, compared)

    def _block_number(self, objects: Objects, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the block in which each object begins."""
        number = np.full(len(self.blocks), -1)
        number[blocks[:, 0] * self.blocks.cols + blocks[:, 1]] = np.arange(len(blocks))
        row, col = np.divmod(objects.first, self.blocks.width)
        found: NDArray[np.int64] = number[row // self.blocks.size * self.blocks.cols + col // self.blocks.size]
        return found

    def _nothing_known(self) -> str:
        for what, seen in self.seen.items():
            if not seen:
                return (
                    f"{what} holds no valid pixel on the pixels of the comparison: it is all nodata, or of another "
                    "place. Check its extent and nodata value with `gdalinfo`."
                )
        aoi = " and inside --aoi (by their centers)" if self.inputs.aoi is not None else ""
        return f"No pixel is valid in {', '.join(self.seen)} at once{aoi}: they know different parts of the scene."


def _labels(source: Source, width: int) -> Labels | Numbered:
    return Numbered(source.objects, width) if source.kind == "polygons" else Labels(width)


def _scores(one: _Counting, reading: Reading, outer: Window) -> Reading | None:
    scores = one.prediction.scores
    return reading if scores is one.prediction.source else None if scores is None else scores.read(outer)


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
    rows, cols = (range(0, side, block) for side in flag.shape)
    counts = [[np.count_nonzero(flag[row : row + block, col : col + block]) for col in cols] for row in rows]
    return np.array(counts)


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
