"""The thresholds of every patch that may be best, with their exact counts, and no more sorting than that needs.

The logits of a patch are only counted, in a histogram. At the edges of its bins the counts are exact, and no threshold
within a bin does better than all of the bin's positives without its negatives. Only bins in which this bound reaches
what an edge reaches can hold the best threshold, and only their logits, usually a few percent, are sorted.

Maps are handled as `cut` returns them. What is done for every pixel is done on their device; tables of patches, bins
and thresholds are small, and NumPy arrays on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

BINS = 127
"""Of a patch's histogram: as many as fit a byte together with the truth. A byte of 255 stands for an ignored pixel."""

SAMPLES = 8
"""Pixels along a patch's side that tell the range of its histogram; logits beyond it fall in the outer bins."""

LARGEST = 1e36
"""Logits beyond this tell nothing about the range: its width, and bins in a unit of logits, have to be float32."""

AT_ONCE = 1 << 16
"""Pixels on the CPU, where what is worked on should stay in the cache. A GPU takes all at once."""

_LAST_BIN = int(np.float32(BINS - 1).view(np.int32))


def cut(maps: Tensor, patch: int) -> Tensor:
    """(N, H, W) -> (N rows, patch, columns patch): a band for each row of patches; beyond the edge 0 or False."""
    n, height, width = maps.shape
    padding = (0, -width % patch, 0, -height % patch)
    padded = F.pad(maps, padding) if any(padding) else maps.contiguous()
    return padded.view(n * (padded.shape[1] // patch), patch, padded.shape[2])


def spread(table: NDArray[Any], maps: Tensor) -> Tensor:
    """What each patch has, in any shape of (patches,), to (rows, 1, columns patch), for arithmetic with the maps."""
    rows, patch, width = maps.shape
    return torch.from_numpy(table.reshape(rows, 1, -1).repeat(patch, 2)).to(maps.device)


def plain(tensor: Tensor) -> Any:
    """The same memory as a NumPy array on the CPU, where NumPy compares several times faster than torch."""
    return tensor.numpy() if on_cpu(tensor) else tensor


def on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _host(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


@dataclass(frozen=True)
class Histogram:
    """What every patch holds in bins of its own, from the largest logits down.

    Attributes:
        codes: uint8, bands of the maps: 2 bin, plus 1 if positive; 255 if ignored.
        places: int32, the same plus 256 patch; patches are numbered anew in every piece.
        counts: (2, patches, BINS + 1), true positives and union (all positives, and the negatives taken for such) of
            a threshold at each edge of a bin; at the first, nothing is predicted.
    """

    codes: tuple[Tensor, ...]
    places: tuple[Tensor, ...]
    counts: Numbers


def histogram(values: Tensor, truth: Tensor, known: Tensor) -> Histogram:
    """Count float32 logits, with truth and known bool, on their device; NaN may be where the truth is ignored."""
    rows, patch, width = values.shape
    columns = width // patch
    at_once = max(1, AT_ONCE // (patch * width)) if on_cpu(values) else rows
    first = spread(np.arange(0, rows * columns * 256, 256, dtype=np.int32), values)
    maps = values, *_scale(values, known), truth.view(torch.uint8), known.view(torch.uint8)
    codes, places, held = [], [], []
    for part, top, scale, positive, use in zip(*(each.split(at_once) for each in maps), strict=True):
        bins = (top - part).mul_(scale)  # rounded, but never in a lower bin than a smaller logit
        bins.view(torch.int32).clamp_(0, _LAST_BIN)  # the bits of a float rise with it; those of NaN are mended too
        code = torch.add(positive, _bytes(bins), alpha=2).bitwise_or_(use - 1)
        place = code.int().add_(first[: len(part)])
        codes.append(code)
        places.append(place)
        held.append(_host(torch.bincount(place.view(-1), minlength=256 * columns * len(part))))
    found = np.concatenate(held).reshape(-1, 128, 2)[:, :BINS]
    counts = np.zeros((2, rows * columns, BINS + 1), np.int64)
    found[..., 1].cumsum(1, out=counts[0, :, 1:])
    found[..., 0].cumsum(1, out=counts[1, :, 1:])
    counts[1] += counts[0, :, -1:]
    return Histogram(tuple(codes), tuple(places), counts)


def _scale(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Where the bins of a patch start, and bins in a unit of logits, from a sample of its known pixels."""
    drawn, use = _sample(values), _sample(known)
    use = use & (np.abs(drawn) <= LARGEST)
    lowest = np.where(use, drawn, np.float32(LARGEST)).min(0)
    highest = np.where(use, drawn, np.float32(-LARGEST)).max(0)
    return spread(highest, values), spread(BINS / np.maximum(highest - lowest, np.float32(1 / LARGEST)), values)


def _sample(maps: Tensor) -> NDArray[Any]:
    """(pixels, patches)"""
    rows, patch, _ = maps.shape
    step = -(-patch // SAMPLES)
    drawn = maps.view(rows, patch, -1, patch)[:, step // 2 :: step, :, step // 2 :: step]
    return _host(drawn.permute(1, 3, 0, 2).flatten(2).flatten(0, 1))


def _bytes(bins: Tensor) -> Tensor:
    """Cut to whole numbers; NumPy converts several times faster than torch."""
    return torch.from_numpy(bins.numpy().astype(np.uint8)) if on_cpu(bins) else bins.byte()


@dataclass(frozen=True)
class Options:
    """Thresholds that may be best, patch after patch: to predict nothing, then others from the highest down.

    Attributes:
        starts: (patches,) int64, the options to predict nothing.
        thresholds: (options,) float32, NaN to predict nothing.
        counts: (2, options), true positives and union.
    """

    starts: Numbers
    thresholds: Floats
    counts: Numbers

    def best(self, score: NDArray[Any]) -> Numbers:
        """(patches,): the option of every patch with the largest score, (options,); the first of equals."""
        highest = np.maximum.reduceat(score, self.starts)
        sizes = np.diff(np.append(self.starts, len(score)))
        winning = np.flatnonzero(score == highest.repeat(sizes))
        return winning[winning.searchsorted(self.starts)]


def options(values: Tensor, found: Histogram, wanted: NDArray[np.bool_]) -> Options:
    """Sort the logits of bins that may hold the best threshold, and count exactly.

    Args:
        values: what the histogram was made of.
        found: their histogram.
        wanted: (patches, BINS); all thresholds from the first to the last wanted bin of a patch are looked at.

    Returns:
        Options that take a positive more than the next higher threshold, besides those to predict nothing.
    """
    patches = np.arange(len(wanted))
    wanted = wanted & (found.counts[0, :, 1:] > found.counts[0, :, :-1])
    first = wanted.argmax(1)
    stop = np.where(wanted.any(1), BINS - wanted[:, ::-1].argmax(1), first)
    keys = _sorted(*_between(values, found, first, stop), len(patches))
    positive = keys & 1
    level = keys >> 1
    last = positive.astype(bool)  # positives are last among equals
    last[:-1] &= level[1:] != level[:-1]
    ends = np.flatnonzero(last)
    level = level[ends]
    patch = (level + 2**31) >> 32
    hits = positive.cumsum()[ends]
    edge = found.counts[:, patches, first]
    inside = found.counts[:, patches, stop] - edge
    edge -= inside.cumsum(1) - inside
    counts = edge.take(patch, 1)
    counts[0] += hits - patch - 1  # not those to predict nothing
    counts[1] += ends + 1 - hits
    starts = patch.searchsorted(patches)
    counts[:, starts] = found.counts[:, :, 0]
    bits = level.astype(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return Options(starts, -bits.view(np.float32), counts)


def _between(values: Tensor, found: Histogram, first: Numbers, stop: Numbers) -> tuple[Floats, Numbers, Numbers]:
    """Known logits, their patch, and 1 if positive else 0, of the bins from one to another, (patches,)."""
    at_once = len(found.codes[0])
    columns = values.shape[2] // values.shape[1]
    low = spread((2 * first).astype(np.uint8), values).split(at_once)
    size = spread((2 * (stop - first)).astype(np.uint8), values).split(at_once)
    logits, patch, positive = [], [], []
    for number, (part, code, place) in enumerate(zip(values.split(at_once), found.codes, found.places, strict=True)):
        inside = plain(code - low[number]) < plain(size[number])  # bytes below the first bin become large ones
        where = _nonzero(inside)
        logits.append(_host(part.view(-1).index_select(0, where)))
        picked = _host(place.view(-1).index_select(0, where)).astype(np.int64)
        patch.append((picked >> 8) + number * at_once * columns)
        positive.append(picked & 1)
    return np.concatenate(logits), np.concatenate(patch), np.concatenate(positive)


def _nonzero(mask: Any) -> Tensor:
    """The numbers of what is true in a tensor, or in an array from `plain`."""
    return mask.view(-1).nonzero().view(-1) if isinstance(mask, Tensor) else torch.from_numpy(np.flatnonzero(mask))


def _sorted(logits: Floats, patch: Numbers, positive: Numbers, patches: int) -> Numbers:
    """Patch, logit, and if positive as one number; ascending, so that the largest logit of a patch is first.

    Before it every patch has a positive NaN, at which nothing is predicted.
    """
    # The bits of a float as a number that rises with its value, which is made to fall; -0 and 0 become one.
    bits = (np.float32(0) - logits).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = bits.astype(np.int64)
    keys <<= 1
    keys += patch << 33
    keys += positive
    nothing = (np.arange(patches) << 33) - 2**32 + 1
    keys = np.concatenate([keys, nothing])
    keys.sort()
    return keys
