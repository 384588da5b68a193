"""Objects of two masks compared: matching by IoU, objects split and merged, from one pass over windows.

A predicted object matches a true one if their IoU reaches a threshold; each object matches at most once. From an IoU
of 0.5 on this is unambiguous but for exact ties (Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.1).
Thresholds 0.5, 0.55, ..., 0.95 and the mean over them follow the COCO evaluation (Lin et al., ECCV 2014), with F1 in
the place of average precision, as polygons carry no ranking. Splits and merges follow the one-to-many and many-to-one
overlaps of Hoover et al., IEEE PAMI 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.evaluation.pixel import Floats, ratio
from prngeo.tiling.grid import Window

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100
"""(10,)"""
INSIDE = 0.5
"""Share of an object that has to lie in another one to count as a piece of it."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Objects:
    """The objects of one mask.

    Attributes:
        area: (n,) int64 pixels.
        first: (n,) int64, place of an object's first pixel, row * width + column.
        component: (labels + 1,) int64: the object of every label that was handed out, -1 if none.
    """

    area: Integers
    first: Integers
    component: Integers


class Labels:
    """Connected objects of a mask that comes in windows; memory grows with objects and the mask's width.

    Args:
        width: of the whole mask.

    Windows come in row-major order and tile the mask. Pixels that share an edge belong together.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._count = 0
        self._above: Integers = np.zeros(width, np.int64)
        self._left: Integers = np.zeros(0, np.int64)
        self._below: Integers = np.zeros(width, np.int64)
        self._area: list[Integers] = []
        self._first: list[Integers] = []
        self._joined: list[Integers] = []

    def add(self, window: Window, mask: NDArray[np.bool_]) -> Integers:
        """Label the next window.

        Args:
            window: its place.
            mask: (h, w) bool.

        Returns:
            (h, w) int64, 0 for background; numbers are unique over all windows, and an object that reaches into
            several has several.
        """
        from scipy import ndimage

        local, count = ndimage.label(mask)
        labels: Integers = local.astype(np.int64)
        labels[mask] += self._count
        self._area.append(np.bincount(local.ravel(), minlength=count + 1)[1:])
        self._first.append(_first_pixels(local, count, window, self._width))
        columns = slice(window.col, window.col_end)
        if window.col == 0:
            self._above, self._below = self._below, np.zeros(self._width, np.int64)
            self._left = np.zeros(window.height, np.int64)
        self._join(self._above[columns], labels[0])
        self._join(self._left, labels[:, 0])
        self._below[columns], self._left = labels[-1], labels[:, -1]
        self._count += count
        return labels

    def _join(self, one: Integers, other: Integers) -> None:
        both = (one > 0) & (other > 0)
        if both.any():
            self._joined.append(np.unique(np.stack([one[both], other[both]], 1), axis=0))

    def finish(self) -> Objects:
        """The objects, in the order of their first pixels."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        size = self._count + 1
        pairs = np.concatenate(self._joined) if self._joined else np.zeros((0, 2), np.int64)
        graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (size, size))
        component = connected_components(graph, directed=False)[1][1:]
        return _gather(component, _concatenate(self._area), _concatenate(self._first))


class Numbered:
    """Objects that come with numbers of their own, such as the polygons of a layer.

    Args:
        count: the largest number.
        width: of the whole mask.
    """

    def __init__(self, count: int, width: int) -> None:
        self._area = np.zeros(count + 1, np.int64)
        self._first = np.full(count + 1, np.iinfo(np.int64).max)
        self._width = width

    def add(self, window: Window, labels: Integers) -> Integers:
        """Count the pixels of a window; returns `labels`, (h, w) int64 with 0 for background."""
        present, local = np.unique(labels, return_inverse=True)
        local = local.reshape(labels.shape)
        if present[0] != 0:
            present, local = np.concatenate([[0], present]), local + 1
        self._area[present[1:]] += np.bincount(local.ravel(), minlength=len(present))[1:]
        first = _first_pixels(local, len(present) - 1, window, self._width)
        self._first[present[1:]] = np.minimum(self._first[present[1:]], first)
        return labels

    def finish(self) -> Objects:
        """Those with at least one pixel, in the order of their first pixels."""
        return _gather(np.arange(len(self._area) - 1), self._area[1:], self._first[1:])


def _first_pixels(local: NDArray[np.generic], count: int, window: Window, width: int) -> Integers:
    """(count,) place of the first pixel of labels 1..count of a window."""
    flat = local.ravel()
    inside = np.flatnonzero(flat)[::-1]
    first = np.zeros(count + 1, np.int64)
    first[flat[inside]] = inside  # of several values for one label the last counts: the first pixel
    row, col = np.divmod(first[1:], window.width)
    return (row + window.row) * width + col + window.col


def _gather(component: Integers, area: Integers, first: Integers) -> Objects:
    """Objects from labels and the component each belongs to."""
    count = int(component.max()) + 1 if len(component) else 0
    areas = np.bincount(component, area, count).astype(np.int64)
    firsts = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(firsts, component, first)
    order = np.argsort(firsts, kind="stable")
    order = order[areas[order] > 0]
    number = np.full(count, -1, np.int64)
    number[order] = np.arange(len(order))
    return Objects(areas[order], firsts[order], np.concatenate([[-1], number[component]]).astype(np.int64))


def _concatenate(parts: list[Integers]) -> Integers:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class Overlaps:
    """Pixels that two labelled masks have in common, pair by pair."""

    def __init__(self) -> None:
        self._pairs: list[Integers] = []
        self._counts: list[Integers] = []

    def add(self, predicted: Integers, true: Integers) -> None:
        """Count the pairs of a window's labels, both (h, w) int64."""
        both = (predicted > 0) & (true > 0)
        if not both.any():
            return
        span = int(true.max()) + 1
        keys, counts = np.unique(predicted[both] * span + true[both], return_counts=True)
        self._pairs.append(np.stack(np.divmod(keys, span), 1))
        self._counts.append(counts)

    def finish(self, predicted: Objects, true: Objects) -> tuple[Integers, Integers]:
        """Pairs of overlapping objects, (n, 2) int64 (predicted, true), and their common pixels (n,)."""
        if not self._pairs:
            return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
        labels, counts = np.concatenate(self._pairs), np.concatenate(self._counts)
        pairs = np.stack([predicted.component[labels[:, 0]], true.component[labels[:, 1]]], 1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        return unique, np.bincount(inverse.ravel(), counts).astype(np.int64)


@dataclass(frozen=True)
class Matching:
    """How predicted objects compare with true ones.

    Attributes:
        matched: (m, 2) int64, (predicted, true) with an IoU of at least 0.5, each object once.
        iou: (m,) of these pairs.
        split: (true objects,) bool: two or more predicted objects lie mostly inside (over-segmentation).
        merging: (predicted objects,) bool: two or more true objects lie mostly inside (under-segmentation).
    """

    matched: Integers
    iou: Floats
    split: NDArray[np.bool_]
    merging: NDArray[np.bool_]


def match(predicted: Objects, true: Objects, pairs: Integers, common: Integers) -> Matching:
    """Match objects by IoU.

    Args:
        predicted: of one mask.
        true: of the other.
        pairs: (n, 2) overlapping objects.
        common: (n,) pixels they share.
    """
    area_p, area_t = predicted.area[pairs[:, 0]], true.area[pairs[:, 1]]
    iou = common / (area_p + area_t - common)
    split = np.bincount(pairs[common > INSIDE * area_p, 1], minlength=len(true.area)) >= 2
    merging = np.bincount(pairs[common > INSIDE * area_t, 0], minlength=len(predicted.area)) >= 2
    order = np.argsort(-iou, kind="stable")
    order = order[iou[order] >= IOU_THRESHOLDS[0]]
    for column in (0, 1):  # only exact ties at 0.5 offer an object two partners
        _, keep = np.unique(pairs[order, column], return_index=True)
        order = order[np.sort(keep)]
    return Matching(pairs[order], iou[order], split, merging)


def block_counts(matching: Matching, predicted_in: Integers, true_in: Integers, blocks: int) -> Floats:
    """Matched, false and missed objects of every block at every IoU threshold.

    Args:
        matching: of predicted and true objects.
        predicted_in: (predicted,) block of each predicted object.
        true_in: (true,) block of each true object; a matched pair counts there.
        blocks: their number.

    Returns:
        (blocks, 10, 3) float64: true positives, false positives, false negatives.
    """
    counts = np.zeros((blocks, len(IOU_THRESHOLDS), 3))
    for index, threshold in enumerate(IOU_THRESHOLDS):
        good = matching.matched[matching.iou >= threshold]
        unmatched, missed = np.ones(len(predicted_in), bool), np.ones(len(true_in), bool)
        unmatched[good[:, 0]], missed[good[:, 1]] = False, False
        counts[:, index, 0] = np.bincount(true_in[good[:, 1]], minlength=blocks)
        counts[:, index, 1] = np.bincount(predicted_in[unmatched], minlength=blocks)
        counts[:, index, 2] = np.bincount(true_in[missed], minlength=blocks)
    return counts


def object_metrics(counts: Floats) -> dict[str, Floats]:
    """Precision, recall and F1 of objects.

    Args:
        counts: (..., 10, 3), see `block_counts`.

    Returns:
        Arrays (...,): at an IoU of 0.5, and F1 averaged over 0.5, 0.55, ..., 0.95; NaN without a true object
        (precision: without a predicted one).
    """
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    f1 = np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan)
    return {
        "object_precision": ratio(tp, tp + fp)[..., 0],
        "object_recall": ratio(tp, tp + fn)[..., 0],
        "object_f1": f1[..., 0],
        "object_f1_50_95": f1.mean(-1),
    }
