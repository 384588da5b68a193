"""Reading a scene as a model wants it: bands, values in 0..1, one validity mask, a known pixel size."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio.windows
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.bands import choose_bands
from prngeo.raster.gsd import GsdSource, ModelGrid, check_gsd, fit_grid, measure_gsd
from prngeo.raster.resample import Taps, resample
from prngeo.raster.scaling import Sample, Scaling, Stretch, percentile_stretch, rescale, take_sample
from prngeo.raster.source import identity, open_dataset, public_path, reading, scene_name
from prngeo.raster.validity import ValidityRule
from prngeo.tiling.grid import Window

__all__ = ["Scaling", "Scene", "open_scene"]

_STEP_PIXELS = 1 << 19  # scene pixels resampled at once: fits the processor's cache, changes no value


def open_scene(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    gsd: float | None = None,
    n_bands: int = 3,
    gsd_range: tuple[float, float] | None = None,
    gsd_tolerance: float = 0.25,
    scaling: Scaling | None = None,
) -> Scene:
    """Opens a raster as a scene; use it as a context manager.

    Args:
        path: anything GDAL opens: a file, a VRT, a /vsi name, a URL.
        bands: 1-based bands to read, in the model's order; by color interpretation if None.
        gsd: metres per pixel, overriding what the file tells.
        n_bands: bands the model takes.
        gsd_range: smallest and largest GSD of the model in metres; outside of it `Scene.read` resamples.
        gsd_tolerance: share by which the range may be left before it does.
        scaling: how values become 0..1.

    Raises:
        UsageError: no such file, not a raster, bands that do not suit, or a GSD that nothing tells.
        PrngeoError: a remote file cannot be reached.
    """
    name = str(path)
    dataset = open_dataset(name)
    try:
        return Scene(
            name,
            dataset,
            bands=choose_bands(dataset, bands, n_bands),
            gsd=None if gsd is None else check_gsd(gsd),
            gsd_range=gsd_range,
            gsd_tolerance=gsd_tolerance,
            scaling=scaling or Scaling(),
        )
    except BaseException:
        dataset.close()
        raise


class Scene:
    """An open raster, seen on its own grid and on a model's.

    A scene is not thread-safe: give each thread its own by `reopen`.

    Attributes:
        path: as given.
        name: stem for the names of outputs.
        driver: GDAL's name of the format.
        dtype: data type of the bands.
        count: bands in the file.
        bands: the bands that are read, 1-based.
        height: rows of the scene grid.
        width: its columns.
        transform: from scene pixels to coordinates; the identity if the file has none.
        crs: coordinate system; None if there is none, or no transform to go with it.
        georeferenced: True if the file has a transform. With control points only it counts as having none.
        gsd: metres per scene pixel along columns (x) and rows (y); NaN if unknown.
        gsd_source: where that comes from: "crs", "geodesic" (a projection that distorts lengths, measured on
            the ellipsoid), "geographic", "option" or "unknown".
        grid: the model's grid.
    """

    def __init__(
        self,
        path: str,
        dataset: DatasetReader,
        *,
        bands: tuple[int, ...],
        gsd: float | None,
        gsd_range: tuple[float, float] | None,
        gsd_tolerance: float,
        scaling: Scaling,
    ) -> None:
        self.path, self.name = path, scene_name(path)
        self.driver: str = dataset.driver
        self.count: int = dataset.count
        self.bands = bands
        self.dtype: str = dataset.dtypes[bands[0] - 1]
        self.height: int = dataset.height
        self.width: int = dataset.width
        self.transform: Affine = dataset.transform
        self.georeferenced = not self.transform.is_identity
        if self.transform.determinant == 0:
            raise UsageError(
                f"{public_path(path)} has a geotransform without area, {tuple(self.transform)[:6]}: its pixels have no "
                "size. Set it right, for example with `gdal_edit.py -a_ullr`."
            )
        self.crs: CRS | None = dataset.crs if self.georeferenced and dataset.crs else None
        self.scaling = scaling
        self.gsd, self.gsd_source = self._find_gsd(dataset, gsd, gsd_range)
        self.grid: ModelGrid = fit_grid(self.height, self.width, self.transform, self.gsd, gsd_range, gsd_tolerance)
        self._dataset = dataset
        self._rule = ValidityRule.of(dataset, bands)
        self._sample: Sample | None = None
        self._stretch: Stretch | None = None
        self._level_index = self._pick_overview()
        self._level = self._open_level()

    @property
    def model_height(self) -> int:
        """Rows of the model grid."""
        return self.grid.height

    @property
    def model_width(self) -> int:
        """Columns of the model grid."""
        return self.grid.width

    @property
    def model_transform(self) -> Affine:
        """From model pixels to coordinates."""
        return self.grid.transform

    @property
    def factor(self) -> tuple[float, float]:
        """Scene pixels per model pixel (x, y); (1.0, 1.0) where the scene is used as is."""
        return self.grid.factor

    @property
    def resampled(self) -> bool:
        """True if the model's grid is not the scene's."""
        return self.grid.resampled

    @property
    def always_valid(self) -> bool:
        """True if the file has no way to mark a pixel as missing."""
        return self._rule.always_valid

    @property
    def stretch(self) -> Stretch:
        """(low, high) of each band: the values that become 0 and 1, the same for the whole scene.

        Raises:
            PrngeoError: the file could not be read.
        """
        if self._stretch is None:
            if self.scaling.is_fixed(self.dtype):
                self._stretch = ((0.0, 255.0),) * len(self.bands)
            else:
                self._stretch = percentile_stretch(self._sampled(), self.scaling.percentiles)
        return self._stretch

    @stretch.setter
    def stretch(self, stretch: Stretch) -> None:
        """Take it as it was found before, on another machine, in place of reading a sample."""
        self._stretch = stretch

    @property
    def valid_share(self) -> float:
        """Share of valid pixels, estimated from a sample; exactly 0 if and only if there are none.

        Raises:
            PrngeoError: the file could not be read.
        """
        return 1.0 if self.always_valid else self._sampled().valid_share

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reads a window of the model grid; a pixel's value does not depend on the window it is read with.

        Args:
            window: model pixels; may reach beyond the raster.

        Returns:
            image: (bands, h, w) float32 in 0..1, 0 where invalid.
            valid: (h, w) bool, False beyond the raster and where the file holds no data. A resampled pixel
                is valid if any scene pixel with weight in it is, and takes its value from those alone.

        Raises:
            PrngeoError: the file could not be read there.
        """
        image = np.zeros((len(self.bands), *window.shape), np.float32)
        valid = np.zeros(window.shape, bool)
        inside = window.intersect(Window(0, 0, self.model_height, self.model_width))
        if not inside.is_empty:
            rows, cols = inside.within(window)
            read = self._read_resampled if self.resampled else self._read_level
            image[:, rows, cols], valid[rows, cols] = read(inside)
        return image, valid

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Reads the validity of a window of the *scene* grid.

        Args:
            window: scene pixels; may reach beyond the raster.

        Returns:
            (h, w) bool, False beyond the raster.

        Raises:
            PrngeoError: the file could not be read there.
        """
        valid = np.zeros(window.shape, bool)
        inside = window.intersect(Window(0, 0, self.height, self.width))
        if not inside.is_empty:
            with reading(self.path, inside):
                valid[inside.within(window)] = self._rule.read(self._dataset, inside)
        return valid

    def reopen(self) -> Scene:
        """The same scene on handles of its own, for another thread; the stretch is carried over."""
        _ = self.stretch
        other = copy.copy(self)
        other._dataset = open_dataset(self.path)
        other._level = other._open_level()
        return other

    @property
    def files(self) -> list[str]:
        """All files that the scene is read from, as GDAL names them; of a VRT those it draws from, too."""
        return [self.path, *self._dataset.files]

    def identity(self) -> dict[str, Any]:
        """What tells this input from another.

        Returns:
            `path`, with `size_bytes` and `sha256` for a local file (the archive's, for a file inside one), or with
            `etag` and `size` for a remote one where the server tells them. Where its pixels are in other files, too (a
            VRT, a mask or overviews beside it), `sources` holds the same of each, and `sha256` covers them. A URL comes
            without password and query.
        """
        return identity(self.path, self._dataset)

    def close(self) -> None:
        """Closes the file."""
        self._level.close()
        self._dataset.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Scene {self.name!r} {self.width} x {self.height}, bands {self.bands}, GSD {self.gsd} m>"

    def _find_gsd(
        self, dataset: DatasetReader, option: float | None, gsd_range: tuple[float, float] | None
    ) -> tuple[tuple[float, float], GsdSource]:
        if option is not None:
            return (option, option), "option"
        shown = public_path(self.path)
        if not self.georeferenced and (dataset.gcps[0] or dataset.rpcs):
            kind = "ground control points" if dataset.gcps[0] else "rational polynomial coefficients (RPC)"
            raise UsageError(
                f"{shown} is placed by {kind}, not by a transform. Warp it first: "
                f"`gdalwarp {shown} warped.tif`, and give warped.tif; or pass `--gsd METRES` to work in its "
                f"own pixels, with outputs that are not georeferenced."
            )
        found = measure_gsd(self.crs.to_wkt() if self.crs else None, self.transform, self.height, self.width)
        if found is not None:
            return found
        if gsd_range is None:
            return (math.nan, math.nan), "unknown"
        why = "its coordinates do not fit its coordinate system" if self.crs else "it has no coordinate system"
        raise UsageError(
            f"The ground sample distance of {shown} is unknown, since {why}; the model takes "
            f"{gsd_range[0]:g} to {gsd_range[1]:g} m. Pass `--gsd METRES`, a pixel's length on the ground."
        )

    def _pick_overview(self) -> int | None:
        """The coarsest overview that is no coarser than the model grid."""
        wanted = min(self.factor)
        decimations = self._dataset.overviews(self.bands[0])
        fitting = [(d, i) for i, d in enumerate(decimations) if 1 < d <= wanted * 1.001]
        return max(fitting)[1] if fitting else None

    def _open_level(self) -> DatasetReader:
        return self._dataset if self._level_index is None else open_dataset(self.path, self._level_index)

    def _sampled(self) -> Sample:
        if self._sample is None:
            self._sample = take_sample(self.path, self._dataset, self.bands, self._rule)
        return self._sample

    def _read_level(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values and validity of a window that lies inside the level (the scene itself, or an overview)."""
        stretch, distinct = self.stretch, self._rule.bands
        place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        with reading(self.path, self._on_scene(window)):
            values = self._level.read(list(distinct), window=place)
            valid = self._rule.read(self._level, window, values=values, full=self._dataset)
        if distinct != self.bands:
            values = values[[distinct.index(band) for band in self.bands]]
        return rescale(values, valid, stretch), valid

    def _on_scene(self, window: Window) -> Window:
        """A window of the level in scene pixels, for messages."""
        if self._level is self._dataset:
            return window
        y, x = self.height / self._level.height, self.width / self._level.width
        row, col = int(window.row * y), int(window.col * x)
        return Window(row, col, math.ceil(window.row_end * y) - row, math.ceil(window.col_end * x) - col)

    def _read_resampled(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        level = Window(0, 0, self._level.height, self._level.width)
        factor_x = self.factor[0] * level.width / self.width
        factor_y = self.factor[1] * level.height / self.height
        cols = Taps.of(window.col, window.col_end, factor_x)
        image = np.empty((len(self.bands), *window.shape), np.float32)
        valid = np.empty(window.shape, bool)
        step = max(1, int(_STEP_PIXELS / (cols.count * max(1.0, factor_y))))
        for start in range(window.row, window.row_end, step):
            stop = min(start + step, window.row_end)
            rows = Taps.of(start, stop, factor_y)
            source = Window(rows.first, cols.first, rows.count, cols.count)
            inside = source.intersect(level)
            y, x = inside.within(source)
            values = np.zeros((len(self.bands), *source.shape), np.float32)
            known = np.zeros(source.shape, bool)
            values[:, y, x], known[y, x] = self._read_level(inside)
            part = slice(start - window.row, stop - window.row)
            image[:, part], valid[part] = resample(values, known, rows, cols)
        return image, valid
