import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from prngeo.errors import UsageError
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.tiling.grid import Grid, Window
from prngeo.vectorize.write import write_layers

X, Y = 500_000, 6_000_000
NORTH_UP = Affine(0.5, 0, X, 0, -0.5, Y)
ROTATED = NORTH_UP @ Affine.rotation(33)
WHOLE = Window(0, 0, 90, 120)


def grid(transform=NORTH_UP, epsg=32630):
    return GeoGrid(WHOLE.height, WHOLE.width, transform, CRS.from_epsg(epsg) if epsg else None)


@pytest.fixture
def write(tmp_path):
    def make(geometries, epsg=32630, name="aoi.gpkg"):
        path = tmp_path / name
        geopandas.GeoDataFrame(geometry=list(geometries), crs=epsg).to_file(path)
        return path

    return make


def ground(shapes, transform=NORTH_UP):
    """Shapes in pixels brought to the map."""
    t = transform
    return [shapely.affinity.affine_transform(shape, (t.a, t.b, t.d, t.e, t.c, t.f)) for shape in shapes]


def inside(shapes):
    """By pixel centers, brute force."""
    rows, cols = np.mgrid[: WHOLE.height, : WHOLE.width] + 0.5
    return shapely.contains_xy(shapely.union_all(shapes), cols, rows)


SHAPES = [
    Polygon([(10.2, 5.3), (60.7, 20.1), (33.3, 70.9)]),
    Polygon([(80.1, 50.2), (119, 50.2), (119, 89), (80.1, 89)], [[(90, 60), (110, 60), (110, 80), (90, 80)]]),
    box(100.3, -50, 300, 10.7),
]


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_a_pixel_belongs_if_its_center_lies_inside(write, transform):
    aoi = Aoi(write(ground(SHAPES, transform)), grid(transform))
    np.testing.assert_array_equal(aoi.read(WHOLE), inside(SHAPES))


def test_windows_are_cut_outs_of_the_whole_and_touches_tells_which_are_empty(write):
    aoi = Aoi(write(ground(SHAPES)), grid())
    whole = aoi.read(WHOLE)
    tiles = Grid(WHOLE.height, WHOLE.width, 17)
    skipped = 0
    for index in tiles.indices():
        window = tiles.window(index).intersect(WHOLE)
        part = aoi.read(window)
        np.testing.assert_array_equal(part, whole[window.within(WHOLE)])
        assert aoi.touches(window) or not part.any()
        skipped += not aoi.touches(window)
    assert skipped


@pytest.mark.parametrize("epsg", [4326, 3857, 32631, 3035])
def test_any_coordinate_system(write, epsg):
    shapes = geopandas.GeoSeries(ground(SHAPES), crs=32630).to_crs(epsg)
    found = Aoi(write(shapes, epsg), grid()).read(WHOLE)
    assert (found != inside(SHAPES)).sum() <= 3


@pytest.mark.parametrize("bounds", [(-180, -90, 180, 90), (-180, -85, 180, 85), (-20, 30, 40, 70)])
def test_an_area_far_larger_than_the_scene_covers_it(write, bounds):
    """A projection has no coordinates for most of the world."""
    assert Aoi(write([box(*bounds)], 4326), grid()).read(WHOLE).all()


def test_a_long_straight_edge_bends_with_the_projection(write):
    """A parallel is an arc in UTM: over this scene of 40 km its chord runs 40 m beside it."""
    side = 40_000
    wide = GeoGrid(side, side, Affine(1, 0, X, 0, -1, Y), CRS.from_epsg(32630))
    lat = geopandas.GeoSeries.from_xy([X], [Y - side / 2], crs=32630).to_crs(4326).y[0]
    aoi = Aoi(write([box(-9, lat, 9, lat + 5)], 4326), wide)
    for col in (0, 10_000, 20_000, side - 1):
        column = aoi.read(Window(0, col, side, 1))[:, 0]
        edge = int(column.argmin())
        assert column[:edge].all()
        assert not column[edge:].any()
        found = geopandas.GeoSeries.from_xy([X + col + 0.5], [Y - edge], crs=32630).to_crs(4326).y[0]
        assert (found - lat) * 111_000 == pytest.approx(0, abs=1)


def test_repairing_a_polygon_leaves_no_lines(write):
    spike = [(10, 10), (20, 10), (20, 20), (60, 20), (20, 20), (10, 20)]
    bow_tie = [(40, 40), (60, 60), (60, 40), (40, 60)]
    found = Aoi(write(ground([Polygon(spike), Polygon(bow_tie)])), grid()).read(WHOLE)
    assert found[10:20, 10:20].all()
    assert not found[10:22, 20:62].any()
    assert found.sum() == pytest.approx(100 + 200, abs=21)


def test_collections_multipolygons_and_heights(write):
    many = [
        GeometryCollection([box(0, 0, 10, 10), Point(50, 50), LineString([(60, 60), (80, 80)])]),
        MultiPolygon([box(20, 20, 30, 30), box(40, 40, 50, 50)]),
        Polygon([(60, 0, 7), (70, 0, 7), (70, 10, 7), (60, 10, 7)]),
    ]
    assert Aoi(write(ground(many)), grid()).read(WHOLE).sum() == 400


def test_without_coordinate_system_polygons_are_in_pixels_with_y_upward(write):
    shape = box(10, -30, 50, -5)
    aoi = Aoi(write([shape], None), grid(Affine.identity(), None))
    expected = np.zeros(WHOLE.shape, bool)
    expected[5:30, 10:50] = True
    np.testing.assert_array_equal(aoi.read(WHOLE), expected)
    assert aoi.touches(Window(0, 0, 6, 11))
    assert not aoi.touches(Window(31, 0, 10, 100))


def test_a_geopackage_of_undefined_system_is_in_pixels(tmp_path):
    """So QGIS, and prngeo itself, saves what was drawn over a scene without georeferencing."""
    path = write_layers({"area": geopandas.GeoDataFrame(geometry=[box(10, -30, 50, -5)])}, tmp_path / "aoi")[0]
    assert geopandas.read_file(path).crs is not None
    assert Aoi(path, grid(Affine.identity(), None)).read(WHOLE).sum() == 25 * 40


@pytest.mark.parametrize("shape", [box(-50, 0, -10, 50), box(120, 0, 200, 90), box(-10, -10, 0, 100)])
def test_an_area_beside_the_scene_is_an_error(write, shape):
    """Also one that only shares a border with it."""
    with pytest.raises(UsageError, match="does not touch the scene"):
        Aoi(write(ground([shape])), grid())


def test_an_area_on_the_other_side_of_the_world_is_an_error(write):
    with pytest.raises(UsageError, match="does not touch the scene"):
        Aoi(write([box(150, -40, 160, -30)], 4326), grid())


def test_no_polygon_no_system_no_layer_are_errors(write, tmp_path):
    with pytest.raises(UsageError, match="no polygon"):
        Aoi(write([LineString([(X, Y), (X + 9, Y - 9)])]), grid())
    with pytest.raises(UsageError, match="no polygon"):
        Aoi(write([]), grid())
    with pytest.raises(UsageError, match="no coordinate system, the scene has EPSG:32630"):
        Aoi(write(ground(SHAPES), None, "plain.gpkg"), grid())
    with pytest.raises(UsageError, match=r"is in EPSG:32630, but the scene has no coordinate system"):
        Aoi(write(ground(SHAPES), name="placed.gpkg"), grid(Affine.identity(), None))
    (tmp_path / "text.gpkg").write_text("not a layer")
    with pytest.raises(UsageError, match="cannot be read as a vector layer"):
        Aoi(tmp_path / "text.gpkg", grid())
