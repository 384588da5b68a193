"""Cross-fitting: base logits of training regions from networks that were trained without them."""

from __future__ import annotations

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from prngeo.refine.fit import LogitMap
from prngeo.tiling.grid import Window
from prngeo.training.places import Place, around, bounds, free, seen
from prngeo.training.regions import CachedRegion, Region

logger = logging.getLogger(__name__)

Predictor = Callable[[CachedRegion], LogitMap]


def split_folds(regions: Sequence[CachedRegion], count: int) -> list[int | None]:
    """Distribute the blocks of every source over folds of about equal area.

    Args:
        regions: training regions; those of one block (see prngeo.training.regions.Region) stay together.
        count: number of folds.

    Returns:
        The fold of every region; None for those of a source with fewer blocks than folds, which cannot be left out
        of the training without leaving out their kind.
    """
    blocks: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, item in enumerate(regions):
        blocks[item.region.source][_block(item)].append(number)
    found: list[int | None] = [None] * len(regions)
    for members in blocks.values():
        if len(members) < count:
            continue
        filled = np.zeros(count)
        area = {name: _area([regions[i] for i in block]) for name, block in members.items()}
        for name in sorted(members, key=lambda block: (-area[block], block)):
            fold = int(filled.argmin())
            filled[fold] += area[name]
            for number in members[name]:
                found[number] = fold
    return found


def cut_blocks(regions: Sequence[CachedRegion], count: int) -> list[CachedRegion]:
    """Training regions, those of large blocks cut into strips of ground where folds would be uneven.

    That is where a fold of a source would hold less than half its share: a network of so few regions scores the others
    as no network of all regions does. Blocks of more than a share are cut across their longer side, into as many
    strips as they fill shares; each is wider than the gap that `cross_fit` keeps.

    Args:
        regions: training regions.
        count: number of folds.

    Returns:
        The regions of other blocks as they are, also those of a block that is too small for its gap, or whose regions
        do not lie in one coordinate system or picture.
    """
    found: list[CachedRegion] = []
    for own in _by_source(regions):
        found += own if _even(_fold_areas(own, count), own) else _cut(own, count)
    return found


def _by_source(regions: Sequence[CachedRegion]) -> Iterable[list[CachedRegion]]:
    found: dict[str, list[CachedRegion]] = defaultdict(list)
    for item in regions:
        found[item.region.source].append(item)
    return found.values()


def _fold_areas(own: Sequence[CachedRegion], count: int) -> list[int]:
    """Pixels that every fold holds of the regions of a source."""
    folds = split_folds(own, count)
    return [_area([item for item, fold in zip(own, folds, strict=True) if fold == n]) for n in range(count)]


def _even(areas: Sequence[int], own: Sequence[CachedRegion]) -> bool:
    """True if every fold holds at least half its share of the regions of a source."""
    return 2 * len(areas) * min(areas) >= _area(own)


def _cut(own: Sequence[CachedRegion], count: int) -> Iterator[CachedRegion]:
    total = _area(own)
    blocks: dict[str, list[CachedRegion]] = defaultdict(list)
    for item in own:
        blocks[_block(item)].append(item)
    for members in blocks.values():
        strips = -(-count * _area(members) // total)
        yield from _strips(members, strips) if strips > 1 else members


def _block(item: CachedRegion) -> str:
    return item.region.block or item.region.key


def _area(items: Sequence[CachedRegion]) -> int:
    """Pixels of regions."""
    return sum(math.prod(item.region.shape) for item in items)


def _strips(own: Sequence[CachedRegion], count: int) -> Sequence[CachedRegion]:
    first = own[0].region
    if len({item.region.crs or item.region.scene for item in own}) > 1 or not first.gap:
        return own
    place = _place(first)
    boxes = [seen(item.region.window, _place(item.region), place) for item in own]
    if any(box is None for box in boxes):
        return own
    low, high = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]  # type: ignore[arg-type]
    lengths = (high - low) * place.gsd[::-1]
    axis = int(lengths.argmax())
    if lengths[axis] / count <= first.gap:
        return own
    edges = np.linspace(low[axis], high[axis], count + 1)
    found = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        strip = [low[0], low[1], high[0], high[1]]
        strip[axis], strip[axis + 2] = start, stop
        window = Window(*(round(edge) for edge in strip[:2]), *(round(strip[i + 2]) - round(strip[i]) for i in (0, 1)))
        for item in own:
            box = seen(window, place, _place(item.region))
            part = None if box is None else _part(item, Window(*_ints(box)), number)
            if part is not None:
                found.append(part)
    return found


def _ints(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    row, col, row_end, col_end = (round(edge) for edge in box)
    return row, col, row_end - row, col_end - col


def _part(item: CachedRegion, strip: Window, number: int) -> CachedRegion | None:
    """The part of a region in a window of its scene, if training may touch any of it."""
    region = item.region
    window = strip.intersect(region.window)
    if window.is_empty:
        return None
    row, col = window.row - region.window.row, window.col - region.window.col
    forbidden = tuple(other.moved(-row, -col) for other in region.forbidden)
    if not free(window.shape, forbidden):
        return None
    here = window.within(region.window)
    part = replace(
        region,
        key=f"{region.key}-strip{number}",
        shape=window.shape,
        window=window,
        forbidden=forbidden,
        block=f"{_block(item)}-strip{number}",
        bounds=bounds(window, region.transform, bool(region.crs)),
    )
    return CachedRegion(part, item.image[here], item.labels[here])


def cross_fit(
    regions: Sequence[CachedRegion], count: int, train: Callable[[int, Sequence[CachedRegion]], Predictor]
) -> list[LogitMap]:
    """Maps of training regions, each from a network that was trained on the other folds, a gap away.

    Args:
        regions: training regions.
        count: number of folds, at least 2.
        train: trains a network for a fold (its number) on the given regions, and returns what maps a region.

    Returns:
        One map a region, or part of one (see `cut_blocks`), that is in a fold; held-out areas inside it are
        unlabelled.
    """
    parts = cut_blocks(regions, count)
    folds = split_folds(parts, count)
    _warn_of_uneven(parts, count)
    maps = []
    for fold in range(count):
        left_out = [item for item, own in zip(parts, folds, strict=True) if own == fold]
        if left_out:
            predict = train(fold, outside(parts, folds, fold))
            maps += [predict(item) for item in left_out]
    return maps


def _warn_of_uneven(parts: Sequence[CachedRegion], count: int) -> None:
    for own in _by_source(parts):
        areas = _fold_areas(own, count)
        if any(areas) and not _even(areas, own):
            logger.warning(
                "source %s: the folds that PRN is fitted with hold from %.0f to %.0f %% of its pixels, as its blocks "
                "could not be divided more evenly. The network of a large fold learns from little, which PRN then "
                "mends in vain. Give some scenes or areas the role refine, which is used in place of folds.",
                own[0].region.source,
                100 * min(areas) / sum(areas),
                100 * max(areas) / sum(areas),
            )


def outside(regions: Sequence[CachedRegion], folds: Sequence[int | None], fold: int) -> list[CachedRegion]:
    """What the network of a fold may be trained on: the other regions, a gap away from those of the fold.

    Args:
        regions: training regions, see `cut_blocks`.
        folds: that of each, see `split_folds`.
        fold: the one that is left out.
    """
    left_out = [item.region for item, own in zip(regions, folds, strict=True) if own == fold]
    return list(_away((item for item, own in zip(regions, folds, strict=True) if own != fold), left_out))


def _away(items: Iterator[CachedRegion], left_out: Sequence[Region]) -> Iterator[CachedRegion]:
    """What may be trained on: regions whose forbidden windows hold what is left out, and the gap around it."""
    for item in items:
        region, place = item.region, _place(item.region)
        forbidden = list(region.forbidden)
        for other in left_out:
            box = seen(other.window, _place(other), place) if region.gap else None
            if box is not None:
                window = around(box, region.gap, region.gsd).moved(-region.window.row, -region.window.col)
                if not window.intersect(Window(0, 0, *region.shape)).is_empty:
                    forbidden.append(window)
        if free(region.shape, tuple(forbidden)):
            yield replace(item, region=replace(region, forbidden=tuple(forbidden)))


def _place(region: Region) -> Place:
    """Where a region's scene lies; pictures without a coordinate system by their name alone."""
    return Place(region.crs or region.scene, bool(region.crs), region.transform, region.gsd)
