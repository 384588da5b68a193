"""A procedural town with exact truth, for tests, the demo and planted-bias cases."""

from typing import TYPE_CHECKING, Any

from prngeo.synth.town import Town, make_town

if TYPE_CHECKING:
    from prngeo.synth.write import TownFiles, write_town

__all__ = ["Town", "TownFiles", "make_town", "write_town"]


def __getattr__(name: str) -> Any:
    # Writing needs geopandas; training on towns does not.
    if name in ("TownFiles", "write_town"):
        from prngeo.synth import write

        return getattr(write, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
