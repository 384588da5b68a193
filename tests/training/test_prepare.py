import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from shapely.geometry import LineString, box

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.tiling.grid import Window
from prngeo.training.prepare import prepare
from prngeo.training.regions import IGNORE, load_regions, read_index
from tests.training.conftest import GSD, SIZE, UTM, north_up, roles


def test_pixels_and_labels_are_cached_as_they_are(tmp_path, scene, config):
    image, mask = scene("s", shape=(37, 53))
    (region,) = prepare(config(tmp_path), tmp_path / "cache")
    assert region.shape == (37, 53)
    assert region.gsd == pytest.approx((GSD, GSD))
    assert region.targets == ("roads",)
    (cached,) = load_regions(tmp_path / "cache", "train")
    assert cached.region == region
    np.testing.assert_array_equal(np.moveaxis(cached.image[..., :3], -1, 0), image)
    assert (cached.image[..., 3] == 255).all()
    np.testing.assert_array_equal(cached.labels[..., 1], mask)
    assert (cached.labels[..., 0] == IGNORE).all(), "buildings are not labelled there"


def test_roles_follow_the_patterns_and_test_wins(tmp_path, scene, config):
    for i, name in enumerate(["t_1", "v_1", "r_1", "other"]):
        scene(name, north_up(500_000 + 1000 * i))
    patterns = {"test": ["t_*"], "validation": ["v_?", "t_1"], "refine": ["r_*"]}
    found = prepare(config(tmp_path, patterns), tmp_path / "cache")
    assert roles(found) == {"a-t_1": "test", "a-v_1": "validation", "a-r_1": "refine", "a-other": "train"}
    assert [region.role for region in found] == ["test", "validation", "refine", "train"]


SIDE = SIZE * GSD


@pytest.mark.parametrize(("distance", "kept"), [(0, False), (59, False), (61, True)])
@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_scene_closer_than_the_gap_to_a_held_out_one_is_dropped(tmp_path, scene, distance, kept, direction, config):
    scene("held")
    step = SIDE + distance
    scene("near", north_up(500_000 + step * direction[0], 6_000_000 + step * direction[1]))
    found = roles(prepare(config(tmp_path, {"test": ["held"], "gap": 60}), tmp_path / "cache"))
    assert found == {"a-held": "test"} | ({"a-near": "train"} if kept else {})


def test_the_stricter_role_pushes_out_the_other(tmp_path, scene, config):
    """A row of abutting scenes: the refine one yields to validation, which yields to nothing here."""
    for i, name in enumerate(["train", "refine", "validation"]):
        scene(name, north_up(500_000 + i * SIDE))
    source = {"refine": ["refine"], "validation": ["validation"], "gap": 5}
    assert roles(prepare(config(tmp_path, source), tmp_path / "cache")) == {
        "a-validation": "validation",
        "a-train": "train",
    }


def test_scenes_of_one_role_may_abut(tmp_path, scene, config):
    for i in range(3):
        scene(f"s{i}", north_up(500_000 + i * SIDE))
    assert len(prepare(config(tmp_path), tmp_path / "cache")) == 3


@pytest.mark.parametrize(
    ("crs", "x", "y", "unit", "northward"),
    [
        ("EPSG:4326", 100.0, 10.0, 1 / 111_000, True),
        ("EPSG:4326", 100.0, 60.0, 1 / 111_000, False),
        ("EPSG:3857", 1_000_000.0, 6_500_000.0, 1.0, True),
        ("EPSG:3857", 9_000_000.0, 6_500_000.0, 1.0, True),
    ],
)
def test_the_gap_is_metres_where_units_are_not(tmp_path, scene, crs, x, y, unit, northward, config):
    """A unit's length differs between neighbors, so places must not be multiplied by it."""
    gsd = GSD * unit
    side = 400 * gsd
    for name, steps in (("held", 0), ("near", 1), ("far", 3)):
        place = (x, y + steps * side) if northward else (x + steps * side, y)
        scene(name, north_up(*place, gsd), crs, shape=(400, 400))
    found = prepare(config(tmp_path, {"test": ["held"], "gap": 30}), tmp_path / "cache")
    assert roles(found) == {"a-held": "test", "a-far": "train"}


def test_sources_push_out_each_others_scenes(tmp_path, scene, config):
    """The same ground labelled for two targets: what one source tests on, the other must not train on."""
    scene("s")
    first = {"name": "a", "test": ["s"]}
    second = {"name": "b", "labels": {"buildings": "masks/*.tif"}}
    assert roles(prepare(config(tmp_path, first, second), tmp_path / "cache")) == {"a-s": "test"}


@pytest.mark.parametrize("crs", [UTM, None])
def test_an_area_held_out_by_one_source_is_kept_from_another(tmp_path, scene, crs, config):
    scene("s", None if crs else Affine.identity(), crs)
    area = {"role": "test", "rows": [0, 10], "cols": [0, 10]}
    first, second = {"name": "a", "areas": [area], "gsd": 0.5, "gap": 1}, {"name": "b", "gsd": 0.5, "gap": 1}
    found = roles(prepare(config(tmp_path, first, second), tmp_path / "cache"))
    assert found == {"a-s-test0": "test", "a-s": "train"}


def test_scenes_in_pixel_coordinates_do_not_abut(tmp_path, scene, config):
    for seed, name in enumerate(["held", "s"]):
        scene(name, Affine.identity(), None, seed)
    source = {"test": ["held"], "gsd": 0.5}
    assert roles(prepare(config(tmp_path, source), tmp_path / "cache")) == {"a-held": "test", "a-s": "train"}


def test_areas_are_regions_of_their_own_and_forbidden_to_training(tmp_path, scene, config):
    image, mask = scene("s", shape=(100, 120))
    areas = [
        {"role": "test", "rows": [0, 30], "cols": [0, 50]},
        {"role": "validation", "rows": [80, 500], "cols": [100, 110]},
    ]
    test, validation, train = prepare(config(tmp_path, {"areas": areas, "gap": 5}), tmp_path / "cache")
    assert (test.role, test.window, test.shape) == ("test", Window(0, 0, 30, 50), (30, 50))
    assert (validation.role, validation.window) == ("validation", Window(80, 100, 20, 10))
    assert train.forbidden == (Window(-10, -10, 50, 70), Window(70, 90, 40, 30)), "5 m are 10 pixels"
    (cached,) = load_regions(tmp_path / "cache", "validation")
    np.testing.assert_array_equal(np.moveaxis(cached.image[..., :3], -1, 0), image[:, 80:, 100:110])
    np.testing.assert_array_equal(cached.labels[..., 1], mask[80:, 100:110])
    (cached,) = load_regions(tmp_path / "cache", "train")
    assert cached.region == train
    assert cached.image.shape == (100, 120, 4)


@pytest.mark.parametrize("rows", [[40, 50], [30, 30], [30, 20]])
def test_an_area_without_pixels_is_an_error(tmp_path, scene, rows, config):
    scene("s")
    area = {"role": "test", "rows": rows, "cols": [0, 10]}
    with pytest.raises(UsageError, match=r"area of rows .* holds no pixel"):
        prepare(config(tmp_path, {"areas": [area]}), tmp_path / "cache")


@pytest.mark.parametrize(
    ("values", "nodata", "meaning", "expected"),
    [
        ([0, 255, 255, 0], None, "auto", [0, 1, 1, 0]),
        ([0, 255, 1, 0], 255, "auto", [0, IGNORE, 1, 0]),
        ([0, 0, 1, 0], 0, "auto", [0, 0, 1, 0]),
        ([0, 255, 1, 7], None, "mask", [0, 1, 1, 1]),
        ([0, 255, 1, 7], 7, "mask", [0, 1, 1, IGNORE]),
        ([0, 100, 49, 50], None, "percent", [0, 1, 0, 1]),
        ([0, 250, 127, 128], None, "auto", [0, 1, 0, 1]),
    ],
)
def test_values_of_masks(tmp_path, scene, values, nodata, meaning, expected, config):
    mask = np.array([values] * 4, "uint8")
    scene("s", shape=(4, 4), mask=mask, mask_options={"nodata": nodata})
    labels = {"roads": {"path": "masks/*.tif", "values": meaning}}
    prepare(config(tmp_path, {"labels": labels}), tmp_path / "cache")
    (cached,) = load_regions(tmp_path / "cache", "train")
    np.testing.assert_array_equal(cached.labels[..., 1], [expected] * 4)


def test_a_mask_of_values_that_mean_nothing_is_refused_with_the_key_that_mends_it(tmp_path, scene, config):
    scene("s", shape=(4, 4), mask=np.array([[0, 1, 255, 0]] * 4, "uint8"))
    with pytest.raises(UsageError, match=r"does not say whether 255 is nodata.*labels\.roads\.values"):
        prepare(config(tmp_path), tmp_path / "cache")


def test_no_data_in_the_scene_is_unlabelled(tmp_path, write, config):
    image = np.random.default_rng(0).integers(1, 255, (3, SIZE, SIZE)).astype("uint8")
    image[:, :7] = 0
    write("images/s.tif", image, nodata=0)
    write("masks/s.tif", np.ones((1, SIZE, SIZE), "uint8"))
    prepare(config(tmp_path), tmp_path / "cache")
    (cached,) = load_regions(tmp_path / "cache", "train")
    assert (cached.labels[:7] == IGNORE).all()
    assert (cached.labels[7:, :, 1] == 1).all()
    np.testing.assert_array_equal(cached.image[..., 3] > 0, image[0] > 0)


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
@pytest.mark.parametrize("areas", [[], [{"role": "train", "rows": [5, 30], "cols": [10, 40]}]])
def test_polygons_at_known_coordinates(tmp_path, scene, crs, areas, config, draw):
    scene("s")
    t = north_up()
    shapes = [box(*(t @ (10.2, 20.3)), *(t @ (15.2, 5.3))), LineString([t @ (0, 0), t @ (40, 40)])]
    draw(tmp_path / "roofs.gpkg", geopandas.GeoSeries(shapes, crs=UTM).to_crs(crs), crs)
    areas = [area | {"role": "refine"} for area in areas]
    source = {"labels": {"buildings": "roofs.gpkg"}, "areas": areas, "gap": 2}
    prepare(config(tmp_path, source), tmp_path / "cache")
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[5:20, 10:15] = 1
    (cached,) = load_regions(tmp_path / "cache", "train")
    np.testing.assert_array_equal(cached.labels[..., 0], expected)
    assert (cached.labels[..., 1] == IGNORE).all()
    for part in load_regions(tmp_path / "cache", "refine"):
        np.testing.assert_array_equal(part.labels[..., 0], expected[5:30, 10:40])


@pytest.mark.parametrize("undefined", [{}, {"SRID": "-1"}])
def test_polygons_of_a_scene_without_georeferencing_have_y_upward(tmp_path, scene, undefined, config, draw):
    scene("s", Affine.identity(), None)
    draw(tmp_path / "roofs.gpkg", [box(10, -20, 15, -5)], None, undefined)
    source = {"labels": {"buildings": "roofs.gpkg"}, "gsd": 0.5}
    prepare(config(tmp_path, source), tmp_path / "cache")
    (cached,) = load_regions(tmp_path / "cache", "train")
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[5:20, 10:15] = 1
    np.testing.assert_array_equal(cached.labels[..., 0], expected)
    draw(tmp_path / "roofs.gpkg", [box(10, -20, 15, -5)])
    with pytest.raises(UsageError, match="EPSG:32630"):
        prepare(config(tmp_path, source), tmp_path / "other")


def test_a_layer_without_system_is_refused_for_a_placed_scene(tmp_path, scene, config, draw):
    scene("s")
    draw(tmp_path / "roofs.gpkg", [shapely.box(0, 0, 1, 1)], None)
    with pytest.raises(UsageError, match="no coordinate system"):
        prepare(config(tmp_path, {"labels": {"buildings": "roofs.gpkg"}}), tmp_path / "cache")


def test_a_mask_of_another_size_without_a_place_is_refused(tmp_path, scene, write, config):
    scene("s", Affine.identity(), None)
    write("masks/s.tif", np.zeros((1, SIZE, SIZE - 1), "uint8"), Affine.identity(), None)
    with pytest.raises(UsageError, match=r"labels\.roads .*s\.tif has 39 x 40 pixels, the raster beside it 40 x 40"):
        prepare(config(tmp_path, {"gsd": 0.5}), tmp_path / "cache")
    assert read_index(tmp_path / "cache") == ("", [])


def test_patterns_without_files_are_errors(tmp_path, scene, config):
    scene("s")
    with pytest.raises(UsageError, match=r"Source a: no image matches .*root=FOLDER"):
        prepare(config(tmp_path, {"images": "pictures/*.tif"}), tmp_path / "cache")
    with pytest.raises(UsageError, match=r"Source a: no label file matches .*png; set labels\.roads\.path"):
        prepare(config(tmp_path, {"labels": {"roads": "masks/*.png"}}), tmp_path / "cache")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "images"}, r"images is a folder; give a pattern .*images/\*\.tif"),
        ({"labels": {"roads": "masks/"}}, r"masks is a folder; .*labels\.roads\.path, such as masks/\*\.tif"),
    ],
)
def test_a_folder_in_place_of_a_pattern_is_an_error_that_tells_the_pattern(tmp_path, scene, values, message, config):
    scene("s")
    with pytest.raises(UsageError, match=message):
        prepare(config(tmp_path, values), tmp_path / "cache")


def test_a_role_that_no_name_matches_is_an_error_and_a_pattern_of_several_is_told(tmp_path, scene, config, caplog):
    for i, name in enumerate(["north_1", "south_1"]):
        scene(name, north_up(500_000 + 1000 * i))
    with pytest.raises(UsageError, match=r"no image has a name that `test` \(noth_\*\) matches.*called north_1"):
        prepare(config(tmp_path, {"test": ["noth_*"], "validation": ["south_*"]}), tmp_path / "cache")
    assert not (tmp_path / "cache" / "a-north_1").exists(), "refused before anything is cached"
    found = prepare(config(tmp_path, {"test": ["east_*", "south_*"]}), tmp_path / "cache")
    assert roles(found) == {"a-north_1": "train", "a-south_1": "test"}
    assert "no image has a name that `test` matches: east_*" in caplog.text


def test_two_scenes_of_one_name_are_an_error(tmp_path, scene, write, config):
    scene("s")
    for folder in ("east", "west"):
        write(f"{folder}/s.tif", np.ones((3, SIZE, SIZE), "uint8"))
    with pytest.raises(UsageError, match=r"east.s\.tif and .*west.s\.tif have the same name"):
        prepare(config(tmp_path, {"images": "*st/s.tif"}), tmp_path / "cache")


def test_towns_have_roles_consecutive_seeds_and_all_targets(tmp_path):
    towns = {"train": 2, "refine": 1, "validation": 1, "test": 1, "size": 96, "seed": 7}
    settings = TrainConfig(name="t", targets=["buildings", "roads"], towns=towns, gsd=(0.3, 1.2))
    found = prepare(settings, tmp_path)
    assert [region.key for region in found] == [f"synthetic-{seed}" for seed in range(7, 12)]
    assert [region.role for region in found] == ["train", "train", "refine", "validation", "test"]
    assert all(0.3 <= region.gsd[0] == region.gsd[1] <= 1.2 for region in found)
    assert found[0].gsd != found[1].gsd
    for cached in load_regions(tmp_path, "train"):
        assert cached.image.shape == (96, 96, 4)
        assert set(np.unique(cached.labels)) <= {0, 1}


def test_scenes_that_abut_share_a_block_also_through_others(tmp_path, scene, config):
    for name, column in [("a", 0), ("b", 2 * SIZE), ("c", 5 * SIZE), ("between", SIZE)]:
        scene(name, transform=north_up(x=500_000.0 + column * GSD))
    blocks = {region.scene[-5]: region.block for region in prepare(config(tmp_path, {"gap": 5.0}), tmp_path / "cache")}
    assert blocks["a"] == blocks["b"] == blocks["n"] != blocks["c"]
