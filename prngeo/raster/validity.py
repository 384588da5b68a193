"""Which pixels hold an observation: alpha, masks, nodata values and NaN as one mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader

from prngeo.tiling.grid import Window


@dataclass(frozen=True)
class ValidityRule:
    """When a pixel of the selected bands is valid.

    A pixel is invalid if any of these holds:

    - the alpha band is 0, unless that band was itself selected as an image band;
    - the file's mask (internal, .msk, or of a single band) is 0;
    - a selected band is NaN, or infinite if that is no value;
    - a selected band equals its nodata value, where that value cannot be a color (negative, or NaN);
    - *all* selected bands that have a nodata value equal it, where it can be a color (zero or more): black
      roofs have a 0 in one band, and only black in every band means no data.

    Attributes:
        bands: the selected bands, each once.
        alpha: number of the alpha band, or None.
        masks: bands whose mask has to be read from the file.
        nodata: the nodata value of each of `bands`, or None.
        floating: True if values can be NaN.
        infinite: True if infinite values are values.
    """

    bands: tuple[int, ...]
    alpha: int | None
    masks: tuple[int, ...]
    nodata: tuple[float | None, ...]
    floating: bool
    infinite: bool = False

    @classmethod
    def of(cls, dataset: DatasetReader, bands: tuple[int, ...]) -> ValidityRule:
        """The rule that follows from what the file says of its bands."""
        bands = tuple(dict.fromkeys(bands))
        alphas = [
            i for i, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True) if meaning == ColorInterp.alpha
        ]
        flags = {band: set(dataset.mask_flag_enums[band - 1]) for band in bands}
        masks = [band for band in bands if not flags[band]]
        if MaskFlags.per_dataset in flags[bands[0]] and MaskFlags.alpha not in flags[bands[0]]:
            masks.insert(0, bands[0])
        dtype = np.dtype(dataset.dtypes[bands[0] - 1])
        return cls(
            bands=bands,
            alpha=alphas[0] if alphas and not set(alphas) & set(bands) else None,
            masks=tuple(masks),
            nodata=tuple(nodata_in(dtype, dataset.nodatavals[band - 1]) for band in bands),
            floating=dtype.kind == "f",
        )

    @property
    def needs_values(self) -> bool:
        """True if band values decide."""
        return self.floating or any(value is not None for value in self.nodata)

    @property
    def always_valid(self) -> bool:
        """True if every pixel of the raster is valid, whatever it holds."""
        return self.alpha is None and not self.masks and not self.needs_values

    def read(
        self,
        dataset: DatasetReader,
        window: Window,
        *,
        values: NDArray[np.generic] | None = None,
        out_shape: tuple[int, int] | None = None,
        full: DatasetReader | None = None,
    ) -> NDArray[np.bool_]:
        """Reads the mask of a window that lies inside the raster.

        Args:
            dataset: the raster, or one of its overviews.
            window: pixels of `dataset`.
            values: (len(bands), h, w), what `dataset` holds there, if it was read already.
            out_shape: (h, w) to read at, by nearest neighbor; the window's own shape if None.
            full: the raster at full resolution, where `dataset` is one of its overviews. Stored masks are
                read from it: a mask may lack the overviews that the bands have, and GDAL then calls every
                pixel of the overview valid.

        Returns:
            (h, w) bool.
        """
        shape = out_shape or window.shape
        place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        valid = np.ones(shape, bool)
        if self.alpha is not None:
            valid &= dataset.read(self.alpha, window=place, out_shape=shape) != 0
        y, x = (full.height / dataset.height, full.width / dataset.width) if full else (1, 1)
        mask_place = rasterio.windows.Window(place.col_off * x, place.row_off * y, place.width * x, place.height * y)
        for band in self.masks:
            valid &= (full or dataset).read_masks(band, window=mask_place, out_shape=shape) != 0
        if self.needs_values:
            if values is None:
                values = dataset.read(list(self.bands), window=place, out_shape=(len(self.bands), *shape))
            self._judge(values, valid)
        return valid

    def _judge(self, values: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
        if self.floating:
            for band in values:
                valid &= ~np.isnan(band) if self.infinite else np.isfinite(band)  # type: ignore[call-overload]
        all_missing: NDArray[np.bool_] | None = None
        for band, nodata in zip(values, self.nodata, strict=True):
            if nodata is None or np.isnan(nodata):
                continue
            missing = band == np.asarray(nodata, values.dtype)
            if nodata < 0:
                valid &= ~missing
            else:
                all_missing = missing if all_missing is None else all_missing & missing
        if all_missing is not None:
            valid &= ~all_missing


def nodata_in(dtype: np.dtype[Any], nodata: float | None) -> float | None:
    """The nodata value as the data type holds it; None where it cannot (-9999 in uint8)."""
    if nodata is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(np.asarray(nodata).astype(dtype))
    limits = np.iinfo(dtype)
    inside = np.isfinite(nodata) and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return float(nodata) if inside else None
