"""What happens to one chunk: blended logits become the stored values of every output raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prngeo.inference.mosaic import Logits, Mosaic
from prngeo.inference.outputs import CORRECTION_NODATA, CORRECTION_SCALE, NODATA, PROBABILITY_SCALE
from prngeo.models.card import Calibration
from prngeo.tiling.blend import bilinear, positions, source_window
from prngeo.tiling.grid import Window

LEVELS = round(1 / PROBABILITY_SCALE)


@dataclass(frozen=True)
class TargetPlan:
    """How one target's logits are turned into a mask.

    Attributes:
        name: of the target.
        channel: its channel in the logits.
        final: calibration of the logits that are written.
        base: calibration of the base logits, to tell which pixels the refiner changed.
    """

    name: str
    channel: int
    final: Calibration
    base: Calibration


@dataclass(frozen=True)
class ChunkResult:
    """Stored values of one target over a chunk; all (h, w).

    Attributes:
        probability: uint8.
        mask: uint8.
        correction: int16.
        changed: uint8, 1 where the mask differs from the base network's.
    """

    probability: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    correction: NDArray[np.int16]
    changed: NDArray[np.uint8]


@dataclass
class PixelCounts:
    """What is counted of one target, chunk by chunk.

    Attributes:
        valid: pixels that hold data.
        mask: of them those of the mask.
        changed: of them those in which the mask differs from that of the base logits.
    """

    valid: int = 0
    mask: int = 0
    changed: int = 0

    def add(self, result: ChunkResult) -> None:
        """Count a chunk."""
        self.valid += int(np.count_nonzero(result.mask <= 1))
        self.mask += int(np.count_nonzero(result.mask == 1))
        self.changed += int(np.count_nonzero(result.changed))

    def merge(self, other: PixelCounts) -> None:
        """Add what was counted elsewhere."""
        self.valid += other.valid
        self.mask += other.mask
        self.changed += other.changed


@dataclass(frozen=True)
class Resampling:
    """From output pixels to the model grid.

    Attributes:
        factor: output pixels per model pixel (x, y).
        shape: (height, width) of the model grid.
    """

    factor: tuple[float, float]
    shape: tuple[int, int]

    @property
    def identity(self) -> bool:
        """True if outputs lie on the model grid."""
        return self.factor == (1.0, 1.0)

    def request(self, chunk: Window) -> Window:
        """The window of the model grid that a chunk needs."""
        return chunk if self.identity else source_window(*self._positions(chunk))

    def read(self, mosaic: Mosaic, chunk: Window) -> Logits:
        """Logits at the centers of a chunk's pixels, bilinear between those of the model's."""
        request = self.request(chunk)
        logits = mosaic.read(request)
        if self.identity:
            return logits
        rows, cols = self._positions(chunk)
        return Logits(bilinear(logits.base, request, rows, cols), bilinear(logits.correction, request, rows, cols))

    def _positions(self, chunk: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return (
            positions(chunk.row, chunk.height, self.factor[1], self.shape[0]),
            positions(chunk.col, chunk.width, self.factor[0], self.shape[1]),
        )


def threshold_level(threshold: float) -> int:
    """The smallest stored probability, at least 1, whose value as readers compute it reaches a threshold."""
    return max(1, int(np.searchsorted(np.arange(LEVELS + 1) * PROBABILITY_SCALE, threshold)))


def stored_probability(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.uint8]:
    """Quantized probability, 0..250, of (h, w) float32 logits."""
    probability = 0.5 + 0.5 * np.tanh(logits * np.float32(0.5 / calibration.temperature))
    stored: NDArray[np.uint8] = np.rint(probability * np.float32(LEVELS)).astype(np.uint8)
    return stored


def chunk_result(logits: Logits, valid: NDArray[np.bool_], plan: TargetPlan) -> ChunkResult:
    """Stored values of one target.

    Args:
        logits: of the chunk's pixels, all targets.
        valid: (h, w) bool; elsewhere every raster is nodata.
        plan: the target.
    """
    base, correction = logits.base[plan.channel], logits.correction[plan.channel]
    probability = stored_probability(base + correction, plan.final)
    mask = probability >= threshold_level(plan.final.threshold)
    before = stored_probability(base, plan.base) >= threshold_level(plan.base.threshold)
    steps = np.clip(np.rint(correction / np.float32(CORRECTION_SCALE)), -32767, 32767)
    return ChunkResult(
        np.where(valid, probability, np.uint8(NODATA)),
        np.where(valid, mask.astype(np.uint8), np.uint8(NODATA)),
        np.where(valid, steps, CORRECTION_NODATA).astype(np.int16),
        (valid & (mask != before)).astype(np.uint8),
    )
