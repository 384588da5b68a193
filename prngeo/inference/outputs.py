"""Names and kinds of what a prediction leaves behind, and how it gets there in one piece."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from prngeo.errors import PrngeoError, UsageError
from prngeo.qgis.styles import mask_colormap
from prngeo.raster.cog import RasterSpec
from prngeo.raster.geogrid import GeoGrid

Kind = Literal["probability", "mask", "correction"]
KINDS: tuple[Kind, ...] = ("probability", "mask", "correction")

PROBABILITY_SCALE = 0.004
"""A stored step of probability; 0..250, so that 0.5 and every other multiple of 0.004 is exact."""
CORRECTION_SCALE = 0.01
"""A stored step of the logit correction."""
NODATA = 255
CORRECTION_NODATA = -32768

CLOCK_DRIFT = 10.0
"""Seconds by which the start of a process may seem to move while the system's clock is being set."""


def raster_name(scene: str, target: str, kind: Kind) -> str:
    """File name of an output raster."""
    return f"{scene}_{target}_{kind}.tif"


def raster_spec(grid: GeoGrid, target: str, kind: Kind, tags: dict[str, str]) -> RasterSpec:
    """What each kind of raster holds."""
    common = (grid.height, grid.width, grid.transform, grid.crs)
    if kind == "probability":
        return RasterSpec(
            *common,
            dtype="uint8",
            nodata=NODATA,
            overviews="average",
            description=f"probability of {target}",
            scale=PROBABILITY_SCALE,
            tags=tags,
        )
    if kind == "mask":
        return RasterSpec(
            *common,
            dtype="uint8",
            nodata=NODATA,
            overviews="nearest",
            description=f"{target}: 1, background: 0",
            colors=mask_colormap(target),
            tags=tags,
        )
    return RasterSpec(
        *common,
        dtype="int16",
        nodata=CORRECTION_NODATA,
        overviews="average",
        description=f"PRN's correction of the {target} logit",
        scale=CORRECTION_SCALE,
        tags=tags,
    )


@contextmanager
def staging(folder: Path, scene: str) -> Iterator[Path]:
    """A hidden folder beside the outputs for everything unfinished; gone when the run ends, however it ends.

    A folder that a killed run left behind is removed first.

    Raises:
        UsageError: the folder cannot be written, or another run is at work on the same outputs.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    hidden = folder / f".{scene}.prngeo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if hidden.exists():
            _refuse_if_running(hidden, folder)
            shutil.rmtree(hidden)
        hidden.mkdir()
        (hidden / "pid").write_text(f"{os.getpid()} {_started(os.getpid())}", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The output folder {folder} cannot be written ({error.strerror}). Choose another with -o."
        ) from error
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        for path in created:
            with suppress(OSError):  # It holds something by now.
                path.rmdir()


def _refuse_if_running(hidden: Path, folder: Path) -> None:
    try:
        number, _, started = (hidden / "pid").read_text(encoding="utf-8").partition(" ")
        pid, known = int(number), float(started)
    except (OSError, ValueError):
        return
    if pid != os.getpid() and abs(_started(pid) - known) < CLOCK_DRIFT:
        raise UsageError(
            f"Another prngeo run (process {pid}) is writing the same outputs in {folder}. Wait for it, or choose "
            "another folder with -o."
        )


def _started(pid: int) -> float:
    """When a running process was started, which tells it from others with its number; -inf if there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return float("-inf")


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder that is gone at the end.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="prngeo-", dir=parent)
    except OSError as error:
        raise UsageError(f"--scratch {parent} cannot be written ({error.strerror}). Choose another folder.") from error
    with folder as name:
        yield Path(name)


def publish(hidden: Path, folder: Path, names: list[str]) -> None:
    """Move finished files to their final names, in this order; if one cannot be moved, none is.

    Files that are replaced are kept in the hidden folder until all are moved, and go back if that fails.

    Raises:
        PrngeoError: a file cannot be replaced (on Windows: it is open elsewhere).
    """
    replaced = hidden / "replaced"
    replaced.mkdir()
    moved: list[Path] = []
    try:
        for name in names:
            if (folder / name).exists():
                _keep(folder / name, replaced / name)
            (hidden / name).replace(folder / name)
            moved.append(folder / name)
    except BaseException as error:
        for path in moved:
            before = replaced / path.name
            if before.exists():
                before.replace(path)
            else:
                path.unlink()
        if isinstance(error, OSError):
            raise PrngeoError(
                f"{folder / names[len(moved)]} could not be replaced ({error.strerror}); if a program has it open, "
                "close it, or choose another folder with -o."
            ) from error
        raise


def _keep(path: Path, second: Path) -> None:
    """A second name for a file, or a copy where there are no hard links; the first name stays in place."""
    try:
        os.link(path, second)
    except OSError:
        shutil.copy2(path, second)
