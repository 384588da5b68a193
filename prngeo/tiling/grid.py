"""Windows and grids of windows: arithmetic on integers, anchored to the scene's origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels; it may reach beyond the raster it refers to.

    Attributes:
        row: first row (pixels from the raster's origin, may be negative).
        col: first column.
        height: number of rows.
        width: number of columns.
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def row_end(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def is_empty(self) -> bool:
        """True if the window holds no pixel."""
        return self.height <= 0 or self.width <= 0

    def expand(self, margin: int) -> Window:
        """The window grown by `margin` pixels on every side."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def moved(self, rows: int, cols: int) -> Window:
        """The window moved down by `rows` and right by `cols` pixels."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def intersect(self, other: Window) -> Window:
        """The common part of two windows; empty (zero height or width) if they do not touch."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        return Window(
            row,
            col,
            max(0, min(self.row_end, other.row_end) - row),
            max(0, min(self.col_end, other.col_end) - col),
        )

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices that cut this window out of an array that covers `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True)
class Grid:
    """Square windows of `size` pixels every `size - overlap` pixels, from the raster's origin.

    The windows cover the raster; the last of a row or column may reach beyond it and is never shifted
    inward, so a window's place depends on its index alone.

    Attributes:
        height: the raster's rows.
        width: the raster's columns.
        size: a window's side in pixels.
        overlap: pixels shared by neighbours, at most half the size, so that a pixel lies in at most two
            windows along each axis.
    """

    height: int
    width: int
    size: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.size < 1:
            raise ValueError(f"a grid needs positive sizes, got {self}")
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"overlap must lie in 0..{self.size // 2} (half the size), got {self.overlap}")

    @property
    def stride(self) -> int:
        """Distance between neighbours in pixels."""
        return self.size - self.overlap

    @property
    def extent(self) -> Window:
        """The raster as a window."""
        return Window(0, 0, self.height, self.width)

    @property
    def rows(self) -> int:
        """Number of window rows."""
        return _count(self.height, self.size, self.overlap)

    @property
    def cols(self) -> int:
        """Number of window columns."""
        return _count(self.width, self.size, self.overlap)

    def __len__(self) -> int:
        return self.rows * self.cols

    def window(self, index: tuple[int, int]) -> Window:
        """The window at (row index, column index), in full size."""
        return Window(index[0] * self.stride, index[1] * self.stride, self.size, self.size)

    def indices(self) -> Iterator[tuple[int, int]]:
        """All indices in row-major order."""
        for i in range(self.rows):
            for j in range(self.cols):
                yield i, j

    def touching(self, window: Window) -> list[tuple[int, int]]:
        """Indices of the windows that share a pixel with `window`, in row-major order."""
        window = window.intersect(self.extent)
        if window.is_empty:
            return []
        rows = _touching(window.row, window.row_end, self.size, self.stride, self.rows)
        cols = _touching(window.col, window.col_end, self.size, self.stride, self.cols)
        return [(i, j) for i in rows for j in cols]


def _count(length: int, size: int, overlap: int) -> int:
    return max(1, -(-(length - overlap) // (size - overlap)))


def _touching(start: int, stop: int, size: int, stride: int, count: int) -> range:
    first = max(0, -(-(start - size + 1) // stride))
    last = min(count - 1, (stop - 1) // stride)
    return range(first, last + 1)
