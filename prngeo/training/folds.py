"""Cross-fitting: base logits of training regions from networks that were trained without them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from prngeo.refine.fit import LogitMap
from prngeo.training.regions import CachedRegion

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
        blocks[item.region.source][item.region.block or item.region.key].append(number)
    found: list[int | None] = [None] * len(regions)
    for members in blocks.values():
        if len(members) < count:
            continue
        filled = np.zeros(count)
        area = {name: sum(float(np.prod(regions[i].region.shape)) for i in block) for name, block in members.items()}
        for name in sorted(members, key=lambda block: (-area[block], block)):
            fold = int(filled.argmin())
            filled[fold] += area[name]
            for number in members[name]:
                found[number] = fold
    return found


def cross_fit(
    regions: Sequence[CachedRegion], count: int, train: Callable[[int, Sequence[CachedRegion]], Predictor]
) -> list[LogitMap]:
    """Maps of training regions, each from a network that was trained on the other folds.

    Args:
        regions: training regions.
        count: number of folds, at least 2.
        train: trains a network for a fold (its number) on the given regions, and returns what maps a region.

    Returns:
        One map a region that is in a fold; held-out areas inside it are unlabelled.
    """
    folds = split_folds(regions, count)
    maps = []
    for fold in range(count):
        left_out = [item for item, own in zip(regions, folds, strict=True) if own == fold]
        if left_out:
            predict = train(fold, [item for item, own in zip(regions, folds, strict=True) if own != fold])
            maps += [predict(item) for item in left_out]
    return maps
