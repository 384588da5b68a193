"""How files appear: never over an input or, unasked, over another file, and all of a run's or none."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from prngeo.errors import Cancelled, PrngeoError, UsageError
from prngeo.owner import Owner, beating, claim

_unfinished: dict[Path, list[Path]] = {}


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


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def staging_folder(folder: Path, scene: str) -> Path:
    """The hidden folder of `staging`, whether it exists or not."""
    return folder / f".{scene}.prngeo"


@contextmanager
def staging(folder: Path, scene: str, resume: bool = False) -> Iterator[Path]:
    """A hidden folder beside the outputs for everything unfinished; gone when the run is done.

    Args:
        folder: of the outputs, created if missing.
        scene: name of the run.
        resume: a run that fails or is interrupted leaves the folder for the next one if a step was finished (see
            `Finished`); one that is cancelled does not. Else the folder goes however the run ends, and what a killed
            run left behind is removed first.

    Raises:
        UsageError: the folder cannot be written, or another run is at work on the same outputs.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    hidden = staging_folder(folder, scene)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hidden.mkdir(exist_ok=True)
        _claim(hidden, folder)
        if not resume:
            empty(hidden)
    except OSError as error:
        raise UsageError(
            f"The output folder {folder} cannot be written ({error.strerror}). Choose another with -o."
        ) from error
    kept = False
    _unfinished[hidden] = created
    try:
        with beating(hidden / "pid"):
            yield hidden
    except BaseException as error:
        kept = resume and not isinstance(error, Cancelled) and Finished(hidden).count() > 0
        raise
    finally:
        if kept:
            (hidden / "pid").unlink(missing_ok=True)
        else:
            _remove(hidden)
        del _unfinished[hidden]
        _remove_empty(created)


def _remove(hidden: Path) -> None:
    """Remove a run's folder: at once by another name, in case the run is killed meanwhile."""
    tidy(hidden)
    with suppress(OSError):  # on Windows: something in it is open elsewhere
        hidden = hidden.replace(_removed(hidden))
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # It holds something by now.
            path.rmdir()


def tidy(hidden: Path) -> None:
    """Remove what is left of a run's folder where the run was killed while it removed it."""
    shutil.rmtree(_removed(hidden), ignore_errors=True)


def _removed(hidden: Path) -> Path:
    return hidden.with_name(f"{hidden.name}-removed")


def remove_unfinished() -> None:
    """Remove the hidden folders of all runs of this process, which is to end at once, and the folders they made.

    On Windows a file that is being written stays.
    """
    for hidden, created in list(_unfinished.items()):
        _remove(hidden)
        _remove_empty(created)


class Finished:
    """The finished steps of a run: each has a note, written last, that holds the SHA-256 of the step's files.

    Attributes:
        notes: folder of the notes.

    Args:
        folder: hidden folder of the run; names of files are relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes = folder / "finished"

    def put(self, step: str, hashes: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Note that a step is finished.

        Args:
            step: its name, with a slash after the name of its group.
            hashes: name -> SHA-256 of its files.
            facts: what is to be known of it, ready for JSON.

        Raises:
            OSError: it cannot be written, or the run's folder is gone.
        """
        self.notes.mkdir(exist_ok=True)
        write_json(self._note(step), {"files": dict(hashes), "facts": dict(facts)})

    def facts(self, step: str) -> dict[str, Any] | None:
        """What is known of a step, None if it is not finished."""
        note = read_json(self._note(step))
        return None if note is None else dict(note["facts"])

    def files(self, step: str) -> dict[str, str]:
        """Name -> SHA-256 of a step's files, empty if it is not finished."""
        note = read_json(self._note(step))
        return {} if note is None else dict(note["files"])

    def sound(self, step: str, names: Iterable[str] | None = None) -> bool:
        """True if a step is finished and its files (or those of these names) are what they were then."""
        note = read_json(self._note(step))
        if note is None:
            return False
        files = note["files"]
        return all(holds(self._folder / name, files.get(name)) for name in (files if names is None else names))

    def count(self, group: str = "") -> int:
        """How many steps (of a group) are finished."""
        return sum(1 for _ in (self.notes / group).rglob("*.json"))

    def forget(self, step: str) -> None:
        """Count a step as not finished."""
        self._note(step).unlink(missing_ok=True)

    def _note(self, step: str) -> Path:
        return self.notes / f"{step}.json"


def free_space(folder: Path) -> str:
    """What is free on the disk of a folder, such as `3 MB`."""
    try:
        return f"{shutil.disk_usage(folder).free >> 20} MB"
    except OSError:
        return "unknown"


def empty(hidden: Path) -> None:
    """Remove everything from the hidden folder of this run."""
    for path in hidden.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "pid":
            path.unlink(missing_ok=True)


def holds(path: Path, digest: str | None) -> bool:
    """True if a file is there and has this SHA-256."""
    try:
        return digest is not None and file_hash(path) == digest
    except OSError:
        return False


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON, all of it or none.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as hidden:
        hidden.write_text(json.dumps(content), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a file that `write_json` wrote; None if it is not there or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _claim(hidden: Path, folder: Path) -> None:
    """Make the hidden folder that of this run, or refuse if another one is at work in it."""
    owner = claim(hidden / "pid")
    if owner is not None:
        elsewhere = "" if owner.here else f" on {owner.node}"
        raise UsageError(
            f"Another prngeo run (process {owner.pid}{elsewhere}) is writing the same outputs in {folder}. Wait for "
            "it, or choose another folder with -o."
        )


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
    """A temporary folder that is gone at the end; those that killed processes of this machine left in `parent` go now.

    Raises:
        UsageError: it cannot be made.
    """
    for path in parent.glob("prngeo-*/owner"):
        owner = Owner.read(path)
        if owner is not None and owner.here and not owner.runs:
            shutil.rmtree(path.parent, ignore_errors=True)
    try:
        folder = tempfile.TemporaryDirectory(prefix="prngeo-", dir=parent)
        Owner.own().write(Path(folder.name) / "owner")
    except OSError as error:
        raise UsageError(f"--scratch {parent} cannot be written ({error.strerror}). Choose another folder.") from error
    with folder as name:
        yield Path(name)


def publish(hidden: Path, folder: Path, names: list[str]) -> None:
    """Move finished files to their final names, in this order; if one cannot be moved, none is.

    Files that are replaced are kept in the hidden folder until all are moved; if that fails, they go back, and so do
    the finished ones. A file that is not in the hidden folder was moved before, by a run that was killed then.

    Raises:
        PrngeoError: a file cannot be replaced (on Windows: it is open elsewhere).
    """
    replaced = hidden / "replaced"
    replaced.mkdir(exist_ok=True)
    moved = [name for name in names if not (hidden / name).exists()]
    name = ""
    try:
        for name in names:
            if name in moved:
                continue
            if (folder / name).exists():
                _keep(folder / name, replaced / name)
            (hidden / name).replace(folder / name)
            moved.append(name)
    except BaseException as error:
        for back in moved:
            (folder / back).replace(hidden / back)
            if (replaced / back).exists():
                (replaced / back).replace(folder / back)
        if isinstance(error, OSError):
            raise PrngeoError(
                f"{folder / name} could not be replaced ({error.strerror}); if a program has it open, close it, or "
                "choose another folder with -o."
            ) from error
        raise


def _keep(path: Path, second: Path) -> None:
    """A second name for a file, or a copy where there are no hard links; the first name stays in place."""
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:
        shutil.copy2(path, second)
