"""What is held out of labelled scenes to judge a refiner by: whole scenes, or blocks with a gap around them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import reduce

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.scores.scene import IGNORE, LabelledScene, blocks
from prngeo.scores.settings import Settings
from prngeo.tiling.grid import Grid, Window

MANY = 8
"""From this number of scenes on, scenes are held out as a whole; with fewer, blocks inside them."""
GAP = 64
"""Pixels around what is held out that are not learned from; with small blocks a quarter of their side."""
_BLOCKS = 4  # along the longer side of a scene
_LARGEST, _SMALLEST = 2048, 32  # side of a block in pixels


@dataclass(frozen=True)
class Unit:
    """What is held out, or not, as one.

    Attributes:
        scene: index of its scene.
        window: its pixels there.
        known: labelled pixels.
        positives: (classes,) of them those of the object.
    """

    scene: int
    window: Window
    known: int
    positives: NDArray[np.int64]


@dataclass(frozen=True)
class Holdout:
    """The pixels that validation has, and those that learning must not see.

    Attributes:
        windows: for each scene, what is held out.
        forbidden: for each scene, windows whose labels are not learned from: those, with a gap, and where another scene
            covers the same ground, those too.
        pixels: labelled pixels that are held out.
        total: labelled pixels in all.
        told: what was held out, in words.
    """

    windows: list[list[Window]]
    forbidden: list[list[Window]]
    pixels: int
    total: int
    told: str


def hold_out(scenes: Sequence[LabelledScene], classes: Sequence[str], settings: Settings) -> Holdout:
    """Choose what is held out; the same for the same scenes and seed.

    Args:
        scenes: with labels; read once.
        classes: their names.
        settings: share or names of scenes, and the seed.

    Raises:
        UsageError: there are no labels, a class has no object, or too few to learn from and to judge by.
    """
    patterns = settings.validation if isinstance(settings.validation, tuple) else ()
    whole = bool(patterns) or len(scenes) >= MANY
    units = [unit for index, scene in enumerate(scenes) for unit in _units(index, scene, whole)]
    total = sum(unit.known for unit in units)
    _check(units, total, classes)
    if patterns:
        chosen = _named(units, scenes, patterns)
    else:
        chosen = _spread(units, float(settings.validation), classes, settings.seed)  # type: ignore[arg-type]
    for index, name in enumerate(classes):
        held = sum(int(units[i].positives[index]) for i in chosen)
        if not 0 < held < sum(int(unit.positives[index]) for unit in units):
            side = "learn from" if held else "judge by"
            if len(units) == 1:
                rows, cols = units[0].window.shape
                raise UsageError(
                    f"All labels lie in {'one scene' if whole else f'one block of {cols} x {rows} pixels'} of "
                    f"{scenes[units[0].scene].name}: nothing is left to judge by. Give labels of a second scene."
                )
            raise UsageError(
                f"Nothing of {name} is left to {side} with {_share(units, chosen, total):.0%} of the labels held out. "
                "Give more labelled scenes, or choose what is held out with --validation."
            )
    windows = [[units[i].window for i in sorted(chosen) if units[i].scene == index] for index in range(len(scenes))]
    gap = min(GAP, min(max(units[i].window.shape) for i in chosen) // 4)
    forbidden = [_forbidden(index, [scene.grid for scene in scenes], windows, gap) for index in range(len(scenes))]
    pixels = sum(units[i].known for i in chosen)
    held_scenes = sum(bool(places) for places in windows)
    told = f"{held_scenes} of {len(scenes)} scenes" if whole else f"{len(chosen)} of {len(units)} blocks"
    told += f", gap {gap} px, {pixels / total:.0%} of the labelled pixels"
    return Holdout(windows, forbidden, pixels, total, told)


def _units(index: int, scene: LabelledScene, whole: bool) -> Iterator[Unit]:
    extent = scene.grid.extent
    side = math.ceil(max(extent.shape) / _BLOCKS / 8) * 8
    grid = Grid(*extent.shape, max(extent.shape) if whole else min(_LARGEST, max(_SMALLEST, side)))
    for place in grid.indices():
        window = grid.window(place).intersect(extent)
        counts = reduce(np.add, (_counts(scene.truth(part)) for part in blocks(window)))
        if counts[0]:
            yield Unit(index, window, int(counts[0]), counts[1:])


def _counts(truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Labelled pixels, then those of every class's objects."""
    return np.array([(truth != IGNORE).any(0).sum(), *(truth == 1).sum((1, 2))], np.int64)


def _check(units: Sequence[Unit], total: int, classes: Sequence[str]) -> None:
    if not total:
        raise UsageError(
            "No pixel has both a score and a label: everything is nodata, ignored, or outside --aoi. Check nodata "
            "values with `gdalinfo -stats`, and that scores and labels are of the same place."
        )
    for index, name in enumerate(classes):
        objects = sum(int(unit.positives[index]) for unit in units)
        pixels = sum(unit.known for unit in units)
        if objects in (0, pixels):
            what = "No labelled pixel is" if not objects else "Every labelled pixel is"
            raise UsageError(
                f"{what} {name}: there is nothing to learn from. Check the labels, the value or field of the class "
                "(--classes, --class-field), and that they are of the same place as the scores."
            )


def _named(units: Sequence[Unit], scenes: Sequence[LabelledScene], patterns: Sequence[str]) -> set[int]:
    for pattern in patterns:
        if not any(fnmatch(scene.name, pattern) for scene in scenes):
            names = ", ".join(scene.name for scene in scenes[:4])
            raise UsageError(f"--validation {pattern} names no scene; there are {names}{' ...' * (len(scenes) > 4)}.")
    return {i for i, unit in enumerate(units) if any(fnmatch(scenes[unit.scene].name, pattern) for pattern in patterns)}


def _spread(units: Sequence[Unit], share: float, classes: Sequence[str], seed: int) -> set[int]:
    """Units of every density of objects, about `share` of all; each class is among them if it can be."""
    rng = np.random.default_rng(seed)
    density = [unit.positives.sum() / unit.known for unit in units]
    order = sorted(rng.permutation(len(units)).tolist(), key=lambda i: density[i])
    count = max(1, round(share * len(units)))
    step = len(units) / count
    chosen = {order[int((number + rng.random()) * step)] for number in range(count)}
    for index in range(len(classes)):
        having = [i for i in order if units[i].positives[index]]
        if len(having) > 1 and not chosen & set(having):
            chosen.add(int(rng.choice(having)))
        elif len(having) > 1 and set(having) <= chosen:
            chosen.discard(int(rng.choice(having)))
    return chosen


def _share(units: Sequence[Unit], chosen: set[int], total: int) -> float:
    return sum(units[i].known for i in chosen) / total


def _forbidden(index: int, grids: Sequence[GeoGrid], windows: Sequence[Sequence[Window]], gap: int) -> list[Window]:
    found = [window.expand(gap) for window in windows[index]]
    for other, grid in enumerate(grids):
        if other != index and grid.crs is not None and grids[index].crs is not None:
            found += [
                place for window in windows[other] for place in _same_ground(window.expand(gap), grid, grids[index])
            ]
    return found


def _same_ground(window: Window, own: GeoGrid, other: GeoGrid) -> Iterator[Window]:
    """The bounds of a window on another grid, if they meet."""
    corners = _corners(window, own.transform)
    low, high = corners.min(0), corners.max(0)
    if own.crs != other.crs:
        bounds = transform_bounds(own.crs, other.crs, *low, *high)
        low, high = np.array(bounds[:2]), np.array(bounds[2:])
    box = [~other.transform @ (x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]
    cols, rows = np.array(box).T
    if not np.isfinite([cols, rows]).all():
        return
    row, col = math.floor(rows.min()), math.floor(cols.min())
    place = Window(row, col, math.ceil(rows.max()) - row, math.ceil(cols.max()) - col).intersect(other.extent)
    if not place.is_empty:
        yield place


def _corners(window: Window, transform: Affine) -> NDArray[np.float64]:
    return np.array([transform @ (c, r) for r in (window.row, window.row_end) for c in (window.col, window.col_end)])
