"""What must hold of a generated town, whatever its seed."""

import dataclasses

import numpy as np
import pytest
import shapely
from affine import Affine

from prngeo.errors import UsageError
from prngeo.synth import Town, make_town
from prngeo.synth.fields import blur, smooth_noise
from prngeo.synth.town import burn

SEEDS = (0, 6, 9, 18, 40, 161)
"""Among them what broke once: 40 has a park without room for a pond."""


@pytest.fixture(scope="module")
def towns() -> dict[int, Town]:
    return {seed: make_town(300, 0.8, seed) for seed in SEEDS}


def _geometries(town: Town) -> list[shapely.Geometry]:
    return [
        *town.roads,
        *(b.geometry for b in town.buildings),
        *(c.geometry for c in town.road_centerlines),
    ]


def test_same_seed_gives_the_same_town() -> None:
    one, two = make_town(128, 0.5, 5), make_town(128, 0.5, 5)
    np.testing.assert_array_equal(one.image, two.image)
    assert [g.wkb for g in _geometries(one)] == [g.wkb for g in _geometries(two)]


def test_other_seeds_give_other_towns(towns: dict[int, Town]) -> None:
    images = {town.image.tobytes() for town in towns.values()}
    roads = {town.masks["roads"].tobytes() for town in towns.values()}
    assert len(images) == len(roads) == len(SEEDS)


def test_same_extent_at_another_gsd_shows_the_same_town() -> None:
    fine, coarse = make_town(256, 0.4, 7), make_town(128, 0.8, 7)
    assert [g.wkb for g in _geometries(fine)] == [g.wkb for g in _geometries(coarse)]
    averaged = fine.image.reshape(3, 128, 2, 128, 2).mean(axis=(2, 4))
    correlation = np.corrcoef(averaged.ravel(), coarse.image.ravel())[0, 1]
    assert correlation > 0.9


def test_arrays_have_the_documented_shape_and_dtype(towns: dict[int, Town]) -> None:
    for town in towns.values():
        assert town.image.shape == (3, 300, 300)
        assert town.image.dtype == np.uint8
        assert set(town.masks) == {"roads", "buildings"}
        for mask in town.masks.values():
            assert mask.shape == (300, 300)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 1}


def test_masks_are_one_where_the_pixel_centre_lies_in_a_polygon(towns: dict[int, Town]) -> None:
    town = towns[0]
    x = (np.arange(300) + 0.5) * 0.8
    xs, ys = np.meshgrid(x, -x)
    for name, shapes in (("roads", town.roads), ("buildings", [b.geometry for b in town.buildings])):
        inside = shapely.contains_xy(shapely.union_all(shapes), xs, ys)
        # GDAL decides centres that lie on an edge by its own rounding; nothing else may differ.
        edge = shapely.dwithin(shapely.union_all(shapes).boundary, shapely.points(xs, ys), 1e-6)
        np.testing.assert_array_equal(town.masks[name][~edge], inside[~edge])
        np.testing.assert_array_equal(town.masks[name], burn(shapes, (300, 300), town.transform))


@pytest.mark.parametrize("seed", SEEDS)
def test_geometries_are_valid_and_inside_the_scene(towns: dict[int, Town], seed: int) -> None:
    town = towns[seed]
    shapes = np.array(_geometries(town), dtype=object)
    assert shapely.is_valid(shapes).all()
    assert not shapely.is_empty(shapes).any()
    assert shapely.covers(shapely.box(-1e-9, -240 - 1e-9, 240 + 1e-9, 1e-9), shapes).all()
    assert {r.geom_type for r in town.roads} <= {"Polygon"}
    assert {b.geometry.geom_type for b in town.buildings} <= {"Polygon"}
    assert {c.geometry.geom_type for c in town.road_centerlines} <= {"LineString"}


@pytest.mark.parametrize("seed", SEEDS)
def test_buildings_keep_a_metre_from_roads_and_from_each_other(towns: dict[int, Town], seed: int) -> None:
    outlines = np.array([b.geometry for b in towns[seed].buildings], dtype=object)
    roads = shapely.union_all(towns[seed].roads)
    assert len(outlines) > 5
    assert shapely.distance(outlines, roads).min() > 0.99
    first, second = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=0.99)
    np.testing.assert_array_equal(first, second)


def test_roads_and_buildings_share_no_pixel(towns: dict[int, Town]) -> None:
    for town in towns.values():
        assert not (town.masks["roads"] & town.masks["buildings"]).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_centerlines_meet_only_at_their_ends(towns: dict[int, Town], seed: int) -> None:
    lines = np.array([c.geometry for c in towns[seed].road_centerlines], dtype=object)
    first, second = shapely.STRtree(lines).query(lines, predicate="intersects")
    for i, j in zip(first[first < second], second[first < second], strict=True):
        meeting = shapely.get_coordinates(lines[i].intersection(lines[j]))
        ends = shapely.get_coordinates([lines[i].boundary, lines[j].boundary])
        for point in meeting:
            assert np.hypot(*(ends - point).T).min() < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_roads_contain_their_widened_centerlines(towns: dict[int, Town], seed: int) -> None:
    town = towns[seed]
    widened = [c.geometry.buffer(c.width_m / 2 - 0.01, cap_style="flat") for c in town.road_centerlines]
    outside = shapely.union_all(widened).difference(shapely.union_all(town.roads).buffer(0.01))
    scene = shapely.box(0, -240, 240, 0)
    assert outside.intersection(scene).area < 0.5


def test_seeds_cover_every_kind_of_building_and_several_surfaces(towns: dict[int, Town]) -> None:
    kinds = {b.kind for town in towns.values() for b in town.buildings}
    surfaces = {c.surface for town in towns.values() for c in town.road_centerlines}
    assert kinds >= {"rectangle", "l", "t", "u"}
    assert len(surfaces) >= 2


@pytest.mark.slow
def test_bias_changes_a_region_of_the_image_and_no_truth() -> None:
    plain, biased = make_town(128, 0.8, 6), make_town(128, 0.8, 6, bias=1.0)
    assert [g.wkb for g in _geometries(plain)] == [g.wkb for g in _geometries(biased)]
    change = np.abs(biased.image.astype(float) - plain.image).mean(axis=0)
    corners = [change[r, c].mean() for r in (slice(32), slice(-32, None)) for c in (slice(32), slice(-32, None))]
    assert max(corners) > 20
    assert min(corners) < 0.5 * max(corners)


@pytest.mark.parametrize(("size", "gsd"), [(16, 0.3), (16, 0.05), (37, 5.0), (513, 0.3)])
def test_small_coarse_and_odd_sizes_work(size: int, gsd: float) -> None:
    town = make_town(size, gsd, 1)
    assert town.image.shape == (3, size, size)
    assert town.transform == Affine(gsd, 0, 0, 0, -gsd, 0)


def test_image_does_not_depend_on_the_rendered_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_town(200, 0.5, 2).image.astype(int)
    monkeypatch.setattr("prngeo.synth.render.BLOCK", 77)
    pieces = make_town(200, 0.5, 2).image.astype(int)
    # Floating-point sums over other windows may round a value to its neighbour.
    assert np.abs(whole - pieces).max() <= 1
    assert (whole != pieces).mean() < 0.01


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 15}, "--size"),
        ({"size": 20001}, "--size"),
        ({"gsd": 0.04}, "--gsd"),
        ({"gsd": 5.1}, "--gsd"),
        ({"gsd": float("nan")}, "--gsd"),
        ({"size": 20000, "gsd": 5.0}, "12 km"),
        ({"seed": -1}, "--seed"),
        ({"bias": float("inf")}, "--bias"),
    ],
)
def test_bad_arguments_are_refused_naming_the_option(changes: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_town(**{"size": 16, "gsd": 0.3, "seed": 0, **changes})  # type: ignore[arg-type]


def test_town_is_immutable(towns: dict[int, Town]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        towns[0].gsd = 1.0  # type: ignore[misc]


def test_noise_at_a_point_does_not_depend_on_the_window() -> None:
    xs = np.arange(100) * 0.7
    whole = smooth_noise(xs, -xs, 9.0, 4)
    part = smooth_noise(xs[30:50], -xs[60:90], 9.0, 4)
    np.testing.assert_allclose(part, whole[60:90, 30:50], atol=1e-5)
    assert 0.5 < smooth_noise(np.arange(2000.0), np.arange(2000.0), 9.0, 4).std() < 1.5


def test_blur_keeps_a_constant_field() -> None:
    np.testing.assert_allclose(blur(np.full((2, 20, 30), 7, np.float32), 1.3), 7, rtol=1e-5)


def test_streets_that_part_at_a_sharp_angle_are_noded_after_bending() -> None:
    lines = np.array([c.geometry for c in make_town(256, 0.7186096061461927, 161).road_centerlines], dtype=object)
    first, _ = shapely.STRtree(lines).query(lines, predicate="crosses")
    assert not len(first)
