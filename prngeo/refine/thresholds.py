"""The thresholds of every patch that may be best, with their exact counts, and no more sorting than that needs.

The logits of a patch are only counted, in a histogram. At the edges of its bins the counts are exact, and no threshold
within a bin does better than all of the bin's positives without its negatives. Only bins in which this bound reaches
what an edge reaches can hold the best threshold, and only their logits, usually a few percent, are sorted.

Maps are handled as `cut` returns them: on the CPU as NumPy arrays, on a GPU as tensors, by the operators that both
have. Tables of patches, bins and thresholds are small, and NumPy arrays on the CPU in any case.
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
Map = Any
"""A NumPy array, or a tensor on a GPU."""

BINS = 127
"""Of a patch's histogram: as many as fit a byte together with the truth. A byte of 255 stands for an ignored pixel."""

SAMPLES = 8
"""Pixels along a patch's side that tell the range of its histogram; logits beyond it fall in the outer bins."""

LARGEST = 1e36
"""Logits beyond this tell nothing about the range: its width, and bins in a unit of logits, have to be float32."""

AT_ONCE = 1 << 18
"""Pixels on the CPU, where what is worked on should stay in the cache. A GPU takes all at once."""

_LAST_BIN = int(np.float32(BINS - 1).view(np.int32))


def cut(maps: Tensor, patch: int) -> Map:
    """(N, H, W) -> (N rows, patch, columns patch): a band for each row of patches, with zeros beyond the edge."""
    n, height, width = maps.shape
    padding = (0, -width % patch, 0, -height % patch)
    padded = F.pad(maps, padding) if any(padding) else maps.contiguous()
    return plain(padded.view(n * (padded.shape[1] // patch), patch, padded.shape[2]))


def plain(tensor: Tensor) -> Map:
    """The same memory as a NumPy array on the CPU, where calls of NumPy cost less than those of torch."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def spread(table: NDArray[Any], maps: Map) -> Map:
    """What each patch has, in any shape of (patches,), to (rows, 1, columns patch), for arithmetic with the maps."""
    rows, patch, _ = maps.shape
    wide = table.reshape(rows, 1, -1).repeat(patch, 2)
    return torch.from_numpy(wide).to(maps.device) if isinstance(maps, Tensor) else wide


@dataclass(frozen=True)
class Histogram:
    """What every patch holds in bins of its own, from the largest logits down.

    Attributes:
        codes: uint8, pieces of the maps: 2 bin, plus 1 if positive; 255 if ignored.
        places: int32, the same plus 256 patch; patches are numbered anew in every piece.
        counts: (2, patches, BINS + 1), true positives and union (all positives, and the negatives taken for such) of
            a threshold at each edge of a bin; at the first, nothing is predicted.
    """

    codes: list[Map]
    places: list[Map]
    counts: Numbers


def histogram(values: Map, truth: Map, known: Map) -> Histogram:
    """Count float32 logits, with truth and known uint8, 0 or 1; NaN may be where the truth is ignored."""
    rows, patch, width = values.shape
    columns = width // patch
    at_once = rows if isinstance(values, Tensor) else max(1, AT_ONCE // (patch * width))
    top, scale = _scale(values, known)
    piece = values[:at_once]
    first = spread(np.arange(0, len(piece) * columns * 256, 256, dtype=np.int32), piece)
    codes, places, held = [], [], []
    for start in range(0, rows, at_once):
        band = slice(start, start + at_once)
        code = _bins(top[band], values[band], scale[band])
        code += code  # NumPy adds bytes much faster than it shifts them
        code |= truth[band]
        code |= known[band] - 1
        place = code + first[: len(code)]
        codes.append(code)
        places.append(place)
        number = torch.bincount(torch.as_tensor(place).view(-1), minlength=256 * columns * len(code))
        held.append(number.cpu().numpy())
    found = np.concatenate(held).reshape(-1, 128, 2)[:, :BINS]
    counts = np.zeros((2, rows * columns, BINS + 1), np.int64)
    found[..., 1].cumsum(1, out=counts[0, :, 1:])
    found[..., 0].cumsum(1, out=counts[1, :, 1:])
    counts[1] += counts[0, :, -1:]
    return Histogram(codes, places, counts)


def _bins(top: Map, values: Map, scale: Map) -> Map:
    """uint8, 0 to BINS - 1: rounded, but no logit is in a bin before that of a larger one."""
    with np.errstate(over="ignore"):
        bins = top - values
        bins *= scale
    # The bits of a float rise with it; those of NaN are mended too.
    if isinstance(bins, Tensor):
        bins.view(torch.int32).clamp_(0, _LAST_BIN)
        return bins.byte()
    bits = bins.view(np.int32)
    bits.clip(0, _LAST_BIN, out=bits)
    return bins.astype(np.uint8)


def _scale(values: Map, known: Map) -> tuple[Map, Map]:
    """Where the bins of a patch start, and bins in a unit of logits, from a sample of its known pixels."""
    drawn = _sample(values)
    use = (_sample(known) == 1) & (np.abs(drawn) <= LARGEST)
    lowest = np.where(use, drawn, np.float32(LARGEST)).min(0)
    highest = np.where(use, drawn, np.float32(-LARGEST)).max(0)
    return spread(highest, values), spread(BINS / np.maximum(highest - lowest, np.float32(1 / LARGEST)), values)


def _sample(maps: Map) -> NDArray[Any]:
    """(pixels, patches) of a grid over every patch."""
    rows, patch, width = maps.shape
    step = -(-patch // SAMPLES)
    drawn = maps.reshape(rows, patch, width // patch, patch)[:, step // 2 :: step, :, step // 2 :: step]
    pixels, columns = drawn.shape[1] * drawn.shape[3], drawn.shape[2]
    return np.ascontiguousarray(_host(drawn).transpose(1, 3, 0, 2)).reshape(pixels, rows * columns)


def _host(maps: Map) -> NDArray[Any]:
    array: NDArray[Any] = maps.cpu().numpy() if isinstance(maps, Tensor) else maps
    return array


@dataclass(frozen=True)
class Options:
    """Thresholds that may be best, patch after patch: to predict nothing, then others from the highest down.

    Attributes:
        patch: (options,), ascending.
        starts: (patches,), the options to predict nothing.
        thresholds: (options,), NaN to predict nothing.
        counts: (2, options), true positives and union.
    """

    patch: Numbers
    starts: Numbers
    thresholds: Floats
    counts: Numbers

    def best(self, score: NDArray[Any]) -> Numbers:
        """(patches,): the option of every patch with the largest score, (options,); the first of equals."""
        highest = np.maximum.reduceat(score, self.starts)
        winning = np.flatnonzero(score == highest.take(self.patch))
        return winning[winning.searchsorted(self.starts)]


def options(values: Map, found: Histogram, wanted: NDArray[np.bool_]) -> Options:
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
    return Options(patch, starts, -bits.view(np.float32), counts)


def _between(values: Map, found: Histogram, first: Numbers, stop: Numbers) -> tuple[Floats, Numbers, Numbers]:
    """Known logits, their patch, and 1 if positive else 0, of the bins from one to another, (patches,)."""
    at_once = len(found.codes[0])
    columns = values.shape[2] // values.shape[1]
    low = spread((2 * first).astype(np.uint8), values)
    size = spread((2 * (stop - first)).astype(np.uint8), values)
    logits, patch, positive = [], [], []
    for number, (code, place) in enumerate(zip(found.codes, found.places, strict=True)):
        start = number * at_once
        band = slice(start, start + at_once)
        where = _nonzero(code - low[band] < size[band])  # bytes below the first bin become large ones
        logits.append(_host(values[band].reshape(-1)[where]))
        picked = _host(place.reshape(-1)[where]).astype(np.int64)
        patch.append((picked >> 8) + start * columns)
        positive.append(picked & 1)
    return np.concatenate(logits), np.concatenate(patch), np.concatenate(positive)


def _nonzero(mask: Map) -> Map:
    return mask.view(-1).nonzero().view(-1) if isinstance(mask, Tensor) else np.flatnonzero(mask)


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
