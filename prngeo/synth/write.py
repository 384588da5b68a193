"""A town as files: the scene, its masks and its vectors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp
from shapely.geometry.base import BaseGeometry

from prngeo.errors import PrngeoError, UsageError
from prngeo.synth.town import Town, check_options, make_town

#: Map coordinates of the scene's upper left corner.
ORIGIN = (500_000.0, 5_000_000.0)


@dataclass(frozen=True)
class TownFiles:
    """Where a town was written.

    Attributes:
        scene: RGB GeoTIFF, uint8.
        roads_mask: 0/1 GeoTIFF, uint8, nodata 255.
        buildings_mask: the same for buildings.
        truth: GeoPackage with the layers buildings, roads and road_centerlines.
        counts: what is in them, for a summary ("buildings", "road_km", ...).
    """

    scene: Path
    roads_mask: Path
    buildings_mask: Path
    truth: Path
    counts: dict[str, float]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All four files."""
        return self.scene, self.roads_mask, self.buildings_mask, self.truth


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` that takes its place on success and is removed otherwise."""
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    staged = Path(name)
    staged.unlink()
    try:
        yield staged
        umask = os.umask(0)
        os.umask(umask)
        staged.chmod(0o666 & ~umask)
        staged.replace(target)
    finally:
        for left in (staged, Path(f"{staged}-journal"), Path(f"{staged}.aux.xml")):
            left.unlink(missing_ok=True)


def _write_raster(
    path: Path, bands: NDArray[np.uint8], transform: Affine, crs: CRS, tags: Mapping[str, str], is_mask: bool
) -> None:
    """Write (bands, H, W) as a tiled, deflated GeoTIFF; a mask gets nodata 255."""
    tile = 256 if min(bands.shape[1:]) >= 256 else 16
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": bands.shape[0], "height": bands.shape[1],
        "width": bands.shape[2], "crs": rasterio.CRS.from_wkt(crs.to_wkt()), "transform": transform,
        "tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate", "predictor": 1,
        "bigtiff": "if_safer",
    }  # fmt: skip
    if is_mask:
        profile["nodata"] = 255
    else:
        profile |= {"photometric": "rgb", "interleave": "pixel", "predictor": 2}
    with rasterio.open(path, "w", **profile) as out:
        if not is_mask:
            out.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        out.write(bands)
        out.update_tags(**tags)


def _frames(town: Town, transform: Affine, crs: CRS) -> dict[str, gpd.GeoDataFrame]:
    """The layers of the truth in map coordinates."""

    def shift(shapes: list[BaseGeometry]) -> NDArray[np.object_]:
        moved: NDArray[np.object_] = shapely.transform(
            np.array(shapes, dtype=object), lambda p: np.add(p, (transform.c, transform.f))
        )
        return moved

    buildings, lines = town.buildings, town.road_centerlines
    outlines, areas = shift([b.geometry for b in buildings]), shift(list(town.roads))
    return {
        "buildings": gpd.GeoDataFrame(
            {"kind": [b.kind for b in buildings], "area_m2": np.round(shapely.area(outlines), 3)},
            geometry=outlines,
            crs=crs,
        ),
        "roads": gpd.GeoDataFrame({"area_m2": np.round(shapely.area(areas), 3)}, geometry=areas, crs=crs),
        "road_centerlines": gpd.GeoDataFrame(
            {"width_m": [c.width_m for c in lines], "surface": [c.surface for c in lines]},
            geometry=shift([c.geometry for c in lines]),
            crs=crs,
        ),
    }


def _write_truth(path: Path, layers: dict[str, gpd.GeoDataFrame]) -> None:
    for i, (name, frame) in enumerate(layers.items()):
        pyogrio.write_dataframe(
            frame,
            path,
            layer=name,
            driver="GPKG",
            append=i > 0,
            geometry_type="LineString" if name == "road_centerlines" else "Polygon",
            dataset_options={"VERSION": "1.3"} if i == 0 else None,
        )


def _targets(path: Path, overwrite: bool) -> tuple[Path, Path, Path, Path]:
    """The four names, after checking that they may be written."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"The scene's name is {str(path)!r}; give a name that ends in .tif.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {str(path.parent)!r} does not exist; make it first or give another name.")
    masks = [path.with_name(f"{path.stem}_{target}_mask.tif") for target in ("roads", "buildings")]
    found = (path, masks[0], masks[1], path.with_name(f"{path.stem}_truth.gpkg"))
    existing = [p for p in found if p.exists()]
    if existing and not overwrite:
        names = ", ".join(str(p) for p in existing)
        raise UsageError(f"Already there: {names}. Give another name, or --overwrite to replace them.")
    folders = [p for p in existing if p.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]} is a folder; give another name.")
    return found


def _projected(crs: str) -> CRS:
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise UsageError(f"crs is {crs!r}, which PROJ does not know; give --crs like EPSG:32631.") from error
    if not parsed.is_projected or any(axis.unit_name != "metre" for axis in parsed.axis_info[:2]):
        raise UsageError(f"crs is {crs!r}; a town is laid out in metres: give --crs a projected CRS in metres.")
    return parsed


def write_town(
    path: str | os.PathLike[str],
    *,
    size: int = 1024,
    gsd: float = 0.3,
    seed: int = 0,
    crs: str = "EPSG:32631",
    bias: float = 0.0,
    overwrite: bool = False,
) -> TownFiles:
    """Generate a town and write it.

    For `town.tif`: `town.tif` (RGB), `town_roads_mask.tif` and `town_buildings_mask.tif` (0/1, nodata 255)
    and `town_truth.gpkg` (layers buildings, roads, road_centerlines). Each file appears under its name only
    once it is complete.

    Args:
        path: name of the scene, ending in .tif.
        size: pixels on a side.
        gsd: metres a pixel.
        seed: the town's number.
        crs: a projected CRS in metres; the upper left corner lies at `ORIGIN`.
        bias: amplitude of a regional bias, see `make_town`.
        overwrite: replace files that exist.

    Returns:
        The names of the files and what they hold.

    Raises:
        UsageError: if an argument is out of range, or a file exists and `overwrite` is False.
        PrngeoError: if a file cannot be written.
    """
    check_options(size, gsd, seed, bias)
    system, names = _projected(crs), _targets(Path(path), overwrite)
    town = make_town(size, gsd, seed, bias)
    transform = Affine(gsd, 0.0, ORIGIN[0], 0.0, -gsd, ORIGIN[1])
    tags = {"PRNGEO_SYNTH": f"size={size} gsd={gsd} seed={seed} bias={bias}"}
    rasters = (town.image, town.masks["roads"][None], town.masks["buildings"][None])
    try:
        for name, bands in zip(names, rasters, strict=False):
            with _staged(name) as staged:
                _write_raster(staged, bands, transform, system, tags, is_mask=bands.shape[0] == 1)
        with _staged(names[3]) as staged:
            _write_truth(staged, _frames(town, transform, system))
    except (OSError, rasterio.errors.RasterioError, pyogrio.errors.DataSourceError) as error:
        raise PrngeoError(f"The town could not be written to {names[0].parent}: {error}") from error
    counts = {
        "buildings": float(len(town.buildings)),
        "road_km": round(sum(c.geometry.length for c in town.road_centerlines) / 1000, 3),
        "roads_share": float(town.masks["roads"].mean()),
        "buildings_share": float(town.masks["buildings"].mean()),
    }
    return TownFiles(*names, counts)
