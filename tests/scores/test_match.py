"""Which files belong together."""

from pathlib import Path

import pytest
from affine import Affine
from rasterio.crs import CRS

from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.scores.match import named, overlap, same_grid


def grid(x=0.0, crs="EPSG:32631", size=100):
    return GeoGrid(size, size, Affine(1, 0, 500_000 + x, 0, -1, 5_000_000), crs and CRS.from_string(crs))


def test_a_star_tells_what_belongs_together(tmp_path):
    for name in ("a_prob.tif", "b_prob.tif", "a.png"):
        Path(tmp_path, name).touch()
    keys = {Path(item.path).name: item.key for item in named([f"{tmp_path}/*_prob.tif", f"{tmp_path}/*.png"])}
    assert keys == {"a_prob.tif": "a", "b_prob.tif": "b", "a.png": "a"}
    assert [item.key for item in named([f"{tmp_path}/a_*"])] == ["prob"]
    assert [item.key for item in named([f"{tmp_path}/a_prob.tif"])] == ["a_prob"]
    assert [item.key for item in named([f"{tmp_path}/[ab]_*.tif"])] == ["a_prob", "b_prob"]


def test_a_file_comes_once_and_an_empty_pattern_is_refused(tmp_path):
    Path(tmp_path, "a.tif").touch()
    assert len(named([f"{tmp_path}/a.tif", f"{tmp_path}/*.tif"])) == 1
    with pytest.raises(UsageError, match="No file matches .*nosuch"):
        named([f"{tmp_path}/nosuch*.tif"])


def test_rasters_overlap_where_they_cover_common_ground():
    assert overlap(grid(), grid(99))
    assert not overlap(grid(), grid(100))
    assert not overlap(grid(), grid(crs=None))
    zone = GeoGrid(100, 100, Affine(0.001, 0, 2.95, 0, -0.001, 45.2), CRS.from_epsg(4326))
    assert overlap(zone, grid())
    assert overlap(grid(), zone)
    assert not overlap(zone, grid(90_000))


def test_the_same_grid_has_the_same_pixels():
    assert same_grid(grid(), grid(0.05))
    assert not same_grid(grid(), grid(0.5))
    assert not same_grid(grid(), grid(size=99))
    assert not same_grid(grid(), grid(crs="EPSG:32632"))


def test_a_file_of_two_spellings_comes_once(tmp_path, monkeypatch):
    Path(tmp_path, "a.tif").touch()
    monkeypatch.chdir(tmp_path)
    assert len(named(["a.tif", "./a.tif", f"{tmp_path}/a.tif"])) == 1


def test_a_layer_named_behind_a_pattern_goes_with_each_of_its_files(tmp_path):
    for name in ("a_truth.gpkg", "b_truth.gpkg"):
        Path(tmp_path, name).touch()
    found = named([f"{tmp_path}/*_truth.gpkg|layername=roads"])
    assert [(Path(item.path).name, item.key) for item in found] == [
        ("a_truth.gpkg|layername=roads", "a"),
        ("b_truth.gpkg|layername=roads", "b"),
    ]
