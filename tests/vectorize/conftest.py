"""Rasters of a few pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32645"
GRID = Affine(0.5, 0, 300000, 0, -0.5, 3000000)


@pytest.fixture
def raster(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array as a GeoTIFF with pixels of half a metre; `tags` and `scale` are those of its band."""

    def write(values: Any, name: str = "raster.tif", *, tags: dict[str, str] | None = None, **options: Any) -> Path:
        values, scale = np.asarray(values), options.pop("scale", None)
        values = values.astype(np.uint8) if values.dtype in (np.int64, bool) else values
        profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1}
        profile |= {"dtype": values.dtype, "crs": UTM, "transform": GRID} | options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(tmp_path / name, "w", **profile) as file:
                file.write(values, 1)
                file.update_tags(**(tags or {}))
                if scale:
                    file.scales = (scale,)
        return tmp_path / name

    return write
