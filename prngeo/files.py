"""What must not happen to a user's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prngeo.errors import UsageError


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
