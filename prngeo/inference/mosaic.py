"""Segment and refine: tiles through the network once, windows through PRN, blended logits of any window.

Tiles and refiner windows lie on grids of their own, both anchored to the scene's origin, so what a pixel gets does not
depend on the window it is asked for with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prngeo.inference.local import ahead
from prngeo.models.card import RefinerCard
from prngeo.raster.store import Arrays, TileStore
from prngeo.tiling.blend import blend
from prngeo.tiling.grid import Grid, Window

Index = tuple[int, int]
Batch = tuple[list[Index], NDArray[np.float32], NDArray[np.bool_]]
"""Tiles with their image (tiles, bands, S, S) and validity (tiles, S, S)."""


class Source(Protocol):
    """What is segmented: an image on the model's grid."""

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(bands, h, w) float32 in 0..1 and (h, w) bool validity; False beyond the image."""
        ...


class Layout(Protocol):
    """What a card says of the arrays: a `Card` or a `PrnCard`."""

    @property
    def targets(self) -> Sized:
        """Names of the logits."""
        ...

    @property
    def bands(self) -> Sized:
        """Names of what the source gives."""
        ...

    @property
    def refiner(self) -> RefinerCard | None:
        """The refiner, if there is one."""
        ...


class Networks(Protocol):
    """What segments and refines; see prngeo.models.runtime.Runtime and prngeo.models.onnx_runtime.OnnxRuntime."""

    batch: int

    def segment(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float16]:
        """Base logits of tiles."""
        ...

    def refine(
        self, logits: NDArray[np.float32], image: NDArray[np.float32], valid: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        """The correction of a window."""
        ...


@dataclass(frozen=True)
class Logits:
    """Blended values of a window.

    Attributes:
        base: (targets, h, w) float32 logits of the base network; 0 where no tile holds a valid pixel.
        correction: (targets, h, w) float32, refined minus base; zero for a target that is not refined.
    """

    base: NDArray[np.float32]
    correction: NDArray[np.float32]


class Mosaic:
    """Blended logits of one scene, computed on demand.

    Args:
        source: the image; read from one thread beside the caller's.
        shape: (height, width) of the model grid in pixels.
        networks: base network and refiner.
        card: the model's card.
        refine: for each target of the card, whether PRN corrects it.
        store: where tiles and corrections wait for their last use.
        requests: every window that will be asked for, in order; it tells when a tile is no longer needed.
        tile: side of a tile in pixels.
        overlap: overlap of tiles in pixels.
        on_tile: called after every tile, with True if the network saw it (False: it holds no valid pixel).
    """

    def __init__(
        self,
        source: Source,
        shape: tuple[int, int],
        networks: Networks,
        card: Layout,
        refine: Sequence[bool],
        store: TileStore,
        requests: Iterable[Window],
        *,
        tile: int,
        overlap: int,
        on_tile: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._networks = networks
        self._targets = len(card.targets)
        self._bands = len(card.bands)
        self._refine = np.array(refine, bool)[:, None, None]
        self._store = store
        self._tiles = Grid(*shape, tile, overlap)
        self._refiner = card.refiner if any(refine) else None
        self._windows = Grid(*shape, self._refiner.window, self._refiner.overlap) if self._refiner else None
        self._on_tile = on_tile
        self._requests = list(requests)
        self._uses = count_uses(self._tiles, self._windows, self._requests)
        self.tiles = sum(1 for kind, _ in self._uses if kind == "tile")
        self._to_compute = self._steps()
        self._images: Iterator[Batch] | None = None
        self._computed = self._read = 0

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Inside, tiles are read ahead of all requests, not of the one in work alone; nothing else may read the source.

        To be entered before the first request.
        """
        batches = (batch for tiles, _ in self._steps() for batch in self._batches(tiles))
        with ahead(self._read_tiles, batches) as images:
            self._images = images
            yield

    def read(self, window: Window) -> Logits:
        """Logits of a window; each of the announced requests is read exactly once, in their order."""
        if self._read == self._computed:
            self.compute(window)
        self._read += 1
        needed = self._tiles.touching(window)
        base = self._blend_tiles(window, needed)
        self._release("tile", needed)
        correction = np.zeros_like(base)
        if self._windows and self._refiner:
            windows = self._windows.touching(window)
            pieces = [(self._windows.window(index), self._store.get(("window", index))[0]) for index in windows]
            correction = blend(pieces, window, self._targets, self._refiner.overlap) * self._refine
            self._release("window", windows)
        return Logits(base, correction)

    def compute(self, window: Window) -> None:
        """Run the networks for the next request; it may then be read in another thread, while this one goes on."""
        assert window == self._requests[self._computed], "requests come in the order they were announced in"
        tiles, windows = next(self._to_compute)
        batches = self._batches(tiles)
        if self._images is not None:
            self._segment(len(batches), self._images)
        else:
            with ahead(self._read_tiles, batches) as images:
                self._segment(len(batches), images)
        with ahead(self._read_window, windows, depth=1) as inputs:
            for index, given in zip(windows, inputs, strict=True):
                self._refine_window(index, given)
        self._computed += 1

    def _steps(self) -> Iterator[tuple[list[Index], list[Index]]]:
        """For every request the tiles and refiner windows that it is the first to need."""
        tiles: set[Index] = set()
        windows: set[Index] = set()
        for request in self._requests:
            fresh = [i for i in (self._windows.touching(request) if self._windows else []) if i not in windows]
            wanted = set(self._tiles.touching(request))
            wanted.update(*(self._tiles.touching(self._window(index)) for index in fresh))
            yield sorted(wanted - tiles), fresh
            tiles |= wanted
            windows.update(fresh)

    def _batches(self, tiles: list[Index]) -> list[list[Index]]:
        size = self._networks.batch
        return [tiles[start : start + size] for start in range(0, len(tiles), size)]

    def _window(self, index: Index) -> Window:
        assert self._windows is not None
        return self._windows.window(index)

    def _segment(self, count: int, images: Iterator[Batch]) -> None:
        """Run so many batches of tiles through the network."""
        for _ in range(count):
            self._segment_batch(*next(images))

    def _read_tiles(self, batch: list[Index]) -> Batch:
        parts = [self._source.read(self._tiles.window(index)) for index in batch]
        return batch, np.stack([image for image, _ in parts]), np.stack([valid for _, valid in parts])

    def _segment_batch(self, batch: list[Index], image: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Tiles without a valid pixel are kept as nothing: in the blend they would weigh on their neighbors."""
        seen: NDArray[np.bool_] = np.asarray(valid.any((1, 2)))
        logits = iter(self._networks.segment(image[seen], valid[seen]) if seen.any() else ())
        for number, index in enumerate(batch):
            arrays: Arrays = (next(logits),) if seen[number] else ()
            if self._refiner and arrays:
                arrays += (reduced(image[number], valid[number], self._refiner.reduction),)
            self._store.put(("tile", index), arrays, self._uses["tile", index])
            self._on_tile(bool(seen[number]))

    def _read_window(self, index: Index) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What PRN sees of a window: logits, and the image with its validity at PRN's resolution."""
        assert self._refiner is not None
        window = self._window(index)
        needed = self._tiles.touching(window)
        reduction = self._refiner.reduction
        logits = self._blend_tiles(window, needed)
        small = np.zeros((self._bands + 1, window.height // reduction, window.width // reduction), np.float32)
        target = Window(window.row // reduction, window.col // reduction, *small.shape[1:])
        for tile in needed:
            arrays = self._store.get(("tile", tile))
            if not arrays:
                continue
            place = self._tiles.window(tile)
            piece = Window(*(length // reduction for length in (place.row, place.col, *place.shape)))
            common = piece.intersect(target)
            small[(slice(None), *common.within(target))] = arrays[1][(slice(None), *common.within(piece))]
        self._release("tile", needed)
        return logits, small

    def _refine_window(self, index: Index, given: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        logits, small = given
        if small[-1].any():
            correction = self._networks.refine(logits, small[:-1], small[-1])
        else:
            correction = np.zeros(logits.shape, np.float16)
        self._store.put(("window", index), (correction,), self._uses["window", index])

    def _blend_tiles(self, window: Window, indices: list[Index]) -> NDArray[np.float32]:
        held = ((self._tiles.window(index), self._store.get(("tile", index))) for index in indices)
        pieces = ((window, arrays[0]) for window, arrays in held if arrays)
        return blend(pieces, window, self._targets, self._tiles.overlap)

    def _release(self, kind: str, indices: Iterable[Index]) -> None:
        for index in indices:
            self._store.release((kind, index))


def count_uses(tiles: Grid, windows: Grid | None, requests: Iterable[Window]) -> dict[tuple[str, Index], int]:
    """How often every tile and refiner window is used.

    Args:
        tiles: the grid of tiles.
        windows: the grid of refiner windows, if there is a refiner.
        requests: windows of the model grid that will be read.

    Returns:
        ("tile" or "window", index) -> number of uses; what nothing needs is not in it.
    """
    uses: dict[tuple[str, Index], int] = {}

    def count(kind: str, indices: Iterable[Index]) -> None:
        for index in indices:
            uses[kind, index] = uses.get((kind, index), 0) + 1

    for request in requests:
        count("tile", tiles.touching(request))
        if windows:
            count("window", windows.touching(request))
    if windows:
        for index in [index for kind, index in uses if kind == "window"]:
            count("tile", tiles.touching(windows.window(index)))
    return uses


def reduced(image: NDArray[np.float32], valid: NDArray[np.bool_], reduction: int) -> NDArray[np.float16]:
    """(bands + 1, h, w): the image's mean over valid pixels, and the share of those."""
    bands, height, width = image.shape
    blocks = (height // reduction, reduction, width // reduction, reduction)
    share = valid.reshape(blocks).mean((1, 3), dtype=np.float32)
    total = (image * valid).reshape(bands, *blocks).mean((2, 4), dtype=np.float32)
    mean = np.divide(total, share, out=np.zeros_like(total), where=share > 0)
    return np.concatenate([mean, share[None]]).astype(np.float16)
