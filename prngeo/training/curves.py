"""The course of a training: what its logs hold, and how it is drawn."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from prngeo.evaluation import plots

LOSS, VALIDATION = "loss", "validation_iou"
BASE_COLOR, REFINER_COLOR = plots.NAMES["baseline"], plots.NAMES["prediction"]

Course = list[tuple[int, float]]
"""(step, value), by step."""


def read_log(path: Path) -> dict[str, Course]:
    """The columns of a log by name, each as far as it was written.

    Args:
        path: CSV with a column `step`; other cells may be empty. A file that is missing or no such table gives none.
    """
    found: dict[str, dict[int, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = _number(row.pop("step", None))
                for name, cell in row.items():
                    value = _number(cell)
                    if step is not None and value is not None and name:
                        found.setdefault(name, {})[int(step)] = value
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    # A run that was interrupted may have logged a step twice: the later one is the one it went on from.
    return {name: sorted(course.items()) for name, course in found.items()}


def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def loss_curve(course: Course, color: str) -> str:
    """Loss over steps."""
    canvas, axes = plots.new_axes("step", "loss")
    steps, values = zip(*course, strict=True)
    axes.plot(steps, values, color=color, alpha=0.35 if len(course) >= 2 * _SMOOTH else 1.0)
    if len(course) >= 2 * _SMOOTH:
        axes.plot(steps, _smoothed(values), color=color)
    axes.set_ylim(bottom=0 if min(values) >= 0 else None)
    return plots.svg(canvas)


_SMOOTH = 10


def _smoothed(values: tuple[float, ...]) -> list[float]:
    """Means of up to the last `_SMOOTH` values."""
    return [
        sum(part) / len(part) for end in range(1, len(values) + 1) for part in [values[max(0, end - _SMOOTH) : end]]
    ]


def validation_curve(courses: dict[str, Course]) -> str:
    """IoU on the validation areas over steps, the mean and, of several targets, each."""
    canvas, axes = plots.new_axes("step", "IoU on validation areas")
    for name, course in courses.items():
        whole = name == VALIDATION
        label = "mean" if whole else name.removeprefix(f"{VALIDATION}_")
        axes.plot(*zip(*course, strict=True), "o-" if whole else ".--", markersize=4, label=label)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    return plots.svg(canvas)
