"""What thinning and bridging need to know of rasters, read by windows: mask, road width, probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray

from prngeo.tiling.grid import Grid, Window
from prngeo.vectorize.mask import NODATA, OBJECT, Mask, probability_nodata

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LONGEST_HOLE = 4
"""A hole is filled if no longer than this many times the side of the largest square one."""


@dataclass(frozen=True)
class Ground:
    """A mask and its probabilities on one grid; whatever is read does not depend on the window.

    Attributes:
        source: the mask.
        probability: an open raster, or None.
        metres: from pixels (column, row) to metres, float64 (2, 2).
        hole: holes with fewer pixels than this are filled, if they are not drawn-out.
    """

    source: Mask
    probability: Any
    metres: Floats
    hole: float

    @property
    def extent(self) -> Window:
        """The raster."""
        return Window(0, 0, self.source.height, self.source.width)

    @property
    def side(self) -> float:
        """A pixel's side in metres."""
        return float(np.sqrt(abs(np.linalg.det(self.metres))))

    def mask(self, window: Window) -> Bools:
        """Where roads are in a window inside the raster, bool (height, width), small holes inside it filled."""
        longest = int(np.ceil(LONGEST_HOLE * np.sqrt(self.hole)))
        wide = window.expand(longest).intersect(self.extent)
        mask = self.source.read_window(_rasterio(wide)) == OBJECT
        if mask.any() and not mask.all():
            at_border = (
                wide.row == 0,
                wide.row_end == self.extent.height,
                wide.col == 0,
                wide.col_end == self.extent.width,
            )
            mask = _filled(mask, self.hole, longest, at_border)
        return np.asarray(mask[window.within(wide)])

    def probabilities(self, window: Window) -> Floats:
        """Probabilities in a window inside the raster, float64 (height, width), NaN for no-data."""
        return self._scaled(self._raw(window))

    def _raw(self, window: Window) -> NDArray[Any]:
        """Stored values of the probability; zeros without one."""
        if self.probability is None:
            return np.zeros(window.shape, np.uint8)
        return np.asarray(self.probability.read(1, window=_rasterio(window)))

    def _scaled(self, raw: NDArray[Any]) -> Floats:
        """Probabilities of stored values, NaN for no-data or without a raster."""
        if self.probability is None:
            return np.full(raw.shape, np.nan)
        nodata = probability_nodata(self.probability)
        values = raw * self.probability.scales[0] + self.probability.offsets[0]
        return np.asarray(values if nodata is None else np.where(raw == nodata, np.nan, values), float)

    def sample(self, points: Floats, core: Window, halo: int) -> Floats:
        """Look up pixels of roads.

        Args:
            points: centers of pixels (column, row), (points, 2), inside
            core: a window.
            halo: pixels read around that; distances are cut off there.

        Returns:
            float64 (points, 3): distance to the nearest pixel beside the road in metres, probability (NaN where
            unknown), and 1 where no-data or the raster's border is about as near as that, else 0.
        """
        reach = halo * self.side
        wide = core.expand(halo)
        inside = wide.intersect(self.extent)
        before = (inside.row - wide.row, inside.col - wide.col)
        after = (wide.row_end - inside.row_end, wide.col_end - inside.col_end)
        around = list(zip(before, after, strict=True))
        road = np.pad(self.mask(inside), around, mode="edge")
        distance = self._distance(points, ~road, road, wide, reach)
        missing = self.source.read_window(_rasterio(inside)) == NODATA
        missing = np.pad(missing, around, constant_values=True)
        gone = self._distance(points, missing, ~missing, wide, reach)
        column, row = points.astype(np.int64).T
        probability = self._scaled(self._raw(core)[row - core.row, column - core.col])
        return np.stack([distance, probability, gone <= distance + 1.5 * self.side], axis=1)

    def inside(self, places: Floats, block: int) -> Bools:
        """Whether places in metres, (places, 2), lie on a road, bool (places,); False beyond the raster."""
        points = np.floor(places @ np.linalg.inv(self.metres.T)).astype(np.int64)
        found = np.zeros(len(points), bool)
        within = np.flatnonzero(((points >= 0) & (points < self.extent.shape[::-1])).all(1))
        grid = Grid(*self.extent.shape, block)
        index = points[within] // block @ (1, grid.cols)
        order = np.argsort(index, kind="stable")
        for group in np.split(within[order], np.flatnonzero(np.diff(index[order])) + 1):
            if len(group):
                row, col = (int(number) for number in points[group[0], ::-1] // block)
                window = grid.window((row, col)).intersect(self.extent)
                column, line = points[group].T
                found[group] = self.mask(window)[line - window.row, column - window.col]
        return found

    def _distance(self, points: Floats, marked: Bools, beside: Bools, window: Window, reach: float) -> Floats:
        """Distance in metres to the nearest marked pixel, which has a neighbour `beside`; at most `reach`."""
        from scipy.spatial import KDTree

        border = np.zeros(marked.shape, bool)
        border[1:] |= beside[:-1]
        border[:-1] |= beside[1:]
        border[:, 1:] |= beside[:, :-1]
        border[:, :-1] |= beside[:, 1:]
        row, column = np.nonzero(border & marked)
        if not len(row):
            return np.full(len(points), reach)
        centers = np.stack([column + window.col + 0.5, row + window.row + 0.5], axis=1) @ self.metres.T
        distance: Floats = np.minimum(KDTree(centers).query(points @ self.metres.T)[0], reach)
        return distance


def _filled(mask: Bools, hole: float, longest: int, at_border: tuple[bool, ...]) -> Bools:
    """A mask without small holes (joined by edges), but those that lie `at_border` (up, down, left, right)."""
    from scipy.ndimage import find_objects, label

    holes, count = label(~mask)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes < hole
    small[0] = False
    for border, labels in zip(at_border, (holes[0], holes[-1], holes[:, 0], holes[:, -1]), strict=True):
        if border:
            small[labels] = False
    spans = find_objects(holes)
    for number in np.flatnonzero(small):
        rows, cols = spans[number - 1]
        small[number] = max(rows.stop - rows.start, cols.stop - cols.start) <= longest
    return np.asarray(mask | small[holes])


def _rasterio(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)
