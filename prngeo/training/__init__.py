"""Training: from labelled scenes to a model bundle."""

from prngeo.training.run import train

__all__ = ["train"]
