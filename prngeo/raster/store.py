"""The tile store: arrays kept until their last use, in memory while a budget lasts, in a scratch folder beyond."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable
from functools import partial
from mmap import mmap
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import PrngeoError

Arrays = tuple[NDArray[np.float16], ...]


def _by_itself(array: NDArray[np.float16]) -> NDArray[np.float16]:
    """A copy in memory of its own from the system.

    A view would keep the batch it was cut from. Arrays that stay, between those that come and go, would break the heap
    into gaps that are too small for what a network takes: a process grew by 1056 MiB instead of 1034 so (48 chunks of
    2048 px, a store of 580 MiB), and by 1200 instead of 1103 where a thread computed.
    """
    copy = np.frombuffer(mmap(-1, array.nbytes), array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _at_once(work: Callable[[], None]) -> None:
    work()


class TileStore:
    """Keeps the arrays of a tile or window for a known number of uses; several threads may use it.

    Args:
        budget: bytes that may be held in memory.
        scratch: an existing folder for what exceeds the budget.
        later: has the writing of what exceeds it done, such as by another thread; what waits for that is in memory.
    """

    def __init__(self, budget: int, scratch: Path, later: Callable[[Callable[[], None]], None] = _at_once) -> None:
        self._budget = budget
        self._scratch = scratch
        self._later = later
        self._held: dict[Hashable, Arrays | Path] = {}
        self._waiting: set[Hashable] = set()
        self._uses: dict[Hashable, int] = {}
        self._bytes = 0
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def put(self, key: Hashable, arrays: Arrays, uses: int) -> None:
        """Keep arrays until they were released `uses` times.

        Raises:
            PrngeoError: the scratch folder cannot be written; where that is done later, it is raised there.
        """
        size = sum(array.nbytes for array in arrays)
        held = tuple(map(_by_itself, arrays)) if size else arrays
        with self._lock:
            fits = self._bytes + size <= self._budget
            self._bytes += size if fits else 0
            self._held[key] = held
            self._uses[key] = uses
            if not fits:
                self._waiting.add(key)
        if not fits:
            self._later(partial(self._spill, key, held))

    def _spill(self, key: Hashable, arrays: Arrays) -> None:
        path = self._save(arrays) if self._held.get(key) is arrays else None
        with self._lock:
            self._waiting.discard(key)
            if path and self._held.get(key) is arrays:
                self._held[key] = path
                return
        if path:
            path.unlink()  # its last use was meanwhile

    def _save(self, arrays: Arrays) -> Path:
        path = self._scratch / f"{next(self._numbers)}.npz"
        try:
            np.savez(path, *arrays)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise PrngeoError(
                f"The scratch folder {self._scratch} cannot take more ({error.strerror or error}). Free space there, "
                "choose another with --scratch, or raise --max-memory."
            ) from error
        return path

    def get(self, key: Hashable) -> Arrays:
        """The arrays of a key that is held.

        Raises:
            PrngeoError: the scratch folder cannot be read.
        """
        held = self._held[key]
        if not isinstance(held, Path):
            return held
        try:
            with np.load(held) as file:
                return tuple(file[name] for name in file.files)
        except (OSError, ValueError, BadZipFile) as error:
            raise PrngeoError(
                f"{held} in the scratch folder cannot be read back ({error}). Was it removed while the run was at "
                "work? Choose a folder that nothing else cleans with --scratch."
            ) from error

    def release(self, key: Hashable) -> None:
        """Count one use; the last one drops the arrays."""
        with self._lock:
            self._uses[key] -= 1
            if self._uses[key] > 0:
                return
            held = self._held.pop(key)
            del self._uses[key]
            if not isinstance(held, Path) and key not in self._waiting:
                self._bytes -= sum(array.nbytes for array in held)
        if isinstance(held, Path):
            held.unlink(missing_ok=True)
