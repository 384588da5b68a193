"""A road network while it is worked on: lines that can be removed, joined and cut."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

X, Y, RADIUS, PROBABILITY, EDGE = range(5)

PLACE, KNOWN = 2 * 8, 3 * 4
"""Bytes that x and y of a point take in `Lines`, and what is known of it."""


class Lines(MutableMapping[int, Floats]):
    """Points of lines by the line's number, in the order in which they came, in little space.

    Places are kept in float64, as lines and bridges meet in exactly equal points, the rest in float32, which decides
    ties between lengths and distances to edges. What is given out is a copy, float64 (points, 5), of which changes are
    not kept.
    """

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}  # arrays would take more than what is in them where lines are short

    def __setitem__(self, line: int, points: Floats) -> None:
        self._packed[line] = points[:, :RADIUS].tobytes() + points[:, RADIUS:].astype(np.float32).tobytes()

    def __getitem__(self, line: int) -> Floats:
        packed = self._packed[line]
        count = self._count(packed)
        points = np.empty((count, EDGE + 1))
        points[:, :RADIUS] = np.frombuffer(packed, np.float64, 2 * count).reshape(-1, 2)
        points[:, RADIUS:] = np.frombuffer(packed, np.float32, offset=PLACE * count).reshape(count, -1)
        return points

    def __delitem__(self, line: int) -> None:
        del self._packed[line]

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def at_end(self, line: int, side: int, column: int) -> float:
        """What column `RADIUS` or a later one holds of a line's first (side 0) or last point (side -1)."""
        packed = self._packed[line]
        first = PLACE * self._count(packed) if side == 0 else len(packed) - KNOWN
        value: float = struct.unpack_from("f", packed, first + KNOWN // 3 * (column - RADIUS))[0]
        return value

    @staticmethod
    def _count(packed: bytes) -> int:
        return len(packed) // (PLACE + KNOWN)


@dataclass
class Web:
    """Nodes and lines by number; numbers are never used again.

    Attributes:
        nodes: x and y of each node in metres, float64 (2,).
        ends: the two nodes of each line.
        points: the line from its first to its second node, float64 (points, 5): x, y, distance to the road's
            edge (all metres, the last NaN on a bridge), probability (NaN where unknown), 1 beside no-data.
        lines: the lines at each node; a loop appears twice.
        spread: how far a crossing that was made of several reaches, metres.
    """

    nodes: dict[int, Floats] = field(default_factory=dict)
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)
    points: Lines = field(default_factory=Lines)
    lines: dict[int, list[int]] = field(default_factory=dict)
    spread: dict[int, float] = field(default_factory=dict)
    made: int = 0

    def add_node(self, place: Floats) -> int:
        """A new node; returns its number."""
        self.made += 1
        self.nodes[self.made] = place
        self.lines[self.made] = []
        return self.made

    def add(self, start: int, end: int, points: Floats) -> int:
        """A new line; returns its number."""
        self.made += 1
        self.ends[self.made] = (start, end)
        self.points[self.made] = points
        self.lines[start].append(self.made)
        self.lines[end].append(self.made)
        return self.made

    def remove(self, line: int) -> None:
        """Take a line out, and its nodes where nothing else is left."""
        for node in self.ends.pop(line):
            self.lines[node].remove(line)
            if not self.lines[node]:
                self.nodes.pop(node, None)
                self.lines.pop(node, None)
        del self.points[line]

    def degree(self, node: int) -> int:
        """Number of line ends at a node."""
        return len(self.lines[node])

    def length(self, line: int) -> float:
        """Length of a line in metres."""
        return length_of(self.points[line])

    def leaving(self, line: int, node: int) -> Floats:
        """A line's points from the given node on; a loop's in its own direction."""
        return self.points[line] if self.ends[line][0] == node else self.points[line][::-1]

    def other(self, line: int, node: int) -> int:
        """The node at a line's other end."""
        start, end = self.ends[line]
        return end if start == node else start

    def radius(self, node: int) -> float:
        """Largest distance to the road's edge at a node, 0 where unknown."""
        ends = [self.points.at_end(line, 0 if self.ends[line][0] == node else -1, RADIUS) for line in self.lines[node]]
        return max([0.0, *(radius for radius in ends if not math.isnan(radius))])

    def extent(self, node: int) -> float:
        """How far a crossing reaches from its node, metres."""
        return max(self.radius(node), self.spread.get(node, 0.0))

    def join(self, node: int) -> int | None:
        """Make one line of the two that meet in a node of degree 2; returns it, or None if there are not two."""
        if self.degree(node) != 2 or self.lines[node][0] == self.lines[node][1]:
            return None
        one, other = self.lines[node]
        start, end = self.other(one, node), self.other(other, node)
        before, after = self.leaving(one, node)[::-1], self.leaving(other, node)
        points = np.concatenate([before, after[1:]])
        if np.isnan(before[-1, RADIUS]):
            points[len(before) - 1] = after[0]
        line = self.add(start, end, points)
        self.remove(one)
        self.remove(other)
        return line

    def join_all(self) -> None:
        """Join lines at every node of degree 2."""
        for node in list(self.nodes):
            if node in self.nodes:
                self.join(node)

    def cut(self, line: int, places: list[int]) -> list[int]:
        """Cut a line at some of its inner points; returns the new nodes, in the order of `places`."""
        start, end = self.ends[line]
        points = self.points[line]
        stops = sorted(set(places))
        new = {stop: self.add_node(points[stop, :2]) for stop in stops}
        bounds, at = [0, *stops, len(points) - 1], [start, *new.values(), end]
        for index in range(len(bounds) - 1):
            self.add(at[index], at[index + 1], points[bounds[index] : bounds[index + 1] + 1])
        self.remove(line)
        return [new[place] for place in places]

    def components(self) -> list[list[int]]:
        """Lines that hang together, group by group."""
        seen: set[int] = set()
        groups = []
        for first in self.ends:
            if first in seen:
                continue
            seen.add(first)
            group, stack = [], [first]
            while stack:
                line = stack.pop()
                group.append(line)
                for node in self.ends[line]:
                    # A loop is named twice at its node.
                    fresh = [near for near in dict.fromkeys(self.lines[node]) if near not in seen]
                    seen.update(fresh)
                    stack += fresh
            groups.append(group)
        return groups


def along(points: Floats) -> Floats:
    """Distance of each of a line's points (points, 2 or more) from the first, along the line."""
    return np.append(0.0, np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T)))


def length_of(points: Floats) -> float:
    """Length of a line through points (points, 2 or more), the same to the last bit in both directions."""
    x, y = (points[1:, :2] - points[:-1, :2]).T
    return math.fsum(np.sqrt(x * x + y * y).tolist())


def in_order(web: Web) -> Web:
    """The same network with nodes and lines numbered by place, whatever their numbers and directions were.

    Args:
        web: loses its lines.
    """
    ordered = Web()
    nodes = sorted(web.nodes, key=lambda node: tuple(web.nodes[node].tolist()))
    number = {node: ordered.add_node(web.nodes[node]) for node in nodes}
    lines, keys = list(web.ends), np.empty((len(web.ends), 7))
    turned = np.empty(len(lines), bool)
    for row, line in enumerate(lines):
        (start, end), points = web.ends[line], web.points[line]
        ahead, back = (number[start], *points[1, :2].tolist()), (number[end], *points[-2, :2].tolist())
        first, last = min(ahead, back), max(ahead, back)
        keys[row], turned[row] = (first[0], last[0], *first[1:], *last[1:], len(points)), first != ahead
    for row in np.lexsort(keys.T[::-1]).tolist():
        points = web.points.pop(lines[row])
        ordered.add(int(keys[row, 0]), int(keys[row, 1]), points[::-1] if turned[row] else points)
    return ordered
