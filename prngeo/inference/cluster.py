"""Chunks on Dask distributed: neighboring ones as tasks, each of which skips what is finished."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import dask
import psutil
from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.client import FutureCancelledError

from prngeo.errors import PrngeoError, UsageError
from prngeo.inference.engine import Engine
from prngeo.inference.job import Job
from prngeo.inference.mosaic import count_uses
from prngeo.inference.options import PredictOptions
from prngeo.inference.parts import Parts
from prngeo.inference.result import Peaks, largest, own_peaks
from prngeo.inference.resume import RUN, forget_workers
from prngeo.inference.worker import Facts, ModelPlugin, Run, compute_block, look_at_worker, told
from prngeo.models.bundle import CARD
from prngeo.progress import Progress, Report
from prngeo.raster.source import is_remote
from prngeo.tiling.grid import Grid, Window

CONNECT = 8
"""Seconds in which a scheduler has to answer."""
WORKERS = 30
"""Seconds in which the first worker has to be there."""
RETRIES = 2
"""Times that a block is computed again, perhaps elsewhere, if it failed."""
BLOCK_SIDES = (8, 4, 2, 1)
"""Chunks along a side of a block; the largest of which every worker gets several."""
PER_WORKER = 2
"""Blocks that every worker gets at least, as far as there are chunks."""
ENVIRONMENT = {"distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1}
"""Of local workers: all threads share one heap, which wastes less."""


@contextmanager
def connected(job: Job, hidden: Path, report: Report) -> Iterator[Engine]:
    """The workers of a Dask cluster, each with the model, as an engine.

    Args:
        job: the scene; its options name the scheduler.
        hidden: folder of the unfinished run, which the workers have to see.
        report: is told what is waited for.

    Raises:
        UsageError: a worker lacks prngeo or does not see the folder or the scene, or workers differ.
        PrngeoError: the scheduler does not answer, or has no workers.
    """
    hidden = hidden.resolve()
    token = f"{RUN}{uuid4().hex}"
    killed = forget_workers(hidden)
    model = {name: (job.bundle.path / name).read_bytes() for name in (CARD, *job.bundle.files)}
    run = Run(token, _everywhere(job.scene.path), job.folder.resolve(), hidden, _absolute(job.options))
    with _client(str(job.options.dask), job.options.max_memory) as client:
        try:
            (hidden / token).touch()
            _forget_models(client, killed)
            workers = _workers(client, job, report)
            client.register_plugin(ModelPlugin(token, model))
            facts = _agreed(client, run, workers)
            # An unfinished run of other options is emptied later, and this file with it: it is made again then.
            peaks = [own_peaks()]
            compute = functools.partial(_compute, client, replace(run, facts=facts), peaks)
            yield Engine(_without_prngeo(facts), compute, peaks=lambda: largest([own_peaks(), *peaks]))
        finally:
            (hidden / token).unlink(missing_ok=True)
            _forget_models(client, [token])


def blocks(chunks: list[Window], side: int, workers: int) -> list[list[Window]]:
    """Chunks in squares of neighbors, so that few tiles are computed for two of them.

    Args:
        chunks: aligned to multiples of `side`.
        side: of a chunk in output pixels.
        workers: that share them.

    Returns:
        Blocks in the order of their first chunk; in each the chunks in their order.
    """
    for length in BLOCK_SIDES:
        found: dict[tuple[int, int], list[Window]] = {}
        for chunk in chunks:
            found.setdefault((chunk.row // (side * length), chunk.col // (side * length)), []).append(chunk)
        if len(found) >= workers * PER_WORKER:
            break
    return list(found.values())


@contextmanager
def _client(address: str, max_memory: int) -> Iterator[Client]:
    local = re.fullmatch(r"local:?(\d*)", address)
    if local:
        count = int(local[1]) if local[1] else _fitting(max_memory)
        with (
            dask.config.set(ENVIRONMENT),
            # Memory is shared out by prngeo; Dask would kill a worker that uses what it may.
            LocalCluster(
                count,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.ERROR,
            ) as here,
            Client(here) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise PrngeoError(
            f"No Dask scheduler answers at {address} (--dask): {str(error).splitlines()[0]}. Start one with `dask "
            "scheduler`, whose first lines tell its address, or pass --dask local."
        ) from error
    with client:
        yield client


def _fitting(max_memory: int) -> int:
    """As many workers as there are cores, and as memory is free for."""
    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // max_memory))


def _workers(client: Client, job: Job, report: Report) -> list[str]:
    """Addresses of the workers there are.

    Raises:
        UsageError: one has no prngeo, or another version.
        PrngeoError: there are none.
    """
    where = job.options.dask
    report(Progress(job.scene.name, "segment", note=f"Waiting for workers of {where}."))
    try:
        client.wait_for_workers(1, timeout=WORKERS)
    except TimeoutError as error:
        raise PrngeoError(
            f"The Dask scheduler {where} has no workers after {WORKERS} s. Start some with `dask worker {where}` where "
            "prngeo is installed."
        ) from error
    workers: list[str] = list(client.nthreads())
    ours = importlib.metadata.version("prngeo")
    futures = {
        worker: client.submit(importlib.metadata.version, "prngeo", workers=[worker], pure=False) for worker in workers
    }
    for worker, future in futures.items():
        missing = future.exception() is not None
        if not missing and future.result() == ours:
            continue
        has = "no prngeo" if missing else f"prngeo {future.result()}"
        raise UsageError(
            f"The worker {worker} has {has}, this machine {ours}. Install prngeo {ours} in the environment in which "
            "Dask's workers run."
        )
    return workers


def _agreed(client: Client, run: Run, workers: list[str]) -> Facts:
    """What computes on every worker.

    Raises:
        UsageError: they differ, or one does not see what it needs.
    """
    machines = Counter(urlsplit(worker).hostname for worker in workers)
    futures = [
        client.submit(look_at_worker, run, machines[urlsplit(worker).hostname], workers=[worker], pure=False)
        for worker in workers
    ]
    facts: list[Facts] = [future.result() for future in futures]
    for worker, found in zip(workers, facts, strict=True):
        if found != facts[0]:
            raise UsageError(
                f"The workers differ: {workers[0]} has {told(facts[0])}; {worker} has {told(found)}. A run has one "
                "runtime, device and precision, or its result would depend on who computes what: keep workers of one "
                "kind, or choose the device with --device."
            )
    return facts[0]


def _compute(
    client: Client,
    run: Run,
    peaks: list[Peaks],
    job: Job,
    chunks: list[Window],
    parts: Parts,
    hidden: Path,
    report: Report,
) -> None:
    """Have chunks computed, see Engine.compute; `peaks` gets those of the workers."""
    side = job.memory.chunk
    (run.hidden / run.token).touch()
    run = replace(run, options=replace(run.options, chunk=side), stretch=job.scene.stretch)
    tasks = blocks(chunks, side, len(client.nthreads()))
    report(Progress(job.scene.name, "segment", note=_plan(job, chunks, tasks)))
    futures = {client.submit(compute_block, run, task, pure=False, retries=RETRIES): len(task) for task in tasks}
    done = 0
    try:
        for future in as_completed(futures):
            peaks[:] = [largest([*peaks, future.result()])]
            done += futures[future]
            report(Progress(job.scene.name, "segment", done, len(chunks)))
    except KilledWorker as error:
        raise PrngeoError(
            "Several Dask workers died, one after the other, of the same chunks; their logs tell why. If their memory "
            "was used up, pass a smaller --max-memory, which is that of each worker."
        ) from error
    except FutureCancelledError as error:
        raise PrngeoError(f"The Dask scheduler {job.options.dask} was lost ({error.reason}).") from error
    finally:
        client.cancel(list(futures))
    unseen, _ = parts.missing(chunks)
    if unseen:
        raise PrngeoError(
            f"{len(unseen)} of {len(chunks)} chunks that Dask's workers finished are not found in {hidden}. Is it the "
            "same folder on all machines?"
        )


def _plan(job: Job, chunks: list[Window], tasks: list[list[Window]]) -> str:
    """What the user is told of the work."""
    once, all_in_all = _tiles(job, chunks), sum(_tiles(job, task) for task in tasks)
    return (
        f"{len(chunks)} chunks in {len(tasks)} blocks for Dask; {all_in_all / once - 1:.0%} more tiles are computed "
        "than in one process, at the borders of blocks."
    )


def _tiles(job: Job, chunks: list[Window]) -> int:
    shape = (job.scene.model_height, job.scene.model_width)
    refiner = job.card.refiner if any(job.refine) else None
    windows = Grid(*shape, refiner.window, refiner.overlap) if refiner else None
    uses = count_uses(Grid(*shape, job.tile, job.overlap), windows, map(job.resampling.request, chunks))
    return sum(1 for kind, _ in uses if kind == "tile")


def _forget_models(client: Client, tokens: list[str]) -> None:
    for token in tokens:
        with suppress(Exception):  # the cluster may be gone, or another one
            client.unregister_worker_plugin(token)


def _without_prngeo(facts: Facts) -> dict[str, str | int]:
    return {name: value for name, value in facts if name != "prngeo"}


def _absolute(options: PredictOptions) -> PredictOptions:
    aoi, scratch = options.aoi, options.scratch
    return replace(
        options,
        model="",
        apart=False,
        aoi=Path(_everywhere(str(aoi))) if aoi else None,
        scratch=scratch.resolve() if scratch else None,
    )


def _everywhere(path: str) -> str:
    return path if is_remote(path) or not Path(path).exists() else str(Path(path).resolve())
