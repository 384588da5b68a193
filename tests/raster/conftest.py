"""Small real rasters for the tests of the reader."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32630"
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000)

WriteRaster = Callable[..., str]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Writes (bands, rows, columns) to a file under tmp_path and returns its path."""

    def write(
        values: np.ndarray,
        name: str = "scene.tif",
        *,
        crs: str | None = UTM,
        transform: Affine = NORTH_UP,
        mask: np.ndarray | None = None,
        colorinterp: tuple[ColorInterp, ...] | None = None,
        overviews: tuple[int, ...] = (),
        **options: Any,
    ) -> str:
        path = tmp_path / name
        count, height, width = values.shape
        profile = {"driver": "GTiff", "dtype": values.dtype, "crs": crs, "transform": transform} | options
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as file:
                if colorinterp:
                    file.colorinterp = colorinterp
                file.write(values)
                if mask is not None:
                    file.write_mask(mask)
            if overviews:
                with rasterio.open(path, "r+") as file:
                    file.build_overviews(overviews, rasterio.enums.Resampling.average)
        return str(path)

    return write


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random values between 1 and 200 that every data type holds."""

    def make(count: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(1, 200, (count, height, width)).astype(dtype)

    return make
