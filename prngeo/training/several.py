"""A training on several devices: one process each, whose messages and progress come to the one that began it."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessRaisedException

from prngeo.errors import PrngeoError
from prngeo.progress import Report, silent
from prngeo.training.loop import Job, fit
from prngeo.training.regions import CachedRegion, Region

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Packed = tuple[Region, "str | NDArray[np.uint8]", "str | NDArray[np.uint8]"]


def fit_on_several(fabric: Fabric, job: Job, report: Report) -> None:
    """As `fit`, in as many processes as the fabric has devices.

    Raises:
        PrngeoError: what one of them raised.
    """
    events: SimpleQueue[Any] = multiprocessing.get_context("spawn").SimpleQueue()
    failures: list[PrngeoError] = []
    relay = threading.Thread(target=_relay, args=(events, report, failures), daemon=True)
    relay.start()
    before = set(multiprocessing.active_children())
    plain = replace(job, regions=[], validation=[])
    try:
        # Typed to take the fabric alone, the function is given what follows, too.
        fabric.launch(_work, plain, _pack(job.regions), _pack(job.validation), events)  # type: ignore[arg-type]
    except ProcessRaisedException:
        _end(events, relay)
        if failures:
            raise failures[0] from None
        raise
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    _end(events, relay)


def _end(events: SimpleQueue[Any], relay: threading.Thread) -> None:
    events.put(None)
    relay.join(10)


def _relay(events: SimpleQueue[Any], report: Report, failures: list[PrngeoError]) -> None:
    while (event := events.get()) is not None:
        if isinstance(event, PrngeoError):
            failures.append(event)
        elif isinstance(event, logging.LogRecord):
            own = logging.getLogger(event.name)
            if own.isEnabledFor(event.levelno):
                own.handle(event)
        else:
            report(event)


class _Sender(logging.handlers.QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put(record)  # type: ignore[attr-defined]


def _work(fabric: Fabric, job: Job, regions: list[Packed], validation: list[Packed], events: SimpleQueue[Any]) -> None:
    """One process; the first one tells how it goes."""
    first = fabric.global_rank == 0
    root = logging.getLogger("prngeo")
    root.propagate = False
    if first:
        root.setLevel(logging.INFO)
        root.addHandler(_Sender(events))  # type: ignore[arg-type]
    try:
        own = replace(job, regions=_open(regions), validation=_open(validation))
        fit(fabric, own, events.put if first else silent)
    except PrngeoError as error:
        events.put(error)
        raise


def _pack(items: Sequence[CachedRegion]) -> list[Packed]:
    """Regions to be sent to another process: mapped files by their names, not by their content."""
    return [(item.region, _place(item.image), _place(item.labels)) for item in items]


def _place(array: NDArray[np.uint8]) -> str | NDArray[np.uint8]:
    name = getattr(array, "filename", None)
    return str(Path(name)) if name else array


def _open(packed: Sequence[Packed]) -> list[CachedRegion]:
    return [
        CachedRegion(region, *(np.load(part, mmap_mode="r") if isinstance(part, str) else part for part in parts))
        for region, *parts in packed
    ]
