"""Which pixels of a raster are objects: masks of any tool, class maps and probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from prngeo.errors import PrngeoError, UsageError

BACKGROUND, OBJECT, NODATA = 0, 1, 255
STRIP_PIXELS = 8_000_000
MOST_VALUES = 3
"""Values of a mask: background, object and perhaps an untagged no-data."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Mask:
    """The first band of an open raster, read as a mask.

    Attributes:
        src: the open raster.
        value: pixels of this value are objects.
        threshold: or those whose value, scale and offset of the band applied, reaches this one.
        nodata: value of missing pixels beside the raster's own mask; None if there is none.
    """

    src: Any
    value: float | None
    threshold: float | None
    nodata: float | None

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.src.width)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.src.height)

    def read(self, start: int, stop: int) -> Bytes:
        """Rows start to stop as uint8 (rows, width): 1 = object, 0 = background, 255 = no-data."""
        return self.read_window(Window(0, start, self.width, stop - start))

    def read_window(self, window: Window) -> Bytes:
        """A rasterio window that lies inside, in the same values."""
        values = self.src.read(1, window=window)
        if values.dtype == np.uint8:
            result = self._table()[values]
        else:
            objects, missing = self.classes(values)
            result = np.where(missing, np.uint8(NODATA), objects.view(np.uint8))
        if has_own_mask(self.src):
            result[self.src.read_masks(1, window=window) == 0] = NODATA
        return np.asarray(result, np.uint8)

    def strips(self) -> Iterator[tuple[int, int]]:
        """First row and end of strips of whole blocks that together cover the raster."""
        return strips(self.src)

    def _table(self) -> Bytes:
        objects, missing = self.classes(np.arange(256, dtype=np.uint8))
        return np.where(missing, NODATA, objects).astype(np.uint8)

    def classes(self, values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where raw values are objects, and where they are missing."""
        missing = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        if self.nodata is not None:
            missing |= values == self.nodata
        if self.threshold is None:
            return values == self.value, missing
        return values * self.src.scales[0] + self.src.offsets[0] >= self.threshold, missing


def strips(src: Any) -> Iterator[tuple[int, int]]:
    """First row and end of strips of whole blocks that together cover an open raster."""
    rows, block = max(1, STRIP_PIXELS // src.width), int(src.block_shapes[0][0])
    if block <= rows:
        rows -= rows % block
    elif block * src.width <= 4 * STRIP_PIXELS:
        rows = block
    for start in range(0, src.height, rows):
        yield start, min(start + rows, src.height)


def as_mask(src: Any, value: float | None = None, threshold: float | None = None) -> Mask:
    """How to read a raster as a mask.

    Without `value` and `threshold`, the raster says it itself: a probability that prngeo wrote names its threshold in
    the tag PRNGEO_THRESHOLD; any other raster is read once and must hold, beside no-data, one value other than 0
    (0/1, 0/255, ...). 255 beside 0 and 1 in a byte raster without a nodata value is no-data.

    Args:
        src: an open raster; its first band counts.
        value: pixels of this value are objects.
        threshold: pixels from this value on are objects, in the unit that the band's scale gives.

    Returns:
        The mask.

    Raises:
        UsageError: value and threshold are both given, or the raster does not say what its objects are.
    """
    if value is not None and threshold is not None:
        raise UsageError("--value and --threshold exclude each other: one is for masks, one for probabilities.")
    if src.dtypes[0].startswith("complex"):
        raise UsageError(f"{src.name} holds complex numbers; give a mask or a probability raster.")
    tag = src.tags().get("PRNGEO_THRESHOLD")
    if value is None and threshold is None and tag and src.dtypes[0] == "uint8" and src.scales[0] != 1:
        threshold = float(tag)
    if threshold is not None:
        return _mask_of_threshold(src, threshold)
    if value is None:
        return _mask_of_values(src)
    if value == src.nodata:
        raise UsageError(f"{value:g} is the nodata value of {src.name}; give the value of its objects with --value.")
    return Mask(src, value, None, _mask_nodata(src, value))


def probability_nodata(src: Any) -> float | None:
    """Value of missing pixels in a probability raster: the tagged one, or 255 in bytes that carry a scale."""
    if src.nodata is None and src.dtypes[0] == "uint8" and src.scales[0] != 1:
        return NODATA
    return None if src.nodata is None else float(src.nodata)


def _mask_nodata(src: Any, value: float) -> float | None:
    """Value of missing pixels in a mask."""
    if src.nodata is not None and src.nodata != BACKGROUND:
        return float(src.nodata)
    # A background tagged as no-data does not tell the two apart: it is taken for background.
    return NODATA if src.dtypes[0] == "uint8" and value != NODATA else None


def _mask_of_threshold(src: Any, threshold: float) -> Mask:
    scaled = (src.scales[0], src.offsets[0]) != (1, 0)
    whole = np.dtype(src.dtypes[0]).kind in "iu"
    if not np.isfinite(threshold):
        raise UsageError(f"--threshold must be a number, got {threshold}.")
    if whole and not scaled and 0 < threshold < 1:
        raise UsageError(
            f"{src.name} holds whole numbers without a scale, of which --threshold {threshold:g} would take all but 0. "
            "Give a threshold in the raster's own unit, such as 128 where 255 is certain."
        )
    mask = Mask(src, None, threshold, probability_nodata(src))
    if src.dtypes[0] == "uint8":
        objects, missing = mask.classes(np.arange(256, dtype=np.uint8))
        if len(set(objects[~missing])) == 1:
            low, high = (float(level * src.scales[0] + src.offsets[0]) for level in (0, np.flatnonzero(~missing)[-1]))
            raise UsageError(
                f"--threshold {threshold:g} does not divide the values that {src.name} can hold, {low:g} to {high:g}. "
                "Give one between them."
            )
    return mask


def _mask_of_values(src: Any) -> Mask:
    found = _values(src)
    if len(found) == 2 and found[-1] == NODATA and found[0] == OBJECT and src.nodata is None:
        found = found[:1]
    if len(found) > 1:
        shown = ", ".join(f"{value:g}" for value in found)
        more = " and more" if len(found) == MOST_VALUES else ""
        raise UsageError(
            f"{src.name} does not say what its objects are: it holds {shown}{more} beside 0. Give the value of the "
            "objects with --value, or, if it is a probability raster, a --threshold."
        )
    value = found[0] if found else float(OBJECT)
    return Mask(src, value, None, _mask_nodata(src, value))


def _values(src: Any) -> list[float]:
    """The smallest values other than 0 and no-data in a raster's first band; looks no further than `MOST_VALUES`."""
    found: set[float] = set()
    for start, stop in strips(src):
        values = src.read(1, window=Window(0, start, src.width, stop - start))
        if has_own_mask(src):
            values = values[src.read_masks(1, window=Window(0, start, src.width, stop - start)) > 0]
        if values.dtype == np.uint8:
            here = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        else:
            here = np.unique(values[np.isfinite(values)])
        found.update(float(value) for value in here if value not in (BACKGROUND, src.nodata))
        if len(found) >= MOST_VALUES:
            break
    return sorted(found)[:MOST_VALUES]


def has_own_mask(src: Any) -> bool:
    """Whether a raster marks its no-data by a mask or an alpha band."""
    return bool({MaskFlags.per_dataset, MaskFlags.alpha} & set(src.mask_flag_enums[0]))


@contextmanager
def opened(path: str | Path, what: str) -> Iterator[Any]:
    """Open a raster, quietly if it has no georeferencing.

    Raises:
        UsageError: GDAL cannot open it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            src = rasterio.open(path)
        except RasterioError as error:
            raise UsageError(
                f"cannot open the {what} {path}: {error}. Give a raster file that GDAL can read."
            ) from error
    with src:
        yield src


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn a reading error into one that tells the user what to do."""
    try:
        yield
    except (RasterioError, rasterio._err.CPLE_BaseError) as error:
        reason = error.__cause__ or error
        raise PrngeoError(
            f"reading {path} or a raster given with it broke off: {reason}. The file may be truncated; make it again."
        ) from error
