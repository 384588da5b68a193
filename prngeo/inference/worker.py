"""What a Dask worker does for a run: blocks of chunks, whose parts go to the folder that all machines see."""

from __future__ import annotations

import functools
import shutil
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from prngeo import __version__
from prngeo.errors import PrngeoError, UsageError
from prngeo.inference.engine import load_networks
from prngeo.inference.job import Job, gdal_settings, prepare
from prngeo.inference.memory import keep_freed, refuse_full
from prngeo.inference.options import PredictOptions
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import compute_chunks, part_specs
from prngeo.inference.result import Peaks, own_peaks
from prngeo.raster.scaling import Stretch
from prngeo.raster.source import is_remote
from prngeo.tiling.grid import Window

Facts = tuple[tuple[str, str | int], ...]
"""What computes, by name: of all workers of a run the same."""

_at_work = threading.Lock()  # a worker may have several threads; --max-memory is shared out for one block at a time


@dataclass(frozen=True)
class Run:
    """What a worker has to know of a run; every path is the same on all machines.

    Attributes:
        token: name of the run, of a file in the hidden folder while it lasts, and of the model's folder on a worker.
        scene: path of the scene.
        folder: of the outputs.
        hidden: folder of the unfinished run.
        options: of the run; the model is the one that the worker was sent.
        stretch: of the scene's values; None while the workers are looked at.
        facts: what has to compute; None while that is not known.
    """

    token: str
    scene: str
    folder: Path
    hidden: Path
    options: PredictOptions
    stretch: Stretch | None = None
    facts: Facts | None = None


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]
    """Brings the files of a model to every worker once, also to those that join later.

    Args:
        token: name of the run.
        files: content of each file by name.
    """

    def __init__(self, token: str, files: Mapping[str, bytes]) -> None:
        self.name = token
        self._files = files

    def setup(self, worker: Worker) -> None:
        """Write them."""
        folder = _model_folder(worker, self.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    def teardown(self, worker: Worker) -> None:
        """Remove them."""
        shutil.rmtree(_model_folder(worker, self.name), ignore_errors=True)


def look_at_worker(run: Run, here: int) -> Facts:
    """What computes on this worker, after what it needs was found there.

    Args:
        run: what it is to do.
        here: workers of its machine, which share the disk.

    Raises:
        UsageError: it does not see the folder of the outputs, or the scene, or has too little scratch space.
    """
    with _at_work:
        if not (run.hidden / run.token).exists():
            raise UsageError(
                f"{_here()} does not see {run.folder}: the outputs have to lie in a folder that has the same path on "
                "all machines. Choose one with -o."
            )
        needed = [path for path in (run.scene, run.options.aoi) if path is not None and not is_remote(str(path))]
        for path in needed:
            if not str(path).startswith("/vsi") and not Path(path).exists():
                raise UsageError(
                    f"{_here()} does not see {path}: it has to have the same path on all machines, or a URL."
                )
        _, job, facts = _opened(run)
        assert job.options.scratch is not None
        refuse_full(replace(job.memory, scratch=job.memory.scratch * here), job.options.scratch)
        return facts


def compute_block(run: Run, chunks: list[Window]) -> Peaks:
    """Compute the chunks of a block that are not finished yet, and keep their parts; returns this worker's peaks.

    Raises:
        UsageError: this worker computes otherwise than the others.
        PrngeoError: the run was given up, or see `compute_chunks`.
    """
    with _at_work, rasterio.Env(**gdal_settings(run.options)):
        _, job, facts = _opened(run)
        if facts != run.facts:
            raise UsageError(f"{_here()} joined the run and computes otherwise: {told(facts)}, not {told(run.facts)}.")
        parts = Parts(run.hidden, part_specs(job), functools.partial(_stop_if_given_up, run))
        missing, _ = parts.missing(chunks)
        if missing:
            networks = load_networks(job.bundle, job.options)
            compute_chunks(networks, job, missing, parts, run.hidden, lambda _: _stop_if_given_up(run))
    return own_peaks()


def told(facts: Facts | None) -> str:
    """Facts as a message tells them."""
    return ", ".join(f"{name} {value}" for name, value in facts or ())


def _stop_if_given_up(run: Run) -> None:
    try:
        with (run.hidden / run.token).open("rb"):  # asks a file server; whether it exists may be answered from memory
            pass
    except OSError as error:
        raise PrngeoError("The run was given up.") from error


@functools.lru_cache(maxsize=1)
def _opened(run: Run) -> tuple[ExitStack, Job, Facts]:
    """The scene and the networks, kept for the next block of the same run."""
    keep_freed()
    stack = ExitStack()
    model = _model_folder(get_worker(), run.token)
    options = replace(run.options, model=model, scratch=run.options.scratch or model)
    with rasterio.Env(**gdal_settings(options)):
        job = stack.enter_context(prepare(run.scene, run.folder, options))
    if run.stretch is not None:
        job.scene.stretch = run.stretch
    facts: dict[str, Any] = load_networks(job.bundle, options).facts() | {"prngeo": __version__}
    facts.pop("threads", None)  # their number may change the rounding, no more
    return stack, job, tuple(sorted(facts.items()))


def _model_folder(worker: Worker, token: str) -> Path:
    return Path(worker.local_directory) / token


def _here() -> str:
    return f"The worker {get_worker().address} on {socket.gethostname()}"
