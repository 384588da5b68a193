"""Buildings: footprints of several shapes and the facets of their roofs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Point, Polygon, box

Rng = np.random.Generator
Kind = Literal["rectangle", "l", "t", "u", "round"]


@dataclass(frozen=True)
class Building:
    """One building.

    Attributes:
        footprint: outline at the ground, metres.
        kind: its shape.
        parts: convex pieces whose union is the footprint, the largest first.
        angle: direction of its front, radians.
        height: metres.
        family: name of its roof's colour in `palette.ROOFS`.
        pitched: True for gable roofs, False for flat ones.
    """

    footprint: Polygon
    kind: Kind
    parts: tuple[Polygon, ...]
    angle: float
    height: float
    family: str
    pitched: bool


def place(shape: Polygon, x: float, y: float, angle: float) -> Polygon:
    """Turn a shape about (0, 0) and move it to (x, y); no numerical surprises from affine chains."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    turn = np.array([[c, s], [-s, c]])
    return shapely.transform(shape, lambda p: p @ turn + (x, y))


def _boxes(rng: Rng, kind: Kind, w: float, d: float) -> list[Polygon]:
    """Pieces in the building's own frame, centred, front along x: width `w`, depth `d`."""
    x, y = w / 2, d / 2
    bar = d * rng.uniform(0.42, 0.58)
    main = box(-x, -y, x, -y + bar)
    wing = w * rng.uniform(0.28, 0.4)
    if kind == "l":
        left = rng.random() < 0.5
        return [main, box(-x, -y, -x + wing, y) if left else box(x - wing, -y, x, y)]
    if kind == "t":
        shift = rng.uniform(-0.2, 0.2) * w
        return [main, box(shift - wing / 2, -y, shift + wing / 2, y)]
    if kind == "u":
        wing *= 0.8
        return [main, box(-x, -y, -x + wing, y), box(x - wing, -y, x, y)]
    return [box(-x, -y, x, y)]


def make_building(
    rng: Rng,
    kind: Kind,
    size: tuple[float, float],
    at: NDArray[np.float64],
    angle: float,
    roof: tuple[str, bool],
) -> Building:
    """Build one building.

    Args:
        rng: draws proportions and height.
        kind: the shape.
        size: width along the front and depth, metres; a round one takes the width as its diameter.
        at: (2,) centre, metres.
        angle: direction of the front, radians.
        roof: colour family and whether the roof is pitched.
    """
    w, d = size
    if kind == "round":
        parts = [Point(float(at[0]), float(at[1])).buffer(w / 2, quad_segs=12)]
    else:
        parts = [place(p, float(at[0]), float(at[1]), angle) for p in _boxes(rng, kind, w, d)]
    footprint = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    floors = 1 if w * d < 60 else int(rng.choice([1, 2, 3], p=[0.45, 0.42, 0.13]))
    if w * d > 350 and not roof[1]:
        floors += int(rng.integers(0, 4))
    height = (2.4 if w * d < 30 else 3.2) * floors + (1.5 if roof[1] else 0.5)
    return Building(footprint, kind, tuple(parts), angle, height, roof[0], roof[1])


def roof_facets(part: Polygon, hipped: bool) -> list[tuple[Polygon, NDArray[np.float64]]]:
    """Split a rectangle into the planes of its roof.

    Args:
        part: a rectangle at any angle.
        hipped: True for four planes (the ends slope too), False for the two of a gable.

    Returns:
        (facet, outward direction of its slope as a (2,) unit vector) for each plane.
    """
    c = np.asarray(part.exterior.coords)[:4]
    if np.hypot(*(c[1] - c[0])) < np.hypot(*(c[2] - c[1])):
        c = np.roll(c, -1, axis=0)
    # Now c0-c1 and c2-c3 are the long sides; the ridge runs between the middles of the short ones.
    along = (c[1] - c[0]) / max(np.hypot(*(c[1] - c[0])), 1e-9)
    half = np.hypot(*(c[2] - c[1])) / 2
    inset = along * (half if hipped else 0.0)
    r0, r1 = (c[0] + c[3]) / 2 + inset, (c[1] + c[2]) / 2 - inset
    middle = c.mean(axis=0)
    rings = [[c[0], c[1], r1, r0], [c[2], c[3], r0, r1]]
    if hipped:
        rings += [[c[1], c[2], r1], [c[3], c[0], r0]]
    facets = []
    for ring in rings:
        out = (ring[0] + ring[1]) / 2 - middle
        facets.append((Polygon(ring), out / max(np.hypot(*out), 1e-9)))
    return facets
