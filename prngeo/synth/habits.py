"""How land of one use is built on and planted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Habit:
    """What stands on land of one use.

    Attributes:
        width: of a building along its street, metres (least, most).
        depth: of a building, metres.
        gap: to the next building, metres.
        setback: of the first row from the edge of the road, metres.
        kinds: probabilities of rectangle, L, T, U and round.
        rows: of buildings, from the street inward.
        skip: probability that a lot stays empty.
        turn: standard deviation of a building's angle to its street, radians.
        pitched: probability of a gable or hip roof.
        parking: probability that a lot is a parking lot.
        shed: probability of a small building behind.
        trees: single trees in 100 square metres.
        infill: attempts in 100 square metres to fit a small building into what is left.
    """

    width: tuple[float, float]
    depth: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    kinds: tuple[float, float, float, float, float]
    rows: int
    skip: float
    turn: float
    pitched: float
    parking: float
    shed: float
    trees: float
    infill: float = 0.0


HABITS: dict[str, Habit] = {
    "residential": Habit(
        width=(8, 16), depth=(7, 12), gap=(2.5, 10), setback=(2, 8), kinds=(0.6, 0.24, 0.1, 0.05, 0.01),
        rows=1, skip=0.1, turn=0.03, pitched=0.85, parking=0.0, shed=0.4, trees=0.5,
    ),
    "dense": Habit(
        width=(9, 30), depth=(9, 17), gap=(1.1, 4), setback=(0.5, 4), kinds=(0.5, 0.26, 0.1, 0.13, 0.01),
        rows=3, skip=0.08, turn=0.015, pitched=0.4, parking=0.07, shed=0.1, trees=0.18, infill=0.3,
    ),
    "informal": Habit(
        width=(4, 11), depth=(3.5, 8.5), gap=(1.1, 2.6), setback=(0.2, 2), kinds=(0.8, 0.15, 0.03, 0.02, 0.0),
        rows=9, skip=0.1, turn=0.08, pitched=0.5, parking=0.0, shed=0.1, trees=0.16, infill=2.0,
    ),
    "industrial": Habit(
        width=(18, 65), depth=(14, 40), gap=(4, 18), setback=(4, 14), kinds=(0.6, 0.18, 0.06, 0.06, 0.1),
        rows=3, skip=0.12, turn=0.01, pitched=0.25, parking=0.2, shed=0.2, trees=0.08, infill=0.05,
    ),
    "rural": Habit(
        width=(9, 24), depth=(7, 14), gap=(4, 30), setback=(4, 12), kinds=(0.7, 0.15, 0.05, 0.02, 0.08),
        rows=1, skip=0.75, turn=0.1, pitched=0.8, parking=0.0, shed=0.3, trees=0.12,
    ),
    "park": Habit(
        width=(8, 20), depth=(7, 14), gap=(8, 60), setback=(3, 12), kinds=(0.6, 0.2, 0.1, 0.08, 0.02),
        rows=1, skip=0.9, turn=0.3, pitched=0.6, parking=0.02, shed=0.0, trees=0.9,
    ),
}  # fmt: skip
