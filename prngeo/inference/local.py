"""The local pipeline: reading ahead of the networks and writing behind them, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

READ_AHEAD = 2
"""Batches of tiles that are read while the network is at work."""
WRITE_BEHIND = 1
"""Chunks that wait while another one is finished and written."""


@contextmanager
def ahead(
    read: Callable[[Item], Result], items: Iterable[Item], depth: int = READ_AHEAD, threads: int = 1
) -> Iterator[Iterator[Result]]:
    """The results of `read` for each item, in order, made by threads that are `depth` items ahead of their use.

    At the end what was read in vain is dropped, and the threads are done: nothing is read after that.

    Args:
        read: is called in those threads alone; what it raises comes out where its result is asked for.
        items: may be endless; is walked through where results are asked for.
        depth: results that are made before they are asked for.
        threads: that call `read` at the same time.
    """
    reader = ThreadPoolExecutor(threads)

    def results() -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(reader.submit(read, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        reader.shutdown(cancel_futures=True)


@contextmanager
def behind(depth: int = WRITE_BEHIND) -> Iterator[Callable[[Callable[[], None]], None]]:
    """A function that has work done in a thread behind the caller's, one after the other, in order.

    It waits while `depth` pieces of work wait for the one that is being done. At the end all work is done, also where
    the caller fails; after a piece of work that failed none is.

    Args:
        depth: pieces of work that wait.

    Raises:
        BaseException: what a piece of work raised, where the next one is handed over or at the end.
    """
    pending: deque[Future[None]] = deque()
    failed = False

    def done(work: Callable[[], None]) -> None:
        nonlocal failed
        if not failed:
            failed = True
            work()
            failed = False

    with ThreadPoolExecutor(1) as worker:

        def later(work: Callable[[], None]) -> None:
            while pending and (len(pending) > depth or pending[0].done()):
                pending.popleft().result()
            pending.append(worker.submit(done, work))

        yield later
        while pending:
            pending.popleft().result()
