"""From the finished rasters of a scene to its polygons and centerlines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prngeo.files import Finished, file_hash
from prngeo.inference.chunks import PixelCounts
from prngeo.inference.job import Job
from prngeo.inference.memory import trim
from prngeo.inference.outputs import LINES, raster_name
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import CHANGED, part_name, part_specs
from prngeo.inference.result import TargetSummary
from prngeo.progress import Progress, Report
from prngeo.qgis.styles import line_style, polygon_style
from prngeo.vectorize.polygons import PolygonOptions, polygon_batches
from prngeo.vectorize.write import Made, style_paths, write_layers

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

STRAIGHT = "buildings"
"""The target whose polygons are split and regularized."""
STEP = "vectors"


def make_vectors(
    job: Job, hidden: Path, counts: dict[str, PixelCounts], report: Report
) -> tuple[list[str], dict[str, TargetSummary]]:
    """Vectorize the masks in the hidden folder, unless that was done before.

    Returns:
        Names of the vector files and their styles, and the summary of each target.

    Raises:
        PrngeoError: a file cannot be written.
    """
    finished, targets = Finished(hidden), len(job.targets)
    facts = finished.facts(STEP)
    if facts is None or not finished.sound(STEP):
        makers: dict[str, Callable[[], Iterable[GeoDataFrame]]] = {}
        styles: dict[str, str] = {}
        figures: dict[str, _Figures] = {target.name: _Figures() for target in job.targets}
        for number, target in enumerate(job.targets):
            told = Progress(job.scene.name, "vectorize", number, targets)
            makers[target.name] = partial(_polygons, job, hidden, target.name, figures[target.name], report, told)
            styles[target.name] = polygon_style(target.name)
            if target.name in LINES:
                makers[LINES[target.name]] = partial(_lines, job, hidden, target.name, figures[target.name])
                styles[LINES[target.name]] = line_style(target.name)
        files = write_layers(Made(makers), hidden / job.scene.name, job.options.format, styles)
        hashes = {path.name: file_hash(path) for path in (*files, *style_paths(files, job.options.format))}
        summaries = {name: asdict(_summary(job, name, found, counts[name])) for name, found in figures.items()}
        facts = {"names": list(hashes), "targets": summaries}
        finished.put(STEP, hashes, facts)
    report(Progress(job.scene.name, "vectorize", targets, targets))
    return facts["names"], {name: TargetSummary(**summary) for name, summary in facts["targets"].items()}


@dataclass
class _Figures:
    """What is summed up of a target's vectors before they are let go."""

    area_m2: float = 0.0
    polygons: int = 0
    length_m: float | None = None


def _polygons(
    job: Job, hidden: Path, target: str, figures: _Figures, report: Report, told: Progress
) -> Iterator[GeoDataFrame]:
    report(told)
    trim()
    options = PolygonOptions(
        value=1,
        min_area=job.options.min_area,
        min_hole=job.options.min_hole,
        simplify=job.options.simplify,
        regularize=job.options.regularize and target == STRAIGHT,
        split=job.options.split if target == STRAIGHT else None,
        pixel_size=_pixel_size(job),
    )
    changed = Parts(hidden, part_specs(job)).raster(part_name(target, CHANGED), job.chunks())
    most, held = job.options.max_memory, job.options.format != "gpkg"
    for part in polygon_batches(*_rasters(job, hidden, target), changed, options, most, held):
        figures.area_m2 += float(part["area_m2"].sum())
        figures.polygons += len(part)
        yield part


def _lines(job: Job, hidden: Path, target: str, figures: _Figures) -> list[GeoDataFrame]:
    from prngeo.vectorize.centerlines import centerlines

    trim()
    frame = centerlines(
        *_rasters(job, hidden, target), value=1, pixel_size=_pixel_size(job), max_memory=job.options.max_memory
    )
    figures.length_m = float(frame["length_m"].sum())
    return [frame]


def _rasters(job: Job, hidden: Path, target: str) -> tuple[Path, Path]:
    mask, probability = (hidden / raster_name(job.scene.name, target, kind) for kind in ("mask", "probability"))
    return mask, probability


def _pixel_size(job: Job) -> float | None:
    """A pixel's side in metres where the coordinate system does not tell it."""
    scene = job.scene
    if scene.crs:
        return None
    side = float(np.sqrt(scene.gsd[0] * scene.gsd[1]))
    return side * float(np.sqrt(scene.factor[0] * scene.factor[1])) if job.options.grid == "model" else side


def _summary(job: Job, target: str, figures: _Figures, count: PixelCounts) -> TargetSummary:
    plan = next(plan for plan in job.targets if plan.name == target)
    return TargetSummary(
        area_m2=figures.area_m2,
        polygons=figures.polygons,
        valid_pixels=count.valid,
        mask_pixels=count.mask,
        changed_pixels=count.changed,
        threshold=plan.final.threshold,
        refined=job.refine[plan.channel],
        length_m=figures.length_m,
    )
