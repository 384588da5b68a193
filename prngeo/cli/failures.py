"""How a failure is told on stderr, and the exit code it gives."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback

import typer

from prngeo.errors import PrngeoError


class InterruptedRun(Exception):  # noqa: N818
    """The user pressed Ctrl-C."""


def report_failure(error: BaseException, debug: bool) -> int:
    """Tell the user of an error in one paragraph.

    Args:
        error: what was raised.
        debug: show its traceback too.

    Returns:
        The exit code that belongs to it.
    """
    if isinstance(error, BrokenPipeError):
        drop_stdout()
        return 1
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    message, code = describe(error)
    typer.echo(f"prngeo: {message}", err=True)
    return code


def drop_stdout() -> None:
    """Send what is left for a closed pipe (`prngeo models | head -1`) nowhere, so that exiting stays silent."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe(error: BaseException) -> tuple[str, int]:
    """What a user is told of an error, and its exit code."""
    if isinstance(error, PrngeoError):
        return str(error), error.exit_code
    if isinstance(error, (InterruptedRun, KeyboardInterrupt)):
        return str(error) or "interrupted; what was finished is kept, nothing half-written is left behind.", 130
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}. Free some space, or choose other places with -o and --scratch.", 1
    if isinstance(error, MemoryError):
        return "the memory is used up. Give --max-memory a smaller size, or close other programs.", 1
    text = " ".join(str(error).split())
    kind = type(error).__name__ + (f": {text}" if text else "")
    return (
        f"this is a bug in prngeo ({kind}). Please run the command again with --debug and report what it shows.",
        1,
    )
