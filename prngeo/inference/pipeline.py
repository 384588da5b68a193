"""The whole of a prediction: from one scene to rasters, polygons and a record."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rasterio

from prngeo.errors import UsageError
from prngeo.files import (
    Finished,
    empty,
    file_hash,
    publish,
    read_json,
    refuse_existing,
    refuse_inputs,
    staging,
    staging_folder,
    tidy,
)
from prngeo.inference.engine import Engine, open_engine
from prngeo.inference.job import Job, gdal_settings, output_folder, prepare
from prngeo.inference.memory import estimate, refuse_full
from prngeo.inference.options import PredictOptions
from prngeo.inference.outputs import Kind, layer_names, project_name, raster_name, raster_style
from prngeo.inference.project import write_scene_project
from prngeo.inference.rasters import make_rasters
from prngeo.inference.record import make_record
from prngeo.inference.result import PredictResult, TargetSummary
from prngeo.inference.resume import (
    PUBLISH,
    RunState,
    explained,
    identity_hash,
    is_told,
    moved_outputs,
    resume,
    run_identity,
)
from prngeo.inference.vectors import make_vectors
from prngeo.inference.warnings import position_warnings, scene_warnings
from prngeo.progress import Progress, Report, silent
from prngeo.qgis.styles import style_path, write_sidecar
from prngeo.raster.source import scene_name
from prngeo.vectorize.write import style_paths, vector_paths


def predict(
    scene: str | Path,
    output: str | Path | None = None,
    options: PredictOptions | None = None,
    report: Report = silent,
) -> PredictResult:
    """Segment a scene into georeferenced rasters and polygons.

    A run that fails, is interrupted or killed leaves its finished chunks in one hidden folder beside the outputs. The
    next run with the same scene, model and options continues there and gives the same pixels and rows as a run
    without a break; where something changed, or with `options.overwrite`, it starts afresh.

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
        PrngeoError: the run failed; the message says what is kept and how to continue.
        KeyboardInterrupt: the run was interrupted; so does its message. Nothing is kept if it was cancelled
            (prngeo.errors.Cancelled).
    """
    started = time.monotonic()
    options = options or PredictOptions()
    with rasterio.Env(**gdal_settings(options)), prepare(scene, output, options) as job:
        outputs = _Outputs.of(job)
        paths, hidden = outputs.paths(job), staging_folder(job.folder, job.scene.name)
        tidy(hidden)
        before = None if options.overwrite else RunState.read(hidden)
        refuse_inputs(paths, [*job.scene.files, *([options.aoi] if options.aoi else [])])
        moved = moved_outputs(hidden, job.folder)
        refuse_existing(
            [path for path in paths if path not in moved], options.overwrite or bool(before and before.replace)
        )
        if job.scene.valid_share == 0:
            raise UsageError(
                f"{scene} holds no valid pixel: all of it is nodata, transparent or masked. Check its nodata value "
                "and alpha band with `gdalinfo -stats`."
            )
        scratch = options.scratch or (None if options.dask else job.folder)
        if scratch and not options.dask:  # workers look for themselves
            refuse_full(job.memory, scratch)
        report(Progress(job.scene.name, "segment", note=estimate(job.memory, scratch, bool(options.dask))))
        with staging(job.folder, job.scene.name, resume=True), explained(hidden, options.overwrite):
            with open_engine(job, hidden, report) as engine:
                source = job.scene.identity()
                job = resume(job, run_identity(job, source, engine.facts), before, hidden, paths, report)
                facts = Finished(hidden).facts(PUBLISH) or _make(job, engine, hidden, source, started, report)
            publish(hidden, job.folder, facts["names"])
    seconds = time.monotonic() - started
    return PredictResult(
        str(scene),
        job.folder,
        outputs.rasters,
        outputs.vectors,
        outputs.project,
        outputs.record,
        {name: TargetSummary(**summary) for name, summary in facts["targets"].items()},
        seconds,
        facts["share"] * job.scene.height * job.scene.width / 1e6 / seconds,
        engine.peaks().memory,
        facts["warnings"],
    )


def finished_before(scene: str | Path, output: str | Path | None, options: PredictOptions) -> bool:
    """True if all outputs of a scene are there and their record tells that `predict` would make the same ones.

    What computes them may be another device or precision.

    Args:
        scene: see `predict`.
        output: see `predict`.
        options: see `predict`; with `overwrite` nothing counts as finished.

    Raises:
        UsageError: see `predict`.
    """
    folder, name = output_folder(scene, output), scene_name(str(scene))
    hidden, record = staging_folder(folder, name), read_json(folder / f"{name}.json")
    if options.overwrite or record is None or "identity" not in record:
        return False
    tidy(hidden)
    unfinished = RunState.read(hidden)
    if unfinished is not None and (unfinished.replace or Finished(hidden).files(PUBLISH)):
        return False  # outputs were to be replaced, and perhaps some are
    with rasterio.Env(**gdal_settings(options)), prepare(scene, output, options) as job:
        if not all(path.exists() for path in _Outputs.of(job).paths(job)):
            return False
        source = job.scene.identity()
        return is_told(source) and record["identity"] == identity_hash(run_identity(job, source, {}))


@dataclass(frozen=True)
class _Outputs:
    """Where the outputs of a job will lie."""

    rasters: dict[str, dict[Kind, Path]]
    vectors: list[Path]
    project: Path
    record: Path

    @staticmethod
    def of(job: Job) -> _Outputs:
        folder, name = job.folder, job.scene.name
        rasters = {
            target.name: {kind: folder / raster_name(name, target.name, kind) for kind in job.kinds}
            for target in job.targets
        }
        layers = layer_names(target.name for target in job.targets)
        vectors = vector_paths(folder / name, job.options.format, layers)
        return _Outputs(rasters, vectors, folder / project_name(name), folder / f"{name}.json")

    def paths(self, job: Job) -> list[Path]:
        """All files, with their styles."""
        rasters = [path for kinds in self.rasters.values() for path in kinds.values()]
        styles = [*map(style_path, rasters), *style_paths(self.vectors, job.options.format)]
        return [*rasters, *styles, *self.vectors, self.project, self.record]


def _make(
    job: Job, engine: Engine, hidden: Path, source: dict[str, Any], started: float, report: Report
) -> dict[str, Any]:
    """Make all outputs in the hidden folder; returns what is to be known of them, ready for JSON."""
    warnings = [*position_warnings(job.scene, job.card), *scene_warnings(job.scene, job.card)]
    rasters = make_rasters(job, engine, hidden, report)
    if not any(count.valid for count in rasters.counts.values()):
        empty(hidden)
        raise UsageError(
            f"--aoi {job.options.aoi} covers no valid pixel of {job.scene.path}: no pixel's center lies inside its "
            "polygons, or only nodata does."
        )
    before = time.monotonic()
    vectors, summaries = make_vectors(job, hidden, rasters.counts, report)
    timings = rasters.timings | {"vectorize": time.monotonic() - before}
    names = []
    for target in job.targets:
        for kind in job.kinds:
            raster = hidden / raster_name(job.scene.name, target.name, kind)
            names += [raster.name, write_sidecar(raster, raster_style(kind, target.name)).name]
    seconds = time.monotonic() - started
    content = make_record(
        job, source, engine.facts, timings, rasters.resumed, summaries, seconds, warnings, engine.peaks()
    )
    content["identity"] = identity_hash(run_identity(job, source, {}))
    unnamed = write_scene_project(content, job.scene.name, hidden, job.folder, job.scene.path).warning
    warnings += [unnamed] if unnamed else []
    content["warnings"] = warnings
    record = hidden / f"{job.scene.name}.json"
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    names += [*vectors, project_name(job.scene.name), record.name]
    facts = {
        "names": names,
        "targets": {name: asdict(summary) for name, summary in summaries.items()},
        "warnings": warnings,
        "share": 1 - rasters.resumed / len(job.chunks()),
    }
    Finished(hidden).put(PUBLISH, {name: file_hash(hidden / name) for name in names}, facts)
    return facts
