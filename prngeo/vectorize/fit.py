"""Straight, right-angled outlines fitted to the pixel edges of one building.

The outline is cut into stretches where Douglas-Peucker (1973) bends it. Stretches near the building's two directions
become lines in exactly those directions, other long ones keep their own; each line is the least-squares fit to its
pixel edges, which is what makes it more exact than a pixel. The corners are where successive lines cross. Lines
that leave too short an edge are dropped, the shortest first.

All lengths are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AXIS_DEGREES = 20.0
"""Edges that turn less from one of the building's directions are turned to run along it, if their ends stay near."""
FREE_LENGTH = 3.0
"""An edge in another direction counts if it is this many tolerances long; a shorter one is a cut corner."""
PARALLEL_DEGREES = 12.0
FEWEST_EDGES = 8
"""An outline of fewer pixel edges than this many tolerances is too small to tell walls."""
SMALLEST_RADIUS = 3.0
SAGITTA = 0.1
"""A circle's polygon stays this close to it."""
ROUND_SPREAD, ROUND_RMS = (0.75, 0.1), (0.4, 0.05)
"""Largest and root mean square deviation from a circle: in pixels, or as a share of the radius."""


@dataclass(frozen=True)
class Line:
    """A line through one stretch of the outline.

    Attributes:
        axis: 0 along the building's first direction, 1 along the second, None for one of its own.
        points: pixel edges that it is fitted to, float64 (points, 2), in the building's frame.
        point: a point on it.
        direction: unit vector along it.
    """

    axis: int | None
    points: Floats
    point: Floats
    direction: Floats


def edge_middles(ring: Floats) -> Floats:
    """Middles of the pixel edges along a closed ring of pixel corners: float64 (edges, 2)."""
    steps = np.diff(ring, axis=0)
    counts = np.abs(steps).sum(1).round().astype(int)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5
    return np.asarray(np.repeat(ring[:-1], counts, 0) + np.repeat(np.sign(steps), counts, 0) * place[:, None], float)


def fit_circle(middles: Floats) -> tuple[Floats, float] | None:
    """Center and radius of a circle that fits an outline, (edges, 2), or None if it is not round."""
    x, y = middles.T
    # Kasa (1976): x^2 + y^2 = 2 a x + 2 b y + c is linear in the center (a, b).
    system = np.stack([2 * x, 2 * y, np.ones(len(x))], 1)
    (a, b, c), *_ = np.linalg.lstsq(system, x * x + y * y, rcond=None)
    radius = float(np.sqrt(max(c + a * a + b * b, 0)))
    off = np.abs(np.hypot(x - a, y - b) - radius)
    spread, rms = (max(pixels, share * radius) for pixels, share in (ROUND_SPREAD, ROUND_RMS))
    if radius < SMALLEST_RADIUS or off.max() > spread or np.sqrt(np.mean(off**2)) > rms:
        return None
    return np.array([a, b]), radius


def circle(center: Floats, radius: float) -> Floats:
    """Corners of a regular polygon of the circle's area: float64 (corners, 2), not closed."""
    count = max(16, int(np.ceil(np.pi / np.arccos(1 - SAGITTA / radius))))
    step = 2 * np.pi / count
    angles = step * np.arange(count)
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.asarray(center + radius * np.sqrt(step / np.sin(step)) * around, float)


def bends(middles: Floats, tolerance: float) -> NDArray[np.int64]:
    """Where an outline, (edges, 2), bends by more than the tolerance: indices, int64 (bends,)."""
    # Douglas-Peucker keeps the first point wherever it lies: the one farthest out is a corner.
    first = int(np.hypot(*(middles - middles.mean(0)).T).argmax())
    numbered = np.column_stack([middles, np.arange(len(middles))])
    line = shapely.LinearRing(np.vstack([numbered[first:], numbered[: first + 1]]))
    kept = shapely.get_coordinates(shapely.simplify(line, tolerance, preserve_topology=False), include_z=True)
    return np.unique(kept[:, 2].astype(np.int64))


def dominant_angle(middles: Floats, corners: NDArray[np.int64]) -> float:
    """Direction of a building in radians, 0 to pi / 2, from the stretches between the bends of its outline."""
    edges = [_fitted(part) for part in _stretches(middles, corners)]
    lengths = np.array([edge[2] for edge in edges])
    angles = np.array([np.arctan2(edge[1][1], edge[1][0]) for edge in edges])
    apart = np.angle(np.exp(4j * (angles[:, None] - angles))) / 4
    votes = (np.exp(-((apart / np.radians(5)) ** 2)) * lengths).sum(1)
    near = np.abs(apart[votes.argmax()]) < np.radians(PARALLEL_DEGREES)
    # The variance of a fitted slope falls with the cube of the length.
    mean = np.sum(lengths[near] ** 3 * np.exp(4j * angles[near]))
    return float(np.angle(mean) / 4 % (np.pi / 2))


def fit_ring(middles: Floats, angle: float, tolerance: float) -> Floats | None:
    """The corners of a straightened outline.

    Args:
        middles: middles of the outline's pixel edges, float64 (edges, 2).
        angle: the building's direction in radians.
        tolerance: deviations up to this many pixels are straightened.

    Returns:
        float64 (corners, 2), not closed, or None if it is too small or fewer than three lines are left.
    """
    if len(middles) < FEWEST_EDGES * tolerance:
        return None
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = middles @ turn
    lines = _with_steps(_merged(_lines(turned, bends(turned, tolerance), tolerance), tolerance))
    while len(lines) >= 3:
        corners = _crossings(lines)
        if corners is None:
            return None
        lengths = np.hypot(*(np.roll(corners, -1, 0) - corners).T)
        shortest = int(lengths.argmin())
        if lengths[shortest] >= tolerance:
            return np.asarray(corners @ turn.T)
        lines = _without(lines, shortest)
    return None


def _stretches(middles: Floats, corners: NDArray[np.int64]) -> list[Floats]:
    """The points between successive bends."""
    doubled = np.vstack([middles, middles])
    ends = np.append(corners[1:], corners[0] + len(middles))
    return [doubled[start : end + 1] for start, end in zip(corners, ends, strict=True)]


def _fitted(points: Floats) -> tuple[Floats, Floats, float]:
    """Total least squares: a point on the line, its direction, and the length of the stretch."""
    trimmed = _trimmed(points)
    center = trimmed.mean(0)
    chord = points[-1] - points[0]
    if len(trimmed) > 4:
        x, y = (trimmed - center).T
        slope = np.arctan2(2 * (x @ y), x @ x - y @ y) / 2
        direction = np.array([np.cos(slope), np.sin(slope)])
        direction = direction if direction @ chord >= 0 else -direction
    else:
        direction = chord
    size = np.hypot(*direction)
    return center, direction / size if size else np.array([1.0, 0.0]), float(np.hypot(*chord))


def _trimmed(points: Floats) -> Floats:
    """Without the ends, which belong to the corners."""
    cut = min(2, (len(points) - 1) // 3)
    return points[cut : len(points) - cut]


def _lines(middles: Floats, corners: NDArray[np.int64], tolerance: float) -> list[Line]:
    """One line a stretch; cut corners, short and along neither direction, give none."""
    lines = []
    for points in _stretches(middles, corners):
        center, direction, length = _fitted(points)
        off = np.degrees(np.arctan2(np.abs(direction[1]), np.abs(direction[0])))
        turn = min(off, 90 - off)
        if turn <= AXIS_DEGREES and length / 2 * np.sin(np.radians(turn)) <= tolerance:
            lines.append(_along(0 if off < 45 else 1, _trimmed(points), direction))
        elif length >= FREE_LENGTH * tolerance:
            lines.append(Line(None, _trimmed(points), center, direction))
    return lines


def _along(axis: int, points: Floats, toward: Floats) -> Line:
    direction = np.zeros(2)
    direction[axis] = 1.0 if toward[axis] >= 0 else -1.0
    return Line(axis, points, points.mean(0), direction)


def _pooled(one: Line, other: Line) -> Line:
    """One line for the points of two that run alike."""
    points = np.vstack([one.points, other.points])
    if one.axis is not None:
        return _along(one.axis, points, one.direction)
    center, direction, _ = _fitted(points)
    return Line(None, points, center, direction)


def _alike(one: Line, other: Line) -> bool:
    if one.axis is not None or other.axis is not None:
        return one.axis == other.axis and bool(one.direction @ other.direction > 0)
    return bool(one.direction @ other.direction > np.cos(np.radians(PARALLEL_DEGREES)))


def _merged(lines: list[Line], tolerance: float) -> list[Line]:
    """Successive lines that run alike, at most the tolerance apart, become one."""
    place = 0
    while len(lines) > 3 and place < len(lines):
        one, other = lines[place], lines[(place + 1) % len(lines)]
        if _alike(one, other) and abs(_cross(one.direction, other.point - one.point)) <= tolerance:
            lines = _replaced(lines, place, 2, [_pooled(one, other)])
            place = 0
        else:
            place += 1
    return lines


def _with_steps(lines: list[Line]) -> list[Line]:
    """Between successive parallel lines, a step at right angles joins the end of one to the start of the next."""
    result = []
    for one, other in zip(lines, lines[1:] + lines[:1], strict=True):
        result.append(one)
        if abs(_cross(one.direction, other.direction)) < np.sin(np.radians(PARALLEL_DEGREES)):
            joint = np.vstack([one.points[-1:], other.points[:1]])
            across = np.array([-one.direction[1], one.direction[0]])
            toward = across if across @ (other.point - one.point) >= 0 else -across
            axis = None if one.axis is None else 1 - one.axis
            result.append(Line(axis, joint, joint.mean(0), toward))
    return result


def _without(lines: list[Line], place: int) -> list[Line]:
    """Drop the line with the shortest edge; its neighbors become one if they run alike."""
    before, after = lines[place - 1], lines[(place + 1) % len(lines)]
    if _alike(before, after) and len(lines) > 4:
        return _replaced(lines, place - 1, 3, [_pooled(before, after)])
    kept = lines[:place] + lines[place + 1 :]
    if abs(_cross(before.direction, after.direction)) < np.sin(np.radians(PARALLEL_DEGREES)):
        # A tongue thinner than the tolerance: its sides go too.
        kept = [line for line in kept if line is not (before if len(before.points) < len(after.points) else after)]
    return kept


def _replaced(lines: list[Line], place: int, count: int, by: list[Line]) -> list[Line]:
    """Lines in a circle with `count` of them from `place` on replaced."""
    turned = lines[place:] + lines[:place]
    return by + turned[count:]


def _crossings(lines: list[Line]) -> Floats | None:
    """Where each line crosses the one before it: (lines, 2), or None if two are parallel."""
    corners = []
    for before, line in zip(lines[-1:] + lines[:-1], lines, strict=True):
        turning = _cross(before.direction, line.direction)
        if abs(turning) < np.sin(np.radians(PARALLEL_DEGREES / 2)):
            return None
        along = _cross(line.point - before.point, line.direction) / turning
        corners.append(before.point + along * before.direction)
    return np.array(corners)


def _cross(one: Floats, other: Floats) -> float:
    return float(one[0] * other[1] - one[1] * other[0])
