"""From a town's truth masks back to its buildings."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from prngeo.synth import write_town
from prngeo.vectorize.polygons import polygonize


def agreement(found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> tuple[float, np.ndarray]:
    """IoU of all buildings together, and of each true building with the found one that covers most of it."""
    ours, theirs = found.union_all(), truth.union_all()
    tree = shapely.STRtree(found.geometry.values)
    each = []
    for building in truth.geometry:
        near = found.geometry.values[tree.query(building, "intersects")]
        common = shapely.area(shapely.intersection(near, building))
        each.append((common / (shapely.area(near) + building.area - common)).max(initial=0))
    return ours.intersection(theirs).area / ours.union(theirs).area, np.array(each)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gpd.GeoDataFrame]:
    files = write_town(tmp_path_factory.mktemp("town") / "town.tif", size=1024, gsd=0.3, seed=3)
    return files.buildings_mask, gpd.read_file(files.truth, layer="buildings")


def test_buildings_come_back_from_their_mask(town: tuple[Path, gpd.GeoDataFrame]) -> None:
    mask, truth = town
    together, each = agreement(polygonize(mask, regularize=True), truth)
    assert together >= 0.99
    assert np.median(each) >= 0.99
    # Pixels alone do not tell where between them a wall runs: 0.967 here.
    assert agreement(polygonize(mask), truth)[0] >= 0.96


def test_regular_buildings_have_the_corners_of_the_truth(town: tuple[Path, gpd.GeoDataFrame]) -> None:
    mask, truth = town
    found = polygonize(mask, regularize=True)
    found = found[~found["touches_edge"]]
    pairs = truth[truth["kind"] != "round"].sjoin(found, predicate="intersects")
    counts = found.geometry.count_coordinates()[pairs["index_right"]] - 1
    assert len(counts) > 100
    assert counts.tolist() == pairs["kind"].map({"rectangle": 4, "l": 6, "t": 8, "u": 8}).tolist()
