"""Where scenes lie to each other: everything is measured in the pixels of the one that has to keep away.

Windows stay exact between scenes of one grid, rotated ones included; a window seen from another coordinate system is
its bounds there, so that distances are never larger than they are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from affine import Affine

from prngeo.tiling.grid import Window

Box = tuple[float, float, float, float]
"""(row, col, row_end, col_end) in pixels."""


@dataclass(frozen=True)
class Place:
    """Where a scene's pixels lie.

    Attributes:
        frame: the coordinate system as WKT, or a name for the pixels of a picture without one.
        placed: True if it is a coordinate system, which others can be compared with.
        transform: (a, b, c, d, e, f) from pixels to its coordinates.
        gsd: metres a pixel along columns (x) and rows (y).
    """

    frame: str
    placed: bool
    transform: tuple[float, float, float, float, float, float]
    gsd: tuple[float, float]


def box_of(window: Window) -> Box:
    """A window as a box."""
    return window.row, window.col, window.row_end, window.col_end


def bounds(window: Window, transform: tuple[float, ...], placed: bool) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a window in map coordinates; in pixels with y down if it has no place."""
    if not placed:
        return window.col, window.row_end, window.col_end, window.row
    x, y = zip(*_corners(box_of(window), Affine(*transform)), strict=True)
    return min(x), min(y), max(x), max(y)


@lru_cache(maxsize=1 << 17)
def seen(window: Window, place: Place, by: Place) -> Box | None:
    """A window of one place in the pixels of another; None if nothing tells how they lie to each other."""
    if place.frame == by.frame and place.transform == by.transform:
        return box_of(window)
    corners = _corners(box_of(window), Affine(*place.transform))
    if place.frame != by.frame:
        if not (place.placed and by.placed):
            return None
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
        from rasterio.warp import transform_bounds

        x, y = zip(*corners, strict=True)
        systems = CRS.from_wkt(place.frame), CRS.from_wkt(by.frame)
        try:
            left, bottom, right, top = transform_bounds(*systems, min(x), min(y), max(x), max(y))
        except CRSError:  # one is unknown where the other lies: they are far from each other
            return None
        corners = [(left, bottom), (left, top), (right, bottom), (right, top)]
    back = ~Affine(*by.transform)
    cols, rows = zip(*(back @ corner for corner in corners), strict=True)
    found = (min(rows), min(cols), max(rows), max(cols))
    return found if all(map(math.isfinite, found)) else None


def distance(one: Box, other: Box, gsd: tuple[float, float]) -> float:
    """Metres between two boxes of pixels; 0 if they meet."""
    rows = max(0.0, max(one[0], other[0]) - min(one[2], other[2]))
    cols = max(0.0, max(one[1], other[1]) - min(one[3], other[3]))
    return math.hypot(cols * gsd[0], rows * gsd[1])


def overlaps(one: Box, other: Box, slack: float = 0.5) -> bool:
    """True if two boxes share more than a strip of `slack` pixels."""
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > slack for i in (0, 1))


def around(box: Box, gap: float, gsd: tuple[float, float]) -> Window:
    """The pixels that lie closer to a box than `gap` metres along both axes, and some more."""
    cols, rows = gap / gsd[0], gap / gsd[1]
    row, col = math.floor(box[0] - rows + _ROUNDING), math.floor(box[1] - cols + _ROUNDING)
    row_end, col_end = math.ceil(box[2] + rows - _ROUNDING), math.ceil(box[3] + cols - _ROUNDING)
    return Window(row, col, row_end - row, col_end - col)


def free(shape: tuple[int, int], forbidden: tuple[Window, ...]) -> list[Window]:
    """The part of a rectangle of pixels outside of windows, as rectangles."""
    extent = Window(0, 0, *shape)
    taken = [window for window in (other.intersect(extent) for other in forbidden) if not window.is_empty]
    rows = sorted({0, shape[0], *(edge for window in taken for edge in (window.row, window.row_end))})
    cols = sorted({0, shape[1], *(edge for window in taken for edge in (window.col, window.col_end))})
    found = []
    for row, row_end in itertools.pairwise(rows):
        here = [window for window in taken if window.row <= row < window.row_end]
        for col, col_end in itertools.pairwise(cols):
            if not any(window.col <= col < window.col_end for window in here):
                found.append(Window(row, col, row_end - row, col_end - col))
    return joined(found)


def joined(windows: list[Window]) -> list[Window]:
    """Windows that do not overlap, with those that form a rectangle together made one: rows first, then columns."""
    strips: list[Window] = []
    for window in sorted(windows):
        last = strips[-1] if strips else None
        if last and (last.row, last.height, last.col_end) == (window.row, window.height, window.col):
            strips[-1] = Window(last.row, last.col, last.height, last.width + window.width)
        else:
            strips.append(window)
    found: list[Window] = []
    for strip in sorted(strips, key=lambda window: (window.col, window.width, window.row)):
        last = found[-1] if found else None
        if last and (last.col, last.width, last.row_end) == (strip.col, strip.width, strip.row):
            found[-1] = Window(last.row, last.col, last.height + strip.height, last.width)
        else:
            found.append(strip)
    return sorted(found)


_ROUNDING = 1e-6


def _corners(box: Box, transform: Affine) -> list[tuple[float, float]]:
    return [transform @ (col, row) for row in (box[0], box[2]) for col in (box[1], box[3])]
