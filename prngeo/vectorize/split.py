"""Splitting objects that touch where the probability dips between them.

Each object is split in its own bounding box, so the result does not depend on how the raster is read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from prngeo.vectorize.mask import probability_nodata
from prngeo.vectorize.runs import Gathered, Labels, Runs

LARGEST = 16_000_000
"""Objects with a larger bounding box, in pixels, stay whole: they would need too much memory."""
STEPS = 250
"""Levels of probability that are told apart."""


def split_objects(
    runs: Runs, labels: Labels, probability: Any, depth: float, smallest: float
) -> tuple[Runs, Labels, int]:
    """Split objects by a watershed of the probability.

    Two summits of the probability belong to different parts if the highest pass between them lies at least `depth`
    below the lower one (Meyer and Beucher 1990, Morphological segmentation). Parts grow from those summits down;
    parts of fewer than `smallest` pixels are left to their neighbors.

    Args:
        runs: the pixels of the objects.
        labels: the object of each run, int32 (runs,); the pixels of an object are joined by their edges.
        probability: an open raster on the same grid.
        depth: of the dip, as a probability.
        smallest: number of pixels of a part.

    Returns:
        Runs of the parts, the part of each run in the order of first pixels, int32 (runs,), and the number of objects
        that stayed whole because they are too large.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    pieces: list[tuple[Runs, Labels]] = []
    parts = skipped = 0
    for first, end in pairwise(ends):
        own = runs.take(order[first:end])
        found = None
        if own.pixels.sum() >= 2 * smallest:
            box = _bounding_box(own)
            if box.width * box.height > LARGEST:
                skipped += 1
            else:
                found = _split(own, box, probability, depth, smallest)
        own, part = found or (own, np.zeros(len(own), np.int32))
        pieces.append((own, part + parts))
        parts += int(part.max()) + 1
    gathered = Gathered(runs.pitch)
    for piece, _ in pieces:
        gathered.add(piece)
    whole = gathered.runs
    order = np.argsort(whole.start)
    split = whole.take(order)
    part = np.concatenate([np.empty(0, np.int32), *(part for _, part in pieces)])[order]
    return split, split.components(4, part), skipped


def _bounding_box(runs: Runs) -> Window:
    row, column = np.divmod(runs.start, runs.pitch)
    left = int(column.min())
    return Window(left, int(row[0]), int((column + runs.pixels).max()) - left, int(row[-1] - row[0]) + 1)


def _split(runs: Runs, box: Window, probability: Any, depth: float, smallest: float) -> tuple[Runs, Labels] | None:
    """Runs and their parts, from 0, of one object; None if it stays whole."""
    from skimage.measure import label
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    inside = _pixels(runs, box)
    levels = np.where(inside, _levels(probability, box), 0)
    step = max(1, round(depth * STEPS))
    if int(levels.max()) - int(levels[inside].min()) < step:
        return None
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    summits = label(h_maxima(levels, step, footprint=cross), connectivity=1)  # type: ignore[no-untyped-call]
    while summits.max() > 1:
        parts = watershed(-levels, summits, mask=inside, connectivity=1)  # type: ignore[no-untyped-call]
        size = np.bincount(parts.ravel())[1:]
        small = size < smallest
        if not small.any():
            return _part_runs(parts, box, runs.pitch)
        small[size.argmax()] = False
        renumbered = np.concatenate([[0], np.where(small, 0, np.cumsum(~small))])
        summits = renumbered[summits]
    return None


def _pixels(runs: Runs, box: Window) -> NDArray[np.bool_]:
    """The object's pixels in its box, bool (rows, columns)."""
    row, column = np.divmod(runs.start, runs.pitch)
    change = np.zeros((box.height, box.width + 1), np.int8)
    np.add.at(change, (row - box.row_off, column - box.col_off), 1)
    np.add.at(change, (row - box.row_off, column - box.col_off + runs.pixels), -1)
    return np.asarray(np.cumsum(change, axis=1)[:, :-1] > 0)


def _levels(src: Any, box: Window) -> NDArray[np.int16]:
    """The probability in steps, 0 where it is missing, int16 (rows, columns)."""
    values = src.read(1, window=box)
    nodata = probability_nodata(src)
    missing = ~np.isfinite(values) if nodata is None else ~np.isfinite(values) | (values == nodata)
    scaled = np.where(missing, 0, values) * src.scales[0] + src.offsets[0]
    levels: NDArray[np.int16] = np.rint(np.clip(scaled, 0, 1) * STEPS).astype(np.int16)
    return levels


def _part_runs(parts: NDArray[np.integer], box: Window, pitch: int) -> tuple[Runs, Labels]:
    """The runs of numbered parts, (rows, columns), as runs of the whole raster, and the part of each, from 0."""
    padded = np.zeros((box.height, box.width + 1), np.int32)
    padded[:, :-1] = parts
    flat = padded.ravel()
    begins = np.flatnonzero(np.diff(flat, prepend=0))
    ends = np.append(begins[1:], len(flat))
    real = flat[begins] > 0
    begins, ends = begins[real], ends[real]
    row, column = np.divmod(begins, box.width + 1)
    start = (row + box.row_off) * pitch + column + box.col_off
    return Runs(start, start + ends - begins, pitch), flat[begins] - 1
