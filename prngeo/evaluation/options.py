"""What an evaluation can be told, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prngeo.errors import UsageError
from prngeo.evaluation.bias import PATCH, SIZES
from prngeo.raster.values import Values


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `prngeo evaluate` and `prngeo diagnose`; the defaults are the commands'.

    Attributes:
        target: roads adds the metrics of a network, any other name those of objects; from the prediction's tags or
            the files' names if None. Of a file with several layers it names the one to take.
        scores: probability raster that belongs to a prediction without one.
        baseline: another prediction to compare with, on the pixels that both know.
        baseline_scores: probability raster that belongs to the baseline.
        aoi: vector file; outside its polygons nothing is judged.
        threshold: probability from which a pixel is predicted; else what the raster's tags say, else 0.5.
        values: what the numbers of prediction, baseline and their scores mean, where they carry no scale of their own.
        truth_values: what the numbers of the truth mean, likewise.
        gsd: metres a pixel, overriding what the coordinate system tells; of the pixels to draw on, where nothing is a
            raster.
        line_width: width of roads in metres, for layers of lines.
        relax: tolerance of relaxed precision and recall, in metres.
        boundary: width of the band inside outlines that boundary IoU compares, in metres.
        block: side of a bootstrap block in pixels, a multiple of 64; doubled until a scene has at most 4096 blocks.
        patch: side of a patch of the bias maps in pixels: 64, 128, 256 or 512.
        scratch: folder for histograms of patches, 1004 bytes a patch of 64 pixels; the system's own if None.
        overwrite: replace an existing report.
    """

    target: str | None = None
    scores: str | None = None
    baseline: str | None = None
    baseline_scores: str | None = None
    aoi: Path | None = None
    threshold: float | None = None
    values: Values = "auto"
    truth_values: Values = "auto"
    gsd: float | None = None
    line_width: float | None = None
    relax: float = 3.0
    boundary: float = 2.0
    block: int = 512
    patch: int = 128
    scratch: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, told in (("--values", self.values), ("--truth-values", self.truth_values)):
            if told not in get_args(Values):
                raise UsageError(f"{name} is one of {', '.join(get_args(Values))}, got {told!r}.")
        if self.scratch is not None and not self.scratch.is_dir():
            raise UsageError(f"--scratch {self.scratch} is not a folder; create it, or choose another.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"--threshold is a probability between 0 and 1, got {self.threshold:g}.")
        for name, length in (("--relax", self.relax), ("--boundary", self.boundary), ("--line-width", self.line_width)):
            if length is not None and not 0 < length <= 100:
                raise UsageError(f"{name} is a length in metres, more than 0 and at most 100; got {length:g}.")
        if self.block < PATCH or self.block % PATCH or self.block > 2048:
            raise UsageError(f"--block is a multiple of {PATCH} pixels from {PATCH} to 2048, got {self.block}.")
        sides = [size * PATCH for size in SIZES]
        if self.patch not in sides:
            raise UsageError(f"--patch is one of {', '.join(map(str, sides))} pixels, got {self.patch}.")
        if self.baseline_scores is not None and self.baseline is None:
            raise UsageError("--baseline-scores belongs to --baseline, which is missing.")
