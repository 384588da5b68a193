"""The one pass over test areas, through the path that `prngeo predict` takes: everything is counted by block.

Three masks are counted on the same pixels: of the base network at 0.5, of the base network at the single threshold
that validation chose, and of PRN, also where its gate is off and predictions do without it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prngeo.config import TrainConfig
from prngeo.evaluation.bootstrap import Table
from prngeo.evaluation.pixel import LEVELS, STEP, by_bin, mask_flags
from prngeo.evaluation.scores import level_counts
from prngeo.inference.chunks import stored_probability, threshold_level
from prngeo.inference.job import Job, prepare
from prngeo.inference.mosaic import Logits, Networks
from prngeo.inference.options import PredictOptions
from prngeo.models.bundle import Bundle
from prngeo.models.card import Calibration, Card
from prngeo.progress import Progress, Report
from prngeo.raster.store import TileStore
from prngeo.synth import write_town
from prngeo.tiling.dilate import dilate
from prngeo.tiling.grid import Grid, Window
from prngeo.training.logits import IN_MEMORY
from prngeo.training.regions import IGNORE, CachedRegion, Region
from prngeo.training.tiles import Ranking, Tile, worth_showing

BLOCK = 512
"""Side of a bootstrap block, and of a tile that is shown, in scene pixels."""
PATCH = 128
"""Side of a patch of the joint oracle in scene pixels; it divides a block."""
RELAX = 3.0
"""Tolerance of relaxed metrics in metres."""
BASE, TUNED, PRN = "base", "tuned", "prn"
"""The predictions: base network at 0.5 and at the tuned threshold, and PRN."""

Flags = NDArray[np.bool_]
Stored = NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """How the logits of one target become masks.

    Attributes:
        target: its name.
        channel: in the logits.
        calibrations: of the predictions that there are; PRN is missing if the model has no refiner.
        used: the prediction that `prngeo predict` writes: PRN if its gate is on, else the tuned one.
    """

    target: str
    channel: int
    calibrations: Mapping[str, Calibration]
    used: str

    def levels(self, logits: Logits) -> dict[str, Stored]:
        """Stored probabilities, 0..250, of every prediction."""
        base, correction = logits.base[self.channel], logits.correction[self.channel]
        found = dict.fromkeys((BASE, TUNED), stored_probability(base, self.calibrations[TUNED]))
        if PRN in self.calibrations:
            found[PRN] = stored_probability(base + correction, self.calibrations[PRN])
        return found


def plans(card: Card) -> list[Plan]:
    """How every target of a model becomes masks."""
    found = []
    for channel, (name, target) in enumerate(card.targets.items()):
        half = target.base.model_copy(update={"threshold": 0.5})
        calibrations = {BASE: half, TUNED: target.base}
        if card.refiner is not None:
            calibrations[PRN] = target.refined or Calibration()
        found.append(Plan(name, channel, calibrations, PRN if target.refine else TUNED))
    return found


@dataclass
class Area:
    """What was counted of one data set and target.

    Attributes:
        source: name of the data set.
        plan: the target.
        scenes: files of the scenes.
        rows: by prediction, counts of every block with a known pixel.
        patches: (n, 2, LEVELS) of every block, levels of the base network in patches with a true pixel.
    """

    source: str
    plan: Plan
    scenes: set[str] = field(default_factory=set)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    patches: list[NDArray[np.uint16]] = field(default_factory=list)

    def table(self, name: str) -> Table:
        """Counts of a prediction by block; without levels for BASE, whose probabilities are those of TUNED."""
        rows = self.rows[name]
        return {key: np.array([row[key] for row in rows], np.float64) for key in rows[0]}


def count_tests(
    config: TrainConfig, regions: Sequence[CachedRegion], bundle: Bundle, networks: Networks, report: Report
) -> tuple[list[Area], dict[str, Ranking]]:
    """Run a model over its test areas and count.

    Args:
        config: the run; it says how the scenes of a source are read.
        regions: of role test.
        bundle: the model with its gates and thresholds.
        networks: its runtime.
        report: is told of every block.

    Returns:
        What was counted of every data set and target with a known pixel; by target, its best and worst tiles.

    Raises:
        UsageError: a scene can no longer be read.
    """
    areas: dict[tuple[str, str], Area] = {}
    tiles = {name: Ranking() for name in bundle.card.targets}
    total = sum(len(Grid(*item.region.shape, BLOCK)) for item in regions)
    done = 0
    for item in regions:
        wanted = [plan for plan in plans(bundle.card) if plan.target in item.region.targets]
        for part in _parts(config, item, bundle, networks):
            report(Progress(config.name, "test", done, total))
            done += 1
            for plan in wanted:
                key = (item.region.source, plan.target)
                area = areas.get(key, Area(item.region.source, plan))
                if _count(area, item, part, tiles[plan.target]):
                    areas[key] = area
    report(Progress(config.name, "test", total, total))
    return list(areas.values()), tiles


@dataclass(frozen=True)
class _Part:
    """A block with a margin around, for metrics with a tolerance; both in pixels of the region."""

    core: Window
    outer: Window
    radius: tuple[float, float]
    logits: Logits
    valid: Flags


def _parts(config: TrainConfig, item: CachedRegion, bundle: Bundle, networks: Networks) -> Iterator[_Part]:
    """The blocks of a region; nothing beyond the region is looked at, so it counts as empty."""
    region = item.region
    radius = RELAX / region.gsd[1], RELAX / region.gsd[0]
    margin = math.ceil(max(radius)) + 1
    grid = Grid(*region.shape, BLOCK)
    cores = [grid.window(index).intersect(grid.extent) for index in grid.indices()]
    outers = [core.expand(margin).intersect(grid.extent) for core in cores]
    places = [outer.moved(region.window.row, region.window.col) for outer in outers]
    with _opened(config, region, bundle) as (job, scratch):
        refined = replace(job, refine=(bundle.card.refiner is not None,) * len(bundle.card.targets))
        mosaic = refined.mosaic(job.scene, networks, TileStore(IN_MEMORY, scratch), places)
        for core, outer, place in zip(cores, outers, places, strict=True):
            yield _Part(core, outer, radius, job.resampling.read(mosaic, place), job.valid(place))


@contextmanager
def _opened(config: TrainConfig, region: Region, bundle: Bundle) -> Iterator[tuple[Job, Path]]:
    """A region's scene as a prediction reads it, and a scratch folder; a town is written there first."""
    source = next((source for source in config.sources if source.name == region.source), None)
    gsd, bands = (source.gsd, source.bands) if source is not None else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = region.scene
        if path.startswith("synth:"):
            town = write_town(
                Path(folder) / "town.tif", size=region.shape[0], gsd=region.gsd[0], seed=int(path.split("=")[1])
            )
            path = str(town.scene)
        with prepare(path, folder, PredictOptions(model=bundle.path, gsd=gsd, bands=bands)) as job:
            yield job, Path(folder)


def _count(area: Area, item: CachedRegion, part: _Part, tiles: Ranking) -> bool:
    """Count a block of one target; False if no pixel of it is known."""
    plan = area.plan
    here = part.core.within(part.outer)
    labels = item.labels[
        part.outer.row : part.outer.row_end, part.outer.col : part.outer.col_end, plan.channel
    ]  # fmt: skip
    known = part.valid[here] & (labels[here] <= 1)
    if not known.any():
        return False
    area.scenes.add(item.region.scene)
    true = labels == 1
    near_true = dilate(true, *part.radius)[here]
    levels = plan.levels(part.logits)
    masks, ious = {}, {}
    for name, stored in levels.items():
        mask = part.valid & (stored >= threshold_level(plan.calibrations[name].threshold))
        flags = mask_flags(mask[here], true[here], known, dilate(mask, *part.radius)[here], near_true)
        row: dict[str, Any] = {key: int(np.count_nonzero(flag)) for key, flag in flags.items()}
        if name != BASE:
            patches = level_counts(stored[here].astype(np.int64), known, true[here], PATCH).reshape(-1, 2, LEVELS)
            row["levels"] = patches.sum(0)
            row["bins"] = by_bin(row["levels"].sum(0) * (np.arange(LEVELS) * STEP))
            if name == TUNED:
                area.patches.append(patches[patches[:, 1].any(-1)].astype(np.uint16))
        area.rows.setdefault(name, []).append(row)
        masks[name] = mask[here]
        ious[name] = row["tp"] / max(1, row["tp"] + row["fp"] + row["fn"])
    if worth_showing(known, true[here], min(BLOCK, item.region.shape[0]) * min(BLOCK, item.region.shape[1])):
        tiles.offer(
            ious[plan.used], lambda: _tile(area, item, part, masks, ious, np.where(known, labels[here], IGNORE))
        )
    return True


def _tile(
    area: Area,
    item: CachedRegion,
    part: _Part,
    masks: dict[str, Flags],
    ious: dict[str, float],
    truth: NDArray[np.uint8],
) -> Tile:
    core, region = part.core, item.region
    image = np.asarray(item.image[core.row : core.row_end, core.col : core.col_end, :-1])
    here = (slice(None), *core.within(part.outer))
    return Tile(
        source=region.source,
        scene=region.scene,
        window=core.moved(region.window.row, region.window.col),
        iou=ious,
        image=image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]],
        truth=truth,
        masks=masks,
        correction=part.logits.correction[here][area.plan.channel].astype(np.float16) if PRN in masks else None,
    )
