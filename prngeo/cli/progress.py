"""Showing progress on stderr: a bar on a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum

from prngeo.progress import Progress, Report, silent

STAGES = {"segment": "segmenting", "finish": "writing rasters", "vectorize": "tracing polygons"}


class Shown(StrEnum):
    """How progress is shown."""

    auto = "auto"
    json = "json"
    none = "none"


@contextmanager
def showing(shown: Shown) -> Iterator[Report]:
    """A function that shows the steps it is told."""
    if shown is Shown.json:
        yield _json
    elif shown is Shown.none or not sys.stderr.isatty():
        yield silent
    else:
        with _bar() as report:
            yield report


def _json(step: Progress) -> None:
    print(json.dumps(asdict(step)), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}

        def report(step: Progress) -> None:
            name = f"{step.scene}: {STAGES.get(step.stage, step.stage)}"
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=step.total)
            bar.update(tasks[name], completed=step.done, total=step.total)  # type: ignore[arg-type]

        yield report
