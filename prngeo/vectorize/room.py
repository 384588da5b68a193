"""How much memory the objects and the lines of a mask may take."""

from __future__ import annotations

import math
from pathlib import Path

import psutil

from prngeo.errors import PrngeoError
from prngeo.vectorize.trace import Points

LINE_BYTES, POINT_BYTES = 800, 40
"""What each line and each pixel of a line takes until they are rows, at most; measured."""
RUN_BYTES, OUTLINE_BYTES, HELD_BYTES, SHAPED_BYTES = 40, 150, 200, 450
"""What each run of pixels takes, at most: by itself, while it is outlined, in a layer that is held as a whole, and in
one that is simplified, split or regularized; measured on towns, whose objects have 1.6 to 1.8 corners a run."""
LEAST_SHARE = 0.25
"""Share of the memory that is the layer's, however much the program has taken for other things."""


class Room:
    """Watches over the memory that a layer takes.

    Args:
        path: of the mask, for the message.
        most: bytes that the process may take, None for any number. What it has not taken yet is there for the layer.
    """

    def __init__(self, path: str | Path, most: int | None) -> None:
        self._path, self._most = path, most
        self._room = max(most - psutil.Process().memory_info().rss, LEAST_SHARE * most) if most else math.inf
        self._lines, self._taken = 0, 0

    def watch(self, lines: list[Points], share: float) -> None:
        """Count more lines; this share of the mask is done.

        Raises:
            PrngeoError: there is no room for them.
        """
        self._lines += len(lines)
        self._taken += LINE_BYTES * len(lines) + POINT_BYTES * sum(map(len, lines))
        what = f"too many lines for the memory: the {self._lines:,} in {share:.0%} of it take"
        advice = (
            "Look at the mask: countless short lines are noise, and a higher --threshold leaves less of it. Or raise"
        )
        self._refuse(self._taken, share, what, advice)

    def watch_runs(self, runs: int, share: float) -> None:
        """So many runs of pixels are in this share of the mask.

        Raises:
            PrngeoError: there is no room for them.
        """
        what = f"too many objects for the memory: their {runs:,} runs of pixels in {share:.0%} of it take"
        self._refuse(RUN_BYTES * runs, share, what, "Raise")

    def watch_outlines(self, runs: int, largest: int) -> None:
        """Objects of so many runs are outlined, of `largest` at a time.

        Raises:
            PrngeoError: there is no room for them.
        """
        what = "too long outlines for the memory: with the largest object they take"
        self._refuse(RUN_BYTES * runs + OUTLINE_BYTES * largest, 1, what, "Raise")

    def watch_layer(self, runs: int, shaped: bool) -> None:
        """The outlines of so many runs are held at once, and simplified, split or regularized if `shaped`.

        Raises:
            PrngeoError: there is no room for them.
        """
        each = SHAPED_BYTES if shaped else HELD_BYTES
        reason = "simplify, regularize or split" if shaped else "write in this format"
        what = f"too long outlines for the memory: all of them, to {reason} them, take"
        advice = "without these options" if shaped else "as GeoPackage"
        self._refuse(each * runs, 1, what, f"Fewer are held {advice}. Or raise")

    def _refuse(self, taken: float, share: float, what: str, advice: str) -> None:
        """Raise if so many bytes, for this share of the mask, are more than there is room for."""
        if self._most is None or taken <= self._room:
            return
        wanted = self._most - self._room + taken / share
        raise PrngeoError(
            f"{self._path} has {what} {taken / 2**30:.2f} GB, and {self._room / 2**30:.2f} GB are left for them. "
            f"{advice} --max-memory to about {math.ceil(wanted / 2**30 * 10) / 10}GB."
        )
