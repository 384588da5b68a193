"""Networks in a process of their own: it ends before the vectors of a large scene are made, and its memory is theirs.

What was imported to compute cannot be unloaded, and torch takes more than all else of a run. It gets the current folder
and GDAL's settings with each order, but not what the program set in torch, nor the environment after its start.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
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
from rasterio.env import getenv, setenv

from prngeo.errors import PrngeoError, UsageError
from prngeo.inference.engine import Engine, load_networks
from prngeo.inference.job import Job, prepare
from prngeo.inference.memory import keep_freed, trim
from prngeo.inference.options import PredictOptions
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import compute_chunks
from prngeo.inference.result import Peaks, largest, own_peaks
from prngeo.models.bundle import open_bundle
from prngeo.progress import Report, silent
from prngeo.raster.scaling import Stretch
from prngeo.tiling.grid import Window

LARGE = 2048**2
"""Pixels of a scene from which on the process ends once they are computed; else it waits for the next scene."""
PATIENCE = 30
"""Seconds in which it finishes the chunks that it is writing when it is to end; the QGIS plugin waits twice as long."""
ALERT = 0.2
"""Seconds after which a program that waits for it sees that the run is to end."""
SMALL_CACHE = 1 << 20
PR_SET_PDEATHSIG = 1

_process: _Process | None = None  # one that waits for the next scene
_lock = threading.Lock()


@contextmanager
def apart(job: Job) -> Iterator[Engine]:
    """The networks in a process of their own, as an engine.

    Raises:
        UsageError: only this process sees the scene, or it may have no children.
        PrngeoError: it ended by itself.
    """
    if job.scene.path.startswith("/vsimem/"):
        raise UsageError(f"{job.scene.path} is in this process alone: leave `apart` out, or write it to a file.")
    if multiprocessing.current_process().daemon:
        raise UsageError("This process may have no children (it is a worker of a pool): leave `apart` out.")
    process = _take()
    try:
        facts = process.call(_facts, job.options)
        large = job.scene.height * job.scene.width >= LARGE
        yield Engine(facts, partial(_order, process), process.end if large else _nothing, process.peaks)
    except BaseException:
        process.end()
        raise
    _put_back(process)


def _take() -> _Process:
    """The process that waits, for this thread alone, or a new one."""
    global _process
    with _lock:
        process, _process = _process, None
    return process if process is not None and process.alive else _Process()


def _put_back(process: _Process) -> None:
    """Let a process wait for the next scene, unless one does already."""
    global _process
    with _lock:
        if process.alive and (_process is None or not _process.alive):
            _process = process
            return
    process.end()


class _Process:
    """A process that calls functions for this one."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Linux would end it with the thread that started it, not with the program.
        bound = threading.current_thread() is threading.main_thread()
        self._process = context.Process(target=_serve, args=(theirs, bound), daemon=True)
        # It ignores Ctrl-C from the beginning, and knows nothing of the program that this process runs.
        with _lock, _interrupts_ignored(), _no_program():
            self._process.start()
        theirs.close()
        self._owner = os.getpid()
        self._at_work: Callable[..., Any] | None = None
        self._seen = Peaks(0, 0)

    @property
    def alive(self) -> bool:
        """It can be called; not by a fork of the program that started it."""
        return self._owner == os.getpid() and not self._connection.closed and self._process.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any, report: Report = silent) -> Any:
        """What a function of this module returns there; its first argument is a function that reports from there.

        Raises:
            PrngeoError: the process ended.
            Exception: what the function raised there.
        """
        self._at_work = function
        with self._told_if_it_ended():
            self._connection.send((function, arguments, os.getcwd()))
        while not isinstance(said := self._receive(), _Answer):
            report(said)
        self._at_work = None
        here = psutil.Process().memory_info().rss
        self._seen = largest([self._seen, Peaks(here + said.peaks.memory, said.peaks.gpu)])
        if said.error is not None:
            raise said.error
        return said.value

    def _receive(self) -> Any:
        with self._told_if_it_ended():
            while not self._connection.poll(ALERT):
                pass
            return self._connection.recv()

    @contextmanager
    def _told_if_it_ended(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._process.join(PATIENCE)
            code = self._process.exitcode
            advice = (
                "If the system stopped it for want of memory, pass a smaller --max-memory, or --device cpu if its "
                "driver did."
                if code is None or not 0 <= code < 256  # a signal, or a status of Windows
                else "What it printed before tells why."
            )
            raise PrngeoError(
                f"The process that runs the networks ended by itself (exit code {code}). {advice}"
            ) from error

    def peaks(self) -> Peaks:
        """Of both processes together."""
        return largest([own_peaks(), self._seen])

    def end(self) -> None:
        """End it; if it computes chunks, what it has of those that are being written is finished before."""
        self._connection.close()
        self._process.join(PATIENCE if self._at_work is _compute else 0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclass(frozen=True)
class _Answer:
    """What came of a call, and the peaks of the process until then."""

    value: Any
    error: Exception | None
    peaks: Peaks


def _serve(connection: Connection, bound: bool) -> None:
    """Call functions until the other end is closed; if bound, the end of the thread that started this ends it, too."""
    keep_freed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides what Ctrl-C means
    if bound and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, OSError):
        while True:
            function, arguments, folder = connection.recv()
            value: Any = None
            failed: Exception | None = None
            try:
                os.chdir(folder)
                value = function(connection.send, *arguments)
            except Exception as error:
                failed = _sendable(error)
            connection.send(_Answer(value, failed, own_peaks()))


def _sendable(error: Exception) -> Exception:
    """An error as it can be sent, with its traceback as a note."""
    traced = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(traced)
    return error


def _facts(_: Report, options: PredictOptions) -> dict[str, str | int]:
    """What computes there."""
    return load_networks(open_bundle(options.model), options).facts()


def _order(process: _Process, job: Job, chunks: list[Window], parts: Parts, hidden: Path, report: Report) -> None:
    """Have chunks computed there; arguments as of `compute_chunks`."""
    options, settings = replace(job.options, chunk=job.memory.chunk), getenv()
    with rasterio.Env(GDAL_CACHEMAX=SMALL_CACHE):  # two of the size that is planned would be too much
        trim()
        arguments = settings, job.scene.path, job.folder, options, job.scene.stretch, chunks, parts, hidden
        process.call(_compute, *arguments, report=report)


def _compute(
    report: Report,
    settings: dict[str, Any],
    scene: str,
    folder: Path,
    options: PredictOptions,
    stretch: Stretch,
    chunks: list[Window],
    parts: Parts,
    hidden: Path,
) -> None:
    """Compute chunks there, with these settings of GDAL."""
    with rasterio.Env():
        setenv(**settings)
        with prepare(scene, folder, options) as job:
            job.scene.stretch = stretch
            networks = load_networks(job.bundle, job.options)
            if networks.facts()["device"] == "cuda":
                from prngeo.models.devices import limit_gpu

                limit_gpu(job.options.max_memory)
            compute_chunks(networks, job, chunks, parts, hidden, report)


def _nothing() -> None:
    pass


@contextmanager
def _no_program() -> Iterator[None]:
    """A process that is started meanwhile does not import the program again, nor anything from the current folder.

    The program may have no `__name__` guard, and a folder of scenes a file that has the name of a module.
    """
    program, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    safe, os.environ["PYTHONSAFEPATH"] = os.environ.get("PYTHONSAFEPATH"), "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = program
        del os.environ["PYTHONSAFEPATH"]
        if safe is not None:
            os.environ["PYTHONSAFEPATH"] = safe


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
