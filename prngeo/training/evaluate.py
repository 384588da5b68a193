"""IoU on test areas through the path that `prngeo predict` takes, with intervals from a bootstrap over blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.bootstrap import intervals, pooled
from prngeo.evaluation.pixel import Floats, ratio
from prngeo.inference.chunks import TargetPlan, chunk_result
from prngeo.inference.job import prepare
from prngeo.inference.mosaic import Logits, Networks
from prngeo.inference.options import PredictOptions
from prngeo.models.bundle import Bundle
from prngeo.models.card import AreaCard
from prngeo.raster.store import TileStore
from prngeo.synth import write_town
from prngeo.tiling.grid import Grid, Window
from prngeo.training.logits import IN_MEMORY
from prngeo.training.regions import CachedRegion

BLOCK = 512
"""Side of a bootstrap block in scene pixels."""


@dataclass
class Counts:
    """Confusion counts of every block of one data set and target.

    Attributes:
        base: rows of (true positives, false positives, false negatives), one a block.
        refined: the same after PRN (equal to base where the gate disabled it).
        pixels: labelled pixels.
        scenes: keys of the regions.
    """

    base: list[tuple[int, int, int]] = field(default_factory=list)
    refined: list[tuple[int, int, int]] = field(default_factory=list)
    pixels: int = 0
    scenes: set[str] = field(default_factory=set)


def evaluate_tests(
    regions: Iterable[CachedRegion], bundle: Bundle, networks: Networks, report: Callable[[str], None]
) -> list[AreaCard]:
    """Judge a bundle on its test regions, data set by data set.

    Args:
        regions: of role test.
        bundle: the model with its gates and thresholds.
        networks: its runtime.
        report: is told the key of every region.

    Returns:
        One entry a data set and target; those without positives are left out, as their IoU is undefined.
    """
    counts: dict[tuple[str, str], Counts] = {}
    for item in regions:
        report(item.region.key)
        for block, logits, valid, targets in _blocks(item, bundle, networks):
            here = slice(block.row, block.row_end), slice(block.col, block.col_end)
            for plan in targets:
                if plan.name in item.region.targets:
                    entry = counts.setdefault((item.region.source, plan.name), Counts())
                    entry.scenes.add(item.region.key)
                    _count(entry, logits, valid, item.labels[(*here, plan.channel)], plan)
    return [_summary(source, target, entry) for (source, target), entry in counts.items() if _positives(entry)]


def _blocks(
    item: CachedRegion, bundle: Bundle, networks: Networks
) -> Iterable[tuple[Window, Logits, NDArray[np.bool_], tuple[TargetPlan, ...]]]:
    """Blocks of a region with logits and validity at the scene's pixels, and how its targets become masks."""
    region = item.region
    grid = Grid(*region.shape, BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        path = region.scene
        gsd = region.gsd[0]
        if path.startswith("synth:"):
            path = str(
                write_town(Path(folder) / "town.tif", size=region.shape[0], gsd=gsd, seed=int(path.split("=")[1])).scene
            )
        with prepare(path, folder, PredictOptions(model=bundle.path, gsd=gsd)) as job:
            blocks = [grid.window(index).intersect(grid.extent) for index in grid.indices()]
            places = [Window(b.row + region.window.row, b.col + region.window.col, b.height, b.width) for b in blocks]
            mosaic = job.mosaic(job.scene, networks, TileStore(IN_MEMORY, Path(folder)), places)
            for block, place in zip(blocks, places, strict=True):
                yield block, job.resampling.read(mosaic, place), job.valid(place), job.targets


def _count(
    entry: Counts,
    logits: Logits,
    valid: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    plan: TargetPlan,
) -> None:
    known = valid & (labels <= 1)
    if not known.any():
        return
    result = chunk_result(logits, known, plan)
    truth = labels == 1
    refined = result.mask == 1
    entry.refined.append(_confusion(refined, truth, known))
    entry.base.append(_confusion(refined ^ (result.changed == 1), truth, known))
    entry.pixels += int(known.sum())


def _confusion(mask: NDArray[np.bool_], truth: NDArray[np.bool_], known: NDArray[np.bool_]) -> tuple[int, int, int]:
    return (
        int((mask & truth & known).sum()),
        int((mask & ~truth & known).sum()),
        int((~mask & truth & known).sum()),
    )


def _positives(entry: Counts) -> int:
    return sum(hits + missed for hits, _, missed in entry.base)


def _summary(source: str, target: str, entry: Counts) -> AreaCard:
    table = {"base": np.array(entry.base, float), "refined": np.array(entry.refined, float)}
    values, ends = _ious(pooled(table)), intervals(table, _ious)

    def rounded(name: str) -> tuple[float, float]:
        low, high = ends[name] or (float(values[name]),) * 2
        return round(low, 4), round(high, 4)

    return AreaCard(
        source=source,
        target=target,
        scenes=len(entry.scenes),
        megapixels=round(entry.pixels / 1e6, 2),
        base_iou=round(float(values["base"]), 4),
        refined_iou=round(float(values["refined"]), 4),
        blocks=len(entry.base),
        base_interval=rounded("base"),
        refined_interval=rounded("refined"),
        gain_interval=rounded("gain"),
    )


def _ious(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """IoU of (..., 3) true positives, false positives and false negatives, and the gain."""
    base, refined = (ratio(counts[name][..., 0], counts[name].sum(-1)) for name in ("base", "refined"))
    return {"base": base, "refined": refined, "gain": refined - base}
