"""Output rasters: written by windows into a plain GeoTIFF, finished as a Cloud Optimized GeoTIFF by streaming."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from xml.etree import ElementTree

import rasterio
import rasterio._err
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from prngeo.errors import PrngeoError
from prngeo.files import free_space
from prngeo.tiling.grid import Window

BLOCK = 512
"""Side of an internal block in pixels."""

STORAGE = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "zlevel": 1}
"""How pixels are stored until their raster is finished."""

_FAILURES = (RasterioError, OSError, rasterio._err.CPLE_BaseError)


@dataclass(frozen=True)
class RasterSpec:
    """What an output raster is.

    Attributes:
        height: rows.
        width: columns.
        transform: pixel to map coordinates; the identity if the scene has none.
        crs: coordinate system or None.
        dtype: of the stored values.
        nodata: stored value of missing pixels.
        overviews: how overviews are averaged.
        description: the band's name.
        scale: value = stored * scale.
        colors: color table of a byte raster, value to RGBA.
        tags: dataset tags.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None
    dtype: Literal["uint8", "int16"]
    nodata: int
    overviews: Literal["nearest", "average"]
    description: str
    scale: float | None = None
    colors: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] | None = None


class RasterWriter:
    """A raster under construction, filled window by window; pixels never written are nodata.

    Args:
        path: the temporary file.
        spec: what it becomes.

    Raises:
        PrngeoError: it cannot be created or written.
    """

    def __init__(self, path: Path, spec: RasterSpec) -> None:
        self.path = path
        self.spec = spec
        self._filled: set[tuple[int, int]] = set()
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": spec.height,
            "width": spec.width,
            "count": 1,
            "dtype": spec.dtype,
            "crs": spec.crs,
            "nodata": spec.nodata,
            **STORAGE,
            "bigtiff": "if_safer",
            "sparse_ok": True,
        }
        if spec.crs is not None or not spec.transform.is_identity:
            # An identity that is written turns the raster over in QGIS; without any it lies like the scene.
            profile["transform"] = spec.transform
        try:
            path.unlink(missing_ok=True)  # rasterio opens what it replaces, and fails on half a file of a killed run
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._dataset = rasterio.open(path, "w", **profile)
            self._dataset.set_band_description(1, spec.description)
            if spec.scale is not None:
                self._dataset.scales = (spec.scale,)
            if spec.colors is not None:
                self._dataset.write_colormap(1, dict(spec.colors))
                self._dataset.colorinterp = (ColorInterp.palette,)
            if spec.tags:
                self._dataset.update_tags(**spec.tags)
        except _FAILURES as error:
            raise _write_error(path, error) from error

    def write(self, window: Window, values: NDArray[Any]) -> None:
        """Write (h, w) stored values over a window that lies inside the raster."""
        place = ((window.row, window.row_end), (window.col, window.col_end))
        try:
            self._dataset.write(values.astype(self.spec.dtype, copy=False), 1, window=place)
        except _FAILURES as error:
            raise _write_error(self.path, error) from error
        for row in range(window.row // BLOCK, -(-window.row_end // BLOCK)):
            for col in range(window.col // BLOCK, -(-window.col_end // BLOCK)):
                part = Window(row * BLOCK, col * BLOCK, BLOCK, BLOCK).intersect(window)
                if (values[part.within(window)] != self.spec.nodata).any():
                    self._filled.add((row, col))

    def close(self) -> None:
        """Flush to disk, and check that everything arrived there.

        Raises:
            PrngeoError: the disk is full. GDAL reports a failed flush on stderr alone, and what was not written
                would read as nodata.
        """
        try:
            self._dataset.close()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                file = rasterio.open(self.path)
            with file:
                lost = sum(not _is_stored(file, self.path, *block) for block in self._filled)
        except _FAILURES as error:
            raise _write_error(self.path, error) from error
        if lost:
            raise _write_error(self.path, f"{lost} of {len(self._filled)} blocks are missing")

    def __enter__(self) -> RasterWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._dataset.close()


def _is_stored(file: DatasetReader, path: Path, row: int, col: int) -> bool:
    """True if a block lies in the file as a whole."""
    offset, size = (file.get_tag_item(f"BLOCK_{name}_{col}_{row}", "TIFF", 1) for name in ("OFFSET", "SIZE"))
    return offset is not None and int(offset) + int(size) <= path.stat().st_size


def encode_part(values: NDArray[Any], dtype: str) -> bytes:
    """The pixels of a part of a raster as a compressed GeoTIFF, in memory.

    Args:
        values: (h, w) stored values.
        dtype: data type of the raster.
    """
    profile = {
        "driver": "GTiff",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": dtype,
        "transform": Affine.scale(2),  # rasterio warns if there is none; a part has a place in its VRT alone
        **STORAGE,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values.astype(dtype, copy=False), 1)
        return bytes(memory.getbuffer())


def write_vrt(path: Path, spec: RasterSpec, parts: Mapping[Window, Path]) -> None:
    """A raster made of parts, as a VRT beside or above them; where there is none it is nodata.

    Args:
        path: of the VRT.
        spec: the raster.
        parts: window -> file with its pixels.

    Raises:
        PrngeoError: it cannot be written.
    """
    template = path.with_suffix(".template.tif")
    RasterWriter(template, spec).close()
    try:
        _copy(template, path, driver="VRT")
        tree = ElementTree.parse(path)
        band = tree.find("VRTRasterBand")
        assert band is not None
        for source in band.findall("SimpleSource"):
            band.remove(source)
        for window, part in parts.items():
            band.append(_vrt_source(window, part.relative_to(path.parent).as_posix(), str(band.get("dataType"))))
        tree.write(path)
        template.unlink()
    except _FAILURES as error:
        raise _write_error(path, error) from error


def _vrt_source(window: Window, name: str, kind: str) -> ElementTree.Element:
    source = ElementTree.Element("SimpleSource")
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
    ElementTree.SubElement(source, "SourceBand").text = "1"
    blocks = {"BlockXSize": str(BLOCK), "BlockYSize": str(BLOCK)}
    shape = {"RasterXSize": str(window.width), "RasterYSize": str(window.height)}
    ElementTree.SubElement(source, "SourceProperties", {**shape, "DataType": kind, **blocks})
    size = {"xSize": str(window.width), "ySize": str(window.height)}
    ElementTree.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    ElementTree.SubElement(source, "DstRect", {"xOff": str(window.col), "yOff": str(window.row), **size})
    return source


def finish_cog(source: Path, target: Path, spec: RasterSpec) -> None:
    """Copy a finished raster, or a VRT of its parts, into a COG with overviews, block by block.

    Raises:
        PrngeoError: the file cannot be written.
    """
    try:
        _copy(
            source,
            target,
            driver="COG",
            compress="DEFLATE",
            level="6",
            predictor="NO" if spec.colors else "YES",
            blocksize=str(BLOCK),
            overview_resampling=Resampling[spec.overviews].name.upper(),
            bigtiff="IF_SAFER",
            num_threads="ALL_CPUS",
        )
    except _FAILURES as error:
        raise _write_error(target, error) from error


def _copy(source: Path, target: Path, **options: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        rasterio.shutil.copy(source, target, **options)


def _write_error(path: Path, reason: Exception | str) -> PrngeoError:
    return PrngeoError(
        f"{path.name} could not be written in {path.parent}: {str(reason).rstrip('.')}. Check its rights and free "
        f"space ({free_space(path.parent)})."
    )
