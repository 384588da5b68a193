"""A band of a raster seen on another grid, every pixel by its nearest neighbor, whatever the window it is read with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyproj
import rasterio.windows
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.source import reading
from prngeo.raster.validity import ValidityRule
from prngeo.tiling.grid import Window

LATTICE = 32
"""Grid pixels between exactly projected points; between them positions are interpolated, off by a few millionths of
the distance between the points."""
_AT_ONCE = 1 << 23  # source pixels held at once
_EPSILON = 1e-6  # of a source pixel: rounding does not move a center that lies on an edge


class AlignedBand:
    """The first band of a raster on the pixels of `grid`.

    A grid pixel takes the value of the source pixel that holds its center. Beyond the source it is invalid.

    Args:
        path: as the raster was opened, for messages.
        dataset: the open raster.
        grid: the pixels to see it on; both have a coordinate system or neither has.
        rule: tells its valid pixels; what the file says if None.

    Raises:
        UsageError: one of the coordinate systems has no place on the Earth.
    """

    def __init__(self, path: str, dataset: DatasetReader, grid: GeoGrid, rule: ValidityRule | None = None) -> None:
        self._path = path
        self._dataset = dataset
        self._grid = grid
        self._rule = rule or ValidityRule.of(dataset, (1,))
        self._project: pyproj.Transformer | None = None
        if grid.crs is not None and dataset.crs is not None and grid.crs != dataset.crs:
            try:
                self._project = pyproj.Transformer.from_crs(grid.crs.to_wkt(), dataset.crs.to_wkt(), always_xy=True)
            except ProjError as error:
                raise UsageError(
                    f"{path} cannot be brought from {dataset.crs.to_string()[:60]} to {grid.crs.to_string()[:60]}: "
                    f"{' '.join(str(error).split())}. Give it a coordinate system with a place on the Earth, for "
                    "example with `gdal_edit.py -a_srs EPSG:32630`."
                ) from error
        self._to_source = ~dataset.transform
        self._matrix = self._to_source @ grid.transform

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values and validity of a window that lies inside the grid.

        Returns:
            (h, w) in the raster's data type, 0 where invalid, and (h, w) bool.

        Raises:
            PrngeoError: the file could not be read there.
        """
        values = np.zeros(window.shape, self._dataset.dtypes[0])
        valid = np.zeros(window.shape, bool)
        self._fill(window, values, valid)
        return values, valid

    def _fill(self, window: Window, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        rows, cols = self._positions(window)  # (h, 1) and (1, w), or both (h, w)
        inside = (rows >= 0) & (rows < self._dataset.height) & (cols >= 0) & (cols < self._dataset.width)
        if not inside.any():
            return
        rows, cols = np.clip(rows, 0, self._dataset.height - 1), np.clip(cols, 0, self._dataset.width - 1)
        row, col = int(rows.min()), int(cols.min())
        source = Window(row, col, int(rows.max()) + 1 - row, int(cols.max()) + 1 - col)
        if source.height * source.width > _AT_ONCE and max(window.shape) > 1:
            for part in _halves(window):
                self._fill(part, values[part.within(window)], valid[part.within(window)])
            return
        with reading(self._path, source):
            place = rasterio.windows.Window(source.col, source.row, source.width, source.height)
            read = self._dataset.read([1], window=place)
            known = self._rule.read(self._dataset, source, values=read)
        separable = rows.shape[1] == 1 and cols.shape[0] == 1
        same_size = source.shape == window.shape and (rows[0, 0], cols[0, 0]) == (row, col)
        if separable and same_size and inside.all():  # as many rows and columns as wanted, rising: all of them
            values[...], valid[...] = read[0], known
        else:
            values[...], valid[...] = read[0][rows - row, cols - col], inside & known[rows - row, cols - col]
        values[~valid] = 0

    def _positions(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the source that hold the centers of a window's pixels."""
        row = np.arange(window.row, window.row_end)[:, None] + 0.5
        col = np.arange(window.col, window.col_end)[None, :] + 0.5
        m = self._matrix
        if self._project is not None:
            x, y = self._projected(self._project, window)
        elif m.b == 0 and m.d == 0:
            x, y = m.a * col + m.c, m.e * row + m.f
        else:
            x, y = m.a * col + m.b * row + m.c, m.d * col + m.e * row + m.f
        return _floor(y), _floor(x)

    def _projected(
        self, project: pyproj.Transformer, window: Window
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y) in source pixels, (h, w) each, interpolated on a lattice that is anchored to the grid's origin."""
        at = [np.arange(start // LATTICE, -(-stop // LATTICE) + 1) * LATTICE
              for start, stop in ((window.row, window.row_end), (window.col, window.col_end))]  # fmt: skip
        t = self._grid.transform
        lattice_col, lattice_row = np.meshgrid(at[1].astype(float), at[0].astype(float))
        x, y = project.transform(
            t.a * lattice_col + t.b * lattice_row + t.c, t.d * lattice_col + t.e * lattice_row + t.f
        )
        s = self._to_source
        source = np.stack([s.a * x + s.b * y + s.c, s.d * x + s.e * y + s.f])
        source = np.where(np.isfinite(source), source, -1e9)  # a place that the projection does not know lies outside
        for axis, (start, stop) in ((1, (window.row, window.row_end)), (2, (window.col, window.col_end))):
            position = (np.arange(start, stop) + 0.5) / LATTICE - start // LATTICE
            low = position.astype(int)
            weight = (position - low).reshape((-1, 1) if axis == 1 else (1, -1))
            source = source.take(low, axis) * (1 - weight) + source.take(low + 1, axis) * weight
        return source[0], source[1]


def _floor(position: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(np.clip(position, -2, 2**40) + _EPSILON).astype(np.int64)


def _halves(window: Window) -> tuple[Window, Window]:
    if window.height >= window.width:
        half = window.height // 2
        return replace(window, height=half), replace(window, row=window.row + half, height=window.height - half)
    half = window.width // 2
    return replace(window, width=half), replace(window, col=window.col + half, width=window.width - half)
