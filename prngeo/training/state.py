"""The folder of a run: whether it begins, continues, or starts again, and what it may not be mixed with."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.files import write_json

logger = logging.getLogger(__name__)

RECORD = "run.json"
_OWN = (
    RECORD, "split.json", "cache", "base.pt", "base.partial", "logs", "fold-*", "maps", "base", "candidate",
    "refiner-*.pt", "refiner-*.partial", "bundle", "report.html", "metrics.json",
)  # fmt: skip
"""What a run leaves in its folder; nothing else there is touched."""
_BEGUN = ("base.pt", "bundle")
"""What would be lost by starting again; a run that failed before its first checkpoint leaves nothing to keep."""
_FREE = {"device", "base.devices", "work", "root", "out", "version", "description", "license"}
"""Keys that do not change what is learned."""


def begin(config: TrainConfig, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a run ready, or refuse.

    Args:
        config: the run.
        resume: continue what an interrupted run of this configuration left.
        overwrite: remove what an earlier run of this name left.

    Returns:
        The folder.

    Raises:
        UsageError: an earlier run of this name or another model is there and neither is asked for, both are, the
            configuration is not the one that is to be continued, or the folder cannot be written.
    """
    if resume and overwrite:
        raise UsageError("--resume continues a training and --overwrite starts it again: give one of them.")
    folder = config.work / config.name
    begun = any((folder / name).exists() for name in _BEGUN)
    if begun and not (resume or overwrite):
        state = "is finished" if (folder / "bundle").exists() else "was begun and is not finished"
        raise UsageError(
            f"The training {config.name} in {folder} {state}. Continue with --resume, start again with --overwrite, or "
            "give this one another name."
        )
    if begun and resume:
        _refuse_changes(_read(folder).get("config", {}), _dump(config), folder)
        return folder
    if config.out is not None and (config.out / "card.json").exists() and not overwrite:
        raise UsageError(f"{config.out} holds a model already: give another folder as out, or pass --overwrite.")
    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file, and a model is a folder: give another name as out.")
    if resume:
        logger.info("there is nothing to resume in %s: the training starts", folder)
    if overwrite:
        _clear(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, {"config": _dump(config)})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(
            f"The run's folder {folder} cannot be written ({error.strerror}). Choose another with work=FOLDER."
        ) from error
    return folder


def finished(config: TrainConfig, folder: Path) -> Path | None:
    """Folder of the bundle that a finished run of exactly this configuration wrote, if it is still there."""
    record = _read(folder)
    if record.get("config") != _dump(config) or "bundle" not in record:
        return None
    bundle = Path(record["bundle"])
    return bundle if (bundle / "card.json").is_file() else None


def finish(config: TrainConfig, folder: Path, bundle: Path) -> None:
    """Record that the run is over."""
    write_json(folder / RECORD, {"config": _dump(config), "bundle": str(bundle)})


def _dump(config: TrainConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): start the training again with --overwrite.") from error
    return content if isinstance(content, dict) else {}


def _refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    old, new = dict(_flat(before)), dict(_flat(now))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in _FREE)
    if changed:
        what = ", ".join(f"{key} (was {old.get(key)!r}, is {new.get(key)!r})"[:160] for key in changed)
        raise UsageError(
            f"The training in {folder} was begun with another configuration: {what}. Continue it with that one, "
            "start again with --overwrite, or give this one another name."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; lists are values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _clear(folder: Path) -> None:
    """Remove what an earlier run left; the record goes first, so that a half-cleared folder is not continued."""
    for pattern in _OWN:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
