"""What there is to train on: the scenes behind a pattern, by their headers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS

from prngeo.errors import PrngeoError, UsageError
from prngeo.raster.bands import choose_bands
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.gsd import check_gsd, measure_gsd
from prngeo.raster.source import open_dataset
from prngeo.scores.match import Named, named

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class SceneFacts:
    """One scene.

    Attributes:
        path: of its file.
        key: the part of its name that labels share.
        grid: its pixels; without coordinate system if it has no transform to go with it.
        gsd: metres a pixel, the geometric mean of both directions.
        bands: names of its bands of image values: their color, else their description, else band1, band2, ...
        numbers: of those bands in the file, from 1.
        rgb: numbers of red, green and blue, if they are known.
        dtype: data type of its pixels.
    """

    path: str
    key: str
    grid: GeoGrid
    gsd: float
    bands: tuple[str, ...]
    numbers: tuple[int, ...]
    rgb: tuple[int, ...] | None
    dtype: str

    @property
    def outline(self) -> shapely.Polygon:
        """Its footprint in map coordinates; y = -row without georeferencing."""
        to_map = self.grid.drawing_transform
        corners = [(0, 0), (self.grid.width, 0), (self.grid.width, self.grid.height), (0, self.grid.height)]
        return shapely.Polygon([to_map @ corner for corner in corners])


@dataclass(frozen=True)
class Scenes:
    """The scenes of a pattern.

    Attributes:
        found: those that can be read; all of them have a coordinate system or none has.
        broken: path and reason of the others.
    """

    found: tuple[SceneFacts, ...]
    broken: tuple[tuple[str, str], ...]

    @property
    def georeferenced(self) -> bool:
        """True if the scenes have a place on the map."""
        return self.found[0].grid.crs is not None

    @property
    def systems(self) -> list[str]:
        """Their coordinate systems, the most frequent first."""
        names = [scene.grid.crs.to_string() for scene in self.found if scene.grid.crs is not None]
        return sorted(dict.fromkeys(names), key=lambda name: -names.count(name))

    @property
    def gsds(self) -> tuple[float, float]:
        """Smallest and largest GSD in metres."""
        return min(scene.gsd for scene in self.found), max(scene.gsd for scene in self.found)

    @property
    def usual_gsds(self) -> tuple[float, float]:
        """The GSDs between which four of five scenes lie."""
        low, high = np.percentile([scene.gsd for scene in self.found], [10, 90], method="nearest")
        return float(low), float(high)

    def footprints(self, crs: CRS | None) -> geopandas.GeoSeries:
        """Their footprints in one coordinate system, in the order of `found`; in pixels if it is None."""
        if crs is None:
            return geopandas.GeoSeries([scene.outline for scene in self.found])
        parts = []
        for system, own in self._by_system():
            outlines = geopandas.GeoSeries({n: self.found[n].outline for n in own}, crs=system.to_wkt())
            step = shapely.length(outlines.to_numpy()).max() / 40  # a straight edge is a curve elsewhere
            parts.append(outlines if crs == system else outlines.segmentize(step).to_crs(crs.to_wkt()))
        together: geopandas.GeoSeries = pandas.concat(parts).sort_index()
        return together

    @property
    def sides(self) -> list[float]:
        """Metres of the longer side of every group of scenes that touch each other, about."""
        if not self.georeferenced:
            return [max(scene.grid.height, scene.grid.width) * scene.gsd for scene in self.found]
        sides = []
        for _, own in self._by_system():
            scenes = [self.found[number] for number in own]
            units = [math.sqrt(abs(scene.grid.transform.determinant)) for scene in scenes]
            joined = shapely.union_all(
                [scene.outline.buffer(unit, join_style="mitre") for scene, unit in zip(scenes, units, strict=True)]
            )
            metres = scenes[0].gsd / units[0]
            boxes = shapely.bounds(shapely.get_parts(joined))
            sides += (metres * (boxes[:, 2:] - boxes[:, :2]).max(1)).tolist()
        return sides

    def _by_system(self) -> list[tuple[CRS, list[int]]]:
        """Numbers of the scenes of every coordinate system."""
        systems = [scene.grid.crs for scene in self.found]
        return [(crs, [n for n, own in enumerate(systems) if own == crs]) for crs in dict.fromkeys(systems) if crs]


def survey_scenes(pattern: str, gsd: float | None) -> Scenes:
    """Look at the headers of the scenes of a pattern.

    Args:
        pattern: a file or a pattern such as `ortho/*.tif`.
        gsd: metres a pixel, for scenes that do not tell.

    Raises:
        UsageError: no file matches, none can be read, or they do not go together.
    """
    given = None if gsd is None else check_gsd(gsd)
    found, broken = [], []
    for file in files_of(pattern, "--images", "a file, or a pattern such as 'ortho/*.tif'"):
        try:
            found.append(_scene(file, given))
        except PrngeoError as error:
            broken.append((file.path, str(error)))
    if not found:
        raise UsageError(f"--images {pattern}: none of {len(broken)} files can be read. The first: {broken[0][1]}")
    _refuse_mixtures(pattern, found)
    unknown = next((scene.path for scene in found if math.isnan(scene.gsd)), None)
    if unknown is not None:
        raise UsageError(
            f"--images {pattern}: nothing tells how large a pixel of {unknown} is on the ground. Give it with --gsd "
            "METRES, for example --gsd 0.3."
        )
    return Scenes(tuple(found), tuple(broken))


def files_of(pattern: str, option: str, expected: str) -> list[Named]:
    """The files of a pattern.

    Raises:
        UsageError: there are none.
    """
    if Path(pattern).is_dir() and not Path(pattern).suffix:  # some rasters are folders: a.zarr
        raise UsageError(f"{option} {pattern} is a folder: give a pattern of its files, '{pattern.rstrip('/')}/*.tif'.")
    try:
        return named([pattern])
    except UsageError as error:
        raise UsageError(f"{option}: no file matches {pattern}. Give {expected}.") from error


def _scene(file: Named, gsd: float | None) -> SceneFacts:
    with open_dataset(file.path) as dataset:
        placed = dataset.crs is not None and not dataset.transform.is_identity
        grid = GeoGrid(dataset.height, dataset.width, dataset.transform, dataset.crs if placed else None)
        wkt = dataset.crs.to_wkt() if placed else None
        measured = measure_gsd(wkt, dataset.transform, dataset.height, dataset.width)
        side = gsd if gsd is not None else math.sqrt(math.prod(measured[0])) if measured else math.nan
        usable = [n for n, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True) if meaning.name != "alpha"]
        meanings = {n: dataset.colorinterp[n - 1].name for n in usable}
        known = set(RGB) <= set(meanings.values()) or len(usable) == 3
        rgb = choose_bands(dataset, None, 3) if known else None
        choose_bands(dataset, usable, len(usable))  # refuses palettes and complex numbers
        names = dict(zip(rgb, RGB, strict=True)) if rgb else {}
        bands = tuple(names.get(n) or _named(dataset.descriptions[n - 1], n, len(usable)) for n in usable)
        return SceneFacts(file.path, file.key, grid, side, bands, tuple(usable), rgb, dataset.dtypes[usable[0] - 1])


def _named(description: str | None, number: int, count: int) -> str:
    return "gray" if count == 1 else (description or "").strip() or f"band{number}"


def _refuse_mixtures(pattern: str, scenes: Sequence[SceneFacts]) -> None:
    first = scenes[0]
    for scene in scenes:
        if (scene.grid.crs is None) != (first.grid.crs is None):
            with_crs, without = (scene, first) if first.grid.crs is None else (first, scene)
            raise UsageError(
                f"--images {pattern}: {without.path} has no coordinate system and {with_crs.path} has one. Pictures "
                "without a place and georeferenced scenes do not go into one source: give a pattern that matches one "
                "kind, or georeference the others."
            )
        if len(scene.bands) != len(first.bands):
            raise UsageError(
                f"--images {pattern}: {first.path} has {len(first.bands)} bands and {scene.path} {len(scene.bands)}. "
                "Scenes of one source have the same bands: give a pattern that matches one kind."
            )
    stems = [Path(scene.path).stem for scene in scenes]
    repeated = next((stem for stem in stems if stems.count(stem) > 1), None) if len(set(stems)) < len(stems) else None
    if repeated is not None:
        raise UsageError(
            f"--images {pattern}: several files are called {repeated}. Scenes of one source need names of their own: "
            "give a pattern that matches one folder."
        )
