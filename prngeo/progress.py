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
    """

    scene: str
    stage: str
    done: int
    total: int


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tells nobody."""
