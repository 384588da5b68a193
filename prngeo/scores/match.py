"""Which label and which image belong to which scores: by their names, or by their place."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasterio.warp import transform_bounds

from prngeo.errors import UsageError
from prngeo.files import matches
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.source import scene_name


@dataclass(frozen=True)
class Named:
    """A file with the part of its name that tells what it belongs to.

    Attributes:
        path: of the file.
        key: what the star of its pattern stood for (`a` of `a_prob.tif` for `*_prob.tif`), else its stem.
    """

    path: str
    key: str


def named(patterns: Sequence[str]) -> list[Named]:
    """The files of patterns, each once, however it is written; `|layername=roads` behind a pattern goes with each file.

    Raises:
        UsageError: a pattern matches no file.
    """
    found: dict[str, Named] = {}
    for written in patterns:
        pattern, bar, layer = written.partition("|layername=")
        for path in matches(pattern):
            place = os.path.abspath(path) if Path(path).exists() else path
            found[place + bar + layer] = Named(path + bar + layer, _key(pattern, path))
    return list(found.values())


def refuse_alike(files: Sequence[tuple[str, str]]) -> None:
    """Refuse files (path, key) without a place on the map that only their key could tell apart.

    Raises:
        UsageError: two have the same.
    """
    first: dict[str, str] = {}
    for path, key in files:
        if first.setdefault(key, path) != path:
            raise UsageError(
                f"{first[key]} and {path} are both called {key!r}, and nothing tells where they lie: what belongs to "
                "which cannot be known. Give every picture a name of its own, or georeference them."
            )


def _key(pattern: str, path: str) -> str:
    last = Path(pattern).name
    if path == pattern or last.count("*") != 1 or glob.has_magic(last.replace("*", "")):
        return scene_name(path)
    before, after = last.split("*")
    name = Path(path).name
    key = name[len(before) : len(name) - len(after)]
    return Path(key).stem if not after else key


def overlap(one: GeoGrid, other: GeoGrid) -> bool:
    """True if two rasters with coordinate systems cover a common piece of ground."""
    if one.crs is None or other.crs is None:
        return False
    left, bottom, right, top = bounds(one)
    if one.crs != other.crs:
        left, bottom, right, top = transform_bounds(one.crs, other.crs, left, bottom, right, top)
    own = bounds(other)
    return min(right, own[2]) > max(left, own[0]) and min(top, own[3]) > max(bottom, own[1])


def bounds(grid: GeoGrid) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a raster in its own coordinates."""
    corners = [grid.transform @ (col, row) for row in (0, grid.height) for col in (0, grid.width)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def same_grid(one: GeoGrid, other: GeoGrid) -> bool:
    """True if two rasters have the same pixels, to a tenth of one."""
    if (one.height, one.width, one.crs) != (other.height, other.width, other.crs):
        return False
    back = ~one.transform @ other.transform
    return all(
        abs(x - col) < 0.1 and abs(y - row) < 0.1
        for row in (0, one.height)
        for col in (0, one.width)
        for x, y in [back @ (col, row)]
    )
