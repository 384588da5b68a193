"""The record beside the outputs: enough to repeat the run."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rasterio

from prngeo import __version__
from prngeo.inference.job import Job
from prngeo.inference.result import Peaks, TargetSummary


def make_record(
    job: Job,
    source: dict[str, Any],
    compute: dict[str, str | int],
    timings: dict[str, float],
    resumed: int,
    summaries: dict[str, TargetSummary],
    seconds: float,
    warnings: list[str],
    peaks: Peaks,
) -> dict[str, Any]:
    """Input, model, options, versions, timings and figures of a finished run, ready for JSON.

    Args:
        job: the scene and how it was read.
        source: identity of the scene's file.
        compute: facts of the runtime.
        timings: seconds of each stage.
        resumed: chunks that an earlier, unfinished run had computed.
        summaries: target -> figures.
        seconds: wall-clock time so far.
        warnings: what the user was told of the scene.
        peaks: the memory that was used.
    """
    scene, options = job.scene, job.options
    compute = dict(compute)
    library = str(compute["runtime"]), str(compute.pop("version"))
    return {
        "input": source,
        "scene": {
            "height": scene.height,
            "width": scene.width,
            "bands": scene.bands,
            "dtype": scene.dtype,
            "crs": scene.crs.to_string() if scene.crs else None,
            "transform": list(scene.transform)[:6],
            "gsd_m": scene.gsd,
            "gsd_source": scene.gsd_source,
            "model_gsd_m": [g * f for g, f in zip(scene.gsd, scene.factor, strict=True)],
            "stretch": scene.stretch,
        },
        "model": {
            "name": job.card.name,
            "version": job.card.version,
            "weights_sha256": job.card.weights_sha256,
        },
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "tile": job.tile,
        "overlap": job.overlap,
        "compute": compute,
        "targets": {
            target.name: asdict(summaries[target.name]) | {"temperature": target.final.temperature}
            for target in job.targets
        },
        "warnings": warnings,
        "seconds": round(seconds, 2),
        "timings": {key: round(value, 2) for key, value in timings.items()},
        "chunks": {"side": job.memory.chunk, "total": len(job.chunks()), "resumed": resumed},
        "peak_memory_bytes": peaks.memory,
        "peak_gpu_memory_bytes": peaks.gpu,
        "versions": {
            "prngeo": __version__,
            "python": platform.python_version(),
            library[0]: library[1],
            "rasterio": rasterio.__version__,
            "gdal": rasterio.__gdal_version__,
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
