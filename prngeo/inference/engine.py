"""What computes the chunks of a run: this process, or the workers of a Dask cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prngeo.errors import UsageError
from prngeo.inference.job import Job
from prngeo.inference.memory import gpu_batch
from prngeo.inference.options import Device, PredictOptions
from prngeo.inference.parts import Parts
from prngeo.inference.rasters import compute_chunks
from prngeo.inference.result import Peaks, own_peaks
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.progress import Report
from prngeo.tiling.grid import Window

if TYPE_CHECKING:
    from prngeo.models.onnx_runtime import OnnxRuntime
    from prngeo.models.runtime import Runtime


@dataclass(frozen=True)
class Engine:
    """Something that computes chunks.

    Attributes:
        facts: what computes: runtime, its version, device, precision, threads.
        compute: computes chunks of a job and keeps their parts; takes job, chunks, parts, the hidden folder of the run
            and who is told of every step.
        release: lets go of what computes, as the next stages may need its memory; nothing is computed after that.
        peaks: the largest memory that was used so far.
    """

    facts: dict[str, str | int]
    compute: Callable[[Job, list[Window], Parts, Path, Report], None]
    release: Callable[[], None] = lambda: None
    peaks: Callable[[], Peaks] = own_peaks


@contextmanager
def open_engine(job: Job, hidden: Path, report: Report) -> Iterator[Engine]:
    """The engine that the options of a job name.

    Args:
        job: the scene and how it is read.
        hidden: folder of the unfinished run.
        report: is told what is waited for.

    Raises:
        UsageError: Dask is not installed, or its workers do not suit.
        PrngeoError: there is no Dask scheduler, or it has no workers.
    """
    if job.options.beside:
        from prngeo.inference.apart import apart

        with apart(job) as engine:
            yield engine
        return
    if job.options.dask is None:
        networks = load_networks(job.bundle, job.options)
        yield Engine(networks.facts(), functools.partial(compute_chunks, networks))
        return
    try:
        from prngeo.inference.cluster import connected
    except ImportError as error:
        raise UsageError(
            f"--dask {job.options.dask} needs Dask distributed: pip install 'prngeo[dask]', here and where its workers "
            "run."
        ) from error
    with connected(job, hidden, report) as engine:
        yield engine


def load_networks(bundle: Bundle, options: PredictOptions) -> Runtime | OnnxRuntime:
    """The networks, kept for the next scene of the same run."""
    batch = gpu_batch(options.max_memory, options.tile or bundle.card.tile)
    return _runtime_of(bundle.path, tuple(bundle.files.values()), options.device, options.tta, batch)


@functools.lru_cache(maxsize=1)
def _runtime_of(path: Path, digests: tuple[str, ...], device: Device, tta: bool, batch: int) -> Runtime | OnnxRuntime:
    bundle = open_bundle(path)
    if bundle.card.graphs is not None:
        from prngeo.models.onnx_runtime import OnnxRuntime

        return OnnxRuntime(bundle, device, tta)
    from prngeo.models.devices import choose_compute
    from prngeo.models.runtime import Runtime

    return Runtime(bundle, choose_compute(device), tta, batch)
