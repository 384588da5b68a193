"""The whole of a prediction: from one scene to rasters, polygons and a record."""

from __future__ import annotations

import functools
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import rasterio

from prngeo.errors import UsageError
from prngeo.files import publish, refuse_existing, refuse_inputs, scratch_folder, staging
from prngeo.inference.chunks import PixelCounts, chunk_result
from prngeo.inference.job import Job, prepare
from prngeo.inference.memory import gdal_cache
from prngeo.inference.mosaic import Networks
from prngeo.inference.options import Device, PredictOptions
from prngeo.inference.outputs import (
    KINDS,
    LINES,
    Kind,
    layer_names,
    project_name,
    raster_name,
    raster_spec,
    raster_style,
)
from prngeo.inference.project import write_scene_project
from prngeo.inference.record import make_record
from prngeo.inference.result import PredictResult, TargetSummary, peak_memory
from prngeo.inference.warnings import position_warnings, scene_warnings
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.progress import Progress, Report, silent
from prngeo.qgis.styles import line_style, polygon_style, style_path, write_sidecar
from prngeo.raster.cog import RasterSpec, RasterWriter, finish_cog
from prngeo.raster.store import TileStore
from prngeo.vectorize.polygons import polygonize
from prngeo.vectorize.write import style_paths, vector_paths, write_layers

STRAIGHT = "buildings"
"""The target whose polygons are split and regularized."""

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from prngeo.models.onnx_runtime import OnnxRuntime
    from prngeo.models.runtime import Runtime


def predict(
    scene: str | Path,
    output: str | Path | None = None,
    options: PredictOptions | None = None,
    report: Report = silent,
) -> PredictResult:
    """Segment a scene into georeferenced rasters and polygons.

    Args:
        scene: any raster GDAL opens: path, /vsi name or URL.
        output: folder of the outputs, created if missing; the scene's own folder if None (the current folder for
            a remote scene).
        options: see PredictOptions.
        report: is told of every step.

    Returns:
        Paths and figures.

    Raises:
        UsageError: an argument, an option or the scene does not suit; nothing was written.
        PrngeoError: the run failed; nothing is left behind.
    """
    started = time.monotonic()
    options = options or PredictOptions()
    with rasterio.Env(GDAL_CACHEMAX=gdal_cache(options.max_memory)), prepare(scene, output, options) as job:
        record = job.folder / f"{job.scene.name}.json"
        project = job.folder / project_name(job.scene.name)
        layers = layer_names(target.name for target in job.targets)
        vectors = vector_paths(job.folder / job.scene.name, options.format, layers)
        rasters = {
            target.name: {kind: job.folder / raster_name(job.scene.name, target.name, kind) for kind in _kinds(options)}
            for target in job.targets
        }
        every = [path for kinds in rasters.values() for path in kinds.values()]
        outputs = [*every, *map(style_path, every), *vectors, *style_paths(vectors, options.format), project, record]
        refuse_inputs(outputs, [path for path in (scene, options.aoi) if path is not None])
        refuse_existing(outputs, options.overwrite)
        if job.scene.valid_share == 0:
            raise UsageError(
                f"{scene} holds no valid pixel: all of it is nodata, transparent or masked. Check its nodata value "
                "and alpha band with `gdalinfo -stats`."
            )
        warnings = [*position_warnings(job.scene, job.card), *scene_warnings(job.scene, job.card)]
        runtime = _runtime(job.bundle, options)
        with staging(job.folder, job.scene.name) as hidden:
            timings, counts = _rasters(job, runtime, hidden, report)
            if not any(count.valid for count in counts.values()):
                raise UsageError(
                    f"--aoi {options.aoi} covers no valid pixel of {scene}: no pixel's center lies inside its "
                    "polygons, or only nodata does."
                )
            names, summaries = _vectors(job, hidden, counts, report, timings)
            seconds = time.monotonic() - started
            content = make_record(job, runtime.facts(), timings, summaries, seconds, warnings)
            unnamed = write_scene_project(content, job.scene.name, hidden, job.folder, scene).warning
            warnings += [unnamed] if unnamed else []
            content["warnings"] = warnings
            (hidden / record.name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            publish(hidden, job.folder, [*names, project.name, record.name])
    pixels = job.scene.height * job.scene.width / 1e6
    return PredictResult(
        str(scene),
        job.folder,
        rasters,
        vectors,
        project,
        record,
        summaries,
        seconds,
        pixels / seconds,
        peak_memory(),
        warnings,
    )


def _kinds(options: PredictOptions) -> tuple[Kind, ...]:
    return KINDS if options.refine else ("probability", "mask")


def _runtime(bundle: Bundle, options: PredictOptions) -> Runtime | OnnxRuntime:
    """The networks, kept for the next scene of the same run."""
    return _runtime_of(bundle.path, tuple(bundle.files.values()), options.device, options.tta)


@functools.lru_cache(maxsize=1)
def _runtime_of(path: Path, digests: tuple[str, ...], device: Device, tta: bool) -> Runtime | OnnxRuntime:
    bundle = open_bundle(path)
    if bundle.card.graphs is not None:
        from prngeo.models.onnx_runtime import OnnxRuntime

        return OnnxRuntime(bundle, device, tta)
    from prngeo.models.devices import choose_compute
    from prngeo.models.runtime import Runtime

    return Runtime(bundle, choose_compute(device), tta)


def _rasters(
    job: Job, runtime: Networks, hidden: Path, report: Report
) -> tuple[dict[str, float], dict[str, PixelCounts]]:
    """Compute all chunks and finish the COGs in the hidden folder."""
    started = time.monotonic()
    name = job.scene.name
    counts = {target.name: PixelCounts() for target in job.targets}
    chunks = job.chunks()
    specs = _specs(job)
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(job.options.scratch or hidden))
        writers = {key: stack.enter_context(RasterWriter(_part(hidden, *key), spec)) for key, spec in specs.items()}
        seen = 0

        def on_tile(_: bool) -> None:
            nonlocal seen
            seen += 1
            report(Progress(name, "segment", seen, mosaic.tiles))

        source = stack.enter_context(job.scene.reopen())
        mosaic = job.mosaic(source, runtime, TileStore(job.memory.store, scratch), chunks, on_tile)
        for chunk in chunks:
            logits = job.resampling.read(mosaic, chunk)
            valid = job.valid(chunk)
            if not valid.any():
                continue
            for target in job.targets:
                result = chunk_result(logits, valid, target)
                counts[target.name].add(result)
                for kind in (*_kinds(job.options), "changed"):
                    writers[target.name, kind].write(chunk, getattr(result, kind))
    timings = {"segment_and_refine": time.monotonic() - started}
    started = time.monotonic()
    for number, ((target_name, kind), spec) in enumerate(specs.items()):
        report(Progress(name, "finish", number, len(specs)))
        if kind != "changed":
            part = _part(hidden, target_name, kind)
            finish_cog(part, hidden / raster_name(name, target_name, cast(Kind, kind)), spec)
            part.unlink()
    report(Progress(name, "finish", len(specs), len(specs)))
    timings["finish"] = time.monotonic() - started
    return timings, counts


def _specs(job: Job) -> dict[tuple[str, str], RasterSpec]:
    specs = {}
    for target in job.targets:
        tags = {
            "PRNGEO_MODEL": f"{job.card.name} {job.card.version}",
            "PRNGEO_TARGET": target.name,
            "PRNGEO_THRESHOLD": f"{target.final.threshold:g}",
            "PRNGEO_REFINED": str(job.refine[target.channel]),
        }
        for kind in _kinds(job.options):
            specs[target.name, str(kind)] = raster_spec(job.grid, target.name, kind, tags)
        specs[target.name, "changed"] = raster_spec(job.grid, target.name, "mask", tags)
    return specs


def _part(hidden: Path, target: str, kind: str) -> Path:
    return hidden / f"part_{target}_{kind}.tif"


def _vectors(
    job: Job, hidden: Path, counts: dict[str, PixelCounts], report: Report, timings: dict[str, float]
) -> tuple[list[str], dict[str, TargetSummary]]:
    """Polygons, styles and summaries; returns the names of all finished files."""
    started = time.monotonic()
    scene, options = job.scene, job.options
    layers, summaries, names, styles = {}, {}, [], {}
    pixel_size = None if scene.crs else float(np.sqrt(scene.gsd[0] * scene.gsd[1]))
    if pixel_size is not None and options.grid == "model":
        pixel_size *= float(np.sqrt(scene.factor[0] * scene.factor[1]))
    for number, target in enumerate(job.targets):
        report(Progress(scene.name, "vectorize", number, len(job.targets)))
        for kind in _kinds(options):
            raster = hidden / raster_name(scene.name, target.name, kind)
            names += [raster.name, write_sidecar(raster, raster_style(kind, target.name)).name]
        frame = polygonize(
            hidden / raster_name(scene.name, target.name, "mask"),
            hidden / raster_name(scene.name, target.name, "probability"),
            _part(hidden, target.name, "changed"),
            value=1,
            min_area=options.min_area,
            min_hole=options.min_hole,
            simplify=options.simplify,
            regularize=options.regularize and target.name == STRAIGHT,
            split=options.split if target.name == STRAIGHT else None,
            pixel_size=pixel_size,
        )
        layers[target.name] = frame
        styles[target.name] = polygon_style(target.name)
        count, length = counts[target.name], None
        if target.name in LINES:
            lines = _centerlines(job, hidden, target.name, pixel_size)
            layers[LINES[target.name]], styles[LINES[target.name]] = lines, line_style(target.name)
            length = float(lines["length_m"].sum())
        summaries[target.name] = TargetSummary(
            area_m2=float(frame["area_m2"].sum()),
            polygons=len(frame),
            valid_pixels=count.valid,
            mask_pixels=count.mask,
            changed_pixels=count.changed,
            threshold=target.final.threshold,
            refined=job.refine[target.channel],
            length_m=length,
        )
    files = write_layers(layers, hidden / scene.name, options.format, styles)
    names += [path.name for path in (*files, *style_paths(files, options.format))]
    report(Progress(scene.name, "vectorize", len(job.targets), len(job.targets)))
    timings["vectorize"] = time.monotonic() - started
    return names, summaries


def _centerlines(job: Job, hidden: Path, target: str, pixel_size: float | None) -> GeoDataFrame:
    from prngeo.vectorize.centerlines import centerlines

    mask, probability = (hidden / raster_name(job.scene.name, target, kind) for kind in ("mask", "probability"))
    return centerlines(mask, probability, value=1, pixel_size=pixel_size)
