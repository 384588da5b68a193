"""Progress of a run, told to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A step of a run.

    Attributes:
        scene: name of the scene.
        stage: what is being done.
        done: units finished.
        total: units in all.
        note: a sentence for the user in place of a step, such as where a run continues.
    """

    scene: str
    stage: str
    done: int = 0
    total: int = 0
    note: str = ""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tells nobody."""
