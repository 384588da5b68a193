"""Logits as they wait between the stages, whichever runtime computed them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import PrngeoError

LOGIT_RANGE = 60.0
"""Logits are clipped to this before they are stored as float16."""

FLIPS = ((2,), (3,), (2, 3))
"""Axes along which test-time augmentation flips (N, C, H, W) tiles, beside leaving them as they are."""


def to_half(logits: NDArray[np.float32]) -> NDArray[np.float16]:
    """Logits as they rest: clipped, float16.

    Raises:
        PrngeoError: some are not numbers.
    """
    refuse_non_finite(bool(np.isfinite(logits).all()))
    return np.clip(logits, -LOGIT_RANGE, LOGIT_RANGE).astype(np.float16)


def refuse_non_finite(finite: bool) -> None:
    """Raise what is wrong with logits that are not all finite.

    Raises:
        PrngeoError: they are not.
    """
    if not finite:
        raise PrngeoError(
            "The network returned values that are not numbers: its weights do not suit the precision of this device. "
            "Run with --device cpu, and if that fails too, train the model again."
        )
