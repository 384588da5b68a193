"""Sharing out the memory a run may use: a chunk in work, and tiles that wait for their last use.

The figures are measurements for the fixed parts and arithmetic for the arrays; `prngeo check` prints them. Memory of a
GPU is counted apart, with the same budget: by the batch of tiles. What its driver takes is not among either.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prngeo.errors import UsageError
from prngeo.inference.local import READ_AHEAD, WRITE_BEHIND
from prngeo.models.card import Card
from prngeo.tiling.grid import Grid

TORCH = 960 << 20
"""Python, GDAL, torch and what vectors need, at rest; measured on Linux with torch 2.14 (a build with CUDA)."""
COMMAND = 240 << 20
"""The command beside a process of its networks, which has no need of what vectors take."""
WORKER = 128 << 20
"""What a Dask worker takes more: there the networks compute in a thread, whose heap the C library divides."""
ONNX = 280 << 20
"""The same with ONNX Runtime in place of torch."""
TILE_PIXEL = 700
"""Bytes a pixel of a tile while the embedded network works on it."""
WINDOW_PIXEL = 52
"""Bytes a pixel and target of a refiner window while the embedded refiner works on it, and two more are read."""
CHUNK_PIXEL = 24
"""Bytes a pixel and target of a chunk, on the grid where it is larger, while its logits are blended and stored."""
CACHE = 256 << 20
"""The most that GDAL's block cache gets; with little memory a sixteenth of it."""
GPU_BATCH = 8
"""The most tiles of a call on a GPU."""
CHUNKS = (2048, 1024, 512)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
HALF = 2  # bytes of a float16


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is used.

    Attributes:
        chunk: side of a chunk in output pixels.
        store: bytes of tiles held in memory; the rest goes to the scratch folder.
        scratch: at most so many bytes are in the scratch folder at a time.
        peak: estimate of the peak in bytes.
    """

    chunk: int
    store: int
    scratch: int
    peak: int


def plan_memory(
    budget: int,
    card: Card,
    shape: tuple[int, int],
    tile: int,
    overlap: int,
    chunk: int | None = None,
    factor: float = 1.0,
    beside: int = 0,
) -> MemoryPlan:
    """Choose chunk size and store for a budget in bytes.

    Args:
        budget: of the whole process.
        card: the model.
        shape: (height, width) of the model grid in pixels.
        tile: side of a tile in pixels.
        overlap: overlap of tiles in pixels.
        chunk: a fixed side of chunks in output pixels, or None.
        factor: output pixels per model pixel along a side.
        beside: bytes of what else there is: `COMMAND` where networks have a process of their own, `WORKER` with Dask.

    Raises:
        UsageError: not even the smallest chunk fits.
    """
    targets = len(card.targets)
    window = card.refiner.window if card.refiner else 0
    read_ahead = (READ_AHEAD + 2) * tile**2 * (4 * len(card.bands) + 1)
    at_work = TILE_PIXEL * tile**2, WINDOW_PIXEL * targets * window**2
    # ONNX Runtime keeps what each of its graphs took, torch takes the same memory for both networks.
    fixed = TORCH + max(at_work) if card.graphs is None else ONNX + sum(at_work)
    fixed += read_ahead + beside
    cache = gdal_cache(budget)
    for side in (chunk,) if chunk else CHUNKS:
        seen = math.ceil(side / factor)
        waiting = waiting_bytes(card, shape, tile, overlap, seen)
        working = CHUNK_PIXEL * targets * max(side, min(seen, max(shape))) ** 2
        least = fixed + cache + working
        smallest = side == CHUNKS[-1] or chunk is not None
        if budget >= least + (0 if smallest else min(waiting, 128 << 20)):
            store = min(waiting, budget - least)
            return MemoryPlan(side, store, waiting - store, least + store)
    needed = min((fixed + working) * 16 / 15, fixed + working + CACHE)
    raise UsageError(
        f"--max-memory {budget / 2**30:.2f}GB is too small: this model needs at least "
        f"{math.ceil(needed / 2**30 * 100 + 0.5) / 100:.2f}GB here."
    )


def gdal_cache(budget: int) -> int:
    """Bytes of GDAL's block cache for a budget of the whole process."""
    return min(CACHE, budget // 16)


def gpu_batch(budget: int, tile: int) -> int:
    """Tiles of a call on a GPU for so many bytes of its memory; half of it is left to all else."""
    return max(1, min(GPU_BATCH, budget // (2 * TILE_PIXEL * tile**2)))


def waiting_bytes(card: Card, shape: tuple[int, int], tile: int, overlap: int, chunk: int) -> int:
    """At most so many bytes of logits and corrections wait at a time for their last use.

    They fill a band of rows across the scene: that of a row of chunks, the refiner windows that reach into it, and
    the tiles that reach into those; and as far as the networks are ahead of the blending, that of the next row.

    Args:
        card: the model.
        shape: (height, width) of the model grid in pixels.
        tile: side of a tile in pixels.
        overlap: overlap of tiles in pixels.
        chunk: side of a chunk in pixels of the model grid.
    """
    targets, refiner = len(card.targets), card.refiner
    tiles = Grid(*shape, tile, overlap)
    window = refiner.window if refiner else 0
    lag = min(1.0, (WRITE_BEHIND + 2) * (chunk + 2 * window) / shape[1])
    layers = targets + ((len(card.bands) + 1) / refiner.reduction**2 if refiner else 0)
    found = _band(tiles, chunk + 2 * window, lag * chunk) * layers * tile**2
    if refiner:
        windows = Grid(*shape, refiner.window, refiner.overlap)
        found += _band(windows, chunk, lag * chunk) * targets * window**2
    return math.ceil(found * HALF)


def _band(grid: Grid, rows: int, more: float) -> float:
    """Number of windows that touch so many rows of pixels, wherever those begin, and so many more in part."""
    return min(grid.rows, (rows + grid.size) / grid.stride + 1 + more / grid.stride) * grid.cols


def refuse_full(plan: MemoryPlan, folder: Path) -> None:
    """Refuse a run whose scratch space is not there.

    Args:
        plan: of the run.
        folder: in which it would be; may not exist yet.

    Raises:
        UsageError: less is free than may be needed.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if plan.scratch > free:
        raise UsageError(
            f"The run may need {plan.scratch / 2**30:.2f}GB of scratch space, and {free / 2**30:.2f}GB are free in "
            f"{place}. Choose a folder on another disk with --scratch, or raise --max-memory."
        )


def estimate(plan: MemoryPlan, folder: Path | None, each_worker: bool = False) -> str:
    """What a run will take, in a sentence.

    Args:
        plan: of the run.
        folder: of the scratch space; None where each worker has one of its own.
        each_worker: the plan is that of each worker of a cluster.
    """
    takes = "Each worker takes" if each_worker else "Takes"
    place = f" in {folder}" if folder else ""
    scratch = f" and {plan.scratch / 2**30:.2f}GB of scratch space{place}" if plan.scratch else ""
    return f"{takes} up to {plan.peak / 2**30:.2f}GB of memory until there are rasters{scratch}."


def trim() -> None:
    """Give memory that was freed back to the system, where the C library (that of Linux) keeps it for itself."""
    _call_c_library("malloc_trim", 0)


def keep_freed() -> None:
    """Let freed memory be used again, up to what a batch of tiles takes.

    Dask starts its workers with MALLOC_TRIM_THRESHOLD_, by which every large array comes from the system and goes back
    there: torch takes twice as long then. In a process of the networks alone it takes a tenth longer without this.
    """
    _call_c_library("mallopt", M_MMAP_THRESHOLD, 64 << 20)
    _call_c_library("mallopt", M_TRIM_THRESHOLD, 512 << 20)


def _call_c_library(function: str, *arguments: int) -> None:
    """Call a function of glibc, if it is the C library."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)
