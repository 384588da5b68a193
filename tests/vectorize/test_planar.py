"""Lines are cut exactly where they meet."""

from __future__ import annotations

import numpy as np
import shapely

from prngeo.vectorize.planar import cut, planar


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def test_lines_that_cross_are_cut_at_one_point() -> None:
    pieces, source = planar([line((0, 0), (10, 0)), line((4, -3), (4, 5)), line((20, 0), (30, 0))])
    assert [piece.tolist() for piece in pieces] == [
        [[0, 0], [4, 0]],
        [[4, 0], [10, 0]],
        [[4, -3], [4, 0]],
        [[4, 0], [4, 5]],
        [[20, 0], [30, 0]],
    ]
    assert source == [0, 0, 1, 1, 2]


def test_lines_that_share_an_end_stay_whole() -> None:
    lines = [line((0, 0), (10, 0)), line((10, 0), (10, 5)), line((0, 0), (-3, 3))]
    pieces, source = planar(lines)
    assert all(piece is one for piece, one in zip(pieces, lines, strict=True))
    assert source == [0, 1, 2]


def test_an_end_on_another_line_cuts_it() -> None:
    pieces, source = planar([line((0, 0), (10, 0)), line((4, 0), (4, 5))])
    assert source == [0, 0, 1]
    assert [piece[-1].tolist() for piece in pieces] == [[4, 0], [10, 0], [4, 5]]


def test_several_cuts_are_in_order_and_none_at_the_ends() -> None:
    pieces = cut(line((0, 0), (5, 0), (5, 5)), line((5, 2), (2, 0), (0, 0), (5, 5), (2, 0)))
    assert [piece.tolist() for piece in pieces] == [[[0, 0], [2, 0]], [[2, 0], [5, 0], [5, 2]], [[5, 2], [5, 5]]]


def test_a_line_that_crosses_itself_is_cut_there_and_one_that_goes_back_is_there_once() -> None:
    loop = line((0, 0), (10, 0), (10, 5), (4, 5), (4, -5))
    ring = line((0, 20), (5, 20), (5, 25), (0, 20))
    back = line((20, 0), (25, 0), (20, 0))
    pieces, source = planar([loop, ring, back])
    drawn = [shapely.linestrings(piece) for piece in pieces]
    assert sorted(source) == [0, 0, 0, 1, 2]
    assert all(one.is_simple for one in drawn)
    assert drawn[3].equals(shapely.linestrings(ring))
    assert sum(one.length for one in drawn[:3]) == shapely.linestrings(loop).length
    assert drawn[4].length == 5


def test_no_lines_are_no_pieces() -> None:
    assert planar([]) == ([], [])
