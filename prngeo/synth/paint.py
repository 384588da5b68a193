"""Dress the vectors: which surface every piece of land, road and roof shows."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, box

from prngeo.synth.buildings import Building, place, roof_facets
from prngeo.synth.fields import FloatArray
from prngeo.synth.palette import ROOFS, Look
from prngeo.synth.plots import Plots
from prngeo.synth.render import Drawing
from prngeo.synth.streets import Block, Street

Rng = np.random.Generator

CARS = (
    (225, 225, 225),
    (205, 207, 210),
    (60, 62, 66),
    (34, 35, 38),
    (128, 130, 134),
    (150, 40, 38),
    (50, 70, 120),
)


def _shift(rng: Rng, color: FloatArray | tuple[float, float, float], spread: float) -> FloatArray:
    """A colour a little brighter or darker, and a little off in hue."""
    moved = np.asarray(color, np.float32) + rng.normal(0, spread) + rng.normal(0, spread * 0.25, 3)
    return np.clip(moved, 8, 245).astype(np.float32)


def _field_material(rng: Rng, drawing: Drawing) -> int:
    """A parcel: crop, meadow, stubble or ploughed soil, with rows in its own direction."""
    look = drawing.look
    kinds = (look.grass, look.dry, look.soil, look.grass * 0.85 + (2, 14, 2), look.soil * 0.8)
    base = _shift(rng, kinds[int(rng.integers(len(kinds)))], 11)
    return drawing.materials.add(
        base,
        _shift(rng, base, 14),
        mix=rng.uniform(0.1, 0.5),
        grain=rng.uniform(0.03, 0.09),
        mottle=rng.uniform(0.02, 0.09),
        stripe=float(rng.choice([0.0, 0.05, 0.11])),
        wavelength=rng.uniform(0.9, 4.5),
        angle=rng.uniform(0, np.pi),
    )


def _ground(rng: Rng, drawing: Drawing, blocks: list[Block]) -> None:
    look, add = drawing.look, drawing.materials.add
    paved = _shift(rng, look.asphalt + 26, 12)
    drawing.ground.add(box(-1e5, -1e5, 1e5, 1e5), add(look.grass, look.dry, mix=0.4, grain=0.08, mottle=0.08))
    for block in blocks:
        green, bare = _shift(rng, look.grass, 7), _shift(rng, look.soil, 8)
        mix = float(np.clip(rng.normal(0.35, 0.2), 0.02, 0.9))
        if block.use == "rural":
            value = _field_material(rng, drawing)
        elif block.use == "informal":
            value = add(bare, green, mix=mix * 0.7, grain=0.1, mottle=0.09)
        elif block.use in ("dense", "industrial"):
            base = bare if rng.random() < 0.25 else _shift(rng, paved, 12)
            value = add(base, green if rng.random() < 0.6 else bare, mix=mix * 0.9, grain=0.05, mottle=0.05)
        else:
            other = look.dry if rng.random() < 0.55 else bare
            value = add(green, _shift(rng, other, 8), mix=mix, grain=0.09, mottle=0.09)
        drawing.ground.add(block.outline, value)


def _marks(rng: Rng, street: Street, drawing: Drawing, white: int) -> None:
    """A dashed middle line and, on wide roads, edge lines; none near the crossings."""
    line = street.line
    if line.length < 24:
        return
    lines: list[LineString] = []
    dash = rng.uniform(3, 5)
    for s in np.arange(8, line.length - 8 - dash, dash * 2.2):
        lines.append(shapely.ops.substring(line, s, s + dash))
    if street.width > 8.5:
        inner = shapely.ops.substring(line, 7, line.length - 7)
        lines += [inner.offset_curve(side * (street.width / 2 - 0.5)) for side in (-1, 1)]
    for mark in lines:
        drawing.ground.add(mark.buffer(0.1, cap_style="flat"), white)


def _car(rng: Rng, drawing: Drawing, x: float, y: float, angle: float, colors: list[int]) -> None:
    body = place(box(-2.2, -0.9, 2.2, 0.9), x, y, angle)
    value = colors[int(rng.integers(len(colors)))]
    glass = place(box(0.3, -0.75, 0.95, 0.75), x, y, angle)
    cast = np.asarray(drawing.look.sun) * min(drawing.look.reach, 2) * 1.1
    shadow = shapely.convex_hull(shapely.union_all([body, shapely.transform(body, lambda p: p - cast)]))
    drawing.ground.add(shadow, colors[0] + len(CARS))
    drawing.ground.add(body, value)
    drawing.ground.add(glass, colors[0] + len(CARS))


def _roads(rng: Rng, drawing: Drawing, streets: list[Street], colors: list[int]) -> None:
    look, add = drawing.look, drawing.materials.add
    white = add(_shift(rng, (205, 205, 200), 10), grain=0.05)
    verge = add(_shift(rng, look.asphalt + 42, 10), look.grass, mix=0.12, grain=0.05)
    track = add(_shift(rng, look.soil - 6, 6), look.grass, mix=0.35, grain=0.1)
    rank = {"dirt": 0, "gravel": 1, "concrete": 2, "asphalt": 3}
    order = sorted(streets, key=lambda s: (rank[s.surface] > 1, s.main, s.width, rank[s.surface]))
    walks = float(rng.choice([0.0, 1.2, 2.0]))
    for street in order:
        soft = street.surface in ("dirt", "gravel")
        if soft or walks:
            reach = street.width / 2 + (0.7 if soft else walks)
            drawing.ground.add(street.line.buffer(reach, cap_style="flat"), track if soft else verge)
    marked = rng.random() < 0.6
    shades: dict[tuple[str, float], int] = {}
    for street in order:
        key = (street.surface, street.width)
        if key not in shades:
            shades[key] = _road_material(rng, drawing, street.surface)
        drawing.ground.add(street.area, shades[key])
    for street in order:
        if marked and street.main and street.surface == "asphalt":
            _marks(rng, street, drawing, white)
    busy = rng.uniform(0.002, 0.03)
    for street in order:
        many = rng.poisson(street.line.length * busy * (2 if street.main else 1))
        for s in rng.uniform(0, street.line.length, many):
            p, q = street.line.interpolate(s), street.line.interpolate(s + 1.5)
            angle = float(np.arctan2(q.y - p.y, q.x - p.x))
            off = rng.choice([-1, 1]) * (street.width / 4 if street.main else max(street.width / 2 - 1.3, 0.3))
            _car(rng, drawing, p.x - off * np.sin(angle), p.y + off * np.cos(angle), angle, colors)


def _road_material(rng: Rng, drawing: Drawing, surface: str) -> int:
    look, add = drawing.look, drawing.materials.add
    if surface == "dirt":
        base = _shift(rng, look.soil + 8, 8)
        return add(base, _shift(rng, look.soil - 14, 6), mix=0.3, grain=0.07, mottle=0.06)
    if surface == "gravel":
        return add(_shift(rng, (158, 152, 142), 12), look.soil, mix=0.25, grain=0.08, mottle=0.04)
    base = _shift(rng, look.asphalt + (44 if surface == "concrete" else 0), 8)
    return add(base, _shift(rng, base, 12), mix=rng.uniform(0.05, 0.4), grain=0.035, mottle=0.02)


def _yard_colors(look: Look) -> list[FloatArray]:
    """What lies around a house: lawn, dry lawn, soil, paving."""
    return [look.grass, look.grass * 0.85, look.dry, look.soil, look.asphalt + 30, look.asphalt + 55]


def _lots(rng: Rng, drawing: Drawing, plots: Plots, colors: list[int]) -> None:
    """Driveways, parking lots with their stalls and cars, pools."""
    look, add = drawing.look, drawing.materials.add
    drives = [add(_shift(rng, c, 12), grain=0.05) for c in (look.asphalt + 35, look.soil, look.asphalt + 8)]
    for drive in plots.drives:
        drawing.ground.add(drive, drives[int(rng.integers(3))])
    yards = [add(_shift(rng, c, 10), grain=0.07, mottle=0.06) for c in _yard_colors(look)]
    for building in plots.buildings:
        small = building.kind != "round" and building.footprint.area < 400
        if rng.random() < (0.5 if small else 0.0):
            yard = building.parts[0].buffer(rng.uniform(1.5, 7), join_style="mitre")
            drawing.ground.add(yard, yards[int(rng.integers(len(yards)))])
    line = add((196, 196, 192), grain=0.03)
    for lot, angle in plots.parking:
        base = _shift(rng, look.asphalt, 9)
        drawing.ground.add(lot, add(base, _shift(rng, base, 14), mix=0.2, grain=0.04))
        x, y = lot.centroid.x, lot.centroid.y
        corners = np.asarray(lot.exterior.coords)
        w, d = (float(np.hypot(*(corners[i + 1] - corners[i]))) for i in (1, 0))
        if abs((corners[1] - corners[0]) @ (np.cos(angle), np.sin(angle))) > 0.5 * d:
            w, d = d, w
        full = rng.uniform(0.05, 0.8)
        for v in np.arange(-d / 2 + 3, d / 2 - 2, rng.uniform(7.5, 9.5)):
            for u in np.arange(-w / 2 + 1.5, w / 2 - 1.5, 2.7):
                px, py = (
                    x + u * np.cos(angle) - v * np.sin(angle),
                    y + u * np.sin(angle) + v * np.cos(angle),
                )
                mark = place(box(1.25, -2.4, 1.37, 2.4), px, py, angle)
                drawing.ground.add(mark, line)
                if rng.random() < full:
                    _car(rng, drawing, px, py, angle + np.pi / 2, colors)
    water = add((82, 162, 186), (120, 190, 205), mix=0.3, grain=0.03)
    pond = add(_shift(rng, (66, 84, 78), 10), (54, 66, 58), mix=0.4, grain=0.02, mottle=0.02)
    for shape in plots.ponds:
        drawing.ground.add(shape.buffer(1.5), drives[1])
        drawing.ground.add(shape, pond)
    rim = add((200, 196, 186), grain=0.04)
    for pool in plots.pools:
        drawing.ground.add(pool.buffer(1.1), rim)
        drawing.ground.add(pool, water)


def _flat_roof(rng: Rng, drawing: Drawing, building: Building, base: FloatArray) -> None:
    """A roof with a parapet and, on larger ones, machines and stains."""
    add = drawing.materials.add
    stripe = 0.06 if building.family in ("metal", "white", "blue", "rust") else 0.0
    value = add(
        base, _shift(rng, base, 16), mix=rng.uniform(0, 0.5), grain=0.03, mottle=0.02,
        stripe=stripe, wavelength=rng.uniform(0.6, 1.4), angle=building.angle,
    )  # fmt: skip
    drawing.roofs.add(building.footprint, value)
    inner = building.footprint.buffer(-0.35, join_style="mitre")
    if building.kind == "round":
        drawing.roofs.add(building.footprint, add(base * 0.86, grain=0.02))
        inner = building.footprint.buffer(-(building.footprint.area**0.5) * 0.06)
        drawing.roofs.add(inner, value)
        return
    if not inner.is_empty and building.footprint.area > 50 and rng.random() < 0.7:
        drawing.roofs.add(building.footprint, add(_shift(rng, base * rng.uniform(0.8, 1.2), 5), grain=0.02))
        drawing.roofs.add(inner, value)
    units = rng.poisson(min(building.footprint.area / 160, 12))
    x0, y0, x1, y1 = building.footprint.bounds
    for x, y in rng.uniform((x0, y0), (x1, y1), (units, 2)):
        w, d = rng.uniform(0.6, 2.2, 2)
        box_ = place(box(-w, -d, w, d), x, y, building.angle)
        sun = np.asarray(drawing.look.sun) * drawing.look.reach * 1.2
        cast = shapely.transform(box_, lambda p, sun=sun: p - sun)
        if inner.covers(box_) and inner.covers(cast):
            drawing.roofs.add(cast, add(base * 0.5, grain=0.02))
            drawing.roofs.add(box_, add(_shift(rng, (165, 165, 165), 35), grain=0.03))


def _roof(rng: Rng, drawing: Drawing, building: Building) -> None:
    color, spread = ROOFS[building.family]
    base = _shift(rng, color, spread)
    if not building.pitched or building.kind == "round":
        _flat_roof(rng, drawing, building, base)
        return
    sun, add = np.asarray(drawing.look.sun), drawing.materials.add
    hipped, steep = rng.random() < 0.35, rng.uniform(0.1, 0.34)
    ribs = rng.uniform(0.02, 0.09)
    for part in reversed(building.parts):
        for facet, out in roof_facets(part, hipped):
            lit = base * (1 + steep * float(out @ sun))
            direction = float(np.arctan2(out[1], out[0])) + np.pi / 2
            value = add(
                lit, lit * 0.86, mix=0.25, grain=0.035, mottle=0.025,
                stripe=ribs, wavelength=rng.uniform(0.4, 1.0), angle=direction,
            )  # fmt: skip
            drawing.roofs.add(facet, value)
            if facet.area > 35 and float(out @ sun) > 0.2 and rng.random() < 0.08:
                c = facet.centroid
                panel = place(box(-2.4, -1.2, 2.4, 1.2), c.x, c.y, direction)
                if facet.covers(panel):
                    drawing.roofs.add(panel, add((38, 44, 66), stripe=0.15, wavelength=1.0, angle=direction))


def _cast(drawing: Drawing, building: Building) -> None:
    """The building's shadow on flat ground: each convex part swept along the sun's rays."""
    offset = -np.asarray(drawing.look.sun) * drawing.look.reach * building.height
    for part in building.parts:
        moved = shapely.transform(part, lambda p: p + offset)
        drawing.shadows.add(shapely.convex_hull(shapely.union_all([part, moved])), 1)


def _crowns(rng: Rng, look: Look, plots: Plots) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Trees with their colours, low ones first; (N, 7)."""
    trees = np.concatenate([*plots.trees, np.zeros((0, 4))])
    trees = trees[np.argsort(trees[:, 3], kind="stable")]
    shift = rng.normal(0, 8, (len(trees), 1)) + rng.normal(0, 3.5, (len(trees), 3))
    return np.column_stack([trees, np.clip(look.leaf + shift, 12, 200)])


def paint(rng: Rng, look: Look, seed: int, streets: list[Street], blocks: list[Block], plots: Plots) -> Drawing:
    """Turn the layout into a drawing.

    Args:
        rng: consumed in a fixed order.
        look: sun, sensor and base colours.
        seed: of texture.
        streets: roads with their surfaces.
        blocks: land with its use.
        plots: what stands on the land.
    """
    drawing = Drawing(look, seed)
    colors = [drawing.materials.add(c, grain=0.02) for c in CARS]
    drawing.materials.add((30, 31, 34), grain=0.02)
    _ground(rng, drawing, blocks)
    _lots(rng, drawing, plots, colors)
    _roads(rng, drawing, streets, colors)
    for building in plots.buildings:
        _cast(drawing, building)
        _roof(rng, drawing, building)
    drawing.trees = _crowns(rng, look, plots)
    return drawing
