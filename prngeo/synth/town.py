"""A procedural town: an aerial scene with exact truth, the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry import LineString, Polygon, box

from prngeo.errors import UsageError
from prngeo.synth.buildings import Building, Kind
from prngeo.synth.paint import paint
from prngeo.synth.palette import make_look
from prngeo.synth.plots import make_plots
from prngeo.synth.render import render
from prngeo.synth.streets import Street, make_streets

SIZES = (16, 20000)
GSDS = (0.05, 5.0)
MAX_EXTENT = 12_000.0


@dataclass(frozen=True)
class Centerline:
    """The middle of a road between two crossings.

    Attributes:
        geometry: metres.
        width_m: the road's width.
        surface: "asphalt", "concrete", "dirt" or "gravel".
    """

    geometry: LineString
    width_m: float
    surface: str


@dataclass(frozen=True)
class Footprint:
    """A building's outline in metres (cut at the scene's border) and its kind."""

    geometry: Polygon
    kind: Kind


@dataclass(frozen=True)
class Town:
    """A scene and its truth. Map coordinates: metres, the upper left corner is (0, 0), y points up.

    Attributes:
        image: (3, H, W) uint8 RGB.
        masks: "roads" and "buildings", (H, W) uint8, 1 where a pixel's centre lies inside.
        roads: the union of all road areas; parts that do not touch are separate.
        road_centerlines: noded at crossings.
        buildings: at least a metre apart, off the roads; one that the border cuts in two appears twice.
        size: pixels on a side.
        gsd: metres a pixel.
    """

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.uint8]]
    roads: list[Polygon]
    road_centerlines: list[Centerline]
    buildings: list[Footprint]
    size: int
    gsd: float

    @property
    def transform(self) -> Affine:
        """From (column, row) to metres."""
        return Affine(self.gsd, 0.0, 0.0, 0.0, -self.gsd, 0.0)


def burn(shapes: list[Polygon], shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
    """Rasterise polygons: (H, W) uint8, 1 where a pixel's centre lies inside one of them."""
    if not shapes:
        return np.zeros(shape, np.uint8)
    mask: NDArray[np.uint8] = rasterize(shapes, out_shape=shape, transform=transform, fill=0, dtype="uint8")
    return mask


def check_options(size: int, gsd: float, seed: int, bias: float) -> None:
    """Refuse what no town can be made of.

    Raises:
        UsageError: naming the option, what was given and what is possible.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"size is {size} pixels; give --size between {SIZES[0]} and {SIZES[1]}.")
    if not (math.isfinite(gsd) and GSDS[0] <= gsd <= GSDS[1]):
        raise UsageError(f"gsd is {gsd} m; give --gsd between {GSDS[0]} and {GSDS[1]} metres a pixel.")
    if size * gsd > MAX_EXTENT:
        raise UsageError(
            f"{size} pixels of {gsd} m make a town {size * gsd / 1000:.1f} km across; at most "
            f"{MAX_EXTENT / 1000:.0f} km are generated: give a smaller --size or --gsd."
        )
    if seed < 0:
        raise UsageError(f"seed is {seed}; give --seed 0 or a positive integer.")
    if not (math.isfinite(bias) and -3 <= bias <= 3):
        raise UsageError(f"bias is {bias}; give --bias between -3 and 3 (0 is none, 1 a clear haze).")


def _cut_polygons(shapes: list[Polygon], scene: Polygon) -> list[tuple[int, Polygon]]:
    """(index of the shape, polygon) for every polygonal piece of a shape inside the scene."""
    found = []
    for i, shape in enumerate(shapes):
        if scene.covers(shape):
            found.append((i, shape))
        elif scene.intersects(shape):
            parts = shapely.get_parts(scene.intersection(shape))
            found += [(i, p) for p in parts if p.geom_type == "Polygon" and p.area > 1e-6]
    return found


def _centerlines(streets: list[Street], scene: Polygon) -> list[Centerline]:
    lines = []
    for street in streets:
        if scene.intersects(street.line):
            parts = shapely.get_parts(scene.intersection(street.line))
            lines += [
                Centerline(p, round(street.width, 3), street.surface)
                for p in parts
                if p.geom_type == "LineString" and p.length > 1e-6
            ]
    return lines


def _roads(streets: list[Street], scene: Polygon) -> list[Polygon]:
    near = [a for a in (s.area for s in streets) if a.intersects(scene)]
    if not near:
        return []
    whole = shapely.get_parts(shapely.union_all(near))
    return [p for _, p in _cut_polygons(list(whole), scene)]


def _footprints(buildings: list[Building], scene: Polygon) -> list[Footprint]:
    pieces = _cut_polygons([b.footprint for b in buildings], scene)
    return [Footprint(p, buildings[i].kind) for i, p in pieces]


def make_town(size: int, gsd: float, seed: int, bias: float = 0.0) -> Town:
    """Generate a town.

    The layout is drawn in metres from the seed and the extent (size times gsd), so the same seed and
    extent at another GSD shows the same town.

    Args:
        size: pixels on a side, 16 to 20000.
        gsd: metres a pixel, 0.05 to 5; the extent is at most 12 km.
        seed: 0 or more; everything follows from it.
        bias: amplitude of a regional bias of the image: a smooth region on one side of the scene (about
            half of it) loses contrast by 1 / (1 + 1.1 |bias|) and turns brighter and bluer by about 40
            times `bias` grey levels. The truth is unaffected. 0 is none, 1 a clear haze; negative values
            darken.

    Returns:
        The town; its truth is exact, crowns that hide a roof's edge do not change it.

    Raises:
        UsageError: if an argument is out of range.
    """
    check_options(size, gsd, seed, bias)
    extent = round(size * gsd, 6)
    layout, dress = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))
    look = make_look(np.random.default_rng((seed, 3)))
    streets, blocks = make_streets(layout, extent)
    plots = make_plots(layout, streets, blocks, extent, look)
    drawing = paint(dress, look, seed, streets, blocks, plots)
    scene = box(0, -extent, extent, 0)
    roads, buildings = _roads(streets, scene), _footprints(plots.buildings, scene)
    transform = Affine(gsd, 0.0, 0.0, 0.0, -gsd, 0.0)
    masks = {
        "roads": burn(roads, (size, size), transform),
        "buildings": burn([b.geometry for b in buildings], (size, size), transform),
    }
    image = render(drawing, size, gsd, bias)
    return Town(image, masks, roads, _centerlines(streets, scene), buildings, size, gsd)
