"""Names and kinds of what a prediction leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prngeo.qgis.styles import correction_style, mask_colormap, mask_style, probability_style
from prngeo.raster.cog import RasterSpec
from prngeo.raster.geogrid import GeoGrid

Kind = Literal["probability", "mask", "correction"]
KINDS: tuple[Kind, ...] = ("probability", "mask", "correction")
LINES = {"roads": "road_centerlines"}
"""Layers of centerlines beside the polygons, by target."""

PROBABILITY_SCALE = 0.004
"""A stored step of probability; 0..250, so that 0.5 and every other multiple of 0.004 is exact."""
CORRECTION_SCALE = 0.01
"""A stored step of the logit correction."""
NODATA = 255
CORRECTION_NODATA = -32768


def raster_name(scene: str, target: str, kind: Kind) -> str:
    """File name of an output raster."""
    return f"{scene}_{target}_{kind}.tif"


def raster_style(kind: Kind, target: str) -> str:
    """QGIS style (QML) of an output raster."""
    if kind == "mask":
        return mask_style(target)
    return probability_style(target, PROBABILITY_SCALE) if kind == "probability" else correction_style(target)


def layer_names(targets: Iterable[str]) -> list[str]:
    """Names of the vector layers in their order."""
    return [layer for name in targets for layer in (name, *([LINES[name]] if name in LINES else []))]


def project_name(scene: str) -> str:
    """File name of a scene's QGIS project."""
    return f"{scene}.qgz"


def raster_spec(grid: GeoGrid, target: str, kind: Kind, tags: dict[str, str]) -> RasterSpec:
    """What each kind of raster holds."""
    common = (grid.height, grid.width, grid.transform, grid.crs)
    if kind == "probability":
        return RasterSpec(
            *common,
            dtype="uint8",
            nodata=NODATA,
            overviews="average",
            description=f"probability of {target}",
            scale=PROBABILITY_SCALE,
            tags=tags,
        )
    if kind == "mask":
        return RasterSpec(
            *common,
            dtype="uint8",
            nodata=NODATA,
            overviews="nearest",
            description=f"{target}: 1, background: 0",
            colors=mask_colormap(target),
            tags=tags,
        )
    return RasterSpec(
        *common,
        dtype="int16",
        nodata=CORRECTION_NODATA,
        overviews="average",
        description=f"PRN's correction of the {target} logit",
        scale=CORRECTION_SCALE,
        tags=tags,
    )
