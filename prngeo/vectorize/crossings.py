"""Crossings as roads make them: thinning doubles them and draws lines toward side streets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.vectorize.web import EDGE, RADIUS, Web, along

Floats = NDArray[np.float64]

FEWEST = 4
"""Points that a direction is taken from at least."""
WIDER = 1.15
"""Where a road is this many times as wide as a little farther on, its middle line is another's too."""
FARTHEST = 3.0
"""A crossing reaches at most this many half widths along a road."""
ALONG_BORDER = 5.0
"""An end moves along the border by at most this many half widths."""
STRAIGHT = np.cos(np.radians(20))
HOLD = 0.05
"""Weight that keeps a crossing in its place, against 1 for each road."""


@dataclass(frozen=True)
class Arm:
    """A line as it leaves a node.

    Attributes:
        inside: number of its points from the node on that belong to the crossing.
        middle: a place on the straight line through the points that follow; None if there are too few.
        direction: of that line, a unit vector.
    """

    inside: int
    middle: Floats | None
    direction: Floats


def contract(web: Web, step: float) -> None:
    """Make one crossing of two that thinning made where roads cross.

    Two crossings become one if they lie nearer to each other than half the road's width there, or if three
    lines meet in each, and the other two of one go on straight as those of the other: roads that cross at a
    sharp angle. The shortest lines between crossings go first; loops that shrink to less than the crossing's
    outline go with them.

    Args:
        web: is changed.
        step: a pixel's side in metres.
    """
    short = sorted(
        (web.length(line), line)
        for line, (start, end) in web.ends.items()
        if start != end and web.degree(start) >= 3 and web.degree(end) >= 3
    )
    weight = dict.fromkeys(web.nodes, 1)
    for length, line in short:
        if line not in web.ends:
            continue
        start, end = web.ends[line]
        radius = max(web.radius(start), web.radius(end))
        apart = float(np.hypot(*(web.nodes[start] - web.nodes[end])))
        if start == end or length > 1.5 * FARTHEST * radius or apart > FARTHEST * radius:
            continue
        if apart < radius or _go_through(web, line, radius, step):
            _unite(web, start, end, weight)
            web.spread[start] = max(web.spread.get(start, 0.0), apart / 2 + radius)


def _go_through(web: Web, line: int, radius: float, step: float) -> bool:
    """Whether the roads beside a short line are two that cross."""
    beside = [(node, other) for node in web.ends[line] for other in web.lines[node] if other != line]
    if len(beside) != 4 or len({other for _, other in beside}) != 4 or web.degree(beside[0][0]) != 3:
        return False
    one, two, three, four = (_arm(web.leaving(other, node), web.nodes[node], radius, step) for node, other in beside)
    return (_one_road(one, three, radius) and _one_road(two, four, radius)) or (
        _one_road(one, four, radius) and _one_road(two, three, radius)
    )


def _one_road(arm: Arm, other: Arm, radius: float) -> bool:
    """Whether two arms lie on one straight line."""
    if arm.middle is None or other.middle is None:
        return False
    across = arm.direction[::-1] * (-1, 1), other.direction[::-1] * (-1, 1)
    step = other.middle - arm.middle
    bent = abs(float(arm.direction @ other.direction)) < STRAIGHT
    return not bent and max(abs(float(normal @ step)) for normal in across) < radius


def _unite(web: Web, start: int, end: int, weight: dict[int, int]) -> None:
    """Move the second node's lines to the first, dropping lines between them that are short."""
    radius = max(web.radius(start), web.radius(end))
    total = weight[start] + weight[end]
    web.nodes[start] = (web.nodes[start] * weight[start] + web.nodes[end] * weight[end]) / total
    weight[start] = total
    for line in dict.fromkeys(web.lines[end]):
        ends = [start if node == end else node for node in web.ends[line]]
        if ends[0] != ends[1] or web.length(line) > 2 * np.pi * radius:
            web.add(ends[0], ends[1], web.points[line])
        web.remove(line)


def straighten(web: Web, step: float, border: shapely.Polygon) -> None:
    """Move crossings to where the roads' directions meet and run the roads straight to them.

    Inside a crossing a middle line is no road's middle. It begins where the mask is wider than the road, or
    half a width from the node. A road's direction is taken from the points that follow, over one width; the
    crossing moves to the place nearest to all directions (least squares; by at most half a width), and the
    points inside it go. Ends at the raster's border move along it to where their road's direction meets it.

    Args:
        web: is changed.
        step: a pixel's side in metres.
        border: the raster's outline in metres.
    """
    radius = {node: max(web.extent(node), step) for node in web.nodes}
    arms = {
        (line, side): _arm(web.points[line][:: 1 if side == 0 else -1], web.nodes[node], radius[node], step)
        for line, nodes in web.ends.items()
        for side, node in enumerate(nodes)
        if web.degree(node) >= 3 or web.points.at_end(line, -side, EDGE) == 1
    }
    at: dict[int, list[Arm]] = {}
    for (line, side), arm in arms.items():
        at.setdefault(web.ends[line][side], []).append(arm)
    for node, here in at.items():
        if web.degree(node) == 1:
            place = _at_border(here[0], web.nodes[node], radius[node], border)
        else:
            place = _meeting(here, web.nodes[node], radius[node])
        web.nodes[node] = place
    for line, points in web.points.items():
        keep = np.ones(len(points), bool)
        for side, order in ((0, slice(None)), (1, slice(None, None, -1))):
            if (line, side) in arms:
                keep[order][: arms[line, side].inside] = False
        keep[[0, -1]] = True
        web.points[line] = points[keep]


def _arm(points: Floats, node: Floats, radius: float, step: float) -> Arm:
    """How a line, from the node on, leaves it."""
    passed = along(points)
    half = passed <= passed[-1] / 2
    beside = points[half & (passed >= radius) & (passed <= FARTHEST * radius), RADIUS]
    beside = beside[np.isfinite(beside)]
    own = float(np.quantile(beside, 0.25)) if len(beside) else radius
    away = np.hypot(*(points[:, :2] - node).T)
    free = (away >= radius) & ~(points[:, RADIUS] > WIDER * own + step / 2) | (passed > FARTHEST * radius)
    free[0] = False
    if not (free & half).any():
        return Arm(int(half.sum()), None, np.zeros(2))
    inside = int(np.argmax(free))
    reach = passed[inside] + max(2 * radius, 2 * FEWEST * step)
    straight = points[inside:, :2][(passed[inside:] <= reach) & half[inside:]]
    if len(straight) < FEWEST:
        return Arm(inside, None, np.zeros(2))
    middle = straight.mean(axis=0)
    return Arm(inside, middle, np.linalg.svd(straight - middle, full_matrices=False)[2][0])


def _meeting(arms: list[Arm], node: Floats, radius: float) -> Floats:
    """The place nearest to the directions of all arms, at most `radius` from the node."""
    matrix, right = HOLD * np.eye(2), np.zeros(2)
    for arm in arms:
        if arm.middle is not None:
            normal = arm.direction[::-1] * (-1, 1)
            matrix += np.outer(normal, normal)
            right += normal * (normal @ (arm.middle - node))
    shift = np.linalg.solve(matrix, right)
    return np.asarray(node + shift * min(1.0, radius / max(float(np.hypot(*shift)), 1e-9)))


def _at_border(arm: Arm, node: Floats, radius: float, border: shapely.Polygon) -> Floats:
    """Where an arm's direction meets the border; the node itself if it does not end there."""
    if arm.middle is None or border.exterior.distance(shapely.Point(node)) > radius:
        return node
    ahead = node - arm.middle
    direction = arm.direction * np.sign(ahead @ arm.direction)
    ray = shapely.LineString([arm.middle, arm.middle + direction * (np.hypot(*ahead) + ALONG_BORDER * radius)])
    met = shapely.get_coordinates(border.exterior.intersection(ray))
    return met[0] if len(met) and np.hypot(*(met[0] - node)) <= ALONG_BORDER * radius else node
