"""How a refiner of scores is fitted, and the sizes that follow from the size of the scenes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from prngeo.errors import UsageError
from prngeo.inference.options import Device

Variant = Literal["fast", "paper"]

LARGEST_WINDOW = 1024
"""Side of the refiner's window in pixels, if scenes are at least that large."""
_MULTIPLE = 64  # of a window: 16 times the largest reduction


@dataclass(frozen=True)
class Settings:
    """Settings of a fit; None is chosen by the size of the scenes, see `sizes`.

    Attributes:
        variant: fast (a small network at reduced resolution) or paper (PatchRefineNet as published).
        window: side of the refiner's window in pixels, a multiple of 64.
        patch: side of a pseudo-label patch in pixels, and of a local patch of the paper's network.
        reduction: 1, 2 or 4: factor by which the fast network works at lower resolution than the scores.
        pseudo_weight: share of the pseudo-labels in the loss, 0 to 1, see prngeo.refine.fit.FitOptions.
        steps: optimizer steps; None goes by the labels, likewise.
        seed: decides everything random, what is held out included.
        validation: share of the labelled pixels that is held out, more than 0 and at most 0.5; or patterns of the names
            of scenes that are held out as a whole.
        device: auto, cpu, cuda or mps.
    """

    variant: Variant = "fast"
    window: int | None = None
    patch: int | None = None
    reduction: int | None = None
    pseudo_weight: float | None = None
    steps: int | None = None
    seed: int = 0
    validation: float | tuple[str, ...] = 0.25
    device: Device = "auto"

    def __post_init__(self) -> None:
        for name, value, kind in (("--variant", self.variant, Variant), ("--device", self.device, Device)):
            if value not in get_args(kind):
                raise UsageError(f"{name} is one of {', '.join(get_args(kind))}, got {value!r}.")
        if self.window is not None and not (_MULTIPLE <= self.window <= 4096 and self.window % _MULTIPLE == 0):
            raise UsageError(
                f"--window is a multiple of {_MULTIPLE} pixels from {_MULTIPLE} to 4096, got {self.window}."
            )
        if self.reduction not in (None, 1, 2, 4):
            raise UsageError(f"--reduction is 1, 2 or 4, got {self.reduction}.")
        if self.patch is not None and (self.patch < 8 or self.patch % 8):
            raise UsageError(f"--patch is a multiple of 8 pixels, at least 8, got {self.patch}.")
        if self.patch is not None and self.window is not None and self.window % self.patch:
            raise UsageError(f"--patch {self.patch} does not divide --window {self.window}; choose one that does.")
        if self.pseudo_weight is not None and not 0 <= self.pseudo_weight <= 1:
            raise UsageError(f"--pseudo-weight is a share from 0 to 1, got {self.pseudo_weight:g}.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps is at least 1, got {self.steps}.")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is a whole number from 0 to {2**32 - 1}, got {self.seed}.")
        if not isinstance(self.validation, int | float | tuple):
            raise UsageError(f"--validation is a share or a tuple of names of scenes, got {self.validation!r}.")
        if not isinstance(self.validation, tuple) and not 0 < self.validation <= 0.5:
            raise UsageError(
                f"--validation is the share that is held out, more than 0 and at most 0.5, or names of scenes; got "
                f"{self.validation:g}."
            )


@dataclass(frozen=True)
class Sizes:
    """Lengths of a fit in pixels.

    Attributes:
        window: side of the refiner's window.
        overlap: of neighboring windows.
        patch: side of a pseudo-label patch.
        reduction: see `Settings`.
        width: channels of the fast network's first level.
        batch: windows a step.
    """

    window: int
    overlap: int
    patch: int
    reduction: Literal[1, 2, 4]
    width: int
    batch: int


def sizes(settings: Settings, shapes: Iterable[tuple[int, int]]) -> Sizes:
    """Choose what the settings leave open.

    The window is the smallest multiple of 64 that holds the largest scene, at most 1024. Windows step by three quarters
    of it; those of the paper's network by whole patches, so that all patches lie on one grid. The patch is an eighth of
    the window. The reduction is 2 from 128 px on, with half the channels, which gained more than 4 in most cases, and
    as much as with all channels in a third of the time (examples/refine_study). Smaller windows come in larger batches.

    Args:
        settings: of the fit.
        shapes: (height, width) of every scene.

    Raises:
        UsageError: the patch does not divide the window.
    """
    longest = max(max(shape) for shape in shapes)
    window = settings.window or min(LARGEST_WINDOW, math.ceil(longest / _MULTIPLE) * _MULTIPLE)
    patch = settings.patch or window // 8
    if window % patch:
        raise UsageError(f"--patch {patch} does not divide the window of {window} pixels; choose one that does.")
    reduction: Literal[1, 2, 4] = 2 if window >= 128 else 1
    if settings.reduction is not None:
        reduction = settings.reduction  # type: ignore[assignment]
    step = window * 3 // 4
    if settings.variant == "paper":
        step = max(patch, step // patch * patch)
    batch = max(2, min(8, 2 * (1024 // window)))
    return Sizes(window, window - step, patch, reduction, 8 if reduction == 2 else 16, batch)


def parse_validation(text: str) -> float | tuple[str, ...]:
    """A share such as 0.25, or names of scenes separated by commas.

    Raises:
        UsageError: it is empty.
    """
    try:
        return float(text)
    except ValueError:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--validation is empty; give a share such as 0.25, or names of scenes.")
    return names
