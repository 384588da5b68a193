"""Polygons are exactly those of the whole mask, and their attributes exactly those of their pixels."""

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Geod
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize, shapes
from scipy import ndimage

from prngeo.errors import PrngeoError, UsageError
from prngeo.vectorize import mask as masks_module
from prngeo.vectorize import plane as plane_module
from prngeo.vectorize import polygons as polygons_module
from prngeo.vectorize.polygons import polygonize

UTM = "EPSG:32645"
GRID = Affine(0.5, 0, 300000, 0, -0.5, 3000000)
TURNED = Affine(0.4330127018922193, 0.25, 300000, 0.25, -0.4330127018922193, 3000000)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
NEIGHBORS = {4: CROSS, 8: np.ones((3, 3), int)}
IN_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

masks = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 1, 0, 255])
)


def save(
    path: Path,
    values: Any,
    *,
    crs: str | None = UTM,
    transform: Affine | None = GRID,
    nodata: float | None = 255,
    scale: float | None = None,
    **options: Any,
) -> Path:
    values = np.asarray(values)
    if values.dtype == np.int64:
        values = values.astype(np.uint8)
    place = {} if transform is None else {"transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=values.shape[0],
            width=values.shape[1],
            count=1,
            dtype=values.dtype,
            crs=crs,
            nodata=nodata,
            **place,
            **options,
        ) as dst:
            dst.write(values, 1)
            if scale:
                dst.scales = (scale,)
    return path


def reference(mask: np.ndarray, connectivity: int = 4, transform: Affine = GRID) -> list[shapely.Geometry]:
    found = shapes(mask, mask=mask == 1, connectivity=connectivity, transform=transform)
    return [shapely.make_valid(shapely.geometry.shape(shape), method="structure") for shape, _ in found]


def same(one: list[Any], other: list[Any], tolerance: float = 1e-9) -> bool:
    one, other = (shapely.normalize(np.asarray(part, object)) for part in (one, other))
    one, other = (sorted(part, key=lambda g: (*g.bounds, g.area)) for part in (one, other))
    return len(one) == len(other) and bool(np.all(shapely.equals_exact(one, other, tolerance)))


def labels(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Components numbered by their first pixel, from 1."""
    return ndimage.label(mask == 1, NEIGHBORS[connectivity])[0]


def at_edge(mask: np.ndarray, connectivity: int) -> np.ndarray:
    outside = np.pad(mask == 255, 1, constant_values=True)
    return ndimage.binary_dilation(outside, NEIGHBORS[connectivity])[1:-1, 1:-1]


@pytest.mark.parametrize("connectivity", [4, 8])
@given(data=st.data(), mask=masks, strip=st.sampled_from([1, 20, 10_000]))
@IN_FOLDER
def test_polygons_and_attributes_equal_those_of_the_whole_array(
    tmp_path: Path, connectivity: Any, data: st.DataObject, mask: np.ndarray, strip: int
) -> None:
    raw = data.draw(hnp.arrays(np.uint8, mask.shape, elements=st.sampled_from([0, 1, 99, 250, 255])))
    changed = data.draw(hnp.arrays(np.uint8, mask.shape, elements=st.sampled_from([0, 1, 255])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks_module, "STRIP_PIXELS", strip)
        frame = polygonize(
            save(tmp_path / "mask.tif", mask),
            save(tmp_path / "probability.tif", raw, scale=0.004),
            save(tmp_path / "changed.tif", changed),
            value=1,
            connectivity=connectivity,
        )
    assert same(list(frame.geometry), reference(mask, connectivity))
    assert frame.geometry.is_valid.all()

    label = labels(mask, connectivity)
    index = np.arange(1, label.max() + 1)
    pixels = ndimage.sum_labels(np.ones(mask.shape), label, index)
    np.testing.assert_array_equal(frame["area_m2"], pixels * 0.25)
    np.testing.assert_array_equal(frame["refined"], ndimage.mean(changed == 1, label, index))
    np.testing.assert_array_equal(frame["touches_edge"], ndimage.maximum(at_edge(mask, connectivity), label, index))
    for number, value in zip(index, frame["probability"], strict=True):
        valid = raw[(label == number) & (raw != 255)]
        assert value == pytest.approx(valid.mean() * 0.004) if len(valid) else np.isnan(value)


@given(mask=masks, tolerance=st.sampled_from([0.2, 0.5, 1.0, 3.0, 50.0]), connectivity=st.sampled_from([4, 8]))
@IN_FOLDER
def test_simplified_polygons_are_valid_and_do_not_overlap(
    tmp_path: Path, mask: np.ndarray, tolerance: float, connectivity: Any
) -> None:
    path = save(tmp_path / "mask.tif", mask)
    exact = polygonize(path, connectivity=connectivity)
    simple = polygonize(path, connectivity=connectivity, simplify=tolerance)
    assert simple.geometry.is_valid.all()
    assert not simple.geometry.is_empty.any()
    unchanged = ["probability", "refined", "touches_edge"]
    assert simple[unchanged].equals(exact[unchanged])
    np.testing.assert_allclose(simple["area_m2"], simple.area)
    assert simple.union_all().area == pytest.approx(simple.area.sum())
    rings = [len(shapely.get_rings(part)) for part in (exact.geometry.values, simple.geometry.values)]
    assert rings[0] == rings[1], "holes are kept"


PATTERNS = {
    "one pixel": [[1]],
    "one of nothing": [[0]],
    "full": np.ones((7, 5), int),
    "checkerboard": np.indices((9, 8)).sum(0) % 2,
    "nested holes": np.minimum.reduce(np.indices((11, 11)).tolist() + (10 - np.indices((11, 11))).tolist()) % 2 == 0,
    "ring open at a corner": [[1, 1, 1], [1, 0, 1], [1, 1, 0]],
    "a hole that touches a hole": [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]],
}


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_hard_patterns_are_exact(tmp_path: Path, pattern: str, connectivity: Any) -> None:
    mask = np.asarray(PATTERNS[pattern]).astype(np.uint8)
    frame = polygonize(save(tmp_path / "mask.tif", mask), connectivity=connectivity)
    assert same(list(frame.geometry), reference(mask, connectivity))
    assert len(frame) == labels(mask, connectivity).max()
    assert frame["area_m2"].sum() == mask.sum() * 0.25
    assert frame.area.sum() == pytest.approx(mask.sum() * 0.25)


def test_nested_holes_hold_islands(tmp_path: Path) -> None:
    frame = polygonize(save(tmp_path / "mask.tif", PATTERNS["nested holes"].astype(np.uint8)))
    assert [len(polygon.interiors) for polygon in frame.geometry] == [1, 1, 1]


def test_rows_are_ordered_by_first_pixel(tmp_path: Path) -> None:
    mask = (np.random.default_rng(3).random((60, 70)) < 0.4).astype(np.uint8)
    frame = polygonize(save(tmp_path / "mask.tif", mask))
    assert list(frame.index) == list(range(len(frame)))
    label = labels(mask, 4)
    firsts = np.unravel_index([np.flatnonzero(label.ravel() == n + 1)[0] for n in frame.index], mask.shape)
    for polygon, row, col in zip(frame.geometry, *firsts, strict=True):
        assert polygon.contains(shapely.Point(GRID.c + (col + 0.5) / 2, GRID.f - (row + 0.5) / 2))


def test_internal_tiling_does_not_matter(tmp_path: Path) -> None:
    mask = (np.random.default_rng(4).random((100, 90)) < 0.5).astype(np.uint8)
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    one, other = save(tmp_path / "a.tif", mask), save(tmp_path / "b.tif", mask, **tiled)
    assert polygonize(one).equals(polygonize(other))


@given(
    seed=st.integers(0, 10**6),
    strip=st.sampled_from([40, 400, 1600]),
    options=st.fixed_dictionaries(
        {
            "min_area": st.sampled_from([0.0, 1.0, 3.0]),
            "min_hole": st.sampled_from([0.0, 2.0]),
            "simplify": st.sampled_from([0.0, 0.8]),
            "regularize": st.booleans(),
            "connectivity": st.sampled_from([4, 8]),
        }
    ),
)
@IN_FOLDER
@pytest.mark.slow
def test_every_option_gives_the_same_however_the_raster_is_cut(
    tmp_path: Path, seed: int, strip: int, options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((14, 10)) < 0.5, np.ones((4, 4), bool)) ^ (rng.random((56, 40)) < 0.05)
    whole = polygonize(save(tmp_path / "mask.tif", mask.astype(np.uint8)), **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks_module, "STRIP_PIXELS", strip)
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        cut = polygonize(save(tmp_path / "tiled.tif", mask.astype(np.uint8), **tiled), **options)
    assert cut.equals(whole)
    assert whole.geometry.is_valid.all()
    assert whole.union_all().area == pytest.approx(whole.area.sum())


@pytest.mark.parametrize("degrees", [0, 25])
def test_buildings_are_right_angled_on_the_ground(tmp_path: Path, degrees: float) -> None:
    house = shapely.affinity.rotate(shapely.box(300010, 2999960, 300040, 2999980), degrees)
    metric = gpd.GeoSeries([house], crs=UTM)
    west, south, east, north = metric.to_crs(4326).total_bounds
    # Degrees of longitude are shorter on the ground than those of latitude: its pixels are not square.
    grid = Affine(2e-6, 0, west - 2e-5, 0, -2.5e-6, north + 2e-5)
    shape = (int((north - south) / 2.5e-6) + 20, int((east - west) / 2e-6) + 20)
    mask = rasterize(metric.to_crs(4326), out_shape=shape, transform=grid)
    path = save(tmp_path / "mask.tif", mask, crs="EPSG:4326", transform=grid)
    frame = polygonize(path, regularize=True)
    found = frame.to_crs(UTM).geometry[0]
    assert len(found.exterior.coords) == 5
    assert found.intersection(house).area / found.union(house).area > 0.985
    steps = np.diff(shapely.get_coordinates(found), axis=0)
    steps /= np.hypot(*steps.T)[:, None]
    assert np.abs((steps * np.roll(steps, 1, 0)).sum(1)).max() < 0.01
    assert frame["area_m2"][0] == pytest.approx(600, rel=0.01)


def test_empty_mask_gives_an_empty_frame_with_columns(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.tif", np.zeros((5, 6), np.uint8))
    full = polygonize(save(tmp_path / "full.tif", np.ones((5, 6), np.uint8)))
    empty = polygonize(path, path, path, simplify=1)
    assert len(empty) == 0
    assert empty.dtypes.equals(full.dtypes)
    assert [str(kind) for kind in empty.dtypes] == ["float64", "float64", "float64", "bool", "geometry"]
    assert list(empty.columns) == ["area_m2", "probability", "refined", "touches_edge", "geometry"]
    assert empty.crs == UTM
    assert empty.attrs["geometry_type"] == "Polygon"


def test_missing_rasters_give_missing_values(tmp_path: Path) -> None:
    frame = polygonize(save(tmp_path / "mask.tif", [[1]]))
    assert frame[["probability", "refined"]].isna().all(axis=None)


def test_small_polygons_go_before_simplification(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:4] = 1
    mask[10:18, 3:12] = 1
    path = save(tmp_path / "mask.tif", mask)
    assert list(polygonize(path, min_area=1.0)["area_m2"]) == [1.0, 18.0]
    assert list(polygonize(path, min_area=1.01, simplify=0.1)["area_m2"]) == [18.0]


def test_holes_do_not_count_as_area(tmp_path: Path) -> None:
    mask = np.ones((10, 10), np.uint8)
    mask[1:9, 1:9] = 0
    frame = polygonize(save(tmp_path / "mask.tif", mask), min_area=9.0)
    assert list(frame["area_m2"]) == [9.0]


def test_steps_of_a_slanted_edge_vanish_within_the_tolerance(tmp_path: Path) -> None:
    mask = np.tri(40, dtype=np.uint8)
    path = save(tmp_path / "mask.tif", mask)
    exact, simple = polygonize(path).geometry[0], polygonize(path, simplify=0.5).geometry[0]
    assert len(exact.exterior.coords) > 80
    assert len(simple.exterior.coords) < 8
    assert exact.symmetric_difference(simple).area < 0.1 * exact.area


def test_value_255_is_nodata_unless_the_tag_says_otherwise(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 4], mask[4, 5] = 1, 255
    by_default = polygonize(save(tmp_path / "a.tif", mask, nodata=None))
    other = polygonize(save(tmp_path / "b.tif", mask, nodata=7), value=1)
    assert list(by_default["touches_edge"]) == [True]
    assert list(other["touches_edge"]) == [False]
    mask[4, 5] = 7
    assert list(polygonize(save(tmp_path / "c.tif", mask, nodata=7))["touches_edge"]) == [True]


def test_a_background_tagged_as_nodata_is_still_background(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 4] = mask[0, 0] = 1
    frame = polygonize(save(tmp_path / "mask.tif", mask, nodata=0))
    assert list(frame["touches_edge"]) == [True, False]


def test_float_probabilities_with_nan(tmp_path: Path) -> None:
    values = np.array([[0.25, np.nan, 0.75]], np.float32)
    frame = polygonize(save(tmp_path / "mask.tif", [[1, 1, 1]]), save(tmp_path / "p.tif", values, nodata=np.nan))
    assert list(frame["probability"]) == [0.5]


def test_rotated_scene(tmp_path: Path) -> None:
    mask = (np.random.default_rng(5).random((20, 30)) < 0.6).astype(np.uint8)
    path = save(tmp_path / "mask.tif", mask, transform=TURNED)
    frame = polygonize(path)
    assert same(list(frame.geometry), reference(mask, transform=TURNED), 1e-6)
    np.testing.assert_allclose(frame["area_m2"], frame.area, rtol=1e-6)
    assert polygonize(path, simplify=1).geometry.is_valid.all()


def test_areas_and_tolerances_in_feet_become_metric(tmp_path: Path) -> None:
    mask = np.tri(40, dtype=np.uint8)
    metric = polygonize(save(tmp_path / "m.tif", mask), simplify=0.6)
    foot = 1200 / 3937
    scaled = Affine(0.5 / foot, 0, 1_000_000, 0, -0.5 / foot, 200_000)
    feet = polygonize(save(tmp_path / "f.tif", mask, crs="EPSG:2263", transform=scaled), simplify=0.6)
    np.testing.assert_allclose(feet["area_m2"], metric["area_m2"])
    assert len(feet.geometry[0].exterior.coords) == len(metric.geometry[0].exterior.coords)


def test_geographic_scene_has_geodesic_areas_and_metric_tolerances(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:] = np.tri(40, dtype=np.uint8)
    mask[30:33, 5:9] = 0
    geod = Geod(ellps="WGS84")
    east = geod.inv(10, 60, 10.001, 60)[2] / 0.001
    north = geod.inv(10, 60, 10, 60.001)[2] / 0.001
    transform = Affine(0.5 / east, 0, 10, 0, -0.5 / north, 60 + 10 / north)
    path = save(tmp_path / "mask.tif", mask, crs="EPSG:4326", transform=transform)
    frame = polygonize(path)
    expected = abs(geod.geometry_area_perimeter(frame.geometry[0])[0])
    assert frame["area_m2"][0] == pytest.approx(expected, rel=1e-9)
    assert frame["area_m2"][0] == pytest.approx(mask.sum() * 0.25, rel=1e-3)
    metric = polygonize(save(tmp_path / "m.tif", mask), simplify=0.6)
    simple = polygonize(path, simplify=0.6)
    assert shapely.get_num_coordinates(simple.geometry[0]) == shapely.get_num_coordinates(metric.geometry[0])
    assert len(polygonize(path, min_area=expected * 1.01)) == 0
    assert frame.crs == "EPSG:4326"


def test_scene_without_georeferencing_is_drawn_below_the_x_axis(tmp_path: Path) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 1:3] = 1
    path = save(tmp_path / "mask.tif", mask, crs=None, transform=None)
    frame = polygonize(path)
    assert frame.crs is None
    assert frame.geometry[0].bounds == (1, -5, 3, -2)
    assert list(frame["area_m2"]) == [6.0]
    assert list(polygonize(path, pixel_size=0.5)["area_m2"]) == [1.5]
    assert len(polygonize(path, pixel_size=0.5, min_area=1.6)) == 0


def test_world_file_without_crs_keeps_its_coordinates(tmp_path: Path) -> None:
    frame = polygonize(save(tmp_path / "mask.tif", [[0, 1]], crs=None), pixel_size=2)
    assert frame.geometry[0].bounds == (300000.5, 2999999.5, 300001, 3000000)
    assert list(frame["area_m2"]) == [4.0]


def test_crs_is_recognised(tmp_path: Path) -> None:
    assert polygonize(save(tmp_path / "a.tif", [[1]])).crs.to_epsg() == 32645
    local = "+proj=tmerc +lat_0=10 +lon_0=20 +k=1 +x_0=0 +y_0=0 +ellps=GRS80 +units=m"
    assert polygonize(save(tmp_path / "b.tif", [[1]], crs=local)).crs.to_epsg() is None


def test_memory_does_not_grow_with_the_background(tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for size in (512, 2048):
        mask = np.zeros((size, size), np.uint8)
        mask[100:200, 100:200] = 1
        path = save(tmp_path / f"{size}.tif", mask, tiled=True, blockxsize=256, blockysize=256)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(masks_module, "STRIP_PIXELS", 100_000)
            polygonize(path, path, path)
            tracemalloc.start()
            polygonize(path, path, path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": -1}, "must be 0 or more"),
        ({"simplify": float("nan")}, "must be 0 or more"),
        ({"connectivity": 6}, "connectivity must be 4 or 8, got 6"),
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        polygonize(save(tmp_path / "mask.tif", [[1]]), **options)


def test_wrong_rasters_are_refused(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.tif", np.ones((4, 5), int))
    with pytest.raises(UsageError, match=r"cannot open the mask .*missing.tif"):
        polygonize(tmp_path / "missing.tif")
    with pytest.raises(UsageError, match=r"not on the grid of the mask.*5 x 4 .*got 6 x 4"):
        polygonize(mask, save(tmp_path / "wide.tif", np.ones((4, 6), int)))
    moved = Affine(0.5, 0, 300000.25, 0, -0.5, 3000000)
    with pytest.raises(UsageError, match="not on the grid of the mask"):
        polygonize(mask, changed_path=save(tmp_path / "moved.tif", np.ones((4, 5), int), transform=moved))


def test_a_truncated_raster_is_a_failed_run(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (300, 300)).astype(np.uint8)
    path = save(tmp_path / "mask.tif", values)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PrngeoError, match=r"reading .*mask.tif.* broke off") as caught:
        polygonize(path)
    assert caught.value.exit_code == 1


def test_the_result_is_a_geodataframe_that_survives_a_reader(tmp_path: Path) -> None:
    frame = polygonize(save(tmp_path / "mask.tif", [[1, 0], [0, 1]]))
    frame.to_file(tmp_path / "out.gpkg", layer="roads")
    back = gpd.read_file(tmp_path / "out.gpkg")
    assert back.geometry.geom_equals(frame.geometry).all()
    assert list(back["touches_edge"]) == [True, True]


@pytest.mark.parametrize("connectivity", [4, 8])
def test_polygons_do_not_depend_on_how_many_are_outlined_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connectivity: Any
) -> None:
    values = (np.random.default_rng(0).random((90, 110)) < 0.45).astype(np.uint8)
    values[:, 40:44] = 1  # one that is larger than a batch, begins early and ends late
    path = save(tmp_path / "mask.tif", values)
    whole = polygonize(path, value=1, connectivity=connectivity)
    monkeypatch.setattr(polygons_module, "RUNS_AT_ONCE", 30)
    monkeypatch.setattr(plane_module, "POINTS_AT_ONCE", 50)
    parts = polygonize(path, value=1, connectivity=connectivity)
    assert len(whole) > 50
    assert parts.equals(whole)
    assert shapely.equals_exact(parts.geometry.values, whole.geometry.values).all()
