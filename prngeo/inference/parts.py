"""Finished chunks on disk: one compressed raster for each output, and a note with their hashes that is written last."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prngeo.files import Finished, whole
from prngeo.inference.chunks import PixelCounts
from prngeo.raster.cog import RasterSpec, encode_part, write_vrt
from prngeo.tiling.grid import Window

Values = Mapping[str, NDArray[Any]]


class Parts:
    """The parts of a run's rasters, chunk by chunk; a chunk's parts may be written anywhere and more than once.

    Args:
        folder: of the unfinished run.
        specs: the rasters that parts are kept of, by name.
        check: is called before anything is written, and raises what is to end the run if it was given up meanwhile.
    """

    def __init__(self, folder: Path, specs: Mapping[str, RasterSpec], check: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._specs = specs
        self._check = check or _wanted
        self._finished = Finished(folder)

    def write(self, chunk: Window, values: Values, counts: Mapping[str, PixelCounts]) -> None:
        """Keep a finished chunk; it counts as finished once everything of it is there. The run's folder has to exist.

        Args:
            chunk: pixels of the outputs.
            values: (h, w) stored values of each raster; none if no pixel of the chunk holds data.
            counts: what was counted of each target.

        Raises:
            OSError: the disk is full, or the folder cannot be written or is gone.
        """
        self._check()
        hashes = {}
        for name in self._specs if values else ():
            content = encode_part(values[name], self._specs[name].dtype)
            path = self._path(name, chunk)
            for parent in (path.parent.parent, path.parent):
                parent.mkdir(exist_ok=True)
            with whole(path) as hidden:
                hidden.write_bytes(content)
            hashes[self._relative(path)] = hashlib.sha256(content).hexdigest()
        facts = {"empty": not values, "counts": {target: asdict(count) for target, count in counts.items()}}
        self._check()
        self._finished.put(_step(chunk), hashes, facts)

    def counts(self, chunk: Window) -> dict[str, PixelCounts]:
        """What was counted in a finished chunk."""
        facts = self._finished.facts(_step(chunk))
        assert facts is not None, f"{chunk} is not finished"
        return {target: PixelCounts(**count) for target, count in facts["counts"].items()}

    def missing(self, chunks: Iterable[Window]) -> tuple[list[Window], list[Window]]:
        """The chunks that have to be computed, in their order, and those of them whose parts are damaged."""
        missing, damaged = [], []
        for chunk in chunks:
            facts = self._finished.facts(_step(chunk))
            if facts is None:
                missing.append(chunk)
                continue
            needed = [] if facts["empty"] else [self._path(name, chunk) for name in self._specs]
            if not self._finished.sound(_step(chunk), map(self._relative, needed)):
                missing.append(chunk)
                damaged.append(chunk)
        return missing, damaged

    def raster(self, name: str, chunks: Iterable[Window]) -> Path:
        """A raster of all parts: a VRT over them, in which chunks without data are nodata.

        Raises:
            PrngeoError: it cannot be written.
        """
        path = self._folder / f"{name}.vrt"
        places = {chunk: self._path(name, chunk) for chunk in chunks}
        write_vrt(path, self._specs[name], {chunk: part for chunk, part in places.items() if part.exists()})
        return path

    def drop(self, name: str) -> None:
        """Remove the parts of a raster that is finished."""
        (self._folder / f"{name}.vrt").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "parts" / name, ignore_errors=True)

    def _path(self, name: str, chunk: Window) -> Path:
        return self._folder / "parts" / name / f"{chunk.row}_{chunk.col}.tif"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _wanted() -> None:
    """The check of a run that its own process alone gives up."""


def _step(chunk: Window) -> str:
    return f"chunks/{chunk.row}_{chunk.col}"
