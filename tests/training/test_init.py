"""`prngeo train --init`, on real files, through the command line."""

import re
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry import LineString, Point, box

from prngeo.cli.app import run
from prngeo.config import load_train_config

UTM = "EPSG:32631"
X, Y = 500_000.0, 5_000_000.0


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def init(here, capsys):
    """Runs `prngeo train --init my.yaml ARGUMENTS`; its code and what it said."""

    def call(*arguments):
        code = run(["train", "--init", "my.yaml", *map(str, arguments)])
        return code, capsys.readouterr().err

    return call


def write(path, values, x=X, y=Y, gsd=0.5, crs=UTM, colors=None, **options):
    """Writes (bands, rows, columns); without crs nothing tells where it lies."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    place = {} if crs is None else {"crs": crs, "transform": Affine(gsd, 0, x, 0, -gsd, y)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **place, **options
        ) as file:
            file.write(values)
            if colors is not None:
                file.colorinterp = colors
    return path


def scene(name, size=600, bands=3, dtype="uint8", **options):
    values = np.random.default_rng(0).integers(1, 255, (bands, size, size)).astype(dtype)
    return write(f"ortho/{name}.tif", values, **options)


def mask(name, size=600, share=0.25, folder="masks", on=1, **options):
    values = np.zeros((1, size, size), "uint8")
    values[:, : round(share * size)] = on
    return write(f"{folder}/{name}.tif", values, **options)


def layer(path, shapes, crs=UTM, layer=None, append=False, **fields):
    frame = geopandas.GeoDataFrame(fields, geometry=list(shapes), crs=crs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        frame.to_file(path, layer=layer, mode="a" if append else "w")
    return path


def street(y=-100.0, length=300.0):
    return LineString([(X, Y + y), (X + length, Y + y)])


def written(here):
    return load_train_config(here / "my.yaml")


def test_masks(here, init):
    for number in range(3):
        scene(f"s{number}", x=X + 1000 * number)
        mask(f"s{number}", x=X + 1000 * number)
    code, said = init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")
    assert code == 0, said
    assert f"scenes: 3, {UTM}, 0.5 m a pixel, 600 x 600 pixels, uint8, bands red, green, blue" in said
    assert "scenes: no two touch" in said
    assert f"roads: 3 masks in {UTM} on 3 of 3 scenes, about 25 % of their pixels" in said
    assert "Next: prngeo train my.yaml" in said
    config = written(here)
    assert (config.name, config.targets, config.gsd) == ("my", ["roads"], (0.4, 0.625))
    (source,) = config.sources
    assert (source.images, source.labels["roads"].path) == ("ortho/*.tif", "masks/*.tif")
    assert config.split is not None
    assert (config.network.weights, config.base.balance) == ("prngeo-rgb", 0.0)
    assert config.refiner.folds >= 2


def test_every_key_has_a_comment_and_the_head_tells_the_command(here, init):
    scene("a")
    layer("roads.gpkg", [street()], width_m=[6.0])
    layer("labelled.gpkg", [box(X, Y - 300, X + 300, Y)])
    assert init("--images", "ortho/*.tif", "--labels", "roads.gpkg", "--aoi", "labelled.gpkg", "--gsd", "0.5")[0] == 0
    lines = (here / "my.yaml").read_text().splitlines()
    assert lines[0] == "# How to train my: prngeo train my.yaml"
    keys = [line for line in lines if re.match(r"\s*(- )?\w+:", line)]
    assert len(keys) > 40
    assert [line for line in keys if not re.search(r"  # \S.{2,}$", line)] == []
    comments = [line.split("  # ")[1] for line in keys]
    assert max(map(len, comments)) < 110


def test_osm_lines_are_as_wide_as_their_tags_tell(here, init):
    scene("a")
    layer("streets.gpkg", [street(), street(-50)], highway=["primary", "service"], width=[None, "4"])
    assert init("--images", "ortho/a.tif", "--labels", "streets.gpkg")[0] == 0
    roads = written(here).sources[0].labels["roads"]
    assert (roads.path, roads.width, roads.width_field) == ("streets.gpkg", "osm", None)


@pytest.mark.parametrize("field", ["width", "WIDTH_M", "road_width", "Breite"])
def test_an_attribute_that_looks_like_a_width_is_taken(here, init, field):
    scene("a")
    layer("roads.gpkg", [street(), street(-50), street(-20)], **{field: [6.0, 7.2, None]}, lanes=[1, 2, 3])
    assert init("--images", "ortho/a.tif", "--labels", "roads.gpkg")[0] == 0
    roads = written(here).sources[0].labels["roads"]
    assert (roads.width_field, roads.width) == (field, 6.5)


@pytest.mark.parametrize("fields", [{}, {"width": ["wide"]}, {"width": [4000.0]}, {"bandwidth": [6.0]}])
def test_a_width_that_nothing_tells_is_a_guess_and_called_one(here, init, fields):
    scene("a")
    layer("roads.gpkg", [street()], **fields)
    code, said = init("--images", "ortho/a.tif", "--labels", "roads.gpkg")
    assert code == 0
    assert "nothing tells how wide the lines of roads are; 8 m is a guess" in said
    assert written(here).sources[0].labels["roads"].width == 8
    assert "A GUESS" in (here / "my.yaml").read_text()


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_polygons_in_any_system(here, init, crs):
    scene("a")
    footprints = geopandas.GeoSeries([box(X, Y - 150, X + 150, Y), box(X + 9000, Y, X + 9001, Y + 1)], crs=UTM)
    layer("footprints.geojson", footprints.to_crs(crs), crs=crs)
    code, said = init("--images", "ortho/a.tif", "--labels", "footprints.geojson")
    assert code == 0
    assert re.search(rf"buildings: 1 polygon in {crs} on 1 of 1 scenes, about 25 % of their pixels", said)
    assert "spread over 25 % of these scenes" in said
    assert written(here).targets == ["buildings"]


def test_of_mixed_osm_polygons_only_buildings_are_meant(here, init):
    scene("a")
    shapes = [box(X, Y - 250, X + 250, Y), box(X, Y - 299, X + 299, Y - 260)]
    layer("osm.gpkg", shapes, building=["yes", None], landuse=[None, "forest"])
    code, said = init("--images", "ortho/a.tif", "--labels", "osm.gpkg")
    assert code == 0
    assert "buildings: 1 polygon in" in said
    config = written(here)
    assert config.targets == ["buildings"]
    assert config.sources[0].labels["buildings"].where == "building IS NOT NULL"


def test_several_layers_are_listed_with_their_features(here, init):
    scene("a")
    layer("osm.gpkg", [street()], layer="lines")
    layer("osm.gpkg", [box(X, Y - 50, X + 50, Y), box(X, Y - 99, X + 50, Y - 60)], layer="areas", append=True)
    code, said = init("--images", "ortho/a.tif", "--labels", "osm.gpkg")
    assert code == 2
    assert "holds 2 layers: lines (LineString, 1 features), areas (Polygon, 2 features)" in said
    assert "'osm.gpkg|layername=lines'" in said
    code, said = init("--images", "ortho/a.tif", "--labels", "osm.gpkg|layername=areas", "--target", "buildings")
    assert code == 0
    assert written(here).sources[0].labels["buildings"].path == "osm.gpkg|layername=areas"


def test_several_targets_and_an_area_of_interest(here, init):
    scene("a")
    layer("roads.gpkg", [street()])
    mask("a", folder="buildings", on=255)
    layer("done.gpkg", [box(X, Y - 200, X + 200, Y)])
    given = ["--images", "ortho/*.tif", "--labels", "roads.gpkg", "--labels", "buildings/*.tif", "--aoi", "done.gpkg"]
    code, said = init(*given)
    assert code == 0
    assert "aoi: touches 1 of 1 scenes" in said
    assert "spread over" not in said
    config = written(here)
    assert config.targets == ["roads", "buildings"]
    assert config.sources[0].aoi == "done.gpkg"


def test_paths_count_from_the_yaml(here, capsys):
    scene("a")
    layer("roads.gpkg", [street()])
    (here / "runs" / "deep").mkdir(parents=True)
    arguments = ["--images", "ortho/*.tif", "--labels", str(here / "roads.gpkg")]
    assert run(["train", "--init", "runs/deep/my.yaml", *arguments]) == 0
    config = load_train_config("runs/deep/my.yaml")
    assert config.sources[0].images == "../../ortho/*.tif"
    assert [path.name for path in config.root.glob(config.sources[0].images)] == ["a.tif"]
    assert config.sources[0].labels["roads"].path == str(here / "roads.gpkg"), "absolute paths stay"


def test_scenes_without_a_place_need_a_gsd(here, init):
    scene("a", crs=None)
    scene("b", crs=None)
    mask("a", crs=None, folder="roads")
    given = ["--images", "ortho/*.tif", "--labels", "roads/*.tif"]
    code, said = init(*given)
    assert code == 2
    assert re.search(r"how large a pixel of ortho.a\.tif is on the ground. Give it with --gsd", said)
    code, said = init(*given, "--gsd", "0.3")
    assert code == 0
    assert "nothing tells which scenes lie side by side" in said
    assert "on 1 of 2 scenes" in said
    config = written(here)
    assert (config.sources[0].gsd, config.gsd) == (0.3, (0.25, 0.375))
    assert re.search(r"# test: \[a\] +# held out by name", (here / "my.yaml").read_text())


def test_masks_belong_to_scenes_by_place_where_names_differ(here, init):
    scene("a")
    scene("b", x=X + 5000)
    mask("other", x=X + 5000)
    code, said = init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")
    assert code == 0
    assert "1 mask in" in said
    assert "on 1 of 2 scenes" in said


@pytest.mark.parametrize(
    ("target", "gsd", "tile", "crop"), [("buildings", (0.25, 0.312), 128, 96), ("trees", (0.075, 0.0938), 512, 256)]
)
def test_chips_keep_their_gsd_unless_the_model_that_is_tuned_knows_coarser_ones(here, init, target, gsd, tile, crop):
    for number in range(16):
        scene(f"c{number}", 256, gsd=0.075, x=X + 19.2 * number)
        mask(f"c{number}", 256, gsd=0.075, x=X + 19.2 * number)
    code, said = init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", target)
    assert code == 0
    assert "scenes: all touch" in said
    config = written(here)
    assert (config.gsd, config.tile, config.base.crop) == (gsd, tile, crop)


@pytest.mark.parametrize(("length", "tile"), [(4200, 512), (2100, 256), (1050, 128), (600, 64)])
def test_a_lone_scene_gets_a_tile_whose_gap_it_has_room_for(here, init, length, tile):
    write("a.tif", np.ones((3, 300, length), "uint8"), gsd=1.2)
    write("mask.tif", np.ones((1, 300, length), "uint8"), gsd=1.2)
    assert init("--images", "a.tif", "--labels", "mask.tif", "--target", "buildings")[0] == 0
    config = written(here)
    assert (config.tile, config.base.crop) == (tile, min(tile, 256))


def test_fine_scenes_are_seen_coarser(here, init):
    scene("a", 1000, gsd=0.1)
    mask("a", 1000, gsd=0.1)
    assert init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")[0] == 0
    assert written(here).gsd == (0.25, 0.312)


def test_mixed_systems_and_gsds(here, init):
    scene("a")
    scene("b", 300, gsd=1.0, crs="EPSG:32632", x=200_000)
    mask("a")
    mask("b", 300, gsd=1.0, crs="EPSG:32632", x=200_000)
    code, said = init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")
    assert code == 0
    assert "EPSG:32631, EPSG:32632, 0.5 to 1 m a pixel, 300 x 300 to 600 x 600 pixels" in said
    assert "no two touch" in said
    assert written(here).gsd == (0.4, 1.25)


def test_rare_targets_are_sought(here, init):
    scene("a")
    mask("a", share=0.02)
    assert init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")[0] == 0
    assert written(here).base.balance == 0.5


RGBN = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)


@pytest.mark.parametrize(
    ("bands", "colors", "seen", "numbers", "weights"),
    [
        (3, None, ["red", "green", "blue"], None, "prngeo-rgb"),
        (4, RGBN, ["red", "green", "blue"], (1, 2, 3), "prngeo-rgb"),
        (4, [RGBN[2], RGBN[1], RGBN[0], RGBN[3]], ["red", "green", "blue"], (3, 2, 1), "prngeo-rgb"),
        (
            4,
            [ColorInterp.gray, *[ColorInterp.undefined] * 3],
            ["band1", "band2", "band3", "band4"],
            None,
            "imagenet-lite0",
        ),
        (4, [*RGBN[:3], ColorInterp.alpha], ["red", "green", "blue"], None, "prngeo-rgb"),
        (1, None, ["gray"], None, "imagenet-lite0"),
    ],
)
def test_bands(here, init, bands, colors, seen, numbers, weights):
    scene("a", bands=bands, colors=colors, photometric=None if bands == 3 else "MINISBLACK")
    mask("a")
    assert init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")[0] == 0
    config = written(here)
    assert (config.bands, config.sources[0].bands, config.network.weights) == (seen, numbers, weights)


def test_other_targets_start_from_imagenet(here, init):
    scene("a")
    mask("a")
    assert init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "solar panels")[0] == 0
    config = written(here)
    assert (config.targets, config.network.weights) == (["solar panels"], "imagenet-lite0")


def test_a_broken_scene_is_left_out_and_said(here, init):
    scene("a")
    mask("a")
    (here / "ortho" / "b.tif").write_bytes(b"II*\0 cut off")
    code, said = init("--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads")
    assert code == 0
    assert re.search(r"warning: ortho.b\.tif is left out: .* cannot be read as a raster", said)


def test_it_replaces_nothing_unasked(here, init):
    scene("a")
    mask("a")
    given = ["--images", "ortho/*.tif", "--labels", "masks/*.tif", "--target", "roads"]
    (here / "my.yaml").write_text("mine")
    code, said = init(*given)
    assert (code, (here / "my.yaml").read_text()) == (2, "mine")
    assert "--overwrite" in said
    assert init(*given, "--overwrite")[0] == 0
    assert written(here).targets == ["roads"]


def files(here):
    scene("a")
    mask("a")
    scene("unplaced", crs=None)
    scene("gray", bands=1)
    write("far.tif", np.ones((1, 9, 9), "uint8"), x=X + 90_000)
    write("classes.tif", np.arange(360_000, dtype="uint8").reshape(1, 600, 600) % 5)
    write("rgb_mask.tif", np.ones((3, 600, 600), "uint8"))
    layer("far.gpkg", [box(X + 90_000, Y, X + 90_010, Y + 10)])
    layer("empty.gpkg", [])
    layer("points.gpkg", [Point(X + 5, Y - 5)])
    layer("buildings.gpkg", [box(X, Y - 50, X + 50, Y)])
    layer("unplaced.gpkg", [box(0, -50, 50, 0)], crs=None)
    (here / "broken.gpkg").write_text("no")
    pandas.DataFrame({"a": [1]}).to_csv("table.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --images"),
        (["--images", "ortho/a.tif"], "needs --labels"),
        (["--labels", "masks/*.tif"], "needs --images"),
        (["--images", "nosuch/*.tif", "--labels", "m"], "no file matches nosuch/.*pattern such as 'ortho/"),
        (["--images", "ortho", "--labels", "m"], r"--images ortho is a folder: .*'ortho/\*\.tif'"),
        (["--images", "ortho/a.tif", "--labels", "masks/"], r"--labels masks/ is a folder: .*'masks/\*\.tif'"),
        (["--images", "table.csv", "--labels", "m"], "none of 1 files can be read.*cannot be read as a raster"),
        (["--images", "ortho/[au]*.tif", "--labels", "m"], "unplaced.tif has no coordinate system and .*has one"),
        (["--images", "ortho/[ag]*.tif", "--labels", "m"], "a.tif has 3 bands and .*gray.tif 1"),
        (["--images", "ortho/a.tif", "--labels", "nosuch/*.tif"], "no file matches nosuch.*layer such as roads.gpkg"),
        (["--images", "ortho/a.tif", "--labels", "nosuch.gpkg"], "no such file"),
        (["--images", "ortho/a.tif", "--labels", "broken.gpkg"], "cannot be read as a vector layer"),
        (["--images", "ortho/a.tif", "--labels", "masks/*.tif"], "Say it with --target"),
        (
            ["--images", "ortho/a.tif", "--labels", "far.tif"],
            "none of 1 masks belongs to a scene. .*called far.*scene a",
        ),
        (
            ["--images", "ortho/a.tif", "--labels", "far.gpkg"],
            "never touches the scenes: none of its 1 features.*degrees",
        ),
        (["--images", "ortho/a.tif", "--labels", "empty.gpkg"], "holds no feature"),
        (["--images", "ortho/a.tif", "--labels", "points.gpkg"], "holds Points; labels are polygons, lines"),
        (
            ["--images", "ortho/a.tif", "--labels", "unplaced.gpkg"],
            "has no coordinate system, and the scenes are in EPSG",
        ),
        (
            ["--images", "ortho/unplaced.tif", "--labels", "buildings.gpkg", "--gsd", "1"],
            "is in EPSG:32631, and the scenes have no",
        ),
        (
            ["--images", "ortho/a.tif", "--labels", "classes.tif"],
            "holds the values 0, 1, 2, 3, 4; a mask of one target",
        ),
        (["--images", "ortho/a.tif", "--labels", "rgb_mask.tif"], "has 3 bands; a mask has one"),
        (
            ["--images", "ortho/a.tif", "--labels", "buildings.gpkg", "--aoi", "far.gpkg"],
            "--aoi far.gpkg never touches",
        ),
        (["--images", "ortho/a.tif", "--labels", "buildings.gpkg", "--aoi", "points.gpkg"], "holds no polygon"),
        (
            ["--images", "ortho/a.tif", "--labels", "buildings.gpkg", "--labels", "buildings.gpkg"],
            "two of them show build",
        ),
        (
            ["--images", "ortho/a.tif", "--labels", "m", "--target", "a", "--target", "b"],
            "--target is given 2 times and --labels 1",
        ),
        (["--images", "ortho/a.tif", "ortho/b.tif", "--labels", "m"], r"takes no ortho/b\.tif. Put patterns in quotes"),
    ],
)
def test_bad_input_has_its_own_message_and_leaves_no_file(here, init, arguments, message):
    files(here)
    code, said = init(*arguments)
    assert code == 2
    assert said.startswith("prngeo: ")
    assert re.search(message, said.replace("\\", "/")), said
    assert list(here.glob("*.yaml")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init", "roads.gpkg", "--images", "a", "--labels", "b"], "ends in .yaml"),
        (["--init", "nosuch/my.yaml", "--images", "a", "--labels", "b"], "no folder nosuch"),
        (["my.yaml", "--images", "a"], "--images goes with --init"),
        (["--labels", "a"], "--labels goes with --init"),
    ],
)
def test_wrong_calls(here, capsys, arguments, message):
    assert run(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.parametrize(
    ("images", "labels", "more", "found"),
    [
        (
            "massachusetts/roads/images/*.tif",
            "massachusetts/roads/masks/*.tif",
            [],
            "roads: {} masks in EPSG:26986 on {}",
        ),
        ("banepa/scene.tif", "banepa/buildings_osm.geojson", [], "buildings: 1,466 polygons in EPSG:4326 on 1 of 1"),
        ("dubai/images/*.jpg", "dubai/road/*.png", ["--gsd", "1"], "roads: {} masks on {} of {} scenes"),
        (
            "kampala/train/images/*.tif",
            "kampala/train/masks/*.tif",
            ["--target", "buildings"],
            "buildings: {} masks in EPSG:4326 on {} of {} scenes",
        ),
    ],
)
def test_real_data(real_data, here, init, images, labels, more, found):
    count = len(list(real_data.glob(images)))
    code, said = init("--images", real_data / images, "--labels", real_data / labels, *more)
    assert code == 0, said
    assert found.format(count, count, count) in said
    config = written(here)
    assert config.network.weights == "prngeo-rgb"
    assert config.sources[0].images == str(real_data / images)
