"""Vector files hold what was given, in one piece, in the form that each format promises."""

from __future__ import annotations

import functools
import gc
import json
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from pandas.testing import assert_frame_equal
from shapely import LineString, MultiPolygon, Polygon, box

from prngeo.errors import PrngeoError, UsageError
from prngeo.vectorize import write
from prngeo.vectorize.write import Made, vector_paths, write_layers

UTM = "EPSG:32645"
FORMATS = ["gpkg", "geoparquet", "flatgeobuf", "geojson"]
RING = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(3, 3), (3, 6), (6, 6), (6, 3)]])


def frame(
    geometry: list[Any], crs: str | None = UTM, shift: tuple[float, float] = (300000, 3000000)
) -> gpd.GeoDataFrame:
    count = len(geometry)
    columns = {
        "area_m2": np.arange(count, dtype=float),
        "probability": np.linspace(0.5, 1, count),
        "refined": np.full(count, np.nan),
        "touches_edge": np.arange(count) % 2 == 0,
    }
    result = gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries(geometry, dtype="geometry"), crs=crs)
    if count and crs == UTM:
        result = result.set_geometry(result.translate(*shift))
    return result


@pytest.fixture
def layers() -> dict[str, gpd.GeoDataFrame]:
    return {"roads": frame([RING, box(20, 0, 30, 5)]), "buildings": frame([box(1, 1, 2, 2)])}


def read(path: Path, layer: str | None = None) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path, layer=layer)


@pytest.mark.parametrize("format", FORMATS)
def test_layers_come_back(tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame]) -> None:
    paths = write_layers(layers, tmp_path / "scene.v2", format)
    assert paths == vector_paths(tmp_path / "scene.v2", format, layers)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for place, (name, layer) in enumerate(layers.items()):
        back = read(paths[0], name) if format == "gpkg" else read(paths[place])
        expected = layer.to_crs(4326) if format == "geojson" else layer
        assert back.crs == expected.crs
        assert list(back.columns) == list(layer.columns)
        order = back["area_m2"].argsort()
        back = back.iloc[order].reset_index(drop=True).astype({"refined": float})
        assert_frame_equal(back.drop(columns="geometry"), layer.drop(columns="geometry"), check_dtype=False)
        assert back["touches_edge"].dtype == bool
        assert back.geometry.is_valid.all()
        tolerance = 2e-7 if format == "geojson" else 0
        assert (shapely.hausdorff_distance(back.geometry.values, expected.geometry.values) <= tolerance).all()
        assert [len(shape.interiors) for shape in back.geometry] == [len(shape.interiors) for shape in layer.geometry]


def test_paths_follow_the_format() -> None:
    assert [path.as_posix() for path in vector_paths("out/a.b", "gpkg", ["roads"])] == ["out/a.b.gpkg"]
    assert [path.name for path in vector_paths("a", "geoparquet", ["x", "y"])] == [
        "a_x.parquet",
        "a_y.parquet",
    ]
    assert [path.name for path in vector_paths("a", "flatgeobuf", ["x"])] == ["a_x.fgb"]
    assert [path.name for path in vector_paths("a", "geojson", ["x"])] == ["a_x.geojson"]
    with pytest.raises(UsageError, match="unknown vector format 'shp': choose one of gpkg, geoparquet"):
        vector_paths("a", "shp", ["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon", "LineString"])
def test_empty_layers_keep_schema_and_geometry_type(tmp_path: Path, format: Any, kind: str) -> None:
    empty = frame([])
    empty.attrs["geometry_type"] = kind
    (path,) = write_layers({"roads": empty}, tmp_path / "scene", format)
    back = read(path)
    assert len(back) == 0
    if format == "geojson":
        return  # has no schema apart from its features
    assert list(back.columns) == list(empty.columns)
    assert back.crs == UTM
    if format != "geoparquet":
        info = pyogrio.read_info(path)
        assert info["geometry_type"] == kind
        assert list(info["dtypes"]) == ["float64", "float64", "float64", "bool"]


@pytest.mark.parametrize("format", FORMATS)
def test_layers_without_crs_are_written_as_they_are(tmp_path: Path, format: Any) -> None:
    layer = frame([box(1, -5, 3, -2)], crs=None)
    (path,) = write_layers({"roads": layer}, tmp_path / "scene", format)
    assert tuple(read(path).total_bounds) == (1, -5, 3, -2)
    if format == "geojson":
        assert "crs" not in json.loads(path.read_text())
    else:
        crs = read(path).crs
        assert crs is None or crs.is_engineering


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_layers_give_the_same_bytes(tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame]) -> None:
    styles = {"roads": "<qgis/>"}
    once = [path.read_bytes() for path in write_layers(layers, tmp_path / "a", format, styles)]
    (tmp_path / "other").mkdir()
    again = [path.read_bytes() for path in write_layers(layers, tmp_path / "other" / "a", format, styles)]
    assert once == again


@pytest.mark.parametrize("format", FORMATS)
def test_layers_are_made_one_at_a_time_and_let_go(
    tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame]
) -> None:
    made: list[weakref.ref[gpd.GeoDataFrame]] = []

    def make(name: str) -> list[gpd.GeoDataFrame]:
        gc.collect()
        assert all(earlier() is None for earlier in made), "the layer before is still held"
        result = layers[name].copy()
        made.append(weakref.ref(result))
        return [result]

    makers = {name: functools.partial(make, name) for name in layers}
    styles = {"roads": "<qgis/>"}
    paths = write_layers(Made(makers), tmp_path / "a", format, styles)
    assert len(made) == len(layers)
    (tmp_path / "other").mkdir()
    whole = write_layers(layers, tmp_path / "other" / "a", format, styles)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in whole]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.slow
def test_a_layer_made_in_parts_has_the_rows_of_the_whole(
    tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame]
) -> None:
    """And of a GeoPackage one part is held at a time."""
    made: list[weakref.ref[gpd.GeoDataFrame]] = []
    layer = pd.concat([layers["roads"]] * 3, ignore_index=True)

    def make() -> Iterator[gpd.GeoDataFrame]:
        for row in range(len(layer)):
            gc.collect()
            assert format != "gpkg" or all(earlier() is None for earlier in made), "the part before is still held"
            part = layer[row : row + 1].copy()
            made.append(weakref.ref(part))
            yield part
            del part

    (path,) = write_layers(Made({"roads": make}), tmp_path / "parts", format)
    (whole,) = write_layers({"roads": layer}, tmp_path / "whole", format)
    assert len(made) == len(layer) > 3
    assert_frame_equal(read(path), read(whole))


def test_mixed_polygons_become_multipolygons(tmp_path: Path) -> None:
    layer = frame([box(0, 0, 1, 1), MultiPolygon([box(0, 0, 1, 1), box(1, 1, 2, 2)])])
    (path,) = write_layers({"roads": layer}, tmp_path / "scene")
    assert set(read(path).geom_type) == {"MultiPolygon"}
    lines = frame([LineString([(0, 0), (1, 1)])])
    (path,) = write_layers({"road_centerlines": lines}, tmp_path / "scene")
    assert pyogrio.read_info(path)["geometry_type"] == "LineString"


def test_geopackage_carries_styles_where_qgis_looks(tmp_path: Path, layers: dict[str, gpd.GeoDataFrame]) -> None:
    (path,) = write_layers(layers, tmp_path / "scene", "gpkg", {"roads": "<qgis>é</qgis>", "other": "<qgis/>"})
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleQML, useAsDefault "
            "FROM layer_styles"
        ).fetchall()
        contents = database.execute("SELECT table_name, data_type FROM gpkg_contents ORDER BY 1").fetchall()
        version = database.execute("PRAGMA user_version").fetchone()
        check = database.execute("PRAGMA integrity_check").fetchone()
    assert rows == [("", "", "roads", "geom", "<qgis>é</qgis>", 1)]
    assert contents == [("buildings", "features"), ("layer_styles", "attributes"), ("roads", "features")]
    assert version == (10300,)
    assert check == ("ok",)


@pytest.mark.parametrize("format", ["geoparquet", "flatgeobuf", "geojson"])
def test_other_files_get_their_styles_beside_them(
    tmp_path: Path, layers: dict[str, gpd.GeoDataFrame], format: Any
) -> None:
    paths = write_layers(layers, tmp_path / "scene.v2", format, {"roads": "<qgis>é</qgis>", "other": "<qgis/>"})
    styles = [path for path in tmp_path.iterdir() if path not in paths]
    assert styles == [tmp_path / "scene.v2_roads.qml"]
    assert styles[0].read_text(encoding="utf-8") == "<qgis>é</qgis>"


def test_geopackage_without_styles_has_no_style_table(tmp_path: Path, layers: dict[str, gpd.GeoDataFrame]) -> None:
    (path,) = write_layers(layers, tmp_path / "scene")
    assert [name for name, _ in pyogrio.list_layers(path)] == ["roads", "buildings"]


def test_geoparquet_is_1_1_with_a_bounding_box_column(tmp_path: Path, layers: dict[str, gpd.GeoDataFrame]) -> None:
    path = write_layers(layers, tmp_path / "scene", "geoparquet")[0]
    meta = json.loads(pyarrow.parquet.read_metadata(path).metadata[b"geo"])
    assert meta["version"] == "1.1.0"
    assert meta["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    west = gpd.read_parquet(path, bbox=(300000, 3000000, 300010, 3000010))
    assert len(west) == 1


def test_geojson_follows_rfc_7946(tmp_path: Path, layers: dict[str, gpd.GeoDataFrame]) -> None:
    path = write_layers(layers, tmp_path / "scene", "geojson")[0]
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content
    outer, hole = (Polygon(ring).exterior for ring in content["features"][0]["geometry"]["coordinates"])
    assert outer.is_ccw
    assert not hole.is_ccw
    assert 84 < outer.coords[0][0] < 86
    assert 27 < outer.coords[0][1] < 28


def test_a_layer_that_cannot_reach_wgs84_is_refused(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    with pytest.raises(UsageError, match=r"layer roads cannot be brought .* to WGS84"):
        write_layers({"roads": frame([box(0, 0, 1, 1)], crs=local)}, tmp_path / "scene", "geojson")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_failed_write_leaves_old_files_and_nothing_else(
    tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_layers(layers, tmp_path / "scene", format)
    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr(write.os, "replace", raise_full)
    with pytest.raises(PrngeoError, match=r"cannot write .*scene.*No space left"):
        write_layers(layers, tmp_path / "scene", format)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_an_interrupt_between_layers_leaves_nothing(
    tmp_path: Path, layers: dict[str, gpd.GeoDataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_embed_styles", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_layers(layers, tmp_path / "scene", "gpkg", {"roads": "<qgis/>"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_folder_is_a_failed_run(tmp_path: Path, format: Any, layers: dict[str, gpd.GeoDataFrame]) -> None:
    with pytest.raises(PrngeoError, match=r"cannot write .*See that the folder exists"):
        write_layers(layers, tmp_path / "missing" / "scene", format)


def test_no_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer to write"):
        write_layers({}, tmp_path / "scene")


def raise_full(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")
