"""Scores in files: rasters of any tool as logits, read by windows, with the image beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.gsd import measure_gsd
from prngeo.raster.scene import Scene, open_scene
from prngeo.raster.source import public_path, reading, scene_name
from prngeo.raster.sources import opened_bands
from prngeo.raster.validity import ValidityRule
from prngeo.raster.values import Meaning, Values, check_values, find_meaning, in_unit
from prngeo.scores.match import bounds, same_grid
from prngeo.scores.scene import LIMIT, blocks
from prngeo.tiling.grid import Window

OPTION = "--values"


class ScoreRaster:
    """Probabilities or logits of one or more classes, see prngeo.scores.scene.ScoreScene.

    Args:
        path: as given.
        dataset: the same, open.
        wanted: what its numbers mean.

    Raises:
        UsageError: its values are a mask, or fit nothing known.
    """

    def __init__(self, path: str, dataset: DatasetReader, wanted: Values) -> None:
        self.path, self.name, self.what = path, scene_name(path), f"--scores {public_path(path)}"
        self.grid = GeoGrid(dataset.height, dataset.width, dataset.transform, dataset.crs)
        self.bands = tuple(
            band for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind != ColorInterp.alpha
        )
        self.descriptions = [dataset.descriptions[band - 1] for band in self.bands]
        self.target: str | None = dataset.tags().get("PRNGEO_TARGET")
        self.image: Scene | None = None
        self._dataset = dataset
        if len({(dataset.dtypes[b - 1], dataset.scales[b - 1], dataset.offsets[b - 1]) for b in self.bands}) > 1:
            raise UsageError(
                f"{self.what}: its bands have different data types or scales. Bring them to one, for example with "
                "`gdal_translate -ot Float32 -unscale`."
            )
        self._rule = replace(ValidityRule.of(dataset, self.bands), infinite=wanted == "logit")
        self.meaning: Meaning = find_meaning(path, self.what, dataset, self._rule, wanted, OPTION, masks=False)
        if self.meaning.kind == "mask":
            raise UsageError(
                f"{self.what} is {self.meaning.told}, not scores: a refiner needs probabilities or logits, from which "
                "no threshold has been cut. If they are scores all the same, say what they mean with --values unit "
                "(0..1), percent (0..100), byte (0..255) or logit."
            )

    @property
    def gsd(self) -> float | None:
        """Metres on the ground a pixel, the mean of both axes; None if nothing tells."""
        grid = self.grid
        found = measure_gsd(grid.crs.to_wkt() if grid.crs else None, grid.transform, grid.height, grid.width)
        return None if found is None else math.sqrt(found[0][0] * found[0][1])

    def in_unit(self) -> bool:
        """True if its floats all lie in 0..1 and differ, as such probabilities do; reads until one does not."""
        first = self.bands[0] - 1
        if np.dtype(self._dataset.dtypes[first]).kind != "f" or self._dataset.scales[first] != 1:
            return False
        low, high = math.inf, -math.inf
        for window in blocks(self.grid.extent):
            values, known = self._stored(window)
            if known.any():
                low, high = min(low, float(values[:, known].min())), max(high, float(values[:, known].max()))
                if not in_unit(low, high):
                    return False
        return low < high

    def _stored(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(bands, h, w) as in the file, and (h, w) bool; the window lies inside."""
        with reading(self.path, window):
            place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
            values = self._dataset.read(list(self.bands), window=place)
            return values, self._rule.read(self._dataset, window, values=values)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See prngeo.scores.scene.ScoreScene; not from two threads at once."""
        logits = np.zeros((len(self.bands), *window.shape), np.float32)
        valid = np.zeros(window.shape, bool)
        inside = window.intersect(self.grid.extent)
        if not inside.is_empty:
            values, known = self._stored(inside)
            check_values(self.what, values[:, known], self.meaning)
            here = inside.within(window)
            logits[(slice(None), *here)] = self.meaning.logits(np.where(known, values, 0), LIMIT) * known
            valid[here] = known
        if self.image is None:
            return logits, valid
        return np.concatenate([logits, self.image.read(window)[0] * valid]), valid


@contextmanager
def open_scores(paths: Sequence[str], wanted: Values) -> Iterator[list[ScoreRaster]]:
    """Open score rasters of one tool; closed at the end.

    Where values alone tell the scale, all are read alike: a byte raster (0..255) with low values alone would look like
    percent.

    Raises:
        UsageError: one cannot be read, is no scores, or has other bands than the rest.
    """
    with ExitStack() as stack:
        datasets = [stack.enter_context(opened_bands(path, f"--scores {public_path(path)}")) for path in paths]
        rasters = [ScoreRaster(path, dataset, wanted) for path, dataset in zip(paths, datasets, strict=True)]
        if wanted == "auto" and {"percent", "byte"} <= {raster.meaning.values for raster in rasters}:
            rasters = [
                ScoreRaster(path, dataset, "byte" if raster.meaning.values == "percent" else wanted)
                for path, dataset, raster in zip(paths, datasets, rasters, strict=True)
            ]
        first = rasters[0]
        for raster in rasters:
            if len(raster.bands) != len(first.bands):
                raise UsageError(
                    f"{raster.what} has {counted(len(raster.bands))}, {first.path} {counted(len(first.bands))}: one "
                    "band a class is needed, the same in all scores."
                )
        yield rasters


def counted(bands: int) -> str:
    """`1 band` or `3 bands`."""
    return f"{bands} band{'' if bands == 1 else 's'}"


@contextmanager
def with_images(rasters: Sequence[ScoreRaster], images: Sequence[str], bands: int | None) -> Iterator[int]:
    """Give score rasters their images for the time of the context.

    Args:
        rasters: the scores.
        images: path of the image of each.
        bands: bands that the refiner reads; as many as the first image has, at most three, if None.

    Yields:
        The number of bands.

    Raises:
        UsageError: an image cannot be read, has other pixels than its scores, or too few bands.
    """
    with ExitStack() as stack:
        for raster, path in zip(rasters, images, strict=True):
            if bands is None:
                with opened_bands(path, f"--images {path}") as dataset:
                    bands = min(3, sum(kind != ColorInterp.alpha for kind in dataset.colorinterp))
            scene = stack.enter_context(open_scene(path, n_bands=bands))
            if not same_grid(raster.grid, GeoGrid(scene.height, scene.width, scene.transform, scene.crs)):
                raise UsageError(_other_pixels(raster, scene, public_path(path)))
            raster.image = scene
        yield bands or 0


def _other_pixels(raster: ScoreRaster, image: Scene, path: str) -> str:
    grid, size = raster.grid, f"{image.width} x {image.height} pixels"
    start = f"The image {path} ({size}) does not have the pixels of its scores {raster.path}"
    if grid.crs is None or image.crs is None:
        return f"{start} ({grid.width} x {grid.height}). Bring both to one size and one coordinate system."
    extent = " ".join(f"{value:.10g}" for value in bounds(grid))
    return (
        f"{start}. Bring it there, for example with `gdalwarp -t_srs {grid.crs.to_string()[:40]} -te {extent} "
        f"-ts {grid.width} {grid.height} {path} image.tif`."
    )
