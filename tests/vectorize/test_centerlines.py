"""Centerlines lie in the middle of roads, form a network, and do not depend on how the raster was read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import momepy
import networkx as nx
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize
from scipy import ndimage
from shapely import LineString, Point

from prngeo.errors import UsageError
from prngeo.evaluation.graph import apls, network
from prngeo.synth.write import write_town
from prngeo.vectorize import centerlines as module
from prngeo.vectorize.centerlines import centerlines
from prngeo.vectorize.skeleton import skeleton_graph

UTM = "EPSG:32645"
ORIGIN = (300_000.0, 3_000_000.0)
GSD = 0.5
EXAMPLES = Path(__file__).parents[2] / "examples"
IN_FOLDER = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(
    path: Path,
    values: NDArray[Any],
    *,
    gsd: float = GSD,
    crs: str | None = UTM,
    transform: Affine | None = None,
    scale: float | None = None,
) -> Path:
    place = {"transform": transform or Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1])} if crs or transform else {}
    height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=255, crs=crs, **place
        ) as dst:
            dst.write(values.astype(np.uint8), 1)
            if scale is not None:
                dst.scales = (scale,)
    return path


def road_mask(
    *roads: list[tuple[float, float]], width: float = 6.0, size: tuple[int, int] = (200, 300), gsd: float = GSD
) -> NDArray[np.uint8]:
    """Roads in metres from the upper left corner (x to the right, y down), as a mask."""
    areas = [LineString(road).buffer(width / 2) for road in roads]
    return np.asarray(rasterize(areas, size, transform=Affine.scale(gsd)), np.uint8)


def local(frame: gpd.GeoDataFrame) -> list[LineString]:
    """Lines in metres from the upper left corner, y down."""
    moved = shapely.transform(frame.geometry.values, lambda p: (p - ORIGIN) * (1, -1))
    return list(moved)


def traced(tmp_path: Path, *roads: list[tuple[float, float]], width: float = 6.0, **options: Any) -> gpd.GeoDataFrame:
    return centerlines(save(tmp_path / "mask.tif", road_mask(*roads, width=width)), **options)


def nodes(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Nodes in metres from the upper left corner."""
    ends = [point for line in local(frame) for point in (line.coords[0], line.coords[-1])]
    return np.unique(ends, axis=0)


def blobs(seed: int, shape: tuple[int, int], sigma: float, share: float) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return np.asarray(noise > np.quantile(noise, 1 - share))


class TestPlace:
    def test_a_straight_road_is_one_line_in_its_middle(self, tmp_path: Path) -> None:
        frame = traced(tmp_path, [(20, 40), (130, 60)])
        (line,) = local(frame)
        assert line.hausdorff_distance(LineString([(20, 40), (130, 60)])) < 0.7
        assert shapely.get_num_points(line) <= 4
        row = frame.iloc[0]
        assert row.length_m == pytest.approx(np.hypot(110, 20), abs=1)
        assert row.width_m == pytest.approx(6, abs=0.3)
        assert (row.degree_start, row.degree_end, row.touches_edge, row.gap_m) == (1, 1, False, 0)

    @pytest.mark.parametrize("width", [2.0, 3.0, 4.5, 8.0, 13.0])
    @pytest.mark.parametrize("angle", [0, 20, 45, 77, 90])
    def test_width_is_that_of_the_road_to_about_a_pixel(self, tmp_path: Path, width: float, angle: float) -> None:
        step = 40 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        frame = traced(tmp_path, [tuple(np.subtract((75, 50), step)), tuple(np.add((75, 50), step))], width=width)
        assert frame["width_m"].tolist() == [pytest.approx(width, abs=1.25 * GSD)]

    def test_a_curve_stays_within_the_tolerance(self, tmp_path: Path) -> None:
        t = np.linspace(0, np.pi, 50)
        curve = list(zip(75 + 40 * np.cos(t), 80 - 40 * np.sin(t), strict=True))
        mask = road_mask(curve)
        path = save(tmp_path / "mask.tif", mask)
        pixels = skeleton_graph(lambda w: mask[w.row : w.row_end, w.col : w.col_end] == 1, *mask.shape)
        raw = shapely.MultiLineString([LineString(line * GSD) for line in pixels.lines])
        for tolerance, most in ((0.5, 60), (2.0, 15)):
            (line,) = local(centerlines(path, simplify=tolerance))
            assert max(raw.distance(Point(point)) for point in line.segmentize(0.1).coords) <= tolerance
            assert shapely.get_num_points(line) < most

    def test_roads_meet_on_the_middle_of_the_through_road(self, tmp_path: Path) -> None:
        frame = traced(tmp_path, [(10, 50), (140, 50)], [(80, 50), (80, 95)], width=8)
        assert len(frame) == 3
        crossing = nodes(frame)[1:-1]
        assert [80, 50] in [pytest.approx(node, abs=0.4) for node in crossing]
        truth = shapely.MultiLineString([[(10, 50), (140, 50)], [(80, 50), (80, 95)]])
        assert max(truth.distance(Point(p)) for line in local(frame) for p in line.segmentize(0.5).coords) < 0.5

    @pytest.mark.parametrize("slope", [0.0, 15.0, 30.0])
    def test_roads_that_cross_have_one_crossing(self, tmp_path: Path, slope: float) -> None:
        frame = traced(tmp_path, [(10, 50), (140, 50)], [(75 - slope, 5), (75 + slope, 95)], width=7)
        assert sorted([*frame["degree_start"], *frame["degree_end"]]) == [1, 1, 1, 1, 4, 4, 4, 4]
        assert any(np.hypot(*(node - (75, 50))) < 0.6 for node in nodes(frame))

    def test_roads_reach_the_border_where_they_leave(self, tmp_path: Path) -> None:
        frame = traced(tmp_path, [(-20, 30), (200, 70)])
        (line,) = local(frame)
        ends = [(0, 30 + 20 * 40 / 220), (150, 30 + 170 * 40 / 220)]
        assert np.array(line.coords)[[0, -1]] == pytest.approx(np.array(ends), abs=0.7)
        assert frame["touches_edge"].tolist() == [True]

    def test_a_road_beside_no_data_touches_the_edge(self, tmp_path: Path) -> None:
        mask = road_mask([(20, 20), (130, 20)], [(20, 60), (130, 60)])
        mask[:, 240:] = 255
        mask[100:, 235:] = 0
        frame = centerlines(save(tmp_path / "mask.tif", mask))
        assert frame["touches_edge"].tolist() == [True, False]


class TestNoise:
    def test_bumps_make_no_lines_and_short_streets_do(self, tmp_path: Path) -> None:
        main, bump, street = [(10, 50), (140, 50)], [(40, 50), (40, 53)], [(100, 50), (100, 66)]
        assert len(traced(tmp_path, main, bump)) == 1
        assert len(traced(tmp_path, main, street)) == 3
        assert len(traced(tmp_path, main, bump, street)) == 3

    def test_ragged_edges_make_no_lines(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 50), (140, 50)], width=8)
        edge = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
        mask[edge & (np.random.default_rng(0).random(mask.shape) < 0.5)] ^= 1
        frame = centerlines(save(tmp_path / "mask.tif", mask))
        assert len(frame) == 1
        inner = [y for x, y in local(frame)[0].coords if 15 < x < 135]
        assert np.abs(np.subtract(inner, 50)).max() < 0.5

    def test_specks_go(self, tmp_path: Path) -> None:
        roads = [(10, 20), (140, 20)], [(10, 60), (25, 60)]
        assert len(traced(tmp_path, *roads)) == 1
        assert len(traced(tmp_path, *roads, min_length=10)) == 2

    def test_small_holes_are_filled_and_islands_are_not(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 50), (140, 50)], width=12)
        mask[95:105, 80:90] = 0
        path = save(tmp_path / "mask.tif", mask)
        assert len(centerlines(path)) == 4
        assert len(centerlines(path, min_hole=26)) == 1
        island = road_mask([(10, 50), (60, 50), (75, 38), (90, 50), (140, 50)], [(60, 50), (75, 62), (90, 50)])
        assert len(centerlines(save(tmp_path / "island.tif", island))) == 4

    def test_a_ring_is_a_loop(self, tmp_path: Path) -> None:
        t = np.linspace(0, 2 * np.pi, 60)
        ring = list(zip(75 + 30 * np.cos(t), 50 + 30 * np.sin(t), strict=True))
        frame = traced(tmp_path, ring)
        assert frame["length_m"].tolist() == [pytest.approx(2 * np.pi * 30, rel=0.02)]
        assert (frame["degree_start"] == 2).all()
        assert local(frame)[0].is_ring


def with_gap(
    tmp_path: Path, gap: float, probability: float, turn: float = 0.0, **options: Any
) -> tuple[gpd.GeoDataFrame, float]:
    """A road with a gap from x = 70 on, in which the probability is as told; its second part turns."""
    start = np.array([70 + gap + 6, 50])
    end = start + 50 * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    mask = road_mask([(10, 50), (67, 50)], [tuple(start), tuple(end)])
    chance = np.where(mask == 1, 225, 5)
    chance[(road_mask([(60, 50), tuple(start)]) == 1) & (mask == 0)] = round(250 * probability)
    scores = save(tmp_path / "probability.tif", chance, scale=0.004)
    return centerlines(save(tmp_path / "mask.tif", mask), scores, **options), gap + 6


class TestGaps:
    def test_a_gap_is_bridged_where_the_probability_is_high(self, tmp_path: Path) -> None:
        frame, gap = with_gap(tmp_path, 10, 0.3)
        assert len(frame) == 1
        assert frame["gap_m"].tolist() == [pytest.approx(gap, abs=3.5)]
        assert frame["width_m"].tolist() == [pytest.approx(6, abs=0.4)]
        assert frame["probability"].tolist() == [pytest.approx(0.85, abs=0.05)]
        line = local(frame)[0]
        assert np.abs(np.array(line.coords)[:, 1] - 50).max() < 1

    @pytest.mark.parametrize(
        ("gap", "probability", "options"),
        [(10, 0.05, {}), (30, 0.5, {}), (10, 0.3, {"max_gap": 10}), (10, 0.3, {"gap_probability": 0.4})],
    )
    def test_other_gaps_stay(self, tmp_path: Path, gap: float, probability: float, options: dict[str, Any]) -> None:
        frame, _ = with_gap(tmp_path, gap, probability, **options)
        assert len(frame) == 2
        assert (frame["gap_m"] == 0).all()

    def test_a_bridge_goes_ahead_and_not_aside(self, tmp_path: Path) -> None:
        assert len(with_gap(tmp_path, 10, 0.3, turn=30)[0]) == 1
        mask = road_mask([(10, 50), (67, 50)], [(10, 65), (67, 65)])
        scores = save(tmp_path / "probability.tif", np.where(mask == 1, 225, 100), scale=0.004)
        assert len(centerlines(save(tmp_path / "mask.tif", mask), scores)) == 2

    def test_without_probabilities_gaps_stay(self, tmp_path: Path) -> None:
        assert len(traced(tmp_path, [(10, 50), (67, 50)], [(77, 50), (130, 50)])) == 2

    def test_a_street_is_led_into_the_road_ahead(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 30), (140, 30)], [(70, 45), (70, 90)])
        chance = np.where(mask == 1, 225, 60)
        scores = save(tmp_path / "probability.tif", chance, scale=0.004)
        frame = centerlines(save(tmp_path / "mask.tif", mask), scores)
        assert len(frame) == 3
        assert any(np.hypot(*(node - (70, 30))) < 1 for node in nodes(frame))
        assert np.count_nonzero(frame["gap_m"]) == 1
        assert nx.is_connected(
            nx.Graph([tuple(map(tuple, line.coords[:: len(line.coords) - 1])) for line in local(frame)])
        )

    def test_a_speck_is_no_reason_for_a_longer_bridge(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 50), (67, 50)], [(88, 50), (91, 50)])
        scores = save(tmp_path / "probability.tif", np.where(mask == 1, 225, 60), scale=0.004)
        assert centerlines(save(tmp_path / "mask.tif", mask), scores)["gap_m"].tolist() == [0]

    def test_bridges_avoid_no_data(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 50), (67, 50)], [(86, 50), (130, 50)])
        chance = np.where(mask == 1, 225, 60)
        mask[:, 150:155] = chance[:, 150:155] = 255
        scores = save(tmp_path / "probability.tif", chance, scale=0.004)
        assert len(centerlines(save(tmp_path / "mask.tif", mask), scores)) == 2


class TestNetwork:
    @given(
        seed=st.integers(0, 10_000),
        sigma=st.floats(1.5, 7),
        share=st.floats(0.1, 0.7),
        block=st.integers(60, 250),
    )
    @IN_FOLDER
    @pytest.mark.slow
    def test_how_the_raster_is_read_does_not_matter(
        self, tmp_path: Path, seed: int, sigma: float, share: float, block: int
    ) -> None:
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((230, 250)), sigma)
        ranks = noise.ravel().argsort().argsort().reshape(noise.shape) / noise.size
        mask = save(tmp_path / "mask.tif", ranks >= 1 - share, gsd=2)
        scores = save(tmp_path / "probability.tif", ranks**2 * 250, scale=0.004, gsd=2)
        frames = []
        for size in (500, block):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "BLOCK", size)
                frames.append(centerlines(mask, scores, min_hole=100))
        assert frames[0].equals(frames[1])

    @given(seed=st.integers(0, 10_000), sigma=st.floats(1, 6), share=st.floats(0.2, 0.8))
    @IN_FOLDER
    @pytest.mark.slow
    def test_lines_meet_in_their_ends_only(self, tmp_path: Path, seed: int, sigma: float, share: float) -> None:
        frame = centerlines(save(tmp_path / "mask.tif", blobs(seed, (150, 160), sigma, share)), min_length=3)
        lines = frame.geometry.values
        assert shapely.is_valid(lines).all()
        ends = np.concatenate([shapely.get_coordinates(shapely.get_point(lines, index)) for index in (0, -1)])
        one, other = shapely.STRtree(lines).query(lines, predicate="intersects")
        met = shapely.intersection(lines[one[one < other]], lines[other[one < other]])
        assert shapely.is_empty(shapely.difference(met, shapely.multipoints(ends).buffer(1e-5))).all()
        _, node, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
        assert frame[["degree_start", "degree_end"]].to_numpy().T.ravel().tolist() == count[node].tolist()

    def test_momepy_and_networkx_read_it(self) -> None:
        frame = centerlines(EXAMPLES / "town_roads_mask.tif")
        graph = momepy.gdf_to_nx(frame, approach="primal", length="length_m")
        assert graph.number_of_edges() == len(frame)
        assert {tuple(node) for node in graph.nodes} == {
            point for line in frame.geometry for point in (line.coords[0], line.coords[-1])
        }
        for start, end, data in graph.edges(data=True):
            assert {graph.degree(start), graph.degree(end)} == {data["degree_start"], data["degree_end"]}
        parts = shapely.get_parts(frame.geometry.buffer(0.01).union_all())
        assert nx.number_connected_components(graph) == len(parts)

    def test_rows_are_ordered_by_their_nodes(self) -> None:
        frame = centerlines(EXAMPLES / "town_roads_mask.tif")
        starts = [(-line.coords[0][1], line.coords[0][0]) for line in frame.geometry]
        assert starts == sorted(starts)
        assert all(
            a <= (-line.coords[-1][1], line.coords[-1][0]) for a, line in zip(starts, frame.geometry, strict=True)
        )
        assert list(frame.index) == list(range(len(frame)))


def closeness(one: Any, other: Any) -> float:
    """Share of the first lines' length within a metre of the second."""
    near = shapely.union_all(other).buffer(1.0)
    return float(shapely.length(shapely.intersection(one, near)).sum() / shapely.length(one).sum())


class TestTowns:
    """Truth masks of towns against the streets they were drawn from, which meet in single points."""

    def check(self, mask: Path, truth: Path, least: float) -> None:
        frame = centerlines(mask)
        streets = gpd.read_file(truth, layer="road_centerlines")
        assert closeness(streets.geometry.values, frame.geometry.values) >= least
        assert closeness(frame.geometry.values, streets.geometry.values) >= least
        found = apls(network(streets.geometry.values, 0.05), network(frame.geometry.values, 0.05))
        assert found.score is not None
        assert found.score >= 0.95

    def test_the_example_comes_back(self) -> None:
        self.check(EXAMPLES / "town_roads_mask.tif", EXAMPLES / "town_truth.gpkg", 0.98)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [1, 2, 3, 7])
    def test_towns_at_0_3_m_come_back(self, tmp_path: Path, seed: int) -> None:
        files = write_town(tmp_path / "town.tif", size=2048, gsd=0.3, seed=seed)
        self.check(files.roads_mask, files.truth, 0.98)


class TestGrid:
    def test_geographic_lengths_are_geodesic(self, tmp_path: Path) -> None:
        geod = Geod(ellps="WGS84")
        east = geod.inv(10, 60, 10.001, 60)[2] / 0.001
        north = geod.inv(10, 60, 10, 60.001)[2] / 0.001
        mask = road_mask([(10, 50), (140, 50)], [(80, 50), (80, 90)], [(20, 90), (50, 20)])
        transform = Affine(GSD / east, 0, 10, 0, -GSD / north, 60 + 50 / north)
        degrees = centerlines(save(tmp_path / "d.tif", mask, crs="EPSG:4326", transform=transform))
        metres = centerlines(save(tmp_path / "m.tif", mask))
        assert degrees.crs == "EPSG:4326"
        assert degrees["length_m"].tolist() == pytest.approx(metres["length_m"].tolist(), rel=1e-3)
        assert degrees["width_m"].tolist() == pytest.approx(metres["width_m"].tolist(), rel=1e-3)
        assert degrees["length_m"].tolist() == pytest.approx([geod.geometry_length(g) for g in degrees.geometry])

    def test_oblong_pixels_count_in_metres(self, tmp_path: Path) -> None:
        square = road_mask([(20, 30), (130, 80)])
        path = save(tmp_path / "oblong.tif", square[:, ::2], transform=Affine(1, 0, ORIGIN[0], 0, -0.5, ORIGIN[1]))
        frame = centerlines(path)
        (line,) = local(frame)
        assert line.hausdorff_distance(LineString([(20, 30), (130, 80)])) < 1.5
        assert frame["width_m"][0] == pytest.approx(6, abs=0.6)

    def test_a_scene_without_georeferencing_is_drawn_below_the_x_axis(self, tmp_path: Path) -> None:
        path = save(tmp_path / "mask.tif", road_mask([(20, 40), (130, 40)]), crs=None)
        frame = centerlines(path)
        assert frame.crs is None
        assert np.array(frame.geometry[0].coords)[:, 1] == pytest.approx(-80, abs=1)
        assert frame["length_m"][0] == pytest.approx(220, abs=2)
        assert centerlines(path, pixel_size=0.5)["length_m"][0] == pytest.approx(110, abs=1)

    def test_a_mask_without_roads_gives_an_empty_frame_with_columns(self, tmp_path: Path) -> None:
        path = save(tmp_path / "mask.tif", np.zeros((50, 60)))
        scores = save(tmp_path / "p.tif", np.full((50, 60), 10), scale=0.004)
        empty, full = centerlines(path, scores), traced(tmp_path, [(20, 40), (130, 40)])
        assert len(empty) == 0
        assert empty.dtypes.equals(full.dtypes)
        assert empty.attrs["geometry_type"] == "LineString"
        assert empty.crs == UTM

    def test_a_probability_raster_alone_does(self, tmp_path: Path) -> None:
        mask = road_mask([(10, 50), (140, 50)])
        path = save(tmp_path / "p.tif", np.where(mask == 1, 200, 20), scale=0.004)
        frame = centerlines(path, threshold=0.5)
        assert frame["probability"].tolist() == [pytest.approx(0.8)]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"simplify": -1}, "simplify must be 0 or more"),
            ({"max_gap": float("nan")}, "max_gap must be 0 or more"),
            ({"gap_probability": 2}, "gap_probability must lie between 0 and 1"),
            ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ],
    )
    def test_wrong_options_are_refused(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            traced(tmp_path, [(20, 40), (130, 40)], **options)

    def test_a_probability_on_another_grid_is_refused(self, tmp_path: Path) -> None:
        mask = save(tmp_path / "mask.tif", np.ones((40, 50)))
        with pytest.raises(UsageError, match="not on the grid of the mask"):
            centerlines(mask, save(tmp_path / "p.tif", np.ones((40, 60)), scale=0.004))
