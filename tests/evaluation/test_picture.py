import numpy as np
import pytest

from prngeo.evaluation import picture as module
from prngeo.evaluation.picture import Picture
from prngeo.tiling.grid import Grid, Window


def drawn(shape, window=None):
    rng = np.random.default_rng(0)
    known, true, found = (rng.random(shape) < share for share in (0.8, 0.4, 0.5))
    true, found = true & known, found & known
    made = Picture(*shape)
    grid = Grid(*shape, window or max(shape))
    for index in grid.indices():
        part = grid.window(index).intersect(grid.extent)
        cut = part.within(grid.extent)
        made.add(part, known[cut], true[cut], found[cut])
    return made, known, true, found


def test_by_hand(monkeypatch):
    monkeypatch.setattr(module, "SIDE", 2)
    made = Picture(2, 4)
    known = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)
    true = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    found = np.array([[1, 0, 1, 0], [0, 0, 1, 0]], bool)
    made.add(Window(0, 0, 2, 4), known, true, found)
    assert made.cell == 2
    # found, false, missed, background
    assert made.shares[0, 0].tolist() == [0.25, 0, 0.25, 0.5]
    assert made.shares[0, 1].tolist() == [0, 0.5, 0, 0.25]
    assert made.known.tolist() == [[1, 0.75]]


@pytest.mark.parametrize("side", [900, 7, 3])
@pytest.mark.parametrize("window", [None, 5, 16])
def test_cells_are_shares_of_their_pixels_whatever_the_windows(monkeypatch, side, window):
    monkeypatch.setattr(module, "SIDE", side)
    made, known, true, found = drawn((23, 31), window)
    kinds = (true & found, found & ~true, true & ~found, known & ~true & ~found)
    for row in range(made.shares.shape[0]):
        for col in range(made.shares.shape[1]):
            cell = (slice(row * made.cell, (row + 1) * made.cell), slice(col * made.cell, (col + 1) * made.cell))
            expected = [kind[cell].sum() / made.cell**2 for kind in kinds]
            np.testing.assert_allclose(made.shares[row, col], expected)
