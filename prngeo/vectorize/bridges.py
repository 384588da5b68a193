"""Gaps in a road network, bridged where the probability shows that the road goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.tiling.grid import Window
from prngeo.vectorize.web import PROBABILITY, RADIUS, Web, length_of

Floats = NDArray[np.float64]

REACH_BACK = 10.0
"""Metres of a road's end that its direction is taken from."""
WIDEST_TURN = np.cos(np.radians(50))
LONGEST_WAY = 1.5
"""A bridge is at most this many times as long as the straight line."""


@dataclass(frozen=True)
class Link:
    """A possible bridge from a dead end.

    Attributes:
        cost: metres between its ends, more the more it turns.
        node: the dead end.
        other: the dead end at the other side, or None if it leads into a line:
        line: that line, and
        place: its point.
        target: x and y there, metres.
    """

    cost: float
    node: int
    other: int | None
    line: int
    place: int
    target: Floats


@dataclass(frozen=True)
class Lattice:
    """Pixels with probabilities.

    Attributes:
        read: gives the probability, float64 (height, width) with NaN where it is unknown, and the mask, bool
            (height, width), in a window inside the raster.
        shape: rows and columns.
        metres: from pixels (column, row) to metres, float64 (2, 2).
    """

    read: Callable[[Window], tuple[Floats, NDArray[np.bool_]]]
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
    size = {line: total for group in web.components() for total in [sum(map(web.length, group))] for line in group}
    links = [
        link
        for link in _links(web, closed, max_gap)
        if np.hypot(*(link.target - web.nodes[link.node])) <= min(size[web.lines[link.node][0]], size[link.line])
    ]
    used: set[int] = set()
    paths: list[tuple[Link, Floats]] = []
    tree = shapely.STRtree([shapely.linestrings(points[:, :2]) for points in web.points.values()])
    for link in sorted(links, key=lambda link: (link.cost, link.node, link.place)):
        if link.node in used or link.other in used:
            continue
        found = _path(web, link, lattice, probability)
        if found is None or _crosses(found[1], tree, [made for _, made in paths]):
            continue
        used.add(link.node)
        if link.other is not None:
            used.add(link.other)
        paths.append(found)
    _build(web, paths)


def _direction(web: Web, node: int) -> Floats:
    """Where a dead end points to, a unit vector."""
    points = web.leaving(web.lines[node][0], node)[:, :2]
    far = np.flatnonzero(np.hypot(*(points - points[0]).T) >= REACH_BACK)
    back = points[0] - points[far[0] if len(far) else -1]
    return np.asarray(back / max(float(np.hypot(*back)), 1e-9))


def _links(web: Web, closed: set[int], max_gap: float) -> list[Link]:
    """Possible bridges from every dead end."""
    dead = [node for node in web.nodes if web.degree(node) == 1 and node not in closed]
    if not dead:
        return []
    ends = set(dead)
    numbers = list(web.points)
    tree = shapely.STRtree([shapely.linestrings(web.points[line][:, :2]) for line in numbers])
    places = shapely.points(np.array([web.nodes[node] for node in dead]))
    links = []
    for index, found in zip(*tree.query(places, predicate="dwithin", distance=max_gap), strict=True):
        node, line = dead[index], numbers[found]
        if line == web.lines[node][0]:
            continue
        links += _links_to(web, node, line, ends, max_gap)
    return links


def _links_to(web: Web, node: int, line: int, dead: set[int], max_gap: float) -> list[Link]:
    """The best bridges from a dead end to one line: to its dead ends and to the point nearest ahead."""
    place, direction = web.nodes[node], _direction(web, node)
    links = []
    for other in web.ends[line]:
        if other in dead:
            cost = _cost(web.nodes[other] - place, direction)
            back = _cost(place - web.nodes[other], _direction(web, other))
            apart = float(np.hypot(*(web.nodes[other] - place)))
            if node < other and apart <= max_gap and np.isfinite(cost) and np.isfinite(back):
                links.append(Link((cost + back) / 2, node, other, line, 0, web.nodes[other]))
    away = web.points[line][:, :2] - place
    size = np.hypot(*away.T)
    ahead = (size > 0) & (size <= max_gap) & (away @ direction >= WIDEST_TURN * size)
    if ahead.any():
        costs = np.where(ahead, 2 * size**2 / np.maximum(away @ direction, 1e-9), np.inf)
        best = int(np.argmin(costs))
        # A street that leads into the middle of a line is a rarer thing than one that goes on.
        links.append(Link(float(costs[best]), node, None, line, best, web.points[line][best, :2]))
    return links


def _cost(step: Floats, direction: Floats) -> float:
    """Length of a step, divided by how much of it goes ahead; infinite where it turns too far."""
    size = float(np.hypot(*step))
    ahead = float(step @ direction)
    if size <= 0:
        return 0.0
    return size**2 / ahead if ahead >= WIDEST_TURN * size else float("inf")


def _path(web: Web, link: Link, lattice: Lattice, probability: float) -> tuple[Link, Floats] | None:
    """A bridge along the most probable path, as points of a `Web`; None if it is not probable enough."""
    from skimage.graph import route_through_array

    start, end = web.nodes[link.node], link.target
    pixels = np.floor(np.stack([lattice.pixel(start), lattice.pixel(end)])).astype(int)
    margin = int(np.ptp(pixels, axis=0).max()) // 2 + 2
    low, high = pixels.min(axis=0) - margin, pixels.max(axis=0) + margin + 1
    window = Window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
    window = window.intersect(Window(0, 0, *lattice.shape))
    values, inside = lattice.read(window)
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
    gap = points[~inside[rows, cols], PROBABILITY]
    straight = float(np.hypot(*(end - start)))
    if length_of(points) > LONGEST_WAY * straight + 2 * lattice.side or (len(gap) and gap.mean() < probability):
        return None
    return (link, points) if link.other is not None else _first_met(link, points, web.points[link.line], lattice.side)


def _first_met(link: Link, path: Floats, line: Floats, step: float) -> tuple[Link, Floats]:
    """A bridge that ends at the first point of the line that it comes to."""
    near = np.hypot(*(path[:, None, :2] - line[None, :, :2]).transpose(2, 0, 1))
    stop = max(1, int(np.argmax(near.min(axis=1) <= 1.5 * step)))
    place = int(near[stop].argmin())
    short = np.concatenate([path[:stop], line[place : place + 1]])
    short[-1, RADIUS] = np.nan
    return replace(link, place=place, target=line[place, :2]), short


def _crosses(path: Floats, tree: shapely.STRtree, others: list[Floats]) -> bool:
    """Whether a bridge crosses a line or another bridge other than with its ends."""
    line = shapely.linestrings(path[:, :2])
    if len(tree.query(line, predicate="crosses")):
        return True
    return any(line.crosses(shapely.linestrings(other[:, :2])) for other in others)


def _build(web: Web, paths: list[tuple[Link, Floats]]) -> None:
    """Add bridges to the network, cutting the lines they lead into."""
    into: dict[int, list[tuple[Link, Floats]]] = {}
    joined = []
    for link, path in paths:
        if link.other is not None:
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
