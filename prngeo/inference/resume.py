"""Continuing an unfinished run: what its results depend on, what changed since, and what its user is told."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prngeo import __version__
from prngeo.errors import Cancelled, PrngeoError, UsageError
from prngeo.files import Finished, empty, file_hash, free_space, holds, read_json, refuse_existing, write_json
from prngeo.inference.job import Job
from prngeo.models.bundle import CARD
from prngeo.progress import Progress, Report

WITHOUT_EFFECT = ("model", "device", "max_memory", "scratch", "overwrite", "chunk", "dask", "apart")
"""Options that change no result, or whose effect is told by another entry of the identity."""
RUN = "prngeo-run-"
"""Begins the name of a file in the hidden folder that is there while Dask workers are to go on."""
PUBLISH = "publish"
"""The step after which all outputs are finished and only have to be moved."""
FULL = (errno.ENOSPC, errno.EDQUOT)

NOT_TOLD = "nothing tells whether the scene changed (only files and servers that send an ETag do)"

Identity = dict[str, Any]
"""What a result depends on, by words that a user understands."""


@dataclass(frozen=True)
class RunState:
    """What an unfinished run knows of itself.

    Attributes:
        identity: what its result depends on.
        chunk: side of its chunks in output pixels.
        chunks: their number.
        replace: True if its user said that it may replace outputs.
    """

    identity: Identity
    chunk: int
    chunks: int
    replace: bool

    @staticmethod
    def read(hidden: Path) -> RunState | None:
        """The state of the run in a hidden folder, None if there is none."""
        content = read_json(hidden / "run.json")
        return RunState(**content) if content is not None else None

    def write(self, hidden: Path) -> None:
        """Keep it.

        Raises:
            OSError: it cannot be written.
        """
        write_json(hidden / "run.json", asdict(self))


def run_identity(job: Job, source: dict[str, Any], compute: dict[str, str | int]) -> Identity:
    """What pixels and rows of a run depend on, as it comes back from JSON.

    Args:
        job: the scene and how it is read.
        source: identity of the scene's file.
        compute: facts of the runtime; the number of threads may change the rounding, no more.
    """
    scene = job.scene
    options = {key: value for key, value in asdict(job.options).items() if key not in WITHOUT_EFFECT}
    options |= {"targets": [target.name for target in job.targets], "tile": job.tile, "overlap": job.overlap}
    options["aoi"] = job.aoi and job.aoi.digest
    grid = [scene.height, scene.width, list(scene.transform)[:6], scene.crs and scene.crs.to_wkt()]
    identity: Identity = {
        "the version of prngeo": __version__,
        "the scene": [source, grid, scene.bands, scene.gsd, scene.stretch],
        "the model": [file_hash(job.bundle.path / CARD), job.bundle.files],
        "what computes": {key: value for key, value in compute.items() if key != "threads"},
    }
    identity |= {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    content: Identity = json.loads(json.dumps(identity))
    return content


def identity_hash(identity: Identity) -> str:
    """SHA-256 of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def is_told(source: dict[str, Any]) -> bool:
    """True if the identity of a scene's file, and of every other one that its pixels are in, tells whether it changed.

    Args:
        source: see prngeo.raster.source.identity.
    """
    return all({"sha256", "etag"} & set(file) for file in (source, *source.get("sources", ())))


def differences(before: Identity, now: Identity) -> str:
    """What changed, in words: `--threshold was 0.5 and is 0.3`; empty if nothing did."""
    return ", ".join(
        f"{name} was {_said(before.get(name))} and is {_said(now.get(name))}"
        if name.startswith("--") and name != "--aoi"
        else f"{name} changed"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    )


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "not given", True: "on", False: "off"}[value]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def moved_outputs(hidden: Path, folder: Path) -> set[Path]:
    """Outputs that a run which was killed at its end had moved to their names already."""
    files = Finished(hidden).files(PUBLISH)
    return {folder / name for name, digest in files.items() if holds(folder / name, digest)}


def resume(
    job: Job, identity: Identity, before: RunState | None, hidden: Path, outputs: list[Path], report: Report
) -> Job:
    """Make the hidden folder ready: what an unfinished run of the same identity left stays, all else goes.

    Args:
        job: the scene and how it is read.
        identity: of this run.
        before: state of the unfinished run, None if there is none or it is not to be continued.
        hidden: the folder.
        outputs: what the run will write.
        report: is told why a run starts afresh.

    Returns:
        The job, with the chunks of the run that is continued.

    Raises:
        UsageError: the run starts afresh, and outputs exist that only the unfinished run might replace.
        OSError: the folder cannot be written.
    """
    if job.options.dask is None:
        forget_workers(hidden)
    reason = ""
    if before is not None:
        job, reason = _continued(job, before, identity)
    if before is None or reason:
        refuse_existing(outputs, job.options.overwrite)
        if reason:
            note = f"The unfinished run cannot be continued: {reason}. Starting afresh."
            report(Progress(job.scene.name, "segment", note=note))
        empty(hidden)
        RunState(identity, job.memory.chunk, len(job.chunks()), job.options.overwrite).write(hidden)
    for path in (hidden / "work", *hidden.glob("prngeo-*")):
        shutil.rmtree(path, ignore_errors=True)
    if not _publishable(hidden, job.folder):
        Finished(hidden).forget(PUBLISH)
    return job


def forget_workers(hidden: Path) -> list[str]:
    """Tell Dask workers of runs that were killed that these are over, before anything they wrote is looked at.

    Args:
        hidden: folder of the unfinished run.

    Returns:
        The names of those runs.
    """
    left = list(hidden.glob(f"{RUN}*"))
    for token in left:
        token.unlink(missing_ok=True)
    return [token.name for token in left]


def _publishable(hidden: Path, folder: Path) -> bool:
    """True if every output is finished, here or under its name already."""
    places = (
        (hidden / name if (hidden / name).exists() else folder / name, digest)
        for name, digest in Finished(hidden).files(PUBLISH).items()
    )
    return all(holds(path, digest) for path, digest in places)


def _continued(job: Job, before: RunState, identity: Identity) -> tuple[Job, str]:
    """The job with the chunks of an unfinished run, and why it cannot be continued if so."""
    changed = differences(before.identity, identity)
    if changed:
        return job, changed
    if not is_told(identity["the scene"][0]):
        return job, NOT_TOLD
    try:
        return job.with_chunks(before.chunk), ""
    except UsageError:
        return job, f"its chunks of {before.chunk} px do not fit into --max-memory"


@contextmanager
def explained(hidden: Path, overwrite: bool) -> Iterator[None]:
    """Adds to every end of a run that is not its user's mistake what is kept, and how to continue.

    Raises:
        PrngeoError: in place of an error of that kind, or where the disk is full.
        KeyboardInterrupt: with a message, in place of one without.
    """
    try:
        yield
    except (Cancelled, UsageError):
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted. {_hint(hidden, overwrite)}") from error
    except PrngeoError as error:
        raise type(error)(f"{error} {_hint(hidden, overwrite)}") from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = f"The disk of {hidden.parent} is full: {free_space(hidden.parent)} free. Make room."
        raise PrngeoError(f"{full} {_hint(hidden, overwrite)}") from error


def _hint(hidden: Path, overwrite: bool) -> str:
    state, done = RunState.read(hidden), Finished(hidden).count("chunks")
    if state is None or not done:
        return "Nothing was finished, and nothing is left behind."
    again = "the same command without --overwrite" if overwrite else "the same command"
    if not is_told(state.identity["the scene"][0]):
        return f"{done} of {state.chunks} chunks are done, but the next run starts afresh: {NOT_TOLD}."
    return f"{done} of {state.chunks} chunks are done and kept in {hidden}: run {again} to continue."
