"""Measures of road networks agree with hand-computed cases and with plain code on plain graphs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiLineString, Point
from shapely.ops import substring

from prngeo.evaluation.graph import (
    Matching,
    apls,
    apls_of,
    buffer_matching,
    connectivity,
    junctions,
    network,
    path_totals,
    topo,
)
from prngeo.vectorize.trace import LineGraph

NOTHING = network([])


def roads(*lines: list[tuple[float, float]]) -> LineGraph:
    return network([LineString(line) for line in lines])


def shifted(graph: LineGraph, x: float, y: float) -> LineGraph:
    return LineGraph(np.add(graph.nodes, (x, y)), graph.ends, tuple(np.add(line, (x, y)) for line in graph.lines))


def street_grid(seed: int, keep: float = 0.8, jitter: float = 0.0) -> list[LineString]:
    """Streets 90 m apart, some missing, bent in the middle by up to `jitter` metres."""
    rng = np.random.default_rng(seed)
    lines = []
    for x in range(4):
        for y in range(4):
            for dx, dy in ((1, 0), (0, 1)):
                bend = rng.uniform(-jitter, jitter, 2)
                if x + dx < 4 and y + dy < 4 and rng.random() < keep:
                    ends = np.array([(x, y), (x + dx, y + dy)]) * 90.0
                    lines.append(LineString([ends[0], ends.mean(axis=0) + bend, ends[1]]))
    return lines


GRID = network(street_grid(1))


class TestNetwork:
    def test_crossings_become_nodes_and_bends_do_not(self) -> None:
        graph = roads([(0, 0), (10, 0), (10, 10)], [(5, -5), (5, 5)])
        assert graph.nodes.tolist() == [[0, 0], [5, -5], [5, 0], [5, 5], [10, 10]]
        assert graph.ends.tolist() == [[0, 2], [1, 2], [2, 3], [2, 4]]
        assert graph.lines[3].tolist() == [[5, 0], [10, 0], [10, 10]]

    def test_lines_run_between_their_nodes(self) -> None:
        for line, (start, end) in zip(GRID.lines, GRID.ends, strict=True):
            np.testing.assert_array_equal(line[[0, -1]], GRID.nodes[[start, end]])

    def test_what_is_there_twice_counts_once(self) -> None:
        graph = network([LineString([(0, 0), (9, 0)]), LineString([(9, 0), (0, 0)]), LineString([(3, 0), (12, 0)])])
        assert [line.tolist() for line in graph.lines] == [[[0, 0], [3, 0], [9, 0], [12, 0]]]

    def test_ends_nearer_than_the_tolerance_meet(self) -> None:
        lines = [LineString([(0, 0), (5, 0)]), LineString([(5.4, 0), (9, 0)]), LineString([(5.2, 0.3), (5, 9)])]
        apart, joined = network(lines, tolerance=0.1), network(lines, tolerance=0.5)
        assert (len(apart.nodes), len(apart.lines)) == (6, 3)
        assert (len(joined.nodes), len(joined.lines)) == (4, 3)
        assert joined.nodes[2] == pytest.approx([5.2, 0.1], abs=1e-3)

    def test_a_dead_end_meets_the_line_beside_it(self) -> None:
        lines = [LineString([(0, 0), (10, 0)]), LineString([(4, 0.3), (4, 8)]), LineString([(7, 9), (7, -0.2)])]
        graph = network(lines, tolerance=0.5)
        assert graph.nodes.tolist() == [[0, 0], [4, 0], [4, 8], [7, 0], [7, 9], [10, 0]]
        assert len(graph.lines) == 5

    def test_a_stub_shorter_than_the_tolerance_vanishes(self) -> None:
        graph = network([LineString([(0, 0), (10, 0)]), LineString([(5, 0), (5, 0.2)])], tolerance=0.5)
        assert [line.tolist() for line in graph.lines] == [[[0, 0], [5, 0], [10, 0]]]

    def test_a_closed_line_has_one_node(self) -> None:
        graph = network([LineString([(0, 0), (1, 0), (1, 1)]), LineString([(1, 1), (0, 1), (0, 0)])])
        assert graph.ends.tolist() == [[0, 0]]

    def test_multilines_missing_and_empty_lines_and_heights_are_fine(self) -> None:
        lines = [
            MultiLineString([[(0, 0, 3), (5, 0, 4)], [(5, 0, 0), (9, 0, 0)]]),
            None,
            LineString(),
            LineString([(1, 1), (1, 1)]),
        ]
        graph = network(np.array(lines, dtype=object))
        assert graph.lines[0].shape[1] == 2
        assert graph.ends.tolist() == [[0, 1]]
        assert NOTHING.nodes.shape == (0, 2)
        assert NOTHING.ends.shape == (0, 2)

    @given(seed=st.integers(0, 10_000), tolerance=st.floats(0.01, 3))
    @settings(max_examples=40, deadline=None)
    @pytest.mark.slow
    def test_it_is_planar_and_settled(self, seed: int, tolerance: float) -> None:
        rng = np.random.default_rng(seed)
        graph = network([LineString(rng.uniform(0, 30, (rng.integers(2, 5), 2))) for _ in range(8)], tolerance)
        degree = np.bincount(graph.ends.ravel(), minlength=len(graph.nodes))
        loops = graph.ends[:, 0] == graph.ends[:, 1]
        alone = np.bincount(graph.ends[loops, 0], minlength=len(graph.nodes)) == 1
        assert ((degree != 2) | alone).all()
        whole = [LineString(line) for line in graph.lines]
        for one, other in combinations(whole, 2):
            assert shapely.difference(one.intersection(other), shapely.MultiPoint(graph.nodes)).is_empty
        again = network(whole, 1e-9)
        assert (len(again.nodes), len(again.lines)) == (len(graph.nodes), len(graph.lines))


def similarity(truth, predicted, **options):
    return apls_of(path_totals(truth, predicted, **options), path_totals(predicted, truth, **options))


def test_the_short_form_is_the_long_one():
    assert apls(GRID, shifted(GRID, 2.0, 0.0)) == similarity(GRID, shifted(GRID, 2.0, 0.0))


def ways(truth, predicted, **options):
    return connectivity(truth, predicted, path_totals(truth, predicted, **options))


class TestApls:
    def test_a_network_is_similar_to_itself(self) -> None:
        found = similarity(GRID, GRID)
        assert found.score == pytest.approx(1, abs=1e-9)
        assert found.truth_paths == found.predicted_paths > 100
        assert not found.sampled

    def test_a_shift_beyond_the_snap_distance_is_0_and_within_it_is_not(self) -> None:
        graph = roads([(0, 0), (100, 0)], [(50, 0), (50, 80)])
        assert similarity(graph, shifted(graph, 4.5, 4.5)).score == 0
        assert similarity(graph, shifted(graph, 0.0, 3.9)).score == pytest.approx(0.95, abs=0.05)
        assert similarity(graph, shifted(graph, 4.5, 4.5), snap=10).score > 0.5

    def test_a_gap_cuts_the_paths_across_it(self) -> None:
        # Control nodes at 0, 50, 100: of three pairs only 0-50 has a path, there and back.
        truth, cut = roads([(0, 0), (100, 0)]), roads([(0, 0), (60, 0)], [(70, 0), (100, 0)])
        found = similarity(truth, cut)
        assert found.truth_to_predicted == pytest.approx(1 / 3)
        # Control nodes at 0, 30, 60 and 70, 85, 100: all six pairs with a path have one in the truth.
        assert found.predicted_to_truth == 1
        assert (found.truth_paths, found.predicted_paths) == (6, 12)
        assert found.score == pytest.approx(0.5)

    def test_a_detour_costs_its_relative_length(self) -> None:
        truth = roads([(0, 0), (40, 0)])
        detour = roads([(0, 0), (0, 5), (40, 5), (40, 0)])
        # The middle node, 5 m off, has no counterpart: two of three pairs cost 1, the third 10 / 40.
        assert similarity(truth, detour).truth_to_predicted == pytest.approx((1 - 10 / 40) / 3)
        # With a wider snap it has one: 20 becomes 25 twice, 40 becomes 50.
        assert similarity(truth, detour, snap=6).truth_to_predicted == pytest.approx(0.75)

    def test_a_path_twice_as_long_or_more_costs_1(self) -> None:
        truth = roads([(0, 0), (40, 0)])
        detour = roads([(0, 0), (0, 60), (40, 60), (40, 0)])
        assert similarity(truth, detour).truth_to_predicted == 0

    def test_a_missing_street_costs_what_it_carried(self) -> None:
        truth = roads([(0, 0), (100, 0)], [(0, 0), (0, 40)])
        found = similarity(truth, roads([(0, 0), (100, 0)]), spacing=1000)
        # A bend: one line of 140 m from (100, 0) to (0, 40), its middle at (30, 0).
        assert len(truth.lines) == 1
        assert found.truth_to_predicted == pytest.approx(1 / 3)

    def test_short_paths_are_left_out(self) -> None:
        graph = roads([(0, 0), (18, 0)])
        assert similarity(graph, graph).truth_paths == 2
        assert similarity(graph, graph, min_path=9).truth_paths == 6
        assert similarity(graph, graph, min_path=19).score is None

    def test_without_truth_it_is_undefined_and_without_prediction_it_is_0(self) -> None:
        assert similarity(NOTHING, GRID).score is None
        assert similarity(NOTHING, NOTHING).score is None
        found = similarity(GRID, NOTHING)
        assert (found.score, found.truth_to_predicted, found.predicted_to_truth) == (0, 0, None)

    def test_parallel_lines_and_loops_count_by_the_shortest(self) -> None:
        eye = roads(
            [(0, 0), (50, 30), (100, 0)], [(0, 0), (50, -1), (100, 0)], [(100, 0), (120, 20), (140, 0), (100, 0)]
        )
        assert similarity(eye, eye).score == pytest.approx(1, abs=1e-9)

    def test_a_sample_of_sources_is_fixed_and_told(self) -> None:
        other = network(street_grid(1, 0.7))
        whole, part = similarity(GRID, other), similarity(GRID, other, max_sources=30)
        assert part == similarity(GRID, other, max_sources=30)
        assert (whole.sampled, part.sampled) == (False, True)
        assert part.truth_paths < whole.truth_paths
        assert part.score == pytest.approx(whole.score, abs=0.15)

    @given(seed=st.integers(0, 10_000), keep=st.floats(0.3, 1), jitter=st.floats(0, 12), other=st.integers(0, 10_000))
    @settings(max_examples=30, deadline=None)
    @pytest.mark.slow
    def test_it_agrees_with_plain_code(self, seed: int, keep: float, jitter: float, other: int) -> None:
        truth = network(street_grid(seed, keep, 3))
        predicted = network(street_grid(other, keep, jitter))
        found = similarity(truth, predicted)
        assert found.truth_to_predicted == plain_similarity(truth, predicted)
        assert found.predicted_to_truth == plain_similarity(predicted, truth)


def plain_graph(graph: LineGraph, points: list[Point]) -> tuple[nx.Graph, list[Any]]:
    """The network with points put in at the nearest place, one after the other; None beyond 4 m."""
    out = nx.MultiGraph()
    for line, (start, end) in zip(graph.lines, graph.ends.tolist(), strict=True):
        out.add_edge(start, end, line=LineString(line), length=LineString(line).length)
    names: list[Any] = []
    for number, point in enumerate(points):
        best = min(out.edges(keys=True, data=True), key=lambda e: e[3]["line"].distance(point), default=None)
        if best is None or best[3]["line"].distance(point) > 4:
            names.append(None)
            continue
        one, other, key, data = best
        line, along = data["line"], data["line"].project(point)
        begin, finish = sorted(
            (one, other), key=lambda n: Point(position(out, graph, n)).distance(Point(line.coords[0]))
        )
        name = ("at", number)
        out.remove_edge(one, other, key)
        for node, a, b in ((begin, 0, along), (finish, along, line.length)):
            out.add_edge(node, name, line=substring(line, a, b), length=b - a)
        out.nodes[name]["at"] = line.interpolate(along).coords[0]
        names.append(name)
    return out, names


def position(out: nx.MultiGraph, graph: LineGraph, node: Any) -> Any:
    return graph.nodes[node] if isinstance(node, int) else out.nodes[node]["at"]


def plain_similarity(truth: LineGraph, predicted: LineGraph) -> Any:
    points = [Point(node) for node in truth.nodes]
    for line in map(LineString, truth.lines):
        count = max(1, int(np.ceil(line.length / 50)) - 1)
        points += [line.interpolate((i + 1) / (count + 1), normalized=True) for i in range(count)]
    own, names = plain_graph(truth, points)
    other, partners = plain_graph(predicted, points)
    here = dict(nx.all_pairs_dijkstra_path_length(own, weight="length"))
    there = dict(nx.all_pairs_dijkstra_path_length(other, weight="length"))
    costs = []
    for i, j in combinations(range(len(points)), 2):
        length = here[names[i]].get(names[j])
        if length is None or length < 10:
            continue
        found = None
        if partners[i] is not None and partners[j] is not None:
            found = there[partners[i]].get(partners[j])
        costs.append(1.0 if found is None else min(1.0, abs(length - found) / length))
    return pytest.approx(1 - np.mean(costs), abs=1e-6) if costs else None


class TestConnectivity:
    def test_components_and_lengths(self) -> None:
        found = ways(roads([(0, 0), (1000, 0)]), roads([(0, 0), (300, 0)], [(400, 0), (600, 0)]))
        assert (found.truth_components, found.predicted_components) == (1, 2)
        assert (found.truth_km, found.predicted_km) == pytest.approx((1.0, 0.5))

    def test_paths_by_category(self) -> None:
        # Nodes at 0, 20 and 40; each of the three pairs is counted from both ends.
        truth = roads([(0, 0), (40, 0)])
        assert ways(truth, truth).correct == 1
        assert ways(truth, roads([(0, 0), (0, 3), (40, 3), (40, 0)])).too_long == 1
        cut = ways(truth, roads([(0, 0), (25, 0)], [(30, 0), (40, 0)]))
        assert (cut.correct, cut.infeasible, cut.paths) == pytest.approx((1 / 3, 2 / 3, 6))
        bow = roads([(0, 0), (0, 3), (40, 3), (40, 0)])
        short = ways(bow, truth)
        # Control nodes at the ends and in the middle: 23 becomes 20 and 46 becomes 40.
        assert (short.too_short, short.correct) == (1, 0)

    def test_shares_add_up(self) -> None:
        found = ways(network(street_grid(1, 0.8, 3)), network(street_grid(1, 0.6, 5)))
        shares = [found.correct, found.too_long, found.too_short, found.infeasible]
        assert sum(shares) == pytest.approx(1)
        assert min(found.correct, found.too_long, found.infeasible) > 0.1

    def test_undefined_and_empty(self) -> None:
        assert ways(NOTHING, GRID).correct is None
        found = ways(GRID, NOTHING)
        assert (found.infeasible, found.correct, found.predicted_components) == (1, 0, 0)


class TestTopo:
    def test_a_network_matches_itself(self) -> None:
        found = topo(GRID, GRID)
        assert (found.recall, found.precision, found.f1) == (1, 1, 1)

    def test_a_shift_beyond_the_tolerance_matches_nothing(self) -> None:
        line = roads([(0, 0), (100, 0)])
        assert topo(line, shifted(line, 0, 11)).f1 == 0
        assert topo(line, shifted(line, 0, 9)).f1 == 1

    def test_a_gap_hides_what_lies_behind_it(self) -> None:
        # 101 marks a metre apart; the prediction ends after 51: each seed there finds 51 of 101, the others none.
        truth, half = roads([(0, 0), (100, 0)]), roads([(0, 0), (50, 0)])
        found = topo(truth, half, interval=1, tolerance=0.4, max_seeds=1000)
        assert found.recall == pytest.approx(51 * 51 / 101**2)
        assert found.precision == 1
        joined = topo(
            truth, roads([(0, 0), (50, 0)], [(50, 0.3), (100, 0.3)]), interval=1, tolerance=0.4, max_seeds=1000
        )
        assert joined.recall == pytest.approx(51 / 101)

    def test_a_spurious_street_costs_precision_only(self) -> None:
        truth = roads([(0, 0), (100, 0)])
        found = topo(truth, roads([(0, 0), (100, 0)], [(0, 500), (100, 500)]), max_seeds=1000)
        assert (found.recall, found.precision) == (1, 0.5)

    def test_the_radius_limits_what_is_explored(self) -> None:
        truth = roads([(0, 0), (1000, 0)])
        found = topo(truth, truth, radius=10, interval=5, max_seeds=10_000)
        assert found.truth == 201 * 5 - 6

    def test_undefined_and_empty(self) -> None:
        assert topo(NOTHING, NOTHING) == Matching(None, None, None, 0, 0)
        assert topo(NOTHING, GRID).recall is None
        assert topo(NOTHING, GRID).precision == 0
        assert topo(GRID, NOTHING).recall == 0
        assert topo(GRID, NOTHING).f1 == 0


class TestJunctions:
    CROSS = roads([(0, 0), (100, 0)], [(50, -50), (50, 50)], [(20, 0), (20, 30)])

    def test_crossings_are_matched_one_to_one(self) -> None:
        two = roads([(0, 0), (100, 0)], [(45, -50), (45, 50)], [(55, 0), (55, 30)])
        found = junctions(self.CROSS, two, tolerance=6)
        assert (found.truth, found.predicted, found.recall, found.precision, found.f1) == (2, 2, 0.5, 0.5, 0.5)
        assert junctions(self.CROSS, two, tolerance=4).f1 == 0
        assert junctions(self.CROSS, self.CROSS).f1 == 1

    def test_as_many_as_possible_are_matched(self) -> None:
        # Truth at 20 and 50, predicted at 44 and 74: nearest first would pair 50 with 44 and leave 20 alone.
        moved = shifted(self.CROSS, 24, 0)
        assert junctions(self.CROSS, moved, tolerance=25).recall == 1

    def test_a_loop_counts_twice_for_its_node(self) -> None:
        assert junctions(roads([(0, 0), (5, 5), (5, -5), (0, 0)], [(0, 0), (-9, 0)]), NOTHING).truth == 1

    def test_undefined_and_empty(self) -> None:
        bare = roads([(0, 0), (100, 0)])
        assert junctions(bare, bare) == Matching(None, None, None, 0, 0)
        assert junctions(self.CROSS, bare).recall == 0
        assert junctions(self.CROSS, bare).f1 == 0


class TestBufferMatching:
    def test_lengths_within_the_buffer(self) -> None:
        truth = roads([(0, 0), (100, 0)])
        found = buffer_matching(truth, roads([(0, 2), (60, 2)], [(0, 50), (20, 50)]), tolerance=2.5)
        reach = 60 + np.sqrt(2.5**2 - 2**2)
        assert found.recall == pytest.approx(reach / 100, abs=1e-3)
        assert found.precision == pytest.approx(60 / 80)
        assert found.quality == pytest.approx(1 / (1 / found.recall + 1 / found.precision - 1))

    def test_overlapping_buffers_count_once(self) -> None:
        truth = roads([(0, 0), (100, 0)])
        assert buffer_matching(truth, roads([(0, 1), (100, 1)], [(0, -1), (100, -1)])).recall == pytest.approx(1)

    def test_undefined_and_empty(self) -> None:
        assert buffer_matching(NOTHING, GRID).recall is None
        assert buffer_matching(NOTHING, GRID).quality is None
        found = buffer_matching(GRID, NOTHING)
        assert (found.recall, found.precision, found.quality) == (0, None, None)
        assert buffer_matching(GRID, shifted(GRID, 1000, 0)).quality == 0
