"""Gaps in a road network, bridged where the probability shows that the road goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.tiling.grid import Window
from prngeo.vectorize.web import PROBABILITY, RADIUS, Web, length_of

Floats = NDArray[np.float64]

REACH_BACK = 10.0
"""Metres of a road's end that its direction is taken from."""
FIRST_LOOK = 64
"""Points of a line that are looked at first for that; twice as many if those are too near."""
WIDEST_TURN = math.cos(math.radians(50))
LONGEST_WAY = 1.5
"""A bridge is at most this many times as long as the straight line."""
NONE = -1
LINKS = np.dtype([("cost", float), ("node", int), ("other", int), ("line", int), ("place", int)])


class Link(NamedTuple):
    """A possible bridge from a dead end.

    Attributes:
        cost: metres between its ends, more the more it turns.
        node: the dead end.
        other: the dead end at the other side, or `NONE` if it leads into a line:
        line: that line, and
        place: its point.
    """

    cost: float
    node: int
    other: int
    line: int
    place: int

    def target(self, web: Web) -> Floats:
        """Its other side, metres, float64 (2,)."""
        return web.points[self.line][self.place, :2] if self.other == NONE else web.nodes[self.other]


@dataclass(frozen=True)
class Lattice:
    """Pixels with probabilities.

    Attributes:
        probability: gives it, float64 (height, width) with NaN where it is unknown, in a window inside the raster.
        mask: gives the roads, bool (height, width), in such a window.
        shape: rows and columns.
        metres: from pixels (column, row) to metres, float64 (2, 2).
    """

    probability: Callable[[Window], Floats]
    mask: Callable[[Window], NDArray[np.bool_]]
    shape: tuple[int, int]
    metres: Floats

    def pixel(self, place: Floats) -> Floats:
        """Column and row of a place in metres, as float64."""
        return np.asarray(np.linalg.solve(self.metres, place))

    @property
    def side(self) -> float:
        """A pixel's side in metres."""
        return float(np.sqrt(abs(np.linalg.det(self.metres))))


def bridge(web: Web, lattice: Lattice, closed: set[int], max_gap: float, probability: float) -> None:
    """Join dead ends to the dead ends or lines ahead of them.

    A bridge is at most `max_gap` long from end to end, no longer than either of the networks it joins, and
    turns by at most 50 degrees from the road's last ten metres, at both ends if both are dead. It follows the
    most probable path (least sum of the negative logarithm of the probability). The path's pixels outside the
    mask must have the given probability on average, and it must be at most one and a half times as long as the
    straight line and cross no line. The shortest bridges come first; a dead end gets one.

    Args:
        web: is changed: bridges become lines, or parts of the lines they join; their points have no distance
            to an edge.
        lattice: the probabilities.
        closed: dead ends that stay, such as those at the raster's border.
        max_gap: metres.
        probability: 0 to 1.
    """
    ends = {node: _End.of(web, node) for node in web.nodes if web.degree(node) == 1 and node not in closed}
    near, tree = _lines_near(web, list(ends.values()), LONGEST_WAY * max_gap + 2 * lattice.side)
    # There may be more of them than lines: as rows of an array they take a tenth of the memory.
    links = np.fromiter(_links(web, ends, near, tree, max_gap), LINKS)
    used: set[int] = set()
    paths: list[tuple[Link, Floats]] = []
    made = Drawn(max_gap)
    for index in np.lexsort((links["place"], links["node"], links["cost"])):
        link = Link(*links[index].item())
        if link.node in used or link.other in used:
            continue
        found = _path(web, link, lattice, probability)
        if found is None:
            continue
        drawn, tip = shapely.linestrings(found[1][:, :2]), _tip(web, found[0], ends)
        if tip in used or len(tree.query(drawn, predicate="crosses")) or made.crosses(drawn):
            continue
        used |= {link.node, tip} - {NONE}
        made.add(drawn)
        paths.append(found)
    _build(web, paths)


@dataclass
class Drawn:
    """Lines that are drawn one after the other, by the squares of a grid that they come near.

    Attributes:
        side: of a square, in the lines' unit.
        squares: the lines by column and row of a square.
    """

    side: float
    squares: dict[tuple[int, int], list[shapely.LineString]] = field(default_factory=dict)

    def add(self, line: shapely.LineString) -> None:
        """Draw a line."""
        for square in self._near(line):
            self.squares.setdefault(square, []).append(line)

    def crosses(self, line: shapely.LineString) -> bool:
        """Whether a line crosses one that is drawn, or runs along it."""
        drawn = (other for square in self._near(line) for other in self.squares.get(square, []))
        return any(line.crosses(other) or line.intersection(other).length > 0 for other in drawn)

    def _near(self, line: shapely.LineString) -> Iterator[tuple[int, int]]:
        left, low, right, high = (int(edge // self.side) for edge in line.bounds)
        return product(range(left, right + 1), range(low, high + 1))


class _End(NamedTuple):
    """A dead end: where it is, metres, and where it points to, a unit vector."""

    x: float
    y: float
    ahead_x: float
    ahead_y: float

    @classmethod
    def of(cls, web: Web, node: int) -> _End:
        return cls(*web.nodes[node].tolist(), *_direction(web, node).tolist())

    def cost(self, other: _End, farthest: float) -> float:
        """Metres to another one, divided by how much of that goes ahead; infinite if it is too far or turns too far."""
        x, y = other.x - self.x, other.y - self.y
        size, ahead = math.hypot(x, y), x * self.ahead_x + y * self.ahead_y
        if size == 0:
            return 0.0
        return size**2 / ahead if size <= farthest and ahead >= WIDEST_TURN * size else math.inf


def _direction(web: Web, node: int) -> Floats:
    """Where a dead end points to, a unit vector."""
    points, count = web.leaving(web.lines[node][0], node)[:, :2], FIRST_LOOK
    far = _far(points[:count])
    while not len(far) and count < len(points):
        count *= 2
        far = _far(points[:count])
    back = points[0] - points[far[0] if len(far) else -1]
    return np.asarray(back / max(float(np.hypot(*back)), 1e-9))


def _far(points: Floats) -> NDArray[np.intp]:
    """Which points are too far from the first one to tell the direction there."""
    return np.flatnonzero(np.hypot(*(points - points[0]).T) >= REACH_BACK)


def _lines_near(web: Web, ends: list[_End], reach: float) -> tuple[list[int], shapely.STRtree]:
    """Numbers of the lines whose extents come so near to dead ends, and these lines in a tree."""
    at = shapely.STRtree([shapely.Point(end.x, end.y) for end in ends])
    near, drawn = [], []
    for line, points in web.points.items():
        low, high = points[:, :2].min(axis=0) - reach, points[:, :2].max(axis=0) + reach
        if len(at.query(shapely.box(*low, *high))):
            near.append(line)
            drawn.append(shapely.linestrings(points[:, :2]))
    return near, shapely.STRtree(drawn)


def _links(
    web: Web, ends: dict[int, _End], numbers: list[int], tree: shapely.STRtree, max_gap: float
) -> Iterator[Link]:
    """Possible bridges from every dead end to the lines with these numbers, which are in the tree."""
    size = {line: total for group in web.components() for total in [sum(map(web.length, group))] for line in group}
    for node, end in ends.items():
        own = web.lines[node][0]
        reach = min(max_gap, size[own])
        near = tree.query(shapely.points(end.x, end.y), predicate="dwithin", distance=reach).tolist()
        lines = [numbers[index] for index in near if numbers[index] != own]
        for link in _links_from(web, node, lines, ends, max_gap) if lines else ():
            x, y = link.target(web).tolist()
            if math.hypot(x - end.x, y - end.y) <= min(reach, size[link.line]):
                yield link


def _links_from(web: Web, node: int, lines: list[int], ends: dict[int, _End], max_gap: float) -> Iterator[Link]:
    """The best bridges from a dead end to each of these lines: to its dead ends and to the point nearest ahead."""
    here = ends[node]
    starts = np.cumsum([0, *(len(web.points[line]) for line in lines)])
    points = np.concatenate([web.points[line][:, :2] for line in lines])
    away = points - (here.x, here.y)
    size = np.hypot(*away.T)
    forward = away @ (here.ahead_x, here.ahead_y)
    ahead = (size > 0) & (size <= max_gap) & (forward >= WIDEST_TURN * size)
    costs = np.where(ahead, 2 * size**2 / np.maximum(forward, 1e-9), np.inf)
    least = np.minimum.reduceat(costs, starts[:-1]).tolist()
    for line, cost, start, end in zip(lines, least, starts[:-1], starts[1:], strict=True):
        for other in web.ends[line]:
            if node < other and (there := ends.get(other)):
                mean = (here.cost(there, max_gap) + there.cost(here, max_gap)) / 2
                if mean < math.inf:
                    yield Link(mean, node, other, line, 0)
        if cost < math.inf:
            # A street that leads into the middle of a line is a rarer thing than one that goes on.
            yield Link(cost, node, NONE, line, int(costs[start:end].argmin()))


def _path(web: Web, link: Link, lattice: Lattice, probability: float) -> tuple[Link, Floats] | None:
    """A bridge along the most probable path, as points of a `Web`; None if it is not probable enough."""
    from skimage.graph import route_through_array

    start, end = web.nodes[link.node], link.target(web)
    pixels = np.floor(np.stack([lattice.pixel(start), lattice.pixel(end)])).astype(int)
    margin = int(np.ptp(pixels, axis=0).max()) // 2 + 2
    low, high = pixels.min(axis=0) - margin, pixels.max(axis=0) + margin + 1
    window = Window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
    window = window.intersect(Window(0, 0, *lattice.shape))
    values = lattice.probability(window)
    cost = np.where(np.isnan(values), -1.0, -np.log(np.clip(values, 1e-3, 0.999)))
    corners = [(row - window.row, col - window.col) for col, row in pixels.tolist()]
    if min(cost[corner] for corner in corners) < 0:
        return None
    try:
        route = np.array(route_through_array(cost, *corners)[0])
    except ValueError:  # no-data lies between
        return None
    rows, cols = route.T
    centers = np.stack([cols + window.col + 0.5, rows + window.row + 0.5], axis=1) @ lattice.metres.T
    unknown, nowhere = np.full(len(route), np.nan), np.zeros(len(route))
    points = np.column_stack([centers, unknown, values[rows, cols], nowhere])
    points[[0, -1], :2] = start, end
    if length_of(points) > LONGEST_WAY * float(np.hypot(*(end - start))) + 2 * lattice.side:
        return None
    top, left = int(rows.min()), int(cols.min())
    around = Window(window.row + top, window.col + left, int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
    gap = points[~lattice.mask(around)[rows - top, cols - left], PROBABILITY]
    if len(gap) and gap.mean() < probability:
        return None
    return (link, points) if link.other != NONE else _first_met(link, points, web.points[link.line], lattice.side)


def _tip(web: Web, link: Link, ends: Mapping[int, _End]) -> int:
    """The dead end that a bridge leads to, NONE if it leads into a line."""
    if link.other != NONE:
        return link.other
    inside = 0 < link.place < len(web.points[link.line]) - 1
    node = web.ends[link.line][0 if link.place == 0 else 1]
    return NONE if inside or node not in ends else node


def _first_met(link: Link, path: Floats, line: Floats, step: float) -> tuple[Link, Floats]:
    """A bridge that ends at the first point of the line that it comes to."""
    reach = 1.5 * step
    low, high = path[:, :2].min(axis=0) - reach, path[:, :2].max(axis=0) + reach
    beside = line[((line[:, :2] >= low) & (line[:, :2] <= high)).all(axis=1), :2]
    near = np.hypot(*(path[:, None, :2] - beside[None]).transpose(2, 0, 1))
    stop = max(1, int(np.argmax(near.min(axis=1) <= reach)))
    place = int(np.hypot(*(path[stop, :2] - line[:, :2]).T).argmin())
    short = np.concatenate([path[:stop], line[place : place + 1]])
    short[-1, RADIUS] = np.nan
    return link._replace(place=place), short


def _build(web: Web, paths: list[tuple[Link, Floats]]) -> None:
    """Add bridges to the network, cutting the lines they lead into."""
    into: dict[int, list[tuple[Link, Floats]]] = {}
    joined = []
    for link, path in paths:
        if link.other != NONE:
            joined.append((link.node, link.other, path))
        else:
            into.setdefault(link.line, []).append((link, path))
    for line, group in into.items():
        last = len(web.points[line]) - 1
        start, end = web.ends[line]
        inner = [link.place for link, _ in group if 0 < link.place < last]
        nodes = dict(zip(inner, web.cut(line, inner), strict=True)) if inner else {}
        nodes |= {0: start, last: end}
        joined += [(link.node, nodes[link.place], path) for link, path in group]
    for start, end, path in joined:
        web.add(start, end, path)
    web.join_all()
