"""How files appear: never over an input or, unasked, over another file, and all of a run's or none."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from prngeo.errors import PrngeoError, UsageError

CLOCK_DRIFT = 10.0
"""Seconds by which the start of a process may seem to move while the system's clock is being set."""


def matches(name: str) -> list[str]:
    """The files of a pattern such as `tiles/*.tif`, sorted; of another name (a file, a URL, a /vsi name) that alone.

    Raises:
        UsageError: a pattern matches no file.
    """
    remote = "://" in name or name.startswith("/vsi") or name.lstrip().startswith("<")
    if not glob.has_magic(name) or remote or Path(name).exists():
        return [name]
    found = [match for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]
    if not found:
        raise UsageError(f"No file matches {name}.")
    return found


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace outputs unless told to.

    Raises:
        UsageError: one of them exists.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more already exist" if len(existing) > 1 else " already exists"
        raise UsageError(f"{existing[0]}{more}. Pass --overwrite, or choose another place with -o.")
    folders = [path for path in existing if path.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]} is a folder, an output of that name cannot be written. Choose another with -o.")


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[str | Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        UsageError: an output has the path of an input.
    """
    for path in inputs:
        local = Path(path)
        if any(output.exists() and local.exists() and output.samefile(local) for output in outputs):
            raise UsageError(f"An output would replace the input {path}. Choose another place with -o.")


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
def whole(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to; it becomes `path` at the end, or vanishes if writing fails.

    Raises:
        OSError: the file cannot be replaced.
    """
    hidden = path.with_name(f".{path.stem}.{uuid4().hex[:12]}{path.suffix}")
    try:
        yield hidden
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


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
