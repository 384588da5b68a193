"""Take out of a road network what is no road: spurs and specks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import numpy as np

from prngeo.vectorize.web import RADIUS, Web


def prune(
    web: Web, margin: float, lines: Iterable[int] | None = None, open_nodes: AbstractSet[int] = frozenset()
) -> None:
    """Remove spurs, the least first.

    A spur is a dead end at a crossing that reaches beyond the crossing's road by less than that road's width.
    How far it reaches is its length and the distance to the road's edge at its tip, less that at the
    crossing: a bump in the edge makes a short spur, a street that begins there a long line. Where a spur
    goes and two lines are left, they become one, so of a fork at a road's end the longer arm stays.

    Args:
        web: is changed.
        margin: a spur that reaches no farther than this (metres) always goes.
        lines: those that may be spurs, and what becomes of them; all if None.
        open_nodes: nodes to which lines will be added. Spurs there stay, and those that may not be the least of
            their crossing then.
    """
    heap: list[tuple[float, int]] = []

    def push(line: int) -> None:
        reach = _reach(web, line)
        if reach is not None and reach[0] < max(margin, reach[1]) and not (open_nodes and undecided(line, *reach)):
            heapq.heappush(heap, (reach[0], line))

    def undecided(line: int, reach: float, width: float) -> bool:
        if not open_nodes.isdisjoint(web.ends[line]):
            return True
        beside = (other for node in web.ends[line] for other in web.lines[node])
        return any(
            not open_nodes.isdisjoint(web.ends[other]) and web.length(other) - width / 2 <= reach for other in beside
        )

    for line in list(web.ends) if lines is None else lines:
        push(line)
    while heap:
        reach, line = heapq.heappop(heap)
        now = _reach(web, line) if line in web.ends else None
        if now is None or now[0] != reach:
            continue
        nodes = web.ends[line]
        web.remove(line)
        for node in nodes:
            joined = web.join(node) if node in web.nodes else None
            if joined is not None:
                push(joined)


def _reach(web: Web, line: int) -> tuple[float, float] | None:
    """How far a dead end reaches beyond its crossing's road and that road's width, None for other lines."""
    start, end = web.ends[line]
    degrees = web.degree(start), web.degree(end)
    if min(degrees) != 1 or max(degrees) < 3:
        return None
    crossing = start if degrees[0] > 1 else end
    points = web.leaving(line, crossing)
    radius, tip = web.radius(crossing), float(np.nan_to_num(points[-1, RADIUS]))
    return web.length(line) + tip - radius, 2 * radius


def drop_specks(web: Web, min_length: float) -> None:
    """Remove networks whose lines are shorter than `min_length` metres together."""
    for group in web.components():
        if sum(web.length(line) for line in group) < min_length:
            for line in group:
                web.remove(line)
