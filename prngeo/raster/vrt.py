"""Scenes that lie on one grid of pixels, seen as one: a VRT that GDAL, QGIS and prngeo open like any raster."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.source import gdal_name, open_dataset, public_path
from prngeo.raster.validity import nodata_in

OFF_GRID = 0.01
"""Pixels by which a corner of a scene may lie off the grid of the others; it is moved onto it."""
_TOLD = 5  # scenes that a message names
_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What a mosaic has to know of one of its scenes.

    Attributes:
        path: as given.
        file: as GDAL opens it; absolute if it is a local file.
        height: rows.
        width: columns.
        transform: from its pixels to coordinates.
        crs: coordinate system or None.
        dtypes: data type of each band.
        meanings: color interpretation of each band.
        nodata: nodata value of each band, NaN for floats without one; None if the data type holds none.
        masked: True if the file has a mask beside its bands.
        block: (rows, columns) of its blocks.
    """

    path: str
    file: str
    height: int
    width: int
    transform: Affine
    crs: CRS | None
    dtypes: tuple[str, ...]
    meanings: tuple[ColorInterp, ...]
    nodata: tuple[float | None, ...]
    masked: bool
    block: tuple[int, int]


def mosaic_vrt(paths: Sequence[str | Path], folder: Path) -> str:
    """The text of a VRT in which scenes of one grid lie side by side.

    Where scenes overlap, the one whose file name sorts last is on top, whatever the order of `paths`; its invalid
    pixels (nodata, alpha, mask) let the others show through. A nodata value does so in each band by itself. What no
    scene covers is invalid.

    Args:
        paths: rasters that GDAL opens; one that is named twice comes once.
        folder: in which the VRT will lie. Scenes in it, or below it, are named relative to it, others absolutely.

    Raises:
        UsageError: a scene cannot be read, has no place, or does not fit the others; the message says which and why.
        PrngeoError: a remote one cannot be reached.
    """
    pieces = {piece.file: piece for piece in map(_piece, map(str, paths))}
    ordered = sorted(pieces.values(), key=lambda piece: (Path(piece.file).name, piece.file))
    like = _refuse_misfits(ordered)
    corners = [_corner(piece, like) for piece in ordered]
    top, left = min(row for row, _ in corners), min(col for _, col in corners)
    places = [(row - top, col - left) for row, col in corners]
    height = max(row + piece.height for piece, (row, _) in zip(ordered, places, strict=True))
    width = max(col + piece.width for piece, (_, col) in zip(ordered, places, strict=True))
    placed = list(zip(ordered, places, strict=True))
    root = Xml.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if like.crs is not None:
        _child(root, "SRS", like.crs.to_wkt())
    transform = like.transform @ Affine.translation(left, top)
    _child(root, "GeoTransform", ", ".join(map(repr, transform.to_gdal())))
    for band in range(1, len(like.dtypes) + 1):
        _band(root, band, like, placed, folder)
    _mask(root, placed, folder)
    Xml.indent(root, " ")
    return Xml.tostring(root, encoding="unicode") + "\n"


def _piece(path: str) -> Piece:
    with open_dataset(path) as dataset:
        shown = public_path(path)
        if dataset.transform.is_identity:
            placed = dataset.gcps[0] or dataset.rpcs
            how = "is placed by control points, not by a transform" if placed else "has no georeferencing"
            raise UsageError(
                f"{shown} {how}, so nothing tells its place in a mosaic. "
                + (f"Warp it first (`gdalwarp {shown} warped.tif`), " if placed else "Give it one, ")
                + "or predict without --mosaic."
            )
        if not math.isfinite(dataset.transform.determinant) or dataset.transform.determinant == 0:
            raise UsageError(
                f"{shown} has a geotransform without area, {tuple(dataset.transform)[:6]}. Set it right, for example "
                "with `gdal_edit.py -a_ullr`."
            )
        if ColorInterp.palette in dataset.colorinterp:
            raise UsageError(
                f"{shown} is a palette image: its pixels are numbers of colors. Expand it first (`gdal_translate -of "
                f"VRT -expand rgb {shown} rgb.vrt`), and give rgb.vrt."
            )
        strange = [dtype for dtype in dataset.dtypes if dtype not in _TYPES]
        if strange:
            raise UsageError(f"{shown} holds values of type {strange[0]}, which are no image.")
        flags = set(dataset.mask_flag_enums[0])
        return Piece(
            path=path,
            file=gdal_name(path, dataset),
            height=dataset.height,
            width=dataset.width,
            transform=dataset.transform,
            crs=dataset.crs or None,
            dtypes=dataset.dtypes,
            meanings=tuple(dataset.colorinterp),
            nodata=_nodata(dataset),
            masked=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
            block=dataset.block_shapes[0],
        )


def _nodata(dataset: DatasetReader) -> tuple[float | None, ...]:
    """What the data types hold of the nodata values; NaN always means no data."""
    values = []
    for name, value in zip(dataset.dtypes, dataset.nodatavals, strict=True):
        dtype = np.dtype(name)
        values.append(math.nan if value is None and dtype.kind == "f" else nodata_in(dtype, value))
    return tuple(values)


def _refuse_misfits(pieces: list[Piece]) -> Piece:
    """The scene whose grid is that of the mosaic; the others fit it.

    Raises:
        UsageError: one differs from most.
    """
    like, odd = _misfits(pieces)
    if odd:
        more = f"; and {len(odd) - _TOLD} more" if len(odd) > _TOLD else ""
        rows = "; ".join(f"{public_path(piece.path)} has {how}" for piece, how in odd[:_TOLD])
        raise UsageError(
            f"{len(odd)} of {len(pieces)} scenes do not fit into one mosaic: {rows}{more}. Leave them out, or bring "
            "them to the grid and the format of the others, for example with `gdalwarp -t_srs ... -tr ... -tap`, "
            "`gdal_translate -ot ... -b ...` or `gdal_edit.py -a_nodata ...`."
        )
    return like


def _misfits(pieces: list[Piece]) -> tuple[Piece, list[tuple[Piece, str]]]:
    """A scene with what most have, and those that differ from it in the first property that is not common to all."""
    for told in (_count, _types, _meanings, _missing):
        texts = list(map(told, pieces))
        like = pieces[texts.index(Counter(texts).most_common(1)[0][0])]
        odd = [piece for piece in pieces if told(piece) != told(like)]
        if odd:
            return like, [(piece, f"{told(piece)}, {_name(like)} {told(like)}") for piece in odd]
    systems = [piece.crs.to_wkt() if piece.crs else "" for piece in pieces]
    like = pieces[systems.index(Counter(systems).most_common(1)[0][0])]
    odd = [piece for piece in pieces if piece.crs != like.crs]
    if odd:
        return like, [(piece, f"{_system(piece)}, {_name(like)} {_system(like)}") for piece in odd]
    sizes = list(map(_size, pieces))
    like = pieces[sizes.index(Counter(sizes).most_common(1)[0][0])]
    return like, [(piece, how) for piece in pieces if (how := _off_grid(piece, like))]


def _name(piece: Piece) -> str:
    return public_path(piece.path)


def _count(piece: Piece) -> str:
    return f"{len(piece.dtypes)} band{'' if len(piece.dtypes) == 1 else 's'}"


def _types(piece: Piece) -> str:
    return f"values of type {', '.join(dict.fromkeys(piece.dtypes))}"


def _meanings(piece: Piece) -> str:
    return f"bands {', '.join(band.name for band in piece.meanings)}"


def _missing(piece: Piece) -> str:
    """Nodata values; beside them a mask counts, since the mask of a file without one then follows from its values."""
    values = list(dict.fromkeys("none" if value is None else f"{value:g}" for value in piece.nodata))
    return f"nodata {', '.join(values)}" + (" and a mask" if piece.masked and values != ["none"] else "")


def _system(piece: Piece) -> str:
    return piece.crs.to_string()[:60] if piece.crs else "no coordinate system"


def _size(piece: Piece) -> str:
    t = piece.transform
    return f"pixels of {math.hypot(t.a, t.d):.6g} x {math.hypot(t.b, t.e):.6g}"


def _off_grid(piece: Piece, like: Piece) -> str:
    """How a scene's pixels lie off another's grid; empty if they do not."""
    to_like = ~like.transform @ piece.transform
    row, col = _corner(piece, like)
    ends = ((x, y) for x in (0, piece.width) for y in (0, piece.height))
    off = max(max(abs(x - at[0] - col), abs(y - at[1] - row)) for at in ends for x, y in (to_like @ at,))
    if off <= OFF_GRID:
        return ""
    if _size(piece) != _size(like):
        return f"{_size(piece)}, {_name(like)} {_size(like)}"
    return f"corners that lie {off:.2g} pixels off the grid of {_name(like)}"


def _corner(piece: Piece, like: Piece) -> tuple[int, int]:
    """Row and column of a scene's first pixel on another's grid."""
    x, y = (~like.transform @ piece.transform) @ (0, 0)
    return round(y), round(x)


def _band(root: Xml.Element, band: int, like: Piece, placed: list[tuple[Piece, tuple[int, int]]], folder: Path) -> None:
    nodata, meaning = like.nodata[band - 1], like.meanings[band - 1]
    dtype = _TYPES[like.dtypes[band - 1]]
    holder = Xml.SubElement(root, "VRTRasterBand", dataType=dtype, band=str(band))
    if nodata is not None:
        _child(holder, "NoDataValue", repr(nodata))
    _child(holder, "ColorInterp", meaning.name.capitalize())
    for piece, place in placed:
        source = _source(holder, piece, place, folder, str(band), dtype)
        if nodata is not None:
            _child(source, "NODATA", repr(nodata))
        if piece.masked or ColorInterp.alpha in piece.meanings:
            _child(source, "UseMaskBand", "true")


def _mask(root: Xml.Element, placed: list[tuple[Piece, tuple[int, int]]], folder: Path) -> None:
    """What is valid, where neither alpha nor nodata in every band tells that no scene is there."""
    masked, like = any(piece.masked for piece, _ in placed), placed[0][0]
    plain = [band for band, value in enumerate(like.nodata, 1) if value is None]
    if not masked and (not plain or ColorInterp.alpha in like.meanings):
        return
    holder = Xml.SubElement(Xml.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    for piece, place in placed:
        source = _source(holder, piece, place, folder, "mask,1" if masked else f"mask,{plain[0]}", "Byte")
        _child(source, "NODATA", "0")  # an invalid pixel on top does not hide a valid one below


def _source(
    holder: Xml.Element, piece: Piece, place: tuple[int, int], folder: Path, band: str, dtype: str
) -> Xml.Element:
    """A scene's band at a place (row, column) of the mosaic."""
    source = Xml.SubElement(holder, "ComplexSource")
    inside = os.path.isabs(piece.file) and Path(piece.file).is_relative_to(folder.resolve())
    name = Path(piece.file).relative_to(folder.resolve()).as_posix() if inside else piece.file
    _child(source, "SourceFilename", name, relativeToVRT=str(int(inside)))
    _child(source, "SourceBand", band)
    size = {"xSize": str(piece.width), "ySize": str(piece.height)}
    facts = {"RasterXSize": str(piece.width), "RasterYSize": str(piece.height), "DataType": dtype}
    facts |= {"BlockXSize": str(piece.block[1]), "BlockYSize": str(piece.block[0])}
    Xml.SubElement(source, "SourceProperties", facts)  # so that a file is opened when it is read, not before
    Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | size)
    Xml.SubElement(source, "DstRect", {"xOff": str(place[1]), "yOff": str(place[0])} | size)
    return source


def _child(parent: Xml.Element, tag: str, text: str, **attributes: str) -> None:
    Xml.SubElement(parent, tag, attributes).text = text
