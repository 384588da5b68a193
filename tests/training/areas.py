"""Test areas without a training: scenes, their truth, and the cached regions that belong to them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import rasterio

from prngeo.config import TrainConfig
from prngeo.models.bundle import open_bundle, write_bundle
from prngeo.models.devices import Compute
from prngeo.models.runtime import Runtime
from prngeo.tiling.grid import Window
from prngeo.training.evaluate import evaluate_tests
from prngeo.training.regions import CachedRegion, Region
from tests.conftest import write_scene

TARGETS = ("roads", "buildings")


def settings(**values):
    return TrainConfig.model_validate({"name": "run", "targets": list(TARGETS), "gsd": [0.25, 1.25]} | values)


def stripes(shape, step=40, width=7):
    """Roads and buildings, (H, W, 2) uint8."""
    labels = np.zeros((*shape, 2), np.uint8)
    for start in range(10, max(shape), step):
        labels[start : start + width, :, 0] = 1
        labels[:, start : start + width, 1] = 1
    return labels


@contextmanager
def plain_pixels():
    """A scene without a coordinate system is no mistake here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def region(folder, name="scene", labels=None, shape=(600, 700), window=None, role="test", source="a", **scene):
    """A cached region of a scene that is written, with the truth beside it as NAME_TARGET.tif."""
    path = write_scene(folder / f"{name}.tif", *shape, **scene)
    labels = stripes(shape) if labels is None else labels
    window = window or Window(0, 0, *shape)
    with plain_pixels(), rasterio.open(path) as file:
        pixels = np.moveaxis(file.read(), 0, -1).astype(np.uint8)
        valid = file.dataset_mask() > 0
        gsd = (abs(file.transform.a), abs(file.transform.e))
        bounds, crs = tuple(file.bounds), file.crs.to_wkt() if file.crs else ""
        for number, target in enumerate(TARGETS):
            profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": 255}
            with rasterio.open(folder / f"{name}_{target}.tif", "w", **profile) as truth:
                truth.write(labels[..., number], 1)
    labels = np.where(valid[..., None], labels, 255).astype(np.uint8)
    here = window.within(Window(0, 0, *shape))
    found = Region(
        key=f"{source}-{name}",
        source=source,
        role=role,
        gsd=gsd,
        shape=window.shape,
        targets=TARGETS,
        scene=str(path),
        window=window,
        bounds=bounds,
        crs=crs,
    )
    image = np.concatenate([pixels, valid[..., None] * np.uint8(255)], -1)
    return CachedRegion(found, image[here], labels[here])


def values(path):
    """(H, W) of a raster's first band."""
    with plain_pixels(), rasterio.open(path) as file:
        return file.read(1)


def judged(model, regions, **values):
    """What the test areas say of a model on a CPU."""
    bundle = open_bundle(model)
    return evaluate_tests(settings(**values), regions, bundle, Runtime(bundle, Compute("cpu", "float32")))


def of(tested, target, source="a"):
    """The figures of one target and data set."""
    (found,) = [one for one in tested.results if (one.target, one.source) == (target, source)]
    return found


def changed(model, folder, drop="", **update):
    """A copy of a model with another card; weights whose name begins with `drop` are left out."""
    bundle = open_bundle(model)
    tensors = {name: tensor for name, tensor in bundle.tensors().items() if not drop or not name.startswith(drop)}
    return write_bundle(folder, bundle.card.model_copy(update=update), tensors).path
