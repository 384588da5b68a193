"""Labels of scores: from masks, class maps and layers."""

from contextlib import ExitStack
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from prngeo.errors import UsageError
from prngeo.scores.classes import Classes
from prngeo.scores.labels import LabelOptions, labelled
from prngeo.scores.match import named
from prngeo.scores.rasters import open_scores
from prngeo.tiling.grid import Window
from tests.scores.conftest import UTM, planted, sigmoid

WHOLE = Window(0, 0, 64, 64)
ROADS = Classes(("roads",))
BOTH = Classes(("roads", "water"), (1, 4))


@pytest.fixture
def scores(write):
    """A raster of scores, 64 x 64 pixels of 0.5 m, its last column without scores."""
    values = sigmoid(planted(0)[0]).astype("float32")
    values[:, -1] = np.nan
    return write(values, "scores/a.tif")


@pytest.fixture
def truth():
    """Truth of scores with the labels of patterns."""
    with ExitStack() as stack:

        def read(scores, *labels, classes=ROADS, **options):
            files = named([scores] if isinstance(scores, str) else scores)
            rasters = stack.enter_context(open_scores([file.path for file in files], "auto"))
            keys = [file.key for file in files]
            found = labelled(rasters, keys, named(labels), classes, LabelOptions(**options))
            return {scene.name: scene.truth(WHOLE) for scene in stack.enter_context(found)}

        yield read


def layer(path, shapes, crs=UTM, to=None, **columns):
    """Shapes in pixels of the scores (x right, y down) as a vector file."""
    placed = shapely.transform(np.array(shapes), lambda p: p * [0.5, -0.5] + [500_000, 5_000_000])
    frame = geopandas.GeoDataFrame(columns, geometry=list(placed), crs=crs)
    frame = frame if to is None else frame.to_crs(to)
    frame.to_file(path)
    return str(path)


def square(row, col, height, width):
    expected = np.zeros((64, 64), np.uint8)
    expected[row : row + height, col : col + width] = 1
    expected[:, -1] = 255
    return expected


def test_polygons_in_another_coordinate_system_are_drawn(scores, truth, tmp_path):
    path = layer(tmp_path / "roads.gpkg", [shapely.box(10, 20, 30, 40)], to="EPSG:4326")
    np.testing.assert_array_equal(truth(scores, path)["a"][0], square(20, 10, 20, 20))


def test_lines_take_their_width_in_metres(scores, truth, tmp_path):
    path = layer(tmp_path / "roads.geojson", [shapely.LineString([(10, 32), (50, 32)])], to="EPSG:4326")
    drawn = truth(scores, path, line_width=4.0)["a"][0]
    assert abs(int((drawn == 1).sum()) - 40 * 8) <= 16
    with pytest.raises(UsageError, match="tell how wide roads are with --line-width"):
        truth(scores, path)


def test_outside_the_area_of_interest_nothing_is_known(scores, truth, tmp_path):
    path = layer(tmp_path / "roads.gpkg", [shapely.box(10, 20, 30, 40)])
    aoi = layer(tmp_path / "aoi.gpkg", [shapely.box(0, 0, 20, 64)])
    drawn = truth(scores, path, aoi=Path(aoi))["a"][0]
    np.testing.assert_array_equal(drawn[:, 20:], 255)
    np.testing.assert_array_equal(drawn[:, :20], square(20, 10, 20, 20)[:, :20])


def test_masks_are_matched_by_name_and_their_nodata_is_ignored(scores, truth, write):
    mask = square(5, 5, 10, 10) * (square(5, 5, 10, 10) < 2)
    mask[50:] = 7
    write(mask, "masks/a.tif", nodata=7)
    write(mask[:32], "masks/b.tif", nodata=7)
    drawn = truth(scores, str(Path(scores).parent.parent / "masks" / "*.tif"))["a"][0]
    expected = square(5, 5, 10, 10)
    expected[50:] = 255
    np.testing.assert_array_equal(drawn, expected)


def test_masks_of_another_name_are_matched_by_place_and_join(scores, truth, write):
    mask = square(5, 5, 10, 10) % 255
    left = write(mask[:, :32], "x.tif")
    right = write(mask[:, 32:], "y.tif", origin=(500_016, 5_000_000))
    np.testing.assert_array_equal(truth(scores, left, right)["a"][0], square(5, 5, 10, 10))
    np.testing.assert_array_equal(truth(scores, left)["a"][0][:, 32:], 255)


def test_class_maps_give_every_class_its_own_labels(write, truth):
    values = np.stack([sigmoid(planted(0)[0])] * 2).astype("float32")
    scores = write(values, "a.tif")
    drawn = np.zeros((64, 64), np.uint8)
    drawn[:10], drawn[10:20], drawn[20:30], drawn[30:40] = 1, 4, 3, 255
    roads, water = truth(scores, write(drawn, "map.tif"), classes=BOTH)["a"]
    assert (roads[:10] == 1).all()
    assert (roads[10:30] == 0).all()
    assert (water[10:20] == 1).all()
    assert (water[20:30] == 0).all()
    assert (roads[30:40] == 255).all()
    assert (water[30:40] == 255).all()


@pytest.mark.parametrize("kinds", [["roads", "water", "tree"], [1, 4, 9], [1.0, 4.0, 9.0]])
def test_layers_with_a_class_attribute_may_overlap(write, truth, tmp_path, kinds):
    values = np.stack([sigmoid(planted(0)[0])] * 2).astype("float32")
    scores = write(values, "a.tif")
    shapes = [shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30), shapely.box(40, 40, 50, 50)]
    path = layer(tmp_path / "l.gpkg", shapes, kind=kinds)
    roads, water = truth(scores, path, classes=BOTH, class_field="kind")["a"]
    assert (roads[10:20, 10:20] == 1).all()
    assert (water[10:20, 10:20] == 1).all()
    assert roads.sum() == water.sum() == 400


def test_a_scene_that_no_feature_touches_is_left_out_unless_the_area_says_it_is_complete(
    scores, write, truth, tmp_path
):
    values = sigmoid(planted(1)[0]).astype("float32")
    far = write(values, "scores/far.tif", origin=(500_500, 5_000_000))
    path = layer(tmp_path / "roads.gpkg", [shapely.box(10, 20, 30, 40)])
    assert list(truth([scores, far], path)) == ["a"]
    aoi = layer(tmp_path / "aoi.gpkg", [shapely.box(0, 0, 5000, 64)])
    both = truth([scores, far], path, aoi=Path(aoi))
    assert list(both) == ["a", "far"]
    assert not both["far"].any()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda p: layer(p / "l.gpkg", [shapely.box(9000, 0, 9010, 10)]), {}, "no feature lies on"),
        (lambda p: layer(p / "l.geojson", []), {}, "holds no feature"),
        (lambda p: layer(p / "l.gpkg", [shapely.Point(5, 5)]), {}, "polygons or lines can be compared"),
        (lambda p: layer(p / "l.gpkg", [shapely.box(0, 0, 9, 9)], kind=["x"]), {"classes": BOTH}, "with --class-field"),
        (
            lambda p: layer(p / "l.gpkg", [shapely.box(0, 0, 9, 9)], kind=["x"]),
            {"classes": BOTH, "class_field": "nosuch"},
            r"no attribute nosuch \(--class-field\); it has kind",
        ),
        (
            lambda p: layer(p / "l.gpkg", [shapely.box(0, 0, 9, 9)], kind=["x"]),
            {"classes": BOTH, "class_field": "kind"},
            "kind holds x, and none of the classes roads, water",
        ),
        (lambda p: str(p / "nosuch.gpkg"), {}, "no such file"),
    ],
)
def test_layers_that_do_not_suit_are_refused(scores, truth, tmp_path, make, options, message):
    with pytest.raises(UsageError, match=message):
        truth(scores, make(tmp_path), **options)


def test_plain_pictures_of_another_size_or_name_are_refused(write, truth):
    values = np.rint(sigmoid(planted(0)[0]) * 255).astype("uint8")
    one, other = write(values, "p/one.png", crs=None), write(values, "p/other.png", crs=None)
    mask = planted(0)[1] * np.uint8(255)
    with pytest.raises(UsageError, match="has 64 x 32 pixels, the raster beside it 64 x 64"):
        truth(one, write(mask[:32], "m/one.png", crs=None))
    with pytest.raises(UsageError, match=r"neither their names \(cat, one\) nor their places meet"):
        truth([one, other], write(mask, "m/cat.png", crs=None))


def test_plain_pictures_of_one_name_are_refused(write, truth):
    scores = [
        write(np.arange(4096, dtype="uint16").reshape(64, 64).astype("uint8"), f"{folder}/a.png", crs=None)
        for folder in "xy"
    ]
    masks = [write(planted(0)[1], f"m{folder}/a.png", crs=None) for folder in "xy"]
    with pytest.raises(UsageError, match=r"x/a.png and .*y/a.png are both called 'a'"):
        truth(scores, masks[0])
    with pytest.raises(UsageError, match=r"mx/a.png and .*my/a.png are both called 'a'"):
        truth(scores[0], *masks)


def test_layers_that_touch_one_scene_join(scores, truth, tmp_path):
    north = layer(tmp_path / "north.gpkg", [shapely.box(5, 5, 15, 15)])
    south = layer(tmp_path / "south.gpkg", [shapely.box(5, 40, 15, 50)])
    expected = np.maximum(square(5, 5, 10, 10), square(40, 5, 10, 10))
    np.testing.assert_array_equal(truth(scores, north, south)["a"][0], expected)
