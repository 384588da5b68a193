"""What a prediction can be told, checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from prngeo.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Grid = Literal["scene", "model"]
VectorFormat = Literal["gpkg", "geoparquet", "flatgeobuf", "geojson"]
DEFAULT_MEMORY = 4 << 30

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class PredictOptions:
    """Options of `prngeo predict`; the defaults are the command's.

    Attributes:
        model: name of an embedded model or folder of a bundle.
        targets: targets to predict; all of the model's if empty.
        refine: use PRN where the model's gate enabled it.
        device: auto, cpu, cuda or mps.
        bands: the scene's bands in the model's order, 1-based; by color interpretation if None.
        gsd: metres per pixel, overriding what the scene tells.
        grid: outputs on the scene's pixels or on the model's.
        aoi: vector file; outside its polygons outputs are nodata.
        threshold: probability from which a pixel belongs to the mask; the model's own if None.
        tile: side of a tile in model pixels; the model's own if None.
        overlap: overlap of tiles in model pixels; the model's own if None.
        max_memory: bytes the process may use; with `dask`, each worker.
        scratch: folder for what does not fit into memory; beside the outputs if None, with `dask` in the folder where
            workers keep files.
        tta: average over the four flips of each tile.
        overwrite: replace existing outputs, and start afresh where an unfinished run could be continued.
        format: of the vector layers.
        min_area: smallest polygon in m2.
        min_hole: holes smaller than this are filled, m2.
        simplify: tolerance of outlines in metres; 0 keeps the pixel edges.
        regularize: give buildings straight walls and right angles.
        split: split buildings where the probability dips by this much between two parts; not if None.
        chunk: side of a chunk in output pixels, a multiple of 512; chosen by memory if None. It changes no pixel.
        dask: run on Dask distributed: address of a scheduler such as tcp://host:8786, or local or local:N for N worker
            processes on this machine. It changes no pixel.
        apart: the networks compute in a process of their own, which ends before the vectors of a large scene are made,
            so that these have its memory, and else stays for the next scene until the program ends; `dask` has its
            own. The command does it always. It changes no pixel. Scenes in /vsimem/ cannot be read so.
    """

    model: str | Path = "prngeo-rgb"
    targets: tuple[str, ...] = ()
    refine: bool = True
    device: Device = "auto"
    bands: tuple[int, ...] | None = None
    gsd: float | None = None
    grid: Grid = "scene"
    aoi: Path | None = None
    threshold: float | None = None
    tile: int | None = None
    overlap: int | None = None
    max_memory: int = DEFAULT_MEMORY
    scratch: Path | None = None
    tta: bool = False
    overwrite: bool = False
    format: VectorFormat = "gpkg"
    min_area: float = 4.0
    min_hole: float = 0.0
    simplify: float = 0.0
    regularize: bool = False
    split: float | None = None
    chunk: int | None = None
    dask: str | None = None
    apart: bool = False

    @property
    def beside(self) -> bool:
        """The networks compute in one process beside this one: `apart`, and not with Dask."""
        return self.apart and self.dask is None

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("--device", self.device, Device),
            ("--grid", self.grid, Grid),
            ("--format", self.format, VectorFormat),
        ):
            if value not in get_args(kind):
                raise UsageError(f"{name} is one of {', '.join(get_args(kind))}, got {value!r}.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"--threshold is a probability between 0 and 1, got {self.threshold:g}.")
        if self.tile is not None and (not 64 <= self.tile <= 4096 or self.tile % 32):
            raise UsageError(f"--tile is a multiple of 32 between 64 and 4096, got {self.tile}.")
        if self.overlap is not None and (self.overlap < 0 or self.overlap % 4):
            raise UsageError(f"--overlap is a multiple of 4, got {self.overlap}.")
        if self.split is not None and not 0 < self.split < 1:
            raise UsageError(f"--split is the depth of a dip in the probability, between 0 and 1, got {self.split:g}.")
        for name, length in (
            ("--min-area", self.min_area),
            ("--min-hole", self.min_hole),
            ("--simplify", self.simplify),
        ):
            if not 0 <= length < float("inf"):
                raise UsageError(f"{name} cannot be negative or infinite, got {length:g}.")
        if self.chunk is not None and (self.chunk < 512 or self.chunk % 512):
            raise UsageError(f"chunk is a multiple of 512, got {self.chunk}.")
        if self.dask is not None and not re.fullmatch(r"local(:[1-9]\d*)?|[a-z]+://\S+", self.dask):
            raise UsageError(
                f"--dask is the address of a scheduler such as tcp://host:8786, or local, or local:4 for 4 workers on "
                f"this machine; got {self.dask!r}."
            )
        if self.scratch is not None and not self.scratch.is_dir():
            raise UsageError(f"--scratch {self.scratch} is not a folder; create it, or choose another.")
        if self.aoi is not None and not str(self.aoi).startswith("/vsi") and not self.aoi.exists():
            raise UsageError(f"--aoi {self.aoi}: no such file.")


def parse_memory(text: str) -> int:
    """Bytes of a size such as 800MB, 4GB or 4G (powers of 1024).

    Raises:
        UsageError: it is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"--max-memory takes a size such as 4GB or 800MB, got {text!r}.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_bands(text: str) -> tuple[int, ...]:
    """Band numbers of a list such as 3,2,1.

    Raises:
        UsageError: it is not such a list.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--bands takes band numbers such as 3,2,1, got {text!r}.") from error
