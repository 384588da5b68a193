"""Prediction: a scene in, georeferenced rasters and polygons out."""

from prngeo.inference.many import predict_mosaic
from prngeo.inference.options import PredictOptions
from prngeo.inference.pipeline import predict
from prngeo.inference.result import PredictResult

__all__ = ["PredictOptions", "PredictResult", "predict", "predict_mosaic"]
