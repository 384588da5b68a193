"""Small real files and configurations that label them."""

import warnings

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from prngeo.config import TrainConfig

UTM = "EPSG:32630"
SIZE = 40
GSD = 0.5


def north_up(x=500_000.0, y=6_000_000.0, gsd=GSD):
    return Affine(gsd, 0, x, 0, -gsd, y)


def roles(regions):
    return {region.key: region.role for region in regions}


@pytest.fixture
def write(tmp_path):
    """Writes (bands, rows, columns) under the run's root."""

    def make(name, values, transform=None, crs=UTM, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = values.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path, "w", driver="GTiff", dtype=values.dtype, count=count, height=height, width=width,
                crs=crs, transform=transform or north_up(), **options,
            ) as file:  # fmt: skip
                file.write(values)
        return path

    return make


@pytest.fixture
def scene(write):
    """Writes a scene and its mask."""

    def make(name, transform=None, crs=UTM, seed=0, shape=(SIZE, SIZE), mask=None, mask_options=None, **options):
        rng = np.random.default_rng(seed)
        image = rng.integers(1, 255, (3, *shape)).astype("uint8")
        mask = (rng.random(shape) < 0.4).astype("uint8") if mask is None else mask
        write(f"images/{name}.tif", image, transform, crs, **options)
        write(f"masks/{name}.tif", mask[None], transform, crs, **(mask_options or {}))
        return image, mask

    return make


@pytest.fixture
def config():
    """A configuration with sources of the files that `scene` writes, changed as told."""

    def make(root, *sources, **values):
        defaults = {"name": "a", "images": "images/*.tif", "labels": {"roads": "masks/*.tif"}, "license": "CC0"}
        return TrainConfig.model_validate(
            {"name": "t", "root": root, "targets": ["buildings", "roads"]}
            | {"network": {"architecture": "unet", "encoder": "tu-lcnet_050", "weights": "none"}}
            | {"sources": [defaults | source for source in sources or ({},)]}
            | values
        )

    return make


@pytest.fixture
def draw():
    """Writes a vector layer; values are columns."""

    def make(path, shapes, crs=UTM, options=None, **values):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            geopandas.GeoDataFrame(values, geometry=shapes, crs=crs).to_file(path, **(options or {}))
        return path

    return make
