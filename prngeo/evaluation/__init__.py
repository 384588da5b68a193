"""Judging a prediction by a truth: figures with intervals, regional bias, and a report."""

from prngeo.evaluation.options import EvaluateOptions
from prngeo.evaluation.results import Evaluation
from prngeo.evaluation.run import diagnose, evaluate

__all__ = ["EvaluateOptions", "Evaluation", "diagnose", "evaluate"]
