"""Who is at work in a folder: a process of this machine or of another one that sees the folder, too."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CLOCK_DRIFT = 10.0
"""Seconds by which the start of a process may seem to move while the system's clock is being set."""
BEAT = 5.0
"""Seconds after which a process at work touches its file again."""
WATCH = 12 * BEAT
"""Seconds for which a file of another machine's process is watched, before it is taken for dead: a library may hold up
all threads of a process while it writes a layer."""
LOOK = BEAT / 10
"""Seconds between two looks at it."""


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        node: network name of its machine.
        pid: its number there.
        started: when it was started, which tells it from others with its number; seconds since 1970.
    """

    node: str
    pid: int
    started: float

    @staticmethod
    def own() -> Owner:
        """This process."""
        return Owner(platform.node(), os.getpid(), _started(os.getpid()))

    @staticmethod
    def read(path: Path) -> Owner | None:
        """The process that wrote a file, None if it tells none."""
        try:
            node, pid, started = path.read_text(encoding="utf-8").rsplit(" ", 2)
            return Owner(node, int(pid), float(started))
        except (OSError, ValueError):
            return None

    def write(self, path: Path, mode: Literal["w", "x"] = "w") -> None:
        """Write a file that tells it; with mode x a new one.

        Raises:
            FileExistsError: there is one, and it was to be new.
            OSError: it cannot be written.
        """
        with path.open(mode, encoding="utf-8") as file:
            file.write(f"{self.node} {self.pid} {self.started}")

    @property
    def here(self) -> bool:
        """True if it is or was a process of this machine."""
        return self.node == platform.node()

    @property
    def runs(self) -> bool:
        """True if it is running on this machine."""
        return self.here and abs(_started(self.pid) - self.started) < CLOCK_DRIFT


def claim(path: Path) -> Owner | None:
    """Make this process the owner of a file, unless another one is at work: that is returned then.

    Raises:
        OSError: the file cannot be written.
    """
    own = Owner.own()
    try:
        own.write(path, "x")
        return None
    except FileExistsError:
        other = at_work(path)
    if other is not None:
        return other
    own.write(path)
    now = Owner.read(path)  # of one that took it over at the same moment, perhaps
    return None if now == own else now


def at_work(path: Path) -> Owner | None:
    """The process that owns a file and is running, None if there is none.

    That of another machine is known by touching its file, see `beating`: the file is watched for some seconds.

    Args:
        path: what `Owner.write` wrote.
    """
    owner = Owner.read(path)
    if owner is None or owner.here:
        return owner if owner is not None and owner.runs else None
    before, end = _touched(path), time.monotonic() + WATCH
    while time.monotonic() < end:
        time.sleep(LOOK)
        if _touched(path) != before:
            return owner
    return None


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Meanwhile a file is touched every few seconds, so that other machines see that its owner is running."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            try:
                os.utime(path)
            except FileNotFoundError:
                return
            except OSError:  # a file server that does not answer for a moment
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _touched(path: Path) -> float:
    """When a file was touched; it is opened for that, as folders on other machines answer from memory else."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0


def _started(pid: int) -> float:
    """When a running process of this machine was started; -inf if there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return float("-inf")
