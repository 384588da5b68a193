"""Truth at known coordinates: polygons, lines and masks on scenes of other grids and coordinate systems."""

import json
from contextlib import ExitStack

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from shapely.geometry import LineString, MultiPolygon, Point, box

from prngeo.config import Labels, Source
from prngeo.errors import UsageError
from prngeo.raster.geogrid import GeoGrid
from prngeo.training.labels import Pixels, TargetLabels, _Features
from prngeo.training.prepare import prepare
from prngeo.training.regions import IGNORE, load_regions

UTM = "EPSG:32630"
SIZE = 40
GSD = 0.5
LEFT, TOP = 500_000.0, 6_000_000.0


def truth(folder, role="train", target=1):
    return [item.labels[..., target] for item in load_regions(folder, role)]


def drawn(shapes, spec, crs=UTM, gsd=GSD, size=SIZE, **values):
    """What a layer in `crs` of shapes in UTM metres from the scene's upper left corner (y up) becomes."""
    grid = GeoGrid(size, size, Affine(gsd, 0, LEFT, 0, -gsd, TOP), CRS.from_string(UTM))
    placed = shapely.affinity.translate
    frame = geopandas.GeoDataFrame(values, geometry=[placed(shape, LEFT, TOP) for shape in shapes], crs=UTM)
    layer = _Features("labels.roads x.gpkg", frame.to_crs(crs), Labels(path="x.gpkg", **spec), "labels.roads")
    return layer.on(Pixels("s.tif", "s", grid, (gsd, gsd))).read(grid.extent)


corner = st.floats(1.0, 18.0)


@settings(max_examples=60, deadline=None)
@given(corner, corner, st.floats(0.3, 12), st.floats(0.3, 12), st.sampled_from([UTM, "EPSG:4326", "EPSG:3857"]))
def test_a_polygon_of_known_corners_has_the_pixels_whose_centers_lie_inside(x, y, width, height, crs):
    shape = box(x, -y - height, x + width, -y)
    centers = (np.arange(SIZE) + 0.5) * GSD
    inside = (centers > x) & (centers < x + width)
    below = (centers > y) & (centers < y + height)
    expected = below[:, None] & inside
    clear = np.abs(np.subtract.outer(centers, [x, x + width, y, y + height])) > 1e-3  # metres from an edge
    sure = clear[:, 2:].all(1)[:, None] & clear[:, :2].all(1)
    found = drawn([shape], {}, crs) == 1
    np.testing.assert_array_equal(found[sure], expected[sure])


@pytest.mark.parametrize("shift", [0.0, GSD / 2, GSD])
def test_a_square_is_as_large_where_its_edges_are_on_centers_as_anywhere(shift):
    """A center on an edge belongs to one side alone: neighboring squares share no pixel and leave none out."""
    left, right = (box(x + shift, -15, x + 5 + shift, -5) for x in (3.0, 8.0))
    one, other = drawn([left], {}), drawn([right], {})
    assert one.sum() == other.sum() == 10 * 20
    assert not (one & other).any()
    assert drawn([left, right], {}).sum() == 2 * 10 * 20


@settings(max_examples=12, deadline=None)
@given(st.floats(0.5, 6), st.floats(0, 180), st.sampled_from([UTM, "EPSG:4326"]))
@pytest.mark.slow
def test_a_line_is_as_wide_as_told_on_average_and_centered(width, angle, crs):
    """The average over places of the line within a pixel."""
    size, gsd, length = 120, 0.2, 16
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * length / 2
    area, offset = [], []
    for number in range(20):
        center = np.array([12.0, -12.0]) + np.array([number, number * 7 % 20]) / 20 * gsd
        found = drawn([LineString([center - along, center + along])], {"width": width}, crs, gsd, size) == 1
        rows, cols = np.nonzero(found)
        area.append(found.sum() * gsd**2)
        offset.append(np.array([(cols.mean() + 0.5) * gsd, -(rows.mean() + 0.5) * gsd]) - center)
    assert np.mean(area) == pytest.approx(length * width, rel=0.04)
    assert np.abs(np.mean(offset, 0)).max() < 0.1 * gsd


def test_lines_of_one_layer_have_widths_of_their_own():
    lines = [LineString([(2, -x), (18, -x)]) for x in (3.0, 10.0, 16.0)]
    found = drawn(lines, {"width_field": "w", "width": 2}, w=[1.0, 4.0, None])
    assert [int(found[rows, 20].sum()) for rows in (slice(0, 10), slice(12, 28), slice(28, 40))] == [2, 8, 4]


def test_the_joint_of_lines_is_as_wide_as_the_second_widest_of_them():
    wide, narrow = LineString([(2, -10), (10, -10)]), LineString([(10, -10), (18, -10)])
    found = drawn([wide, narrow], {"width_field": "w"}, w=[6.0, 2.0])
    assert found[:, 18].sum() == 12
    assert found[:, 21].sum() == 4, "the wide one does not bulge into the narrow one"
    bend = [LineString([(4, -4), (10, -10)]), LineString([(10, -10), (16, -4)])]
    whole = drawn([LineString([(4, -4), (10, -10), (16, -4)])], {"width": 4})
    assert (drawn(bend, {"width": 4}) == whole).mean() > 0.995


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"highway": "residential"}, 6.0),
        ({"highway": "residential", "other_tags": '"lanes"=>"4","surface"=>"asphalt"'}, 13.0),
        ({"highway": "residential", "other_tags": '"lanes"=>"4","width"=>"7,5 m"'}, 7.5),
        ({"highway": "service", "other_tags": '"width"=>"20 ft"'}, 6.096),
        ({"highway": "primary", "width": "narrow", "lanes": "2;3"}, 6.5),
        ({"fclass": "motorway"}, 11.0),
        ({"highway": "footway", "other_tags": '"width"=>"9"'}, 0.0),
        ({"highway": "construction"}, 0.0),
    ],
)
def test_openstreetmap_tells_how_wide_a_road_is(tags, expected):
    lines = [LineString([(2, -10), (18, -10)]), LineString([(2, -1), (3, -1)])]
    values = {name: [value, None] for name, value in tags.items()}
    kind = "fclass" if "fclass" in tags else "highway"
    values[kind] = [tags[kind], "track"]  # a layer without a single road is an error
    found = drawn(lines, {"width": "osm"}, gsd=0.1, size=200, **values)
    assert found[20:, 100].sum() == pytest.approx(10 * expected, abs=1)


OSM = """<?xml version="1.0" encoding="UTF-8"?>
<osm version="0.6">
{nodes}
<way id="1" version="1" timestamp="2020-01-01T00:00:00Z"><nd ref="1"/><nd ref="2"/>
<tag k="highway" v="residential"/><tag k="width" v="4"/></way>
<way id="2" version="1" timestamp="2020-01-01T00:00:00Z"><nd ref="3"/><nd ref="4"/><tag k="waterway" v="stream"/></way>
<way id="3" version="1" timestamp="2020-01-01T00:00:00Z"><nd ref="5"/><nd ref="6"/><nd ref="7"/><nd ref="8"/>
<nd ref="5"/><tag k="building" v="yes"/></way>
</osm>
"""


def osm(path):
    """A road of 4 m from (2, 5) to (18, 5) metres, a stream, and a building of 4 x 4 m at (3, 12), as .osm or .pbf."""
    places = [(2, 5), (18, 5), (2, 9), (18, 9), (3, 12), (7, 12), (7, 16), (3, 16)]
    points = geopandas.GeoSeries([Point(LEFT + x, TOP - y) for x, y in places], crs=UTM).to_crs(4326)
    if path.suffix == ".osm":
        nodes = "\n".join(
            f'<node id="{i + 1}" version="1" timestamp="2020-01-01T00:00:00Z" lat="{p.y:.9f}" lon="{p.x:.9f}"/>'
            for i, p in enumerate(points)
        )
        path.write_text(OSM.format(nodes=nodes))
        return
    import osmium

    mutable = osmium.osm.mutable
    with osmium.SimpleWriter(str(path)) as writer:
        for i, p in enumerate(points):
            writer.add_node(mutable.Node(id=i + 1, location=(p.x, p.y), version=1))
        writer.add_way(mutable.Way(id=1, nodes=[1, 2], tags={"highway": "residential", "width": "4"}, version=1))
        writer.add_way(mutable.Way(id=2, nodes=[3, 4], tags={"waterway": "stream"}, version=1))
        writer.add_way(mutable.Way(id=3, nodes=[5, 6, 7, 8, 5], tags={"building": "yes"}, version=1))


@pytest.mark.parametrize("name", ["extract.osm", "extract.osm.pbf"])
def test_extracts_of_openstreetmap_are_read_as_they_come(tmp_path, scene, config, name):
    """Roads from its lines, buildings from its multipolygons, by one file."""
    scene("s")
    osm(tmp_path / name)
    labels = {"roads": {"path": name, "width": "osm"}, "buildings": {"path": name, "where": "building IS NOT NULL"}}
    prepare(config(tmp_path, {"labels": labels}), tmp_path / "cache")
    buildings, roads = truth(tmp_path / "cache", target=0)[0], truth(tmp_path / "cache")[0]
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[6:14, 4:36] = 1
    np.testing.assert_array_equal(roads, expected)
    expected[...] = 0
    expected[24:32, 6:14] = 1
    np.testing.assert_array_equal(buildings, expected)


def test_a_layer_is_taken_by_its_name_or_by_the_target(tmp_path, scene, config, draw):
    scene("s")
    square = box(LEFT + 2, TOP - 6, LEFT + 4, TOP - 2)
    draw(tmp_path / "city.gpkg", [square], options={"layer": "roads"})
    draw(tmp_path / "city.gpkg", [box(LEFT, TOP - 1, LEFT + 1, TOP)], options={"layer": "trees"})
    for number, path in enumerate(["city.gpkg", "city.gpkg|layername=roads"]):
        prepare(config(tmp_path, {"labels": {"roads": path}}), tmp_path / f"cache{number}")
        assert truth(tmp_path / f"cache{number}")[0].sum() == 4 * 8
    with pytest.raises(UsageError, match=r"labels\.buildings .*holds 2 layers \(roads, trees\)"):
        prepare(config(tmp_path, {"labels": {"buildings": "city.gpkg"}}), tmp_path / "other")


def test_where_chooses_features(tmp_path, scene, config, draw):
    scene("s")
    shapes = [box(LEFT + x, TOP - 4, LEFT + x + 2, TOP - 2) for x in (2, 10)]
    draw(tmp_path / "a.gpkg", shapes, kind=["house", "shed"])

    def labels(where):
        return {"labels": {"roads": {"path": "a.gpkg", "where": where}}}

    prepare(config(tmp_path, labels("kind = 'house'")), tmp_path / "cache")
    assert truth(tmp_path / "cache")[0].sum() == 16
    assert truth(tmp_path / "cache")[0][:, :12].sum() == 16
    with pytest.raises(UsageError, match=r"labels\.roads\.where: nonsense = 1.* cannot be read"):
        prepare(config(tmp_path, labels("nonsense = 1")), tmp_path / "other")
    with pytest.raises(UsageError, match=r"none of its 2 features that labels\.roads\.where chooses lies on"):
        prepare(config(tmp_path, labels("kind = 'barn'")), tmp_path / "other")


@pytest.mark.parametrize(("crs", "unit"), [(UTM, 1.0), ("EPSG:4326", 1 / 111_000)])
@pytest.mark.parametrize("coarse", [0.5, 2.0])
def test_masks_of_another_grid_and_system_are_laid_on_the_scene(tmp_path, write, scene, config, crs, unit, coarse):
    """A mask whose eastern half is the object, twice as large as the scene, with the scene in its middle."""
    scene("s", shape=(80, 80))
    middle = geopandas.GeoSeries([Point(LEFT + 20, TOP - 20)], crs=UTM).to_crs(crs)[0]
    side = int(160 * GSD / coarse) // 2 * 2
    mask = np.zeros((1, side, side), "uint8")
    mask[..., side // 2 :] = 1
    step = coarse * unit / (np.cos(np.radians(middle.y)) if unit < 1 else 1.0)
    transform = Affine(step, 0, middle.x - side / 2 * step, 0, -coarse * unit, middle.y + side / 2 * coarse * unit)
    write("other/mask.tif", mask, transform, crs)
    prepare(config(tmp_path, {"labels": {"roads": "other/mask.tif"}}), tmp_path / "cache")
    found = truth(tmp_path / "cache")[0]
    assert set(np.unique(found)) == {0, 1}
    edge = (found == 0).sum(1)
    assert np.abs(edge - 40).max() <= 2


def test_masks_are_matched_by_name_else_by_place_and_side_by_side(tmp_path, write, scene, config):
    _, mask = scene("s")
    half = SIZE // 2
    for name, part, x in (("west", mask[:, :half], LEFT), ("east", mask[:, half:], LEFT + half * GSD)):
        write(f"parts/{name}.tif", part[None], Affine(GSD, 0, x, 0, -GSD, TOP))
    write("parts/far.tif", mask[None], Affine(GSD, 0, LEFT + 900, 0, -GSD, TOP))
    for number, pattern in enumerate(["masks/*.tif", "parts/*.tif"]):
        prepare(config(tmp_path, {"labels": {"roads": pattern}}), tmp_path / f"cache{number}")
        np.testing.assert_array_equal(truth(tmp_path / f"cache{number}")[0], mask)


def test_a_mask_without_a_place_has_the_pixels_of_the_scene_of_its_name(tmp_path, write, scene, config):
    _, mask = scene("s")
    write("plain/s.png", mask[None] * 255, Affine.identity(), None)
    prepare(config(tmp_path, {"labels": {"roads": "plain/*.png"}}), tmp_path / "cache")
    np.testing.assert_array_equal(truth(tmp_path / "cache")[0], mask)


def test_a_layer_serves_the_scenes_that_it_reaches_and_others_are_told(tmp_path, scene, config, draw):
    for i, name in enumerate(["a", "b", "far"]):
        scene(name, Affine(GSD, 0, LEFT + 500 * i, 0, -GSD, TOP), seed=i)
    shapes = [box(LEFT + x + 2, TOP - 6, LEFT + x + 4, TOP - 2) for x in (0, 500)]
    draw(tmp_path / "roofs.gpkg", shapes)
    found = prepare(config(tmp_path, {"labels": {"roads": "roofs.gpkg"}}), tmp_path / "cache")
    assert [region.key for region in found] == ["a-a", "a-b"]
    (left,) = json.loads((tmp_path / "cache" / "split.json").read_text())["sources"]["a"]["left_out"]
    assert left["scene"].endswith("far.tif")
    assert "no label touches it" in left["reason"]


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_outside_of_the_area_of_interest_nothing_is_labelled(tmp_path, scene, config, draw, crs):
    """A scene that the area covers is labelled without any feature in it, one outside is left out."""
    for i, name in enumerate(["a", "empty", "outside"]):
        scene(name, Affine(GSD, 0, LEFT + 500 * i, 0, -GSD, TOP), seed=i)
    draw(tmp_path / "roofs.gpkg", [box(LEFT + 2, TOP - 6, LEFT + 4, TOP - 2)])
    area = [box(LEFT + x, TOP - 10, LEFT + x + 15, TOP) for x in (0, 500)]
    draw(tmp_path / "aoi.gpkg", geopandas.GeoSeries([MultiPolygon(area)], crs=UTM).to_crs(crs), crs)
    source = {"labels": {"roads": "roofs.gpkg"}, "aoi": "aoi.gpkg"}
    found = prepare(config(tmp_path, source), tmp_path / "cache")
    assert [region.key for region in found] == ["a-a", "a-empty"]
    full, empty = truth(tmp_path / "cache")
    expected = np.full((SIZE, SIZE), IGNORE)
    expected[:20, :30] = 0
    np.testing.assert_array_equal(empty, expected)
    expected[4:12, 4:8] = 1
    np.testing.assert_array_equal(full, expected)


def test_layers_that_never_touch_the_images_or_are_empty_are_errors(tmp_path, scene, config, draw):
    scene("s")
    source = {"labels": {"roads": "roofs.gpkg"}}
    draw(tmp_path / "roofs.gpkg", [box(LEFT + 900, TOP, LEFT + 910, TOP + 10)])
    with pytest.raises(UsageError, match=r"labels\.roads .*roofs\.gpkg does not touch the images: none of its 1 feat"):
        prepare(config(tmp_path, source), tmp_path / "cache")
    draw(tmp_path / "roofs.gpkg", [])
    with pytest.raises(UsageError, match=r"labels\.roads .*roofs\.gpkg holds no feature"):
        prepare(config(tmp_path, source), tmp_path / "cache")
    draw(tmp_path / "roofs.gpkg", [Point(LEFT + 2, TOP - 2)])
    with pytest.raises(UsageError, match=r"holds Points; labels are polygons, lines or masks"):
        prepare(config(tmp_path, source), tmp_path / "cache")


def test_masks_that_never_touch_the_images_are_an_error(tmp_path, scene, write, config):
    scene("s")
    write("other/m.tif", np.ones((1, 9, 9), "uint8"), Affine(GSD, 0, LEFT + 900, 0, -GSD, TOP), "EPSG:32631")
    source = {"labels": {"roads": "other/*.tif"}}
    with pytest.raises(UsageError, match=r"labels\.roads: none of the labels .*neither their names nor their places"):
        prepare(config(tmp_path, source), tmp_path / "cache")


def test_lines_without_a_width_name_the_key_that_gives_it(tmp_path, scene, config, draw):
    scene("s")
    draw(tmp_path / "r.gpkg", [LineString([(LEFT, TOP), (LEFT + 9, TOP - 9)])] * 2, w=[2.0, None], kind=["a", "b"])

    def attempt(**spec):
        with pytest.raises(UsageError) as caught:
            prepare(config(tmp_path, {"labels": {"roads": {"path": "r.gpkg", **spec}}}), tmp_path / "cache")
        assert "--" not in str(caught.value)
        return str(caught.value)

    assert "layer of lines: say how wide they are drawn with labels.roads.width" in attempt()
    assert "labels.roads.width_field: the layer r.gpkg has no attribute width; it has w, kind" in attempt(
        width_field="width"
    )
    assert "1 of its 2 lines have no w. Say how wide those are drawn with labels.roads.width" in attempt(
        width_field="w"
    )
    assert "labels.roads.width is osm, but the layer r.gpkg has no attribute highway; it has w, kind" in attempt(
        width="osm"
    )


def test_labels_that_are_all_ignored_are_an_error(tmp_path, scene, write, config, draw):
    scene("s")
    write("masks/s.tif", np.full((1, SIZE, SIZE), 255, "uint8"), nodata=255)
    with pytest.raises(UsageError, match="no pixel of its 1 image is labelled.*nodata"):
        prepare(config(tmp_path), tmp_path / "cache")
    scene("s")
    draw(tmp_path / "aoi.gpkg", [box(LEFT + 900, TOP, LEFT + 910, TOP + 10)])
    with pytest.raises(UsageError, match=r"no pixel .* is labelled: all are outside of the polygons of `aoi`"):
        prepare(config(tmp_path, {"aoi": "aoi.gpkg"}), tmp_path / "cache")


def test_a_target_that_a_scene_has_no_labels_of_is_ignored_there(tmp_path, scene, config):
    for i, name in enumerate(["a", "b"]):
        scene(name, Affine(GSD, 0, LEFT + 500 * i, 0, -GSD, TOP), seed=i)
    (tmp_path / "houses").mkdir()
    (tmp_path / "masks" / "a.tif").rename(tmp_path / "houses" / "a.tif")
    labels = {"roads": "masks/*.tif", "buildings": "houses/*.tif"}
    a, b = prepare(config(tmp_path, {"labels": labels}), tmp_path / "cache")
    assert (a.targets, b.targets) == (("buildings",), ("roads",))


def test_torchgeo_gives_the_same_pixels_where_it_serves(tmp_path, scene, write, draw):
    """Polygons, and a mask of the same grid, by the intersection of torchgeo's datasets."""
    torchgeo = pytest.importorskip("torchgeo.datasets")
    _, mask = scene("s")
    rng = np.random.default_rng(0)
    shapes = [box(LEFT + x, TOP - y - 3, LEFT + x + 4, TOP - y) for x, y in rng.uniform(0.1, 15, (5, 2))]
    (tmp_path / "vectors").mkdir()
    around = [box(LEFT - 9, TOP - 30, LEFT - 8, TOP + 9), box(LEFT + 28, TOP - 30, LEFT + 29, TOP + 9)]
    draw(tmp_path / "vectors" / "roofs.gpkg", shapes + around)

    class Images(torchgeo.RasterDataset):
        filename_glob = "*.tif"

    class Masks(torchgeo.RasterDataset):
        filename_glob, is_image = "*.tif", False

    class Roofs(torchgeo.VectorDataset):
        filename_glob = "*.gpkg"

    images = Images(tmp_path / "images")
    grid = GeoGrid(SIZE, SIZE, Affine(GSD, 0, LEFT, 0, -GSD, TOP), CRS.from_string(UTM))
    pixels = Pixels(str(tmp_path / "images" / "s.tif"), "s", grid, (GSD, GSD))
    masks, roofs = Masks(tmp_path / "masks"), Roofs(tmp_path / "vectors", res=GSD)
    for other, path in ((masks, "masks/*.tif"), (roofs, "vectors/*.gpkg")):
        place = slice(LEFT, LEFT + SIZE * GSD), slice(TOP - SIZE * GSD, TOP), slice(None)
        sample = (images & other)[place]["mask"].squeeze().numpy()
        source = Source(name="a", images="images/*.tif", labels={"roads": path})
        with ExitStack() as stack:
            own = TargetLabels("roads", source, tmp_path, [pixels]).open(pixels, stack).read(grid.extent)
        np.testing.assert_array_equal(own, sample != 0)
    assert mask.any()
