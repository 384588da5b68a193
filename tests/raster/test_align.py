import warnings

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from prngeo.raster import align
from prngeo.raster.align import AlignedBand
from prngeo.raster.geogrid import GeoGrid
from prngeo.tiling.grid import Window

UTM = CRS.from_epsg(32630)
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000)


def opened(values, transform=NORTH_UP, crs=UTM, **options):
    memory = MemoryFile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype, crs=crs,
            transform=transform, **options,
        ) as file:  # fmt: skip
            file.write(values, 1)
        return memory.open()


def seen(values, grid, transform=NORTH_UP, crs=UTM, **options):
    return AlignedBand("raster.tif", opened(values, transform, crs, **options), grid).read(grid.extent)


def by_centers(values, transform, grid, project=lambda x, y: (x, y)):
    """Each pixel looked up alone."""
    found = np.full((grid.height, grid.width), -1)
    for row in range(grid.height):
        for col in range(grid.width):
            x, y = ~transform @ project(*(grid.transform @ (col + 0.5, row + 0.5)))
            if 0 <= y < values.shape[0] and 0 <= x < values.shape[1]:
                found[row, col] = values[int(y), int(x)]
    return found


VALUES = np.random.default_rng(0).integers(1, 250, (40, 50)).astype("uint8")


def test_the_same_grid_gives_the_raster_itself():
    values, valid = seen(VALUES, GeoGrid(40, 50, NORTH_UP, UTM))
    np.testing.assert_array_equal(values, VALUES)
    assert valid.all()


@pytest.mark.parametrize(
    "transform",
    [
        NORTH_UP @ Affine.translation(7, -3),
        NORTH_UP @ Affine.scale(0.37) @ Affine.translation(3.1, 5.2),
        NORTH_UP @ Affine.scale(3.3, 2.9),
        NORTH_UP @ Affine.rotation(33) @ Affine.scale(0.9),
    ],
)
def test_a_pixel_takes_the_value_that_holds_its_center(transform):
    grid = GeoGrid(30, 35, transform, UTM)
    values, valid = seen(VALUES, grid)
    np.testing.assert_array_equal(np.where(valid, values.astype(int), -1), by_centers(VALUES, NORTH_UP, grid))


@pytest.mark.parametrize("epsg", [4326, 3857, 32631])
def test_another_coordinate_system(epsg):
    to = pyproj.Transformer.from_crs(32630, epsg, always_xy=True)
    x, y = to.transform(500_010, 5_999_992)
    size = 0.4 / 111_000 if epsg == 4326 else 0.4
    grid = GeoGrid(60, 70, Affine(size, 0, x - 30 * size, 0, -size, y + 30 * size), CRS.from_epsg(epsg))
    back = pyproj.Transformer.from_crs(epsg, 32630, always_xy=True)
    values, valid = seen(VALUES, grid)
    expected = by_centers(VALUES, NORTH_UP, grid, back.transform)
    assert (expected >= 0).sum() > 500
    np.testing.assert_array_equal(np.where(valid, values.astype(int), -1), expected)


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 59), col=st.integers(0, 69), height=st.integers(1, 60), width=st.integers(1, 70))
@pytest.mark.parametrize("epsg", [32630, 32631])
def test_a_pixel_does_not_depend_on_the_window(epsg, row, col, height, width):
    to = pyproj.Transformer.from_crs(32630, epsg, always_xy=True)
    x, y = to.transform(500_000, 6_000_000)
    grid = GeoGrid(60, 70, Affine(0.3, 0, x, 0, -0.3, y), CRS.from_epsg(epsg))
    band = AlignedBand("raster.tif", opened(VALUES), grid)
    whole, known = band.read(grid.extent)
    window = Window(row, col, height, width).intersect(grid.extent)
    values, valid = band.read(window)
    np.testing.assert_array_equal(values, whole[window.within(grid.extent)])
    np.testing.assert_array_equal(valid, known[window.within(grid.extent)])


def test_a_slight_shear_is_not_taken_for_the_same_grid():
    """As many pixels, and the same first one, but not the same ones between."""
    values = np.random.default_rng(0).integers(1, 250, (100, 400)).astype("uint8")
    grid = GeoGrid(100, 400, NORTH_UP @ Affine(1, 0.0004, 0.1, 0.0004, 0.999, 0.1), UTM)
    found, valid = seen(values, grid)
    np.testing.assert_array_equal(np.where(valid, found.astype(int), -1), by_centers(values, NORTH_UP, grid))


def test_a_fine_raster_is_read_in_parts(monkeypatch):
    grid = GeoGrid(8, 10, NORTH_UP @ Affine.scale(5), UTM)
    whole, _ = seen(VALUES, grid)
    monkeypatch.setattr(align, "_AT_ONCE", 60)
    parts, valid = seen(VALUES, grid)
    np.testing.assert_array_equal(parts, whole)
    assert valid.all()


def test_nodata_is_invalid():
    values = VALUES.copy()
    values[3, 4] = 0
    _, valid = seen(values, GeoGrid(40, 50, NORTH_UP, UTM), nodata=0)
    assert np.argwhere(~valid).tolist() == [[3, 4]]


def test_pixels_without_georeferencing_are_compared_one_to_one():
    values, valid = seen(VALUES, GeoGrid(50, 60, Affine.identity(), None), Affine.identity(), None)
    np.testing.assert_array_equal(values[:40, :50], VALUES)
    assert valid.sum() == 2000
