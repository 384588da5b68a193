"""From raster values to 0..1: one stretch for the whole scene, never a tile at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from prngeo.raster.source import reading
from prngeo.raster.validity import ValidityRule
from prngeo.tiling.grid import Grid, Window

Stretch = tuple[tuple[float, float], ...]

_DECIMATED_SIDE = 1024  # pixels on the longer side of a sample read from overviews
_SMALL_SCENE = 1 << 24  # pixels, of the scene or its coarsest overview, that are cheap to read in one go
_SAMPLE_GRID, _SAMPLE_SIZE = (
    8,
    128,
)  # sample windows along each axis, and their side, where overviews are missing
_SCAN_SIZE, _SCAN_STEP = (
    2048,
    8,
)  # side of the windows, and every how many pixels, of the search for any valid pixel


@dataclass(frozen=True)
class Scaling:
    """How the values of a raster become 0..1; part of a model's card.

    Attributes:
        uint8: "full" divides 8-bit values by 255; "percentile" stretches them as other data types are.
        percentiles: low and high percentile (0..100) of each band's valid pixels that become 0 and 1.
    """

    uint8: Literal["full", "percentile"] = "full"
    percentiles: tuple[float, float] = (1.0, 99.0)

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must be two rising numbers in 0..100, got {self.percentiles}")

    def is_fixed(self, dtype: str) -> bool:
        """True if the data type alone decides, so that no pixel has to be read."""
        return dtype == "uint8" and self.uint8 == "full"


@dataclass(frozen=True)
class Sample:
    """Pixels that stand for a scene.

    Attributes:
        values: (bands, n), the valid ones.
        valid_share: share of valid pixels, exactly 0 only if the scene has none.
    """

    values: NDArray[np.generic]
    valid_share: float


def take_sample(path: str, dataset: DatasetReader, bands: tuple[int, ...], rule: ValidityRule) -> Sample:
    """Reads a sample that is the same at every call.

    A decimated read where there are overviews and the coarsest is small, every few pixels of a scene that is small
    itself, else a fixed grid of windows at full resolution. Without overviews it is thus the same for a scene in one
    file and in several. Only where these meet no valid pixel at all the whole scene is searched.
    """
    whole = Window(0, 0, dataset.height, dataset.width)
    coarsest = max(dataset.overviews(bands[0]), default=1)
    small = dataset.height * dataset.width <= _SMALL_SCENE * coarsest**2
    if small and coarsest == 1:
        step = -(-max(whole.shape) // _DECIMATED_SIDE)
        parts = [_read_part(path, dataset, bands, rule, strip, strip.shape, step) for strip in _strips(whole, step)]
    elif small:
        scale = min(1.0, _DECIMATED_SIDE / max(whole.shape))
        shape = max(1, round(whole.height * scale)), max(1, round(whole.width * scale))
        parts = [_read_part(path, dataset, bands, rule, whole, shape)]
    else:
        parts = [_read_part(path, dataset, bands, rule, part, part.shape) for part in _sample_windows(whole)]
    sample = _join(parts)
    return sample if sample.valid_share > 0 else _search(path, dataset, bands, rule)


def percentile_stretch(sample: Sample, percentiles: tuple[float, float]) -> Stretch:
    """(low, high) of each band, high > low always; (0, 1) if the scene has no valid pixel."""
    if sample.values.shape[1] == 0:
        return ((0.0, 1.0),) * len(sample.values)
    stretch = []
    for band in sample.values:
        low, high = (float(value) for value in np.percentile(band.astype(np.float64), percentiles))
        stretch.append((low, high if high > low else low + max(1.0, abs(low))))
    return tuple(stretch)


def rescale(values: NDArray[np.generic], valid: NDArray[np.bool_], stretch: Stretch) -> NDArray[np.float32]:
    """Stretches values to 0..1 and clips them there.

    Args:
        values: (n, h, w) of any real data type.
        valid: (h, w) bool.
        stretch: (low, high) of each band.

    Returns:
        (n, h, w) float32 in 0..1, 0 where invalid.
    """
    # float32 holds 16-bit integers exactly; wider types lose digits unless the offset goes first.
    work = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    out = np.empty(values.shape, np.float32)
    for band, (low, high), target in zip(values, stretch, out, strict=True):
        if low == 0:
            np.divide(band, work(high), out=target, dtype=work, casting="same_kind")
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                target[:] = (band.astype(work) - work(low)) / work(high - low)
    if values.dtype != np.uint8 or any(pair != (0.0, 255.0) for pair in stretch):
        np.clip(out, 0, 1, out=out)
    if not valid.all():
        out[:, ~valid] = 0
    return out


def _strips(whole: Window, step: int) -> Iterator[Window]:
    """Rows of a scene, some 4 million pixels at once; each strip begins with a row that is looked at."""
    rows = max(1, (1 << 22) // (whole.width * step)) * step
    for row in range(0, whole.height, rows):
        yield Window(row, 0, min(rows, whole.height - row), whole.width)


def _sample_windows(whole: Window) -> Iterator[Window]:
    for i in range(_SAMPLE_GRID):
        for j in range(_SAMPLE_GRID):
            row = (2 * i + 1) * whole.height // (2 * _SAMPLE_GRID) - _SAMPLE_SIZE // 2
            col = (2 * j + 1) * whole.width // (2 * _SAMPLE_GRID) - _SAMPLE_SIZE // 2
            part = Window(row, col, _SAMPLE_SIZE, _SAMPLE_SIZE).intersect(whole)
            if not part.is_empty:
                yield part


def _search(path: str, dataset: DatasetReader, bands: tuple[int, ...], rule: ValidityRule) -> Sample:
    """Looks at every pixel: the share is exact, the values are every few pixels of what is valid."""
    values, n_valid = [], 0
    grid = Grid(dataset.height, dataset.width, _SCAN_SIZE)
    for index in grid.indices():
        part = grid.window(index).intersect(grid.extent)
        found = _read_part(path, dataset, bands, rule, part, part.shape)
        values.append(found[0][:, ::_SCAN_STEP].copy())
        n_valid += found[0].shape[1]
    return Sample(np.concatenate(values, axis=1), n_valid / (dataset.height * dataset.width))


def _read_part(
    path: str,
    dataset: DatasetReader,
    bands: tuple[int, ...],
    rule: ValidityRule,
    window: Window,
    shape: tuple[int, int],
    step: int = 1,
) -> tuple[NDArray[np.generic], int]:
    """The valid values (bands, n) of every step-th pixel of a window read at `shape`, and how many were looked at."""
    place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
    with reading(path, window):
        distinct = dataset.read(list(rule.bands), window=place, out_shape=(len(rule.bands), *shape))
        valid = rule.read(dataset, window, values=distinct, out_shape=shape)
    distinct, valid = distinct[:, ::step, ::step], valid[::step, ::step]
    return distinct[[rule.bands.index(band) for band in bands]][:, valid], valid.size


def _join(parts: list[tuple[NDArray[np.generic], int]]) -> Sample:
    values = np.concatenate([part for part, _ in parts], axis=1)
    return Sample(values, values.shape[1] / sum(size for _, size in parts))
