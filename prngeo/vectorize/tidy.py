"""Take out of a road network what is no road: spurs and specks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from prngeo.vectorize.web import RADIUS, Web

ROUNDING = 1e-6
"""Metres by which sums of the same lengths differ at most."""


def prune(
    web: Web, margin: float, lines: Iterable[int] | None = None, unfinished: AbstractSet[int] = frozenset()
) -> None:
    """Remove spurs, the least first.

    A spur is a dead end at a crossing that reaches beyond the crossing's road by less than that road's width.
    How far it reaches is its length and the distance to the road's edge at its tip, less that at the
    crossing: a bump in the edge makes a short spur, a street that begins there a long line. Where a spur
    goes and two lines are left, they become one, so of a fork at a road's end the longer arm stays.

    Args:
        web: is changed.
        margin: a spur that reaches no farther than this (metres) always goes.
        lines: those to look at, while the network is put together; all if None.
        unfinished: nodes to which lines will come. Of the lines to look at only those go that would in the end, too.
    """
    heap: list[tuple[float, float, float, int]] = []

    def push(line: int) -> None:
        reach = _reach(web, line)
        if reach is not None and reach.length < max(margin, reach.width):
            # The tips decide ties: numbers of lines depend on what was removed before.
            heapq.heappush(heap, (reach.length, *web.nodes[reach.tip].tolist(), line))

    for line in list(web.ends) if lines is None else lines:
        push(line)
    while heap:
        length, *_, line = heapq.heappop(heap)
        now = _reach(web, line) if line in web.ends else None
        if now is None or now.length != length or not (lines is None or _certain(web, line, now, unfinished)):
            continue
        nodes = web.ends[line]
        web.remove(line)
        for node in nodes:
            joined = web.join(node) if node in web.nodes else None
            if joined is not None:
                push(joined)


class _Reach(NamedTuple):
    """How far a dead end reaches beyond the road of its crossing, metres, and that road's width."""

    length: float
    width: float
    crossing: int
    tip: int


def _reach(web: Web, line: int) -> _Reach | None:
    """How far a line reaches if it is a dead end at a crossing, None if not."""
    start, end = web.ends[line]
    degrees = web.degree(start), web.degree(end)
    if min(degrees) != 1 or max(degrees) < 3:
        return None
    crossing, tip = (start, end) if degrees[0] > 1 else (end, start)
    radius = web.radius(crossing)
    at_tip = web.points.at_end(line, 0 if tip == start else -1, RADIUS)
    return _Reach(web.length(line) + float(np.nan_to_num(at_tip)) - radius, 2 * radius, crossing, tip)


def _certain(web: Web, line: int, reach: _Reach, unfinished: AbstractSet[int]) -> bool:
    """Whether a spur would go in the end, before anything else happens at its crossing.

    What else ends there may become a spur itself, when others behind it have gone, and reaches at least as far as the
    nearest dead end is along the lines.
    """
    others = [other for other in web.lines[reach.crossing] if other != line]
    far = [web.other(other, reach.crossing) for other in others]
    if not unfinished.isdisjoint((reach.crossing, reach.tip)) or reach.crossing in far or (far[0] == far[-1]):
        return False
    limit = reach.length + reach.width / 2 + ROUNDING
    heap = [(web.length(other), node) for other, node in zip(others, far, strict=True)]
    heapq.heapify(heap)
    seen = {reach.crossing}
    while heap and heap[0][0] <= limit:
        passed, node = heapq.heappop(heap)
        if node in seen:
            continue
        seen.add(node)
        if node in unfinished or (web.degree(node) == 1 and passed + web.radius(node) <= limit):
            return False
        for other in web.lines[node]:
            heapq.heappush(heap, (passed + web.length(other), web.other(other, node)))
    return True


def drop_specks(web: Web, min_length: float) -> None:
    """Remove networks whose lines are shorter than `min_length` metres together."""
    for group in web.components():
        if sum(web.length(line) for line in group) < min_length:
            for line in group:
                web.remove(line)
