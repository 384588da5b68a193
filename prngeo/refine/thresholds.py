"""The thresholds of every patch that may be best, with their exact counts, and no more sorting than that needs.

The logits of a patch are only counted, in a histogram. At the edges of its bins the counts are exact, and no threshold
within a bin does better than all of the bin's positives without its negatives. Only bins in which this bound reaches
what an edge reaches can hold the best threshold, and only their logits, usually a few percent, are sorted.

Maps are handled as `cut` returns them, (rows, patch, columns, patch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BITS = 7
BINS = 1 << BITS
"""Of a patch's histogram. More bins leave fewer logits to sort, and cost more themselves."""

SAMPLES = 8
"""Pixels along a patch's side that tell the range of its histogram; logits beyond it fall in the outer bins."""

LARGEST = 1e37
"""Logits beyond this tell nothing about the range: its width has to be a float32."""

AT_ONCE = 1 << 18
"""Pixels on the CPU, where what is worked on should stay in the cache. A GPU takes all at once."""

_LAST_BIN = int(np.float32(BINS - 1).view(np.int32))


def cut(maps: Tensor, patch: int) -> Tensor:
    """(N, H, W) -> (N rows, patch, columns, patch), in the same order; pixels beyond the edge are 0 or False."""
    n, height, width = maps.shape
    padding = (0, -width % patch, 0, -height % patch)
    padded = F.pad(maps, padding) if any(padding) else maps.contiguous()
    return padded.view(n * (padded.shape[1] // patch), patch, padded.shape[2] // patch, patch)


def plain(tensor: Tensor) -> Any:
    """The same memory as a NumPy array on the CPU, where NumPy compares several times faster than torch."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


@dataclass(frozen=True)
class Histogram:
    """What every patch holds in bins of its own, from the largest logits down.

    Attributes:
        places: int32, pieces of the maps: 4 (BINS patch + bin), plus 2 if known, plus 1 if positive; patches are
            numbered anew in every piece.
        counts: (2, patches, BINS + 1) int64, true positives and union (all positives, and the negatives taken for
            such) of a threshold at each edge of a bin; at the first, nothing is predicted.
    """

    places: tuple[Tensor, ...]
    counts: Tensor


def histogram(values: Tensor, truth: Tensor, known: Tensor) -> Histogram:
    """Count float32 logits, with truth and known bool, on their device; NaN may be where the truth is ignored."""
    rows, side, columns, _ = values.shape
    step = -(-side // SAMPLES)
    sample = (slice(None), slice(step // 2, None, step), slice(None), slice(step // 2, None, step))
    drawn = values[sample]
    useless = ~(known[sample] & (drawn.abs() <= LARGEST))
    lowest = drawn.masked_fill(useless, LARGEST).amin((1, 3), keepdim=True)
    highest = drawn.masked_fill(useless, -LARGEST).amax((1, 3), keepdim=True)
    scale = BINS / (highest - lowest).clamp_(min=1 / LARGEST)
    kinds = torch.add(truth.view(torch.uint8), known.view(torch.uint8), alpha=2)
    at_once = max(1, AT_ONCE // (side * side * columns)) if values.device.type == "cpu" else rows
    first = torch.arange(0, at_once * columns * BINS, BINS, dtype=torch.int32, device=values.device)
    first = first.view(at_once, 1, columns, 1)
    places, held = [], []
    for part, top, width, kind in zip(*(x.split(at_once) for x in (values, highest, scale, kinds)), strict=True):
        bins = (top - part).mul_(width)  # rounded, but never in a lower bin than a smaller logit
        bins.view(torch.int32).clamp_(0, _LAST_BIN)  # the bits of a float rise with it; those of NaN are mended too
        place = torch.add(kind, bins.int().add_(first[: len(part)]), alpha=4)
        places.append(place)
        held.append(torch.bincount(place.view(-1), minlength=4 * BINS * columns * len(part)))
    known_counts = torch.cat(held).view(rows * columns, BINS, 4)[..., 2:].permute(2, 0, 1)
    negatives, hits = F.pad(known_counts, (1, 0)).cumsum(2)
    return Histogram(tuple(places), torch.stack([hits, negatives + hits[:, -1:]]))


@dataclass(frozen=True)
class Options:
    """Thresholds that may be best: for every patch to predict nothing, then others from the highest down.

    Attributes:
        patches: how many there are.
        patch: (options,) int64; the first options are to predict nothing, patch after patch.
        threshold: (options,) float32, NaN to predict nothing.
        counts: (2, options) int64, true positives and union.
    """

    patches: int
    patch: Tensor
    threshold: Tensor
    counts: Tensor

    def best(self, score: Tensor) -> Tensor:
        """(patches,) int64: the option of every patch with the largest score, (options,); the first of equals."""
        highest = score[: self.patches].scatter_reduce(0, self.patch, score, "amax")
        numbers = torch.arange(len(score), device=score.device)
        winning = numbers.masked_fill(score < highest.index_select(0, self.patch), len(score))
        return winning[: self.patches].scatter_reduce(0, self.patch, winning, "amin")


def options(values: Tensor, found: Histogram, wanted: Tensor) -> Options:
    """Sort the logits of bins that may hold the best threshold, and count exactly.

    Args:
        values: what the histogram was made of.
        found: their histogram.
        wanted: (patches, BINS) bool; all thresholds from the first to the last wanted bin of a patch are looked at.

    Returns:
        Options that take a positive more than the next higher threshold, besides those to predict nothing.
    """
    patches = torch.arange(len(wanted), device=wanted.device)
    wanted = wanted & (found.counts[0, :, 1:] > found.counts[0, :, :-1])
    steps = torch.arange(1, BINS + 1, device=wanted.device)
    stop, rest = (wanted * torch.stack([steps, steps.flip(0)])[:, None]).amax(2)
    first = BINS - rest
    stop = stop.maximum(first)
    keys = _sorted(*_between(values, found.places, first, stop))
    kind, level = keys & 3, keys >> 2
    taken = torch.stack([kind == 3, kind == 2])
    last = taken[0].clone()  # positives are last among equals
    last[:-1] &= level[1:] != level[:-1]
    ends = last.nonzero().view(-1)
    level = level.index_select(0, ends)
    patch = (level + 2**31) >> 32
    before = found.counts[:, patches, first]
    inside = found.counts[:, patches, stop] - before
    before -= inside.cumsum(1) - inside
    counts = taken.cumsum(1).index_select(1, ends) + before.index_select(1, patch)
    bits = level.int().bitwise_not_()
    bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))
    return Options(
        len(patches),
        torch.cat([patches, patch]),
        torch.cat([values.new_full((len(patches),), torch.nan), bits.view(torch.float32)]),
        torch.cat([found.counts[:, :, 0], counts], 1),
    )


def _between(values: Tensor, places: tuple[Tensor, ...], first: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, their kind, and their patch, int64, of the bins from one to another, (patches,) int64."""
    at_once, columns = len(places[0]), values.shape[2]
    edges = torch.stack([first, stop]).mul_(4).add_(torch.arange(len(first), device=first.device) * (4 * BINS))
    found = []
    parts = zip(values.split(at_once), places, edges.view(2, -1, 1, columns, 1).split(at_once, 1), strict=True)
    for number, (part, place, (low, high)) in enumerate(parts):
        start = number * at_once * columns
        low, high = ((edge - 4 * BINS * start).int() for edge in (low, high))
        inside = plain(place.minimum(high - 1).maximum(low)) == plain(place)
        if isinstance(inside, Tensor):
            where = inside.view(-1).nonzero().view(-1)
        else:
            where = torch.from_numpy(np.flatnonzero(inside))
        place = place.view(-1).index_select(0, where)
        found.append((part.reshape(-1).index_select(0, where), place & 3, (place >> BITS + 2).long() + start))
    logits, kind, patch = (torch.cat(column) for column in zip(*found, strict=True))
    return logits, kind, patch


def _sorted(values: Tensor, kind: Tensor, patch: Tensor) -> Tensor:
    """int64: patch, logit, and kind as one number; ascending, so that the largest logit of a patch is first."""
    # The bits of a float, made to fall as its value rises.
    bits = (values + 0.0).view(torch.int32)  # adding 0 makes -0 equal to 0
    falling = bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF)).bitwise_not_()
    keys = (patch << 34).add_(falling.long(), alpha=4).add_(kind)
    return torch.from_numpy(np.sort(keys.numpy())) if keys.device.type == "cpu" else keys.sort().values
