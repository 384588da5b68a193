"""The classes of scores: a name for every band, and the values that stand for them on class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prngeo.errors import UsageError

LARGEST = 254
"""Largest value of a class; 255 is nodata."""


@dataclass(frozen=True)
class Classes:
    """Classes in the order of the scores' bands.

    Attributes:
        names: of the classes.
        values: on class maps; empty if labels are masks of the only class.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] = ()


def choose_classes(told: str | None, names: Sequence[str | None], guess: str | None) -> Classes:
    """The classes of scores with these bands.

    Args:
        told: `roads` or `roads,buildings` or `roads=1,buildings=4`, one for each band; values are 1, 2, ... where none
            is given.
        names: descriptions of the bands, where there are any.
        guess: what the objects of scores with one band are, if nothing else tells.

    Raises:
        UsageError: there are more or fewer than bands, or they are not written so.
    """
    if told is None:
        if len(names) == 1:
            return Classes((file_name(guess or "") or "objects",))
        found = tuple(name or f"class_{number}" for number, name in enumerate(names, 1))
        found = tuple(map(file_name, found))
        if not all(found) or alike(found):
            found = tuple(f"class_{number}" for number in range(1, len(names) + 1))
        return Classes(found, tuple(range(1, len(names) + 1)))
    parts = [part.strip().partition("=") for part in told.split(",")]
    chosen = tuple(file_name(name.strip()) for name, _, _ in parts)
    if len(parts) != len(names):
        bands = "one band" if len(names) == 1 else f"{len(names)} bands"
        raise UsageError(
            f"--classes {told} names {len(parts)}, but the scores have {bands}: one class a band is needed."
        )
    if not all(chosen) or alike(chosen):
        raise UsageError(f"--classes {told}: every class needs a name of its own, as in roads=1,buildings=2.")
    if len(parts) == 1 and not parts[0][1]:
        return Classes(chosen)
    values = tuple(_value(told, value) if given else number for number, (_, given, value) in enumerate(parts, 1))
    if len(set(values)) < len(values):
        raise UsageError(f"--classes {told}: every class needs a value of its own, as in roads=1,buildings=2.")
    return Classes(chosen, values)


def _value(told: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) > LARGEST:
        raise UsageError(f"--classes {told}: a value is a whole number from 0 to {LARGEST}, got {text.strip()!r}.")
    return int(text)


def alike(names: Sequence[str]) -> bool:
    """True if two names would be one on a file system that does not tell a from A."""
    return len({name.casefold() for name in names}) < len(names)


def file_name(name: str) -> str:
    """A name that can be a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip("_.")
