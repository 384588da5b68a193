"""Prediction: a scene in, georeferenced rasters and polygons out."""

from prngeo.inference.options import PredictOptions
from prngeo.inference.pipeline import predict
from prngeo.inference.result import PredictResult

__all__ = ["PredictOptions", "PredictResult", "predict"]
