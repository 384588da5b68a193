"""Networks in a process of their own: it ends before the vectors of a large scene are made, and its memory is theirs.

What was imported to compute cannot be unloaded, and torch takes more than all else of a run.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import rasterio

from prngeo.errors import PrngeoError
from prngeo.inference.engine import Engine, load_networks
from prngeo.inference.job import Job, prepare
from prngeo.inference.memory import gdal_cache, keep_freed
from prngeo.inference.options import PredictOptions
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import compute_chunks
from prngeo.inference.result import Peaks, own_peaks
from prngeo.models.bundle import open_bundle
from prngeo.progress import Report, silent
from prngeo.raster.scaling import Stretch
from prngeo.raster.source import remote_options
from prngeo.tiling.grid import Window

LARGE = 2048**2
"""Pixels of a scene from which on the process ends once they are computed; else it waits for the next scene."""
PATIENCE = 60
"""Seconds in which it finishes the chunks that it is writing when it is to end."""
PR_SET_PDEATHSIG = 1

_process: _Process | None = None


@contextmanager
def apart(job: Job) -> Iterator[Engine]:
    """The networks in a process of their own, as an engine.

    Raises:
        PrngeoError: it ended by itself.
    """
    global _process
    if _process is None or not _process.alive:
        _process = _Process()
    process, options = _process, job.options
    try:
        facts = process.call(_facts, options)
        large = job.scene.height * job.scene.width >= LARGE
        yield Engine(facts, partial(_order, process), process.end if large else _nothing, process.peaks)
    except BaseException:
        process.end()
        raise


class _Process:
    """A process that calls functions for this one."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        # It ignores Ctrl-C from the beginning, and knows nothing of the program that this process runs.
        with _interrupts_ignored(), _no_program():
            self._process.start()
        theirs.close()
        self._seen = Peaks(0, 0)

    @property
    def alive(self) -> bool:
        return not self._connection.closed and self._process.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any, report: Report = silent) -> Any:
        """What a function of this module returns there; its first argument is a function that reports from there.

        Raises:
            PrngeoError: the process ended.
            Exception: what the function raised there.
        """
        with self._told_if_it_ended():
            self._connection.send((function, arguments))
            said = self._connection.recv()
        while not isinstance(said, _Answer):
            report(said)
            with self._told_if_it_ended():
                said = self._connection.recv()
        here = psutil.Process().memory_info().rss
        self._seen = Peaks(max(self._seen.memory, here + said.peaks.memory), max(self._seen.gpu, said.peaks.gpu))
        if said.error is not None:
            raise said.error
        return said.value

    @contextmanager
    def _told_if_it_ended(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._process.join(PATIENCE)
            raise PrngeoError(
                f"The process that runs the networks ended by itself (exit code {self._process.exitcode}). If the "
                "system stopped it for want of memory, pass a smaller --max-memory, or --device cpu if its driver did."
            ) from error

    def peaks(self) -> Peaks:
        """Of both processes together."""
        own = own_peaks()
        return Peaks(max(own.memory, self._seen.memory), max(own.gpu, self._seen.gpu))

    def end(self) -> None:
        """End it; what it has computed of chunks that are being written is finished before."""
        self._connection.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclass(frozen=True)
class _Answer:
    """What came of a call, and the peaks of the process until then."""

    value: Any
    error: Exception | None
    peaks: Peaks


def _serve(connection: Connection) -> None:
    """Call functions until the other end is closed."""
    keep_freed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides what Ctrl-C means
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, OSError):
        while True:
            function, arguments = connection.recv()
            value: Any = None
            failed: Exception | None = None
            try:
                value = function(connection.send, *arguments)
            except (PrngeoError, OSError) as error:
                error.add_note("".join(traceback.format_exception(error)))
                failed = error
            except Exception as error:
                failed = RuntimeError("".join(traceback.format_exception(error)))
            connection.send(_Answer(value, failed, own_peaks()))


def _facts(_: Report, options: PredictOptions) -> dict[str, str | int]:
    """What computes there."""
    return load_networks(open_bundle(options.model), options).facts()


def _order(process: _Process, job: Job, chunks: list[Window], parts: Parts, hidden: Path, report: Report) -> None:
    """Have chunks computed there; arguments as of `compute_chunks`."""
    options = replace(job.options, chunk=job.memory.chunk)
    process.call(_compute, job.scene.path, job.folder, options, job.scene.stretch, chunks, parts, hidden, report=report)


def _compute(
    report: Report,
    scene: str,
    folder: Path,
    options: PredictOptions,
    stretch: Stretch,
    chunks: list[Window],
    parts: Parts,
    hidden: Path,
) -> None:
    """Compute chunks there."""
    settings = remote_options() | {"GDAL_CACHEMAX": gdal_cache(options.max_memory)}
    with rasterio.Env(**settings), prepare(scene, folder, options) as job:
        job.scene.stretch = stretch
        compute_chunks(load_networks(job.bundle, job.options), job, chunks, parts, hidden, report)


def _nothing() -> None:
    pass


@contextmanager
def _no_program() -> Iterator[None]:
    """A process that is started meanwhile does not import the program again, which may have no `__name__` guard."""
    program, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started meanwhile ignores Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
