"""The refiner: networks, pseudo-labels and fitting; and, for any segmenter, refiners of its scores.

The public functions are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prngeo.scores.apply_files import ApplyOptions as ApplyOptions
    from prngeo.scores.apply_files import apply_file as apply_file
    from prngeo.scores.arrays import Refined as Refined
    from prngeo.scores.arrays import ScoreRefiner as ScoreRefiner
    from prngeo.scores.arrays import apply_arrays as apply_arrays
    from prngeo.scores.arrays import fit_arrays as fit_arrays
    from prngeo.scores.arrays import load_refiner as load_refiner
    from prngeo.scores.fit_files import FitRequest as FitRequest
    from prngeo.scores.fit_files import fit_files as fit_files
    from prngeo.scores.labels import LabelOptions as LabelOptions
    from prngeo.scores.settings import Settings as Settings

_HOMES = {
    "ApplyOptions": "prngeo.scores.apply_files",
    "FitRequest": "prngeo.scores.fit_files",
    "LabelOptions": "prngeo.scores.labels",
    "Refined": "prngeo.scores.arrays",
    "ScoreRefiner": "prngeo.scores.arrays",
    "Settings": "prngeo.scores.settings",
    "apply_file": "prngeo.scores.apply_files",
    "apply_arrays": "prngeo.scores.arrays",
    "fit_arrays": "prngeo.scores.arrays",
    "fit_files": "prngeo.scores.fit_files",
    "load_refiner": "prngeo.scores.arrays",
}

__all__ = [
    "ApplyOptions",
    "FitRequest",
    "LabelOptions",
    "Refined",
    "ScoreRefiner",
    "Settings",
    "apply_arrays",
    "apply_file",
    "fit_arrays",
    "fit_files",
    "load_refiner",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prngeo.refine' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
