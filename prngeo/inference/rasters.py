"""From a scene to its output rasters: chunks are computed, kept as parts, and assembled as COGs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prngeo.files import Finished, file_hash, scratch_folder
from prngeo.inference.chunks import PixelCounts, chunk_result
from prngeo.inference.job import Job
from prngeo.inference.local import behind
from prngeo.inference.mosaic import Logits, Mosaic, Networks
from prngeo.inference.outputs import raster_name, raster_spec
from prngeo.inference.parts import Parts
from prngeo.progress import Progress, Report
from prngeo.raster.cog import RasterSpec, finish_cog
from prngeo.raster.retry import PatientSource, patiently
from prngeo.raster.store import TileStore
from prngeo.tiling.grid import Window

if TYPE_CHECKING:
    from prngeo.inference.engine import Engine

CHANGED = "changed"
"""Beside the kinds of output rasters: where the refiner changed the mask. It is needed until there are polygons."""


def part_specs(job: Job) -> dict[str, RasterSpec]:
    """The rasters that a chunk gives parts of, by name."""
    specs = {}
    for target in job.targets:
        tags = {
            "PRNGEO_MODEL": f"{job.card.name} {job.card.version}",
            "PRNGEO_TARGET": target.name,
            "PRNGEO_THRESHOLD": f"{target.final.threshold:g}",
            "PRNGEO_REFINED": str(job.refine[target.channel]),
        }
        for kind in job.kinds:
            specs[part_name(target.name, kind)] = raster_spec(job.grid, target.name, kind, tags)
        specs[part_name(target.name, CHANGED)] = raster_spec(job.grid, target.name, "mask", tags)
    return specs


def part_name(target: str, kind: str) -> str:
    """The name of a raster whose parts are kept."""
    return f"{target}_{kind}"


def compute_chunk(job: Job, mosaic: Mosaic, chunk: Window, parts: Parts) -> None:
    """Compute what the mosaic lacks of a chunk and keep its parts; the scene, the model and the options decide on them.

    Args:
        job: the scene.
        mosaic: its logits; this chunk is among its requests.
        chunk: pixels of the outputs.
        parts: where they are kept.
    """
    write_chunk(job, job.resampling.read(mosaic, chunk), chunk, parts)


def write_chunk(job: Job, logits: Logits, chunk: Window, parts: Parts) -> None:
    """From the logits of a chunk's pixels to its parts."""
    valid = patiently(lambda: job.valid(chunk))
    counts = {target.name: PixelCounts() for target in job.targets}
    values: dict[str, Any] = {}
    for target in job.targets if valid.any() else ():
        result = chunk_result(logits, valid, target)
        counts[target.name].add(result)
        values |= {part_name(target.name, kind): getattr(result, kind) for kind in (*job.kinds, CHANGED)}
    parts.write(chunk, values, counts)


@dataclass(frozen=True)
class Rasters:
    """What is known of finished rasters.

    Attributes:
        counts: pixels of each target.
        timings: seconds of each stage.
        resumed: number of chunks that an earlier run had finished.
    """

    counts: dict[str, PixelCounts]
    timings: dict[str, float]
    resumed: int


def make_rasters(job: Job, engine: Engine, hidden: Path, report: Report) -> Rasters:
    """Compute the chunks that are missing, let go of what computes, and finish the COGs in the hidden folder.

    Raises:
        PrngeoError: the scene cannot be read, or a raster not be written.
        OSError: the disk is full.
    """
    started = time.monotonic()
    finished = Finished(hidden)
    specs = part_specs(job)
    for name in [name for name in specs if finished.sound(_step(name))]:
        del specs[name]
    parts = Parts(hidden, specs)
    chunks = job.chunks()
    missing, damaged = parts.missing(chunks)
    for note in _notes(finished, len(chunks), len(missing), len(damaged)):
        report(Progress(job.scene.name, "segment", note=note))
    if missing:
        engine.compute(job, missing, parts, hidden, report)
    engine.release()
    timings = {"segment_and_refine": time.monotonic() - started}
    started = time.monotonic()
    counts = {target.name: PixelCounts() for target in job.targets}
    for chunk in chunks:
        for target, count in parts.counts(chunk).items():
            counts[target].merge(count)
    _finish(job, specs, parts, chunks, hidden, report)
    timings["finish"] = time.monotonic() - started
    return Rasters(counts, timings, len(chunks) - len(missing))


def _notes(finished: Finished, total: int, missing: int, damaged: int) -> list[str]:
    """What the user is told of a run that was begun before."""
    if not finished.count("chunks"):
        return []
    notes = [f"Resuming: {total - missing} of {total} chunks are done."]
    if damaged:
        notes.append(f"{damaged} finished chunks were damaged on the disk; they are computed again.")
    return notes


def compute_chunks(
    networks: Networks, job: Job, chunks: list[Window], parts: Parts, hidden: Path, report: Report
) -> None:
    """Compute chunks in this process, one after the other, and keep their parts.

    Args:
        networks: base network and refiner.
        job: the scene.
        chunks: in the order of their rows.
        parts: where they are kept.
        hidden: folder for what does not fit into memory, where the options name none.
        report: is told of every tile.
    """
    seen = 0

    def on_tile(_: bool) -> None:
        nonlocal seen
        seen += 1
        report(Progress(job.scene.name, "segment", seen, mosaic.tiles))

    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(job.options.scratch or hidden))
        source = PatientSource(stack.enter_context(job.scene.reopen()))
        store = TileStore(job.memory.store, scratch, stack.enter_context(behind()))
        mosaic = job.mosaic(source, networks, store, chunks, on_tile)
        stack.enter_context(mosaic.reading_ahead())
        later = stack.enter_context(behind())
        for chunk in chunks:
            mosaic.compute(job.resampling.request(chunk))
            later(partial(compute_chunk, job, mosaic, chunk, parts))


def _finish(
    job: Job, specs: dict[str, RasterSpec], parts: Parts, chunks: list[Window], hidden: Path, report: Report
) -> None:
    """Assemble the COGs that are missing; the parts of each go once it is there."""
    kinds = [(target.name, kind) for target in job.targets for kind in job.kinds]
    finished, work = Finished(hidden), hidden / "work"
    work.mkdir(exist_ok=True)
    for number, (target, kind) in enumerate(kinds):
        report(Progress(job.scene.name, "finish", number, len(kinds)))
        name, file = part_name(target, kind), raster_name(job.scene.name, target, kind)
        if name in specs:
            finish_cog(parts.raster(name, chunks), work / file, specs[name])
            digest = file_hash(work / file)
            (work / file).replace(hidden / file)
            finished.put(_step(name), {file: digest}, {})
        parts.drop(name)
    report(Progress(job.scene.name, "finish", len(kinds), len(kinds)))


def _step(name: str) -> str:
    return f"rasters/{name}"
