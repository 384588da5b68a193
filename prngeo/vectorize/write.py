"""Vector files: a GeoPackage that carries its styles, or one file a layer in the formats that hold one."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast, get_args
from uuid import uuid4

import geopandas as gpd
import pandas
import pyogrio
from pyproj.exceptions import ProjError

from prngeo.errors import PrngeoError, UsageError
from prngeo.files import free_space
from prngeo.qgis.styles import style_path, write_sidecar

VectorFormat = Literal["gpkg", "geoparquet", "flatgeobuf", "geojson"]

SUFFIXES: dict[str, str] = {
    "gpkg": ".gpkg",
    "geoparquet": ".parquet",
    "flatgeobuf": ".fgb",
    "geojson": ".geojson",
}
OTHER_SUFFIXES = {".geoparquet": "geoparquet", ".json": "geojson"}
SQLITE_SUFFIXES = ("-journal", "-wal", "-shm")
CHANGE_COUNTERS = (24, 92)  # in SQLite's file header, equal in a sound file
FIXED_TIME = "1970-01-01T00:00:00.000Z"

Layers = Mapping[str, gpd.GeoDataFrame] | Mapping[str, Iterable[gpd.GeoDataFrame]]
"""Contents of layers by their names, each whole or in parts."""

WRITE_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.FieldError,
)

LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


class Made(Mapping[str, Iterable[gpd.GeoDataFrame]]):
    """Layers that are made when they are asked for, part by part, so that no more than a part need be held.

    Args:
        makers: gives the contents of a layer by its name, in at least one part.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Iterable[gpd.GeoDataFrame]]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Iterable[gpd.GeoDataFrame]:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def vector_paths(stem: str | Path, format: VectorFormat, layers: Iterable[str]) -> list[Path]:
    """The files that `write_layers` makes, in its order.

    Args:
        stem: folder and name without a suffix, such as `out/scene`; dots in the name are kept.
        format: kind of file.
        layers: names of the layers.

    Returns:
        `<stem>.gpkg`, or `<stem>_<layer>` with the format's suffix for each layer.

    Raises:
        UsageError: the format is unknown.
    """
    stem = Path(stem)
    if format not in get_args(VectorFormat):
        raise UsageError(f"unknown vector format {format!r}: choose one of {', '.join(get_args(VectorFormat))}.")
    if format == "gpkg":
        return [stem.with_name(f"{stem.name}.gpkg")]
    return [stem.with_name(f"{stem.name}_{layer}{SUFFIXES[format]}") for layer in layers]


def style_paths(paths: Iterable[Path], format: VectorFormat) -> list[Path]:
    """The styles beside vector files; none for a GeoPackage, which carries its own."""
    return [] if format == "gpkg" else [style_path(path) for path in paths]


def format_of(path: str | Path) -> VectorFormat:
    """The format that a file's suffix names.

    Raises:
        UsageError: it names none.
    """
    suffix = Path(path).suffix.lower()
    for format in get_args(VectorFormat):
        if suffix == SUFFIXES[format] or OTHER_SUFFIXES.get(suffix) == format:
            return cast(VectorFormat, format)
    raise UsageError(
        f"the suffix of {path} names no vector format: choose a name that ends in {', '.join(SUFFIXES.values())}, or a "
        "database as postgresql://user@host/name."
    )


def named_paths(path: str | Path, layers: Iterable[str]) -> list[Path]:
    """The files that hold these layers if the first one is to be found in `path`.

    Returns:
        `path` alone for a GeoPackage; else `path` for the first layer and `<stem>_<layer>` for each further one.

    Raises:
        UsageError: the suffix names no format.
    """
    path, names = Path(path), list(layers)
    if format_of(path) == "gpkg":
        return [path]
    return [path, *(path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names[1:])]


def write_layers(
    layers: Layers,
    stem: str | Path,
    format: VectorFormat = "gpkg",
    styles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write layers to one GeoPackage or to one file each, replacing files of these names.

    Files appear under their names only when all of them are complete. The same layers give the same bytes,
    which is why time stamps inside a GeoPackage are fixed. Layers may be empty: they keep their columns,
    types and geometry type (`frame.attrs["geometry_type"]`, else Polygon). GeoJSON follows RFC 7946, so its
    coordinates are WGS84 with seven decimals, unless a layer has no CRS: that one is written as it is.

    Args:
        layers: name and contents of each layer; at least one. Contents are asked for once and one at a time, see
            `Made`; a GeoPackage is written part by part, of the other formats a layer is held as a whole.
        stem: folder and name without a suffix, such as `out/scene`; the folder exists.
        format: kind of file. GeoParquet is version 1.1 with a bounding box column; FlatGeobuf orders its
            rows by place, for its spatial index; the others keep the order given.
        styles: QML of some of the layers. A GeoPackage carries them; files of other formats get them beside them,
            with the suffix `.qml`.

    Returns:
        The files, as `vector_paths` gives them.

    Raises:
        UsageError: the format is unknown, there is no layer, or a layer cannot be brought to WGS84.
        PrngeoError: a file cannot be written.
    """
    paths = vector_paths(stem, format, layers)
    write_files(layers, paths, format, styles)
    return paths


def write_files(
    layers: Layers,
    paths: Sequence[Path],
    format: VectorFormat,
    styles: Mapping[str, str] | None = None,
) -> None:
    """Write layers to these files, as `write_layers` does.

    Args:
        layers: name and contents of each layer; at least one.
        paths: one for a GeoPackage, else one a layer.
        format: kind of file.
        styles: QML of some of the layers.

    Raises:
        UsageError: there is no layer, or a layer cannot be brought to WGS84.
        PrngeoError: a file cannot be written.
    """
    if not layers:
        raise UsageError("no layer to write: give at least one.")
    token = uuid4().hex[:12]
    hidden = [path.with_name(f".{path.stem}.{token}{path.suffix}") for path in paths]
    try:
        if format == "gpkg":
            _write_geopackage(layers, hidden[0], styles or {})
        else:
            for path, name in zip(hidden, layers, strict=True):
                _write_single(whole(layers[name]), path, name, format)
        for temporary, path in zip(hidden, paths, strict=True):
            os.replace(temporary, path)
        if format != "gpkg":
            for path, name in zip(paths, layers, strict=True):
                if styles and name in styles:
                    write_sidecar(path, styles[name])
    except (OSError, sqlite3.Error, *WRITE_ERRORS) as error:
        raise PrngeoError(
            f"cannot write {paths[0]}: {error}. See that the folder exists, has room "
            f"({free_space(paths[0].parent)} free) and is writable, and that no other program holds the file open."
        ) from error
    finally:
        for temporary in hidden:
            for suffix in ("", *SQLITE_SUFFIXES):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def _parts(contents: gpd.GeoDataFrame | Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
    """The contents of a layer part by part."""
    return iter([contents] if isinstance(contents, gpd.GeoDataFrame) else contents)


def whole(contents: gpd.GeoDataFrame | Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """The contents of a layer, whole or in at least one part, as one frame."""
    parts = list(_parts(contents))
    return parts[0] if len(parts) == 1 else pandas.concat(parts, ignore_index=True)


def _write_geopackage(layers: Layers, path: Path, styles: Mapping[str, str]) -> None:
    for name in layers:
        # QGIS 3.22 warns about the version that GDAL now writes by default.
        options: dict[str, Any] = {"dataset_options": {"VERSION": "1.3"}} if not path.exists() else {}
        for part in _parts(layers[name]):
            _write_table(part, path, name, options)
            options = {"append": True}
            del part  # or it would be held while the next one is made
    with closing(sqlite3.connect(path)) as database, database:
        chosen = {name: styles[name] for name in layers if name in styles}
        if chosen:
            _embed_styles(database, chosen)
        database.execute("UPDATE gpkg_contents SET last_change = ?", (FIXED_TIME,))
    _reset_change_counter(path)


def _write_table(frame: gpd.GeoDataFrame, path: Path, name: str, options: dict[str, Any]) -> None:
    undefined = {"SRID": "-1"} if frame.crs is None else {}
    _write_ogr(frame, path, name, "GPKG", layer_options={"SPATIAL_INDEX": "YES", **undefined}, **options)


def _reset_change_counter(path: Path) -> None:
    """Make the number of transactions, which differs from run to run, the same in every new database."""
    with path.open("r+b") as file:
        for position in CHANGE_COUNTERS:
            file.seek(position)
            file.write((1).to_bytes(4, "big"))


def _embed_styles(database: sqlite3.Connection, styles: Mapping[str, str]) -> None:
    """Store styles where QGIS looks for them when it opens a layer."""
    database.execute(LAYER_STYLES)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '')"
    )
    for name, qml in styles.items():
        query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
        (column,) = database.execute(query, (name,)).fetchone()
        # Catalog and schema must be empty strings: QGIS does not find a row where they are NULL.
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
            "styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time) "
            "VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', ?)",
            (name, column, name[:30], qml, FIXED_TIME),
        )


def _write_single(frame: gpd.GeoDataFrame, path: Path, name: str, format: VectorFormat) -> None:
    if format == "geoparquet":
        frame.to_parquet(path, index=False, write_covering_bbox=True, schema_version="1.1.0")
    elif format == "flatgeobuf":
        _write_ogr(frame, path, name, "FlatGeobuf")
    elif frame.crs is None:
        _write_ogr(frame, path, name, "GeoJSON")
    else:
        _write_ogr(_to_wgs84(frame, name), path, name, "GeoJSON", layer_options={"RFC7946": "YES"})


def _write_ogr(frame: gpd.GeoDataFrame, path: Path, name: str, driver: str, **options: Any) -> None:
    kind = _geometry_type(frame)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*'crs' was not provided.*")
        pyogrio.write_dataframe(
            frame,
            path,
            layer=name,
            driver=driver,
            geometry_type=kind,
            promote_to_multi=kind.startswith("Multi"),
            **options,
        )


def _geometry_type(frame: gpd.GeoDataFrame) -> str:
    """One type that holds all geometries of a layer."""
    kinds = set(frame.geom_type.dropna())
    if not kinds:
        return str(frame.attrs.get("geometry_type", "Polygon"))
    if len(kinds) == 1:
        return str(kinds.pop())
    single = {kind.removeprefix("Multi") for kind in kinds}
    return f"Multi{single.pop()}" if len(single) == 1 else "Unknown"


def _to_wgs84(frame: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    try:
        return frame.to_crs(4326)
    except ProjError as error:
        raise UsageError(
            f"layer {name} cannot be brought from its CRS to WGS84, which GeoJSON requires: {error}. Choose "
            "another format, such as gpkg."
        ) from error
