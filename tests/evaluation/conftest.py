"""Rasters and layers of a small made-up place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes

import prngeo
from prngeo import EvaluateOptions

GSD = 0.5
NORTH_UP = Affine(GSD, 0, 500_000, 0, -GSD, 6_000_000)
UTM = "EPSG:32630"


def write_raster(
    path: Path,
    values: NDArray[Any],
    transform: Affine = NORTH_UP,
    crs: str | None = UTM,
    tags: dict[str, str] | None = None,
    scale: float | None = None,
    **options: Any,
) -> Path:
    """One band; (h, w)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype,
            crs=crs, transform=transform, **options,
        ) as file:  # fmt: skip
            file.write(values, 1)
            if tags:
                file.update_tags(**tags)
            if scale is not None:
                file.scales = (scale,)
    return path


def boxes(shape: tuple[int, int], count: int, seed: int) -> NDArray[np.bool_]:
    """A mask of upright boxes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(count):
        row, col = rng.integers(0, shape[0] - 5), rng.integers(0, shape[1] - 5)
        mask[row : row + rng.integers(4, 20), col : col + rng.integers(4, 20)] = True
    return mask


def judge(prediction, truth, **options):
    options = {"block": 64} | options
    return prngeo.evaluate(prediction, truth, options=EvaluateOptions(**options))


def values(result, which=0):
    return {name: figure.value for name, figure in result.predictions[which].metrics.items()}


def polygons(mask, transform=NORTH_UP, crs=UTM):
    found = [shapely.geometry.shape(shape) for shape, _ in shapes(mask.astype("uint8"), mask=mask, transform=transform)]
    return gpd.GeoDataFrame(geometry=found, crs=crs)


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Any]:
    """Truth, a prediction that is a little off, its probabilities, and their paths."""
    rng = np.random.default_rng(0)
    shape = (200, 330)
    true = boxes(shape, 40, 1)
    predicted = np.roll(true, (2, 1), (0, 1)) ^ boxes(shape, 3, 2)
    probability = np.clip(np.where(predicted, 170, 60) + rng.normal(0, 30, shape), 0, 250).astype("uint8")
    predicted = probability >= 125
    tags = {"PRNGEO_TARGET": "buildings", "PRNGEO_THRESHOLD": "0.5"}
    return {
        "true": true,
        "predicted": predicted,
        "probability": probability,
        "truth": write_raster(tmp_path / "truth.tif", true.astype("uint8")),
        "mask": write_raster(tmp_path / "mask.tif", predicted.astype("uint8"), nodata=255),
        "scores": write_raster(tmp_path / "scores.tif", probability, nodata=255, scale=0.004, tags=tags),
    }
