"""A training on several devices: one process each, whose messages and progress come to the one that began it."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessRaisedException

from prngeo.errors import PrngeoError
from prngeo.progress import Report, silent
from prngeo.tiling.grid import Window
from prngeo.training.loop import Job, fit
from prngeo.training.regions import CachedRegion, Region

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Pixels = NDArray[np.uint8]
Mapped = tuple[str, Window]
"""A file of an array, and the part of it."""
Packed = tuple[Region, Mapped | Pixels, Mapped | Pixels]


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
    # Lightning walks through arguments of their own, and stumbles over frozen dataclasses.
    work = partial(
        _work,
        job=replace(job, regions=[], validation=[]),
        regions=_pack(job.regions),
        validation=_pack(job.validation),
        events=events,
    )
    try:
        fabric.launch(work)
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


def _place(array: Pixels) -> Mapped | Pixels:
    """Where a mapped array lies in its file; another array as it is."""
    root = array.base if isinstance(array.base, np.memmap) else array
    if not isinstance(root, np.memmap) or root.filename is None or root.strides != array.strides:
        return array
    begin = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    row, rest = divmod(begin, root.strides[0])
    return str(root.filename), Window(row, rest // root.strides[1], *array.shape[:2])


def _open(packed: Sequence[Packed]) -> list[CachedRegion]:
    return [CachedRegion(region, _mapped(image), _mapped(labels)) for region, image, labels in packed]


def _mapped(place: Mapped | Pixels) -> Pixels:
    if not isinstance(place, tuple):
        return place
    name, window = place
    whole: Pixels = np.load(name, mmap_mode="r")
    return whole[window.within(Window(0, 0, *whole.shape[:2]))]
