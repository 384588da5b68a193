"""Roads and buildings from aerial imagery, with a patch-wise refiner (PRN) that corrects regional bias."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prngeo.errors import PrngeoError as PrngeoError
    from prngeo.errors import UsageError as UsageError
    from prngeo.evaluation import EvaluateOptions as EvaluateOptions
    from prngeo.evaluation import Evaluation as Evaluation
    from prngeo.evaluation import diagnose as diagnose
    from prngeo.evaluation import evaluate as evaluate
    from prngeo.inference import PredictOptions as PredictOptions
    from prngeo.inference import PredictResult as PredictResult
    from prngeo.inference import predict as predict
    from prngeo.inference import predict_mosaic as predict_mosaic
    from prngeo.models.bundle import open_bundle as open_bundle
    from prngeo.training import train as train
    from prngeo.vectorize.centerlines import centerlines as centerlines
    from prngeo.vectorize.polygons import polygonize as polygonize
    from prngeo.vectorize.run import VectorizeOptions as VectorizeOptions
    from prngeo.vectorize.run import VectorizeResult as VectorizeResult
    from prngeo.vectorize.run import vectorize_raster as vectorize_raster

__version__ = "0.1.0"

_HOMES = {
    "EvaluateOptions": "prngeo.evaluation",
    "Evaluation": "prngeo.evaluation",
    "PrngeoError": "prngeo.errors",
    "UsageError": "prngeo.errors",
    "PredictOptions": "prngeo.inference",
    "PredictResult": "prngeo.inference",
    "centerlines": "prngeo.vectorize.centerlines",
    "diagnose": "prngeo.evaluation",
    "evaluate": "prngeo.evaluation",
    "open_bundle": "prngeo.models.bundle",
    "predict": "prngeo.inference",
    "predict_mosaic": "prngeo.inference",
    "polygonize": "prngeo.vectorize.polygons",
    "train": "prngeo.training",
    "VectorizeOptions": "prngeo.vectorize.run",
    "VectorizeResult": "prngeo.vectorize.run",
    "vectorize_raster": "prngeo.vectorize.run",
}

__all__ = [
    "EvaluateOptions",
    "Evaluation",
    "PredictOptions",
    "PredictResult",
    "PrngeoError",
    "UsageError",
    "VectorizeOptions",
    "VectorizeResult",
    "__version__",
    "centerlines",
    "diagnose",
    "evaluate",
    "open_bundle",
    "polygonize",
    "predict",
    "predict_mosaic",
    "train",
    "vectorize_raster",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import prngeo` costs nothing."""
    if name == "refine":  # `import prngeo; prngeo.refine.fit_arrays(...)` needs no second import
        return import_module("prngeo.refine")
    if name not in _HOMES:
        raise AttributeError(f"module 'prngeo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
