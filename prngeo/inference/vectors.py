"""From the finished rasters of a scene to its polygons and centerlines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prngeo.files import Finished, file_hash
from prngeo.inference.chunks import PixelCounts
from prngeo.inference.job import Job
from prngeo.inference.outputs import LINES, raster_name
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import CHANGED, part_name, part_specs
from prngeo.inference.result import TargetSummary
from prngeo.progress import Progress, Report
from prngeo.qgis.styles import line_style, polygon_style
from prngeo.vectorize.polygons import polygonize
from prngeo.vectorize.write import style_paths, write_layers

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
        layers: dict[str, GeoDataFrame] = {}
        styles: dict[str, str] = {}
        summaries: dict[str, TargetSummary] = {}
        for number, target in enumerate(job.targets):
            report(Progress(job.scene.name, "vectorize", number, targets))
            frames = _layers(job, hidden, target.name)
            layers |= frames
            styles |= {name: polygon_style(name) if name == target.name else line_style(target.name) for name in frames}
            summaries[target.name] = _summary(job, target.name, frames, counts[target.name])
        files = write_layers(layers, hidden / job.scene.name, job.options.format, styles)
        hashes = {path.name: file_hash(path) for path in (*files, *style_paths(files, job.options.format))}
        facts = {"names": list(hashes), "targets": {name: asdict(summary) for name, summary in summaries.items()}}
        finished.put(STEP, hashes, facts)
    report(Progress(job.scene.name, "vectorize", targets, targets))
    return facts["names"], {name: TargetSummary(**summary) for name, summary in facts["targets"].items()}


def _layers(job: Job, hidden: Path, target: str) -> dict[str, GeoDataFrame]:
    """Polygons of a target, and its centerlines if it has any."""
    scene, options = job.scene, job.options
    pixel_size = None if scene.crs else float(np.sqrt(scene.gsd[0] * scene.gsd[1]))
    if pixel_size is not None and options.grid == "model":
        pixel_size *= float(np.sqrt(scene.factor[0] * scene.factor[1]))
    mask, probability = (hidden / raster_name(scene.name, target, kind) for kind in ("mask", "probability"))
    layers = {
        target: polygonize(
            mask,
            probability,
            Parts(hidden, part_specs(job)).raster(part_name(target, CHANGED), job.chunks()),
            value=1,
            min_area=options.min_area,
            min_hole=options.min_hole,
            simplify=options.simplify,
            regularize=options.regularize and target == STRAIGHT,
            split=options.split if target == STRAIGHT else None,
            pixel_size=pixel_size,
        )
    }
    if target in LINES:
        from prngeo.vectorize.centerlines import centerlines

        layers[LINES[target]] = centerlines(mask, probability, value=1, pixel_size=pixel_size)
    return layers


def _summary(job: Job, target: str, layers: dict[str, GeoDataFrame], count: PixelCounts) -> TargetSummary:
    plan = next(plan for plan in job.targets if plan.name == target)
    return TargetSummary(
        area_m2=float(layers[target]["area_m2"].sum()),
        polygons=len(layers[target]),
        valid_pixels=count.valid,
        mask_pixels=count.mask,
        changed_pixels=count.changed,
        threshold=plan.final.threshold,
        refined=job.refine[plan.channel],
        length_m=float(layers[LINES[target]]["length_m"].sum()) if target in LINES else None,
    )
