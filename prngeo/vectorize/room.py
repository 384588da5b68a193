"""How much memory the lines of a mask may take."""

from __future__ import annotations

import math
from pathlib import Path

import psutil

from prngeo.errors import PrngeoError
from prngeo.vectorize.trace import Points

LINE_BYTES, POINT_BYTES = 800, 40
"""What each line and each pixel of a line takes until they are rows, at most; measured."""
LEAST_SHARE = 0.25
"""Share of the memory that is the lines', however much the program has taken for other things."""


class Room:
    """Watches over the memory that lines take.

    Args:
        path: of the mask, for the message.
        most: bytes that the process may take, None for any number. What it has not taken yet is there for lines.
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
        if self._most is not None and self._taken > self._room:
            wanted = self._most - self._room + self._taken / share
            raise PrngeoError(
                f"{self._path} has too many lines for the memory: the {self._lines:,} in {share:.0%} of it take "
                f"{self._taken / 2**30:.2f} GB, and {self._room / 2**30:.2f} GB are left for them. Look at the mask: "
                "countless short lines are noise, and a higher --threshold leaves less of it. Or raise "
                f"--max-memory to about {math.ceil(wanted / 2**30 * 10) / 10}GB."
            )
