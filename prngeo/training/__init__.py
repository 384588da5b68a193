"""Training: from labelled scenes to a model bundle."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prngeo.training.run import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    # Training needs torch; looking at scenes and labels does not.
    if name == "train":
        from prngeo.training.run import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
