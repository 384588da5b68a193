"""Base logits of cached regions, mosaicked as a prediction would, for fitting and judging the refiner."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.inference.mosaic import Logits, Mosaic, Networks
from prngeo.models.card import Card
from prngeo.raster.store import TileStore
from prngeo.refine.fit import LogitMap
from prngeo.tiling.grid import Window
from prngeo.training.regions import IGNORE, CachedRegion

IN_MEMORY = 4 << 30


class RegionSource:
    """A cached region as the image of a mosaic."""

    def __init__(self, item: CachedRegion) -> None:
        self._item = item

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(bands, h, w) float32 in 0..1 and (h, w) bool; False beyond the region."""
        bands = self._item.image.shape[2] - 1
        image = np.zeros((bands, *window.shape), np.float32)
        valid = np.zeros(window.shape, bool)
        inside = window.intersect(Window(0, 0, *self._item.region.shape))
        if not inside.is_empty:
            pixels = self._item.image[inside.row : inside.row_end, inside.col : inside.col_end]
            here = inside.within(window)
            image[(slice(None), *here)] = np.moveaxis(pixels[..., :-1], -1, 0) / np.float32(255)
            valid[here] = pixels[..., -1] > 0
        return image, valid


def region_logits(item: CachedRegion, networks: Networks, card: Card, refine: bool) -> Logits:
    """Blended logits of a whole region, at its own GSD."""
    shape = item.region.shape
    whole = Window(0, 0, *shape)
    with tempfile.TemporaryDirectory() as scratch:
        mosaic = Mosaic(
            RegionSource(item),
            shape,
            networks,
            card,
            [refine] * len(card.targets),
            TileStore(IN_MEMORY, Path(scratch)),
            [whole],
            tile=card.tile,
            overlap=card.overlap,
        )
        return mosaic.read(whole)


def logit_map(item: CachedRegion, networks: Networks, card: Card, reduction: int) -> LogitMap:
    """A region with its logits as the refiner's training wants it, see `as_map`."""
    return as_map(item, region_logits(item, networks, card, refine=False).base, reduction)


def as_map(item: CachedRegion, base: NDArray[np.floating], reduction: int) -> LogitMap:
    """A region cut to a multiple of the reduction; held-out areas inside it are unlabelled.

    Args:
        item: image and labels.
        base: (targets, H, W) float, its base logits.
        reduction: of the refiner.
    """
    rows, cols = (n // reduction * reduction for n in item.region.shape)
    pixels = item.image[:rows, :cols].astype(np.float32) / 255
    small = pixels.reshape(rows // reduction, reduction, cols // reduction, reduction, -1).mean((1, 3))
    share = small[..., -1]
    image = np.divide(small[..., :-1], share[..., None], out=np.zeros_like(small[..., :-1]), where=share[..., None] > 0)
    labels = np.moveaxis(item.labels[:rows, :cols], -1, 0).copy()
    for window in item.region.forbidden:
        labels[(slice(None), *window.intersect(Window(0, 0, rows, cols)).within(Window(0, 0, rows, cols)))] = IGNORE
    return LogitMap(
        source=item.region.source,
        logits=base[:, :rows, :cols].astype(np.float16),
        image=np.moveaxis(image, -1, 0).astype(np.float16),
        valid=share.astype(np.float16),
        labels=labels,
    )
