"""Showing progress on stderr: a bar on a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum

import typer

from prngeo.progress import Progress, Report, silent

STAGES = {
    "segment": "segment and refine",
    "finish": "write rasters",
    "vectorize": "vectorize",
    "prepare": "read scenes and labels",
    "base": "train the base network",
    "folds": "train the networks of the folds",
    "refiner": "fit the refiner",
    "test": "judge and test",
    "labels": "read labels",
    "fit": "fit the refiner",
    "judge": "judge it",
    "refine": "refine",
}


class Shown(StrEnum):
    """How progress is shown."""

    auto = "auto"
    json = "json"
    none = "none"


@contextmanager
def showing(scene: str, shown: Shown) -> Iterator[Report]:
    """A function that shows the steps it is told; nothing of a bar is left at the end.

    Args:
        scene: shown until the first step.
        shown: auto is a bar on a terminal, else notes alone.
    """
    if shown is Shown.json:
        yield _json_lines()
    elif shown is Shown.none:
        yield silent
    elif not sys.stderr.isatty():
        yield _notes
    else:
        with _bar(scene) as report:
            yield report


def _json_lines() -> Report:
    started = time.monotonic()

    def report(step: Progress) -> None:
        content = asdict(step)
        note = content.pop("note")
        event = {"event": "note", "scene": step.scene, "note": note} if note else {"event": "progress"} | content
        typer.echo(json.dumps(event | {"seconds": round(time.monotonic() - started, 2)}), err=True)

    return report


def _notes(step: Progress) -> None:
    if step.note:
        typer.echo(f"{step.scene}: {step.note}", err=True)


@contextmanager
def _bar(scene: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
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
        task = bar.add_task(f"{escape(scene)}: load the model", total=None)
        stage = ""

        def report(step: Progress) -> None:
            nonlocal stage
            if step.note:
                bar.console.print(escape(f"{step.scene}: {step.note}"), soft_wrap=True, highlight=False)
                return
            if step.stage != stage:
                stage = step.stage
                description = f"{escape(step.scene)}: {STAGES.get(stage, stage)}"
                bar.reset(task, total=step.total, description=description)
            bar.update(task, completed=step.done)

        yield report
