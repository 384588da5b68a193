"""The street network: main roads across the town, side streets from splitting the land between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon, box
from shapely.ops import split

Rng = np.random.Generator

#: Share of each land use in a kind of town; one kind is drawn a scene.
THEMES: dict[str, dict[str, float]] = {
    "suburb": {"residential": 0.68, "dense": 0.06, "industrial": 0.06, "rural": 0.1, "park": 0.1},
    "city": {"residential": 0.22, "dense": 0.52, "industrial": 0.14, "park": 0.12},
    "informal": {"informal": 0.62, "residential": 0.14, "dense": 0.08, "rural": 0.08, "park": 0.08},
    "village": {"residential": 0.48, "rural": 0.32, "informal": 0.1, "park": 0.1},
    "estate": {"industrial": 0.5, "residential": 0.26, "dense": 0.12, "rural": 0.12},
}


@dataclass(frozen=True)
class Plan:
    """How the land of one use is divided: sizes in metres, probabilities in 0..1."""

    length: tuple[float, float]
    depth: tuple[float, float]
    street: float
    width: tuple[float, float]
    dirt: float
    dead_end: float


PLANS: dict[str, Plan] = {
    "residential": Plan((100, 220), (62, 88), 0.97, (5.0, 8.0), 0.06, 0.12),
    "dense": Plan((70, 140), (50, 85), 0.95, (5.5, 9.5), 0.02, 0.05),
    "informal": Plan((60, 150), (40, 75), 0.85, (2.8, 5.5), 0.65, 0.2),
    "industrial": Plan((150, 260), (110, 170), 0.85, (7.0, 10.0), 0.04, 0.1),
    "rural": Plan((120, 300), (60, 160), 0.22, (3.0, 4.5), 0.8, 0.1),
    "park": Plan((200, 400), (150, 300), 0.3, (3.0, 5.0), 0.5, 0.1),
}


@dataclass(frozen=True)
class Street:
    """A piece of street between two crossings (or a dead end).

    Attributes:
        line: its centerline, metres.
        width: metres.
        surface: "asphalt", "concrete", "dirt" or "gravel".
        main: True for a main road (markings, more cars).
    """

    line: LineString
    width: float
    surface: str
    main: bool

    @property
    def area(self) -> Polygon:
        """The centerline widened to the street's width."""
        return self.line.buffer(self.width / 2, quad_segs=8)


@dataclass(frozen=True)
class Block:
    """Land between streets: its outline (to the centerlines) and its use."""

    outline: Polygon
    use: str


def _bent_line(rng: Rng, center: NDArray[np.float64], angle: float, reach: float, bend: float) -> LineString:
    t = np.linspace(-reach, reach, max(3, int(reach / 6)))
    off = bend * np.sin(2 * np.pi * t / rng.uniform(250, 600) + rng.uniform(0, 6.3))
    d, n = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return LineString(center + t[:, None] * d + off[:, None] * n)


def _main_roads(rng: Rng, domain: Polygon) -> list[tuple[LineString, float, str, bool]]:
    """Two families of long roads about at right angles, sometimes a diagonal; clipped to the domain."""
    x0, y0, x1, y1 = domain.bounds
    center, reach = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), float(np.hypot(x1 - x0, y1 - y0)) / 2
    theta = rng.uniform(0, np.pi / 2)
    bends = rng.choice([0.0, 6.0, 22.0], p=[0.35, 0.35, 0.3])
    roads: list[tuple[LineString, float, str, bool]] = []

    def add(point: NDArray[np.float64], angle: float, width: float) -> None:
        line = _bent_line(rng, point, angle, reach * 1.1, bends * rng.uniform(0.3, 1.2))
        surface = str(rng.choice(["asphalt", "concrete"], p=[0.88, 0.12]))
        pieces = shapely.get_parts(line.intersection(domain))
        roads.extend((p, width, surface, True) for p in pieces if p.length > 1)

    for family in (0.0, np.pi / 2):
        spacing = rng.uniform(170, 380)
        normal = np.array([-np.sin(theta + family), np.cos(theta + family)])
        offset = -reach + rng.uniform(0, spacing)
        while offset < reach:
            angle = theta + family + rng.normal(0, 0.05)
            add(
                center + offset * normal,
                angle,
                float(rng.choice([7.0, 8.5, 10.5, 14.0], p=[0.35, 0.35, 0.2, 0.1])),
            )
            offset += spacing * rng.uniform(0.7, 1.4)
    if rng.random() < 0.35:
        point = center + rng.uniform(-0.4, 0.4, 2) * (x1 - x0)
        add(point, theta + rng.uniform(0.5, 1.05), float(rng.uniform(7, 15)))
    return roads


def _cut(rng: Rng, land: Polygon, plan: Plan) -> LineString | None:
    """A line across `land` that shortens its longest side, or None where it is small enough."""
    corners = np.asarray(shapely.oriented_envelope(land).exterior.coords)[:3]
    if len(corners) < 3:
        return None
    a, b = corners[1] - corners[0], corners[2] - corners[1]
    if np.hypot(*a) < np.hypot(*b):
        a, b = b, a
    length, depth = np.hypot(*a), np.hypot(*b)
    center = (corners[0] + corners[2]) / 2
    across = length > rng.uniform(*plan.length) and length > 60
    if not across and depth <= rng.uniform(*plan.depth) * 1.25:
        return None
    along, direction = (a, b) if across else (b, a)
    parts = max(2, round(np.hypot(*along) / np.mean(plan.length if across else plan.depth)))
    place = rng.integers(1, parts) / parts - 0.5 + rng.normal(0, 0.03)
    angle = np.arctan2(direction[1], direction[0]) + rng.normal(0, 0.04)
    step = np.array([np.cos(angle), np.sin(angle)]) * (length + depth)
    middle = center + place * along
    return LineString([middle - step, middle + step])


def _subdivide(rng: Rng, land: Polygon, use: str) -> tuple[list[Block], list[tuple[LineString, float, str, bool]]]:
    plan = PLANS[use]
    blocks: list[Block] = []
    streets: list[tuple[LineString, float, str, bool]] = []
    stack = [land]
    while stack:
        piece = stack.pop()
        cut = _cut(rng, piece, plan) if piece.area > 1500 else None
        if cut is None:
            blocks.append(Block(piece, use))
            continue
        inside = [p for p in shapely.get_parts(cut.intersection(piece)) if p.length > 1]
        surface = "asphalt" if rng.random() > plan.dirt else str(rng.choice(["dirt", "gravel"], p=[0.7, 0.3]))
        width = rng.uniform(*plan.width) * (0.8 if surface != "asphalt" else 1.0)
        dead_end = len(inside) == 1 and rng.random() < plan.dead_end
        if dead_end:
            line = inside[0] if rng.random() < 0.5 else inside[0].reverse()
            inside = [shapely.ops.substring(line, 0, rng.uniform(0.45, 0.75), normalized=True)]
        if dead_end or rng.random() < plan.street:
            streets.extend((p, width, surface, False) for p in inside)
        if dead_end:
            blocks.append(Block(piece, use))
        else:
            stack.extend(p for p in split(piece, cut).geoms if p.area > 1)
    return blocks, streets


def _warp(rng: Rng) -> Callable[[Any], Any]:
    """A smooth displacement of the plane, weak enough (gradient well below one) to fold nothing."""
    amount = rng.choice([0.0, 0.5, 1.0], p=[0.25, 0.4, 0.35])
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 5, 2))
    wave = rng.uniform(130, 600, (5, 2))
    k = 2 * np.pi / wave
    size = 0.035 * amount * wave

    def apply(points: Any) -> Any:
        moved = np.array(points, dtype=np.float64)
        for axis in (0, 1):
            for i in range(5):
                s = points[:, 0] * np.cos(angle[i, axis]) + points[:, 1] * np.sin(angle[i, axis])
                moved[:, axis] += size[i, axis] * np.sin(k[i, axis] * s + phase[i, axis])
        return moved

    return apply


def _node(raw: list[tuple[LineString, float, str, bool]], grid: float) -> list[tuple[LineString, float, str, bool]]:
    """Cut the streets at every crossing; a shared piece takes the attributes of its widest street.

    The grid (metres) makes an end that misses the other street by rounding meet it exactly.
    """
    lines = [r[0] for r in raw]
    pieces = shapely.get_parts(shapely.union_all(lines, grid_size=grid))
    pieces = pieces[shapely.length(pieces) > 2 * grid]
    middles = shapely.line_interpolate_point(pieces, 0.5, normalized=True)
    of, source = shapely.STRtree(lines).query(middles, predicate="dwithin", distance=5 * grid)
    best: dict[int, int] = {}
    for i, j in zip(of.tolist(), source.tolist(), strict=True):
        if i not in best or raw[j][1] > raw[best[i]][1]:
            best[i] = j
    return [(pieces[i], *raw[j][1:]) for i, j in sorted(best.items())]


def make_streets(rng: Rng, extent: float, margin: float = 60.0) -> tuple[list[Street], list[Block]]:
    """Lay out the streets and the blocks between them.

    Args:
        rng: consumed in a fixed order.
        extent: side of the scene in metres; x runs over 0..extent, y over -extent..0.
        margin: how far the town goes on beyond the scene, metres.

    Returns:
        Streets noded at their crossings and blocks, both reaching beyond the scene.
    """
    pad = max(margin, 150 - extent / 2)
    domain = box(-pad, -extent - pad, extent + pad, pad)
    theme = THEMES[str(rng.choice(list(THEMES), p=[0.3, 0.22, 0.2, 0.14, 0.14]))]
    raw = _main_roads(rng, domain)
    lines = [r[0] for r in raw] + [domain.boundary]
    blocks: list[Block] = []
    for land in shapely.get_parts(shapely.polygonize([shapely.union_all(lines, grid_size=0.01)])):
        use = str(rng.choice(list(theme), p=list(theme.values())))
        inner_blocks, inner_streets = _subdivide(rng, land, use)
        blocks += inner_blocks
        raw += inner_streets
    warp = _warp(rng)
    noded = _node(raw, 0.01)
    curved = shapely.transform(shapely.segmentize([r[0] for r in noded], 8.0), warp)
    # Curves are chords: two that leave a crossing at a sharp angle may meet once more.
    bent = _node([(c, *r[1:]) for c, r in zip(curved, noded, strict=True)], 0.001)
    streets = [Street(*r) for r in bent]
    outlines = [shapely.transform(shapely.segmentize(b.outline, 8.0), warp) for b in blocks]
    kept = [Block(o, b.use) for o, b in zip(outlines, blocks, strict=True) if o.is_valid and o.area > 20]
    return streets, kept
