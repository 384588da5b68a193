"""What stands on the land between the streets: buildings, parking lots, driveways and trees."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon, box

from prngeo.synth.buildings import Building, Kind, make_building, place
from prngeo.synth.habits import HABITS, Habit
from prngeo.synth.palette import Look
from prngeo.synth.streets import Block, Street

Rng = np.random.Generator
KINDS: tuple[Kind, ...] = ("rectangle", "l", "t", "u", "round")

#: Least distance between two buildings, and from a building to a road, metres.
CLEARANCE = 1.0


@dataclass
class Plots:
    """Everything placed so far. `trees` rows are x, y, radius, height (metres)."""

    buildings: list[Building] = field(default_factory=list)
    parking: list[tuple[Polygon, float]] = field(default_factory=list)
    drives: list[Polygon] = field(default_factory=list)
    pools: list[Polygon] = field(default_factory=list)
    ponds: list[Polygon] = field(default_factory=list)
    trees: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True)
class _Site:
    """A candidate: something wants to stand here. Exactly one of building and parking is set."""

    area: Polygon
    building: Building | None
    angle: float
    drive: Polygon | None = None


def _stations(rng: Rng, ring: LineString, habit: Habit) -> list[tuple[NDArray[np.float64], float, float]]:
    """Points along a ring with the direction there and the width of the lot, one for each building."""
    found = []
    s = rng.uniform(0, habit.gap[1])
    while s < ring.length - habit.width[0] * 0.5:
        width = rng.uniform(*habit.width) if rng.random() < 0.7 else habit.width[0] * 1.2
        middle = s + width / 2
        ends = [ring.interpolate(t % ring.length) for t in (middle - width / 3, middle + width / 3)]
        dx, dy = ends[1].x - ends[0].x, ends[1].y - ends[0].y
        point = np.array([(ends[0].x + ends[1].x) / 2, (ends[0].y + ends[1].y) / 2])
        if rng.random() > habit.skip:
            found.append((point, float(np.arctan2(dy, dx)), width))
        s += width + rng.uniform(*habit.gap)
    return found


def _site(
    rng: Rng,
    habit: Habit,
    station: tuple[NDArray[np.float64], float, float],
    roofs: tuple[list[str], NDArray[np.float64]],
) -> list[_Site]:
    """What stands at one station: a building or a parking lot, sometimes a shed behind."""
    point, front, width = station
    turned = rng.normal(0, habit.turn) if rng.random() < 0.93 else rng.normal(0, 0.25)
    angle = front + turned
    inward = np.array([-np.sin(front), np.cos(front)])
    depth = rng.uniform(*habit.depth)
    center = point + inward * (depth / 2 + rng.uniform(0, 1.5))
    if rng.random() < habit.parking:
        w, d = rng.uniform(18, 45), rng.uniform(14, 34)
        at = point + inward * d / 2
        return [_Site(place(box(-w / 2, -d / 2, w / 2, d / 2), at[0], at[1], angle), None, angle)]
    kind = KINDS[int(rng.choice(5, p=habit.kinds))]
    if width * depth < 45 and kind != "round":
        kind = "rectangle"
    if kind in ("u", "t", "l"):
        depth *= 1.25
    if kind == "round":
        width = min(width, rng.uniform(6, 22))
    family = str(rng.choice(roofs[0], p=roofs[1]))
    building = make_building(rng, kind, (width, depth), center, angle, (family, rng.random() < habit.pitched))
    lane = center + np.array([inward[1], -inward[0]]) * rng.uniform(-0.4, 0.4) * width
    drive = LineString([lane, lane - inward * (depth / 2 + habit.setback[1] + 6)]).buffer(
        rng.uniform(1.2, 1.9), cap_style="flat"
    )
    sites = [_Site(building.footprint, building, angle, drive if rng.random() < 0.75 else None)]
    if rng.random() < habit.shed:
        at = center + inward * (depth / 2 + rng.uniform(4, 12)) + (inward[1], -inward[0]) * rng.normal(0, 4, 2)
        size = (rng.uniform(2.6, 6), rng.uniform(2.4, 4.5))
        shed = make_building(rng, "rectangle", size, at, angle, (family, rng.random() < 0.5))
        sites.append(_Site(shed.footprint, shed, angle))
    return sites


def _settle(sites: list[_Site], legal: Polygon) -> list[_Site]:
    """Keep, in order, what lies on legal ground and clear of everything kept before."""
    areas = np.array([s.area for s in sites], dtype=object)
    shapely.prepare(legal)
    allowed = shapely.covers(legal, areas)
    first, second = shapely.STRtree(areas).query(areas, predicate="dwithin", distance=CLEARANCE + 0.02)
    rivals: dict[int, list[int]] = {}
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        if j < i:
            rivals.setdefault(i, []).append(j)
    kept: set[int] = set()
    for i in range(len(sites)):
        if allowed[i] and not any(j in kept for j in rivals.get(i, ())):
            kept.add(i)
    return [sites[i] for i in sorted(kept)]


def _infill(
    rng: Rng, habit: Habit, legal: Polygon, roofs: tuple[list[str], NDArray[np.float64]], count: int
) -> list[_Site]:
    """Smaller buildings anywhere on the land, turned like one side of it; most will find no room."""
    x0, y0, x1, y1 = legal.bounds
    corners = np.asarray(shapely.oriented_envelope(legal).exterior.coords)
    side = corners[1] - corners[0]
    along = float(np.arctan2(side[1], side[0]))
    sites: list[_Site] = []
    small = replace(habit, parking=0.0, shed=0.0, kinds=(0.85, 0.15, 0.0, 0.0, 0.0))
    for point in rng.uniform((x0, y0), (x1, y1), (count, 2)):
        front = along + float(rng.integers(0, 4)) * np.pi / 2 + rng.normal(0, 2 * habit.turn)
        width = rng.uniform(0.6, 1.0) * habit.width[0] * 1.3
        sites += [replace(s, drive=None) for s in _site(rng, small, (point, front, width), roofs)]
    return sites


def _build(rng: Rng, use: str, legal: Polygon, look: Look, plots: Plots) -> list[Polygon]:
    """Put buildings and parking lots on one block; returns the areas they take."""
    habit = HABITS[use]
    weights = np.asarray(list(look.roofs.values())) + rng.dirichlet(np.full(len(look.roofs), 0.3))
    roofs = (list(look.roofs), weights / weights.sum())
    if use == "rural" and rng.random() < 0.6:
        return []
    sites: list[_Site] = []
    inset = rng.uniform(*habit.setback)
    for _ in range(habit.rows):
        for land in shapely.get_parts(legal.buffer(-inset)):
            if land.area > 30:
                ring = shapely.geometry.polygon.orient(land).exterior.simplify(1.0)
                for station in _stations(rng, ring, habit):
                    sites += _site(rng, habit, station, roofs)
        inset += float(np.mean(habit.depth)) + rng.uniform(*habit.gap) + 1
    if habit.infill:
        sites += _infill(rng, habit, legal, roofs, int(min(legal.area * habit.infill / 100, 400)))
    kept = _settle(sites, legal) if sites else []
    for site in kept:
        if site.building is None:
            plots.parking.append((site.area, site.angle))
        else:
            plots.buildings.append(site.building)
            if site.drive is not None:
                plots.drives.append(site.drive)
    return [s.area for s in kept]


def _plant(
    rng: Rng, block: Block, taken: list[Polygon], roads: NDArray[np.object_], green: float
) -> NDArray[np.float64]:
    """Single trees and clumps, with their stems outside buildings and roads; (N, 4) x, y, radius, height."""
    x0, y0, x1, y1 = block.outline.bounds
    count = rng.poisson(HABITS[block.use].trees * green * block.outline.area / 100)
    points = rng.uniform((x0, y0), (x1, y1), (int(count * 1.3), 2))
    clumps = [points]
    wooded = {"park": 0.75, "rural": 0.25, "residential": 0.15}.get(block.use, 0.05)
    if rng.random() < wooded:
        for _ in range(int(rng.integers(1, 5))):
            at, spread = rng.uniform((x0, y0), (x1, y1)), rng.uniform(5, 22)
            clumps.append(at + rng.normal(0, spread, (int(min(spread**2 / 3, 180)), 2)))
    points = np.concatenate(clumps)
    keep = shapely.contains_xy(block.outline, points[:, 0], points[:, 1])
    points = points[keep]
    stems = shapely.points(points)
    obstacles = np.concatenate([np.array(taken, dtype=object), roads])
    if len(obstacles) and len(stems):
        blocked, _ = shapely.STRtree(obstacles).query(stems, predicate="dwithin", distance=0.5)
        points = np.delete(points, np.unique(blocked), axis=0)
    radius = np.clip(rng.lognormal(0.75, 0.4, len(points)), 0.7, 5.5)
    return np.column_stack([points, radius, radius * rng.uniform(1.4, 2.4, len(points))])


def street_trees(rng: Rng, streets: list[Street], green: float) -> NDArray[np.float64]:
    """Rows of trees along some streets; (N, 4) x, y, radius, height."""
    rows = [np.zeros((0, 4))]
    for street in streets:
        if street.line.length < 30 or rng.random() > 0.35 * green:
            continue
        spacing, radius = rng.uniform(7, 16), rng.uniform(1.4, 3.2)
        for side in (-1, 1):
            line = street.line.offset_curve(side * (street.width / 2 + rng.uniform(0.8, 2.0)))
            if line.is_empty or line.geom_type != "LineString":
                continue
            at = np.arange(rng.uniform(5, 12), line.length - 6, spacing)
            xy = shapely.get_coordinates(shapely.line_interpolate_point(line, at))
            xy = xy[rng.random(len(xy)) < 0.8]
            r = radius * rng.uniform(0.75, 1.2, len(xy))
            rows.append(np.column_stack([xy, r, r * rng.uniform(1.6, 2.4, len(xy))]))
    return np.concatenate(rows)


def make_plots(rng: Rng, streets: list[Street], blocks: list[Block], extent: float, look: Look) -> Plots:
    """Fill every block that matters to the scene.

    Args:
        rng: consumed in a fixed order.
        streets: whose areas stay free.
        blocks: the land to fill.
        extent: side of the scene, metres; blocks more than 40 m outside are left empty.
        look: gives the roofs in use.
    """
    plots = Plots()
    green, grown = float(rng.choice([0.25, 0.7, 1.2, 2.0])), rng.uniform(0.75, 1.45)
    near = box(-40, -extent - 40, extent + 40, 40)
    areas = np.array([s.area for s in streets], dtype=object)
    tree = shapely.STRtree(areas)
    for block in blocks:
        if not block.outline.intersects(near):
            continue
        roads = areas[np.sort(tree.query(block.outline, predicate="intersects"))]
        free = block.outline.buffer(-0.6)
        if len(roads):
            free = free.difference(shapely.union_all(roads).buffer(CLEARANCE + 0.02, quad_segs=4))
        if block.use in ("park", "rural") and rng.random() < 0.2:
            pond = _pond(rng, free)
            if pond is not None:
                plots.ponds.append(pond)
                free, roads = free.difference(pond.buffer(3)), np.append(roads, pond)
        taken = _build(rng, block.use, free, look, plots) if free.area > 40 else []
        plots.trees.append(_plant(rng, block, taken, roads, green))
        if block.use == "residential" and rng.random() < 0.3 and taken:
            plots.pools += _pools(rng, free, taken)
    plots.trees.append(street_trees(rng, streets, green))
    plots.trees = [t * (1, 1, grown, grown) for t in plots.trees]
    return plots


def _pond(rng: Rng, free: Polygon) -> Polygon | None:
    """A pond with a wavy shore on free ground, or None where it does not fit."""
    if free.is_empty:
        return None
    x0, y0, x1, y1 = free.bounds
    at, radius = rng.uniform((x0, y0), (x1, y1)), rng.uniform(7, 35)
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    r = radius * (1 + 0.25 * np.sin(2 * t + rng.uniform(0, 6)) + 0.12 * np.sin(3 * t + rng.uniform(0, 6)))
    pond = Polygon(np.column_stack([at[0] + r * np.cos(t), at[1] + r * np.sin(t)]))
    return pond if free.covers(pond.buffer(3)) else None


def _pools(rng: Rng, free: Polygon, taken: list[Polygon]) -> list[Polygon]:
    """A few swimming pools on free ground behind houses."""
    pools = []
    for house in taken[:: int(rng.integers(3, 8))]:
        at = np.array([house.centroid.x, house.centroid.y]) + rng.normal(0, 12, 2)
        pool = place(box(-4, -2, 4, 2), at[0], at[1], rng.uniform(0, 3.2)).buffer(0.6)
        if free.covers(pool) and not any(pool.dwithin(t, 0.5) for t in taken):
            pools.append(pool)
    return pools
