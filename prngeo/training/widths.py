"""How wide the lines of a layer are drawn: as the configuration, an attribute or OpenStreetMap says."""

from __future__ import annotations

import re
from collections.abc import Sequence

import geopandas
import numpy as np
import pandas
from numpy.typing import NDArray

from prngeo.config import Labels
from prngeo.errors import UsageError

LANE = 3.25
"""Metres a lane of a road is wide, where OpenStreetMap tells lanes and no width."""
HIGHWAYS = {
    "motorway": 11.0,
    "trunk": 10.0,
    "primary": 9.0,
    "secondary": 8.0,
    "tertiary": 7.0,
    "unclassified": 6.0,
    "residential": 6.0,
    "living_street": 5.0,
    "road": 6.0,
    "busway": 6.0,
    "service": 4.0,
    "track": 3.0,
    "motorway_link": 6.0,
    "trunk_link": 6.0,
    "primary_link": 5.5,
    "secondary_link": 5.5,
    "tertiary_link": 5.5,
}
"""Metres between the edges of the carriageway by class of highway, where OpenStreetMap tells neither width nor lanes.

Typical widths of one mapped line: both directions of a street, one carriageway of a motorway. Classes that are not
here (paths, steps, roads under construction) are not drawn."""
_FEET = 0.3048
_TAG = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"^\s*(\d+(?:[.,]\d+)?)\s*(m|metres?|meters?|ft|feet|')?\s*(?:$|[;,/])", re.IGNORECASE)


def line_widths(frame: geopandas.GeoDataFrame, spec: Labels, key: str) -> NDArray[np.float64]:
    """(features,) metres a line of a layer is drawn wide; NaN if nothing tells, 0 if it is not drawn.

    Args:
        frame: the layer.
        spec: says how wide, see prngeo.config.Labels.
        key: of `spec` in the configuration, such as `labels.roads`, for messages.

    Raises:
        UsageError: the layer has no such attribute, or none that OpenStreetMap has.
    """
    widths = np.full(len(frame), np.nan)
    if spec.width_field is not None:
        field = tag(frame, spec.width_field)
        if field is None:
            raise UsageError(
                f"{key}.width_field: the layer {spec.path} has no attribute {spec.width_field}; it has "
                f"{_attributes(frame)}."
            )
        widths = _metres(field)
    if spec.width == "osm":
        return np.where(np.isnan(widths), _osm(frame, spec, key), widths)
    return widths if spec.width is None else np.where(np.isnan(widths), spec.width, widths)


def tag(frame: geopandas.GeoDataFrame, name: str) -> list[str | None] | None:
    """An attribute as text, from GDAL's `other_tags` where it is no column of its own; None where a feature has none.

    Returns:
        (features,), or None if the layer has no such attribute.
    """
    if name in frame.columns and name != frame.geometry.name:
        return [None if pandas.isna(value) else str(value) for value in frame[name]]
    if "other_tags" not in frame.columns:
        return None
    return [dict(_TAG.findall(text)).get(name) if isinstance(text, str) else None for text in frame["other_tags"]]


def _osm(frame: geopandas.GeoDataFrame, spec: Labels, key: str) -> NDArray[np.float64]:
    named = next((name for name in ("highway", "fclass") if name in frame.columns), "highway")
    kind = tag(frame, named)  # fclass: as extracts of Geofabrik in other formats than .pbf call it
    if kind is None:
        raise UsageError(
            f"{key}.width is osm, but the layer {spec.path} has no attribute highway; it has {_attributes(frame)}. "
            f"Name another layer, give {key}.width in metres, or name an attribute with {key}.width_field."
        )
    widths = np.array([HIGHWAYS.get(value or "", np.nan) for value in kind])
    road = ~np.isnan(widths)
    for name, scale in (("lanes", LANE), ("width", 1.0)):  # the later one counts more
        told = tag(frame, name)
        if told is not None:
            metres = _metres(told) * scale
            widths = np.where(np.isnan(metres), widths, metres)
    return np.where(road, widths, 0.0)


def _metres(values: Sequence[str | None]) -> NDArray[np.float64]:
    return np.array([_number(value) for value in values], float)


def _number(text: str | None) -> float:
    """The first number of a tag such as `7.5`, `7,5 m`, `24 ft` or `2;3`; NaN if it holds no positive one."""
    found = _NUMBER.match(text) if isinstance(text, str) else None
    if found is None:
        return float("nan")
    number = float(found[1].replace(",", "."))
    number *= _FEET if (found[2] or "").lower() in ("ft", "feet", "'") else 1.0
    return number if number > 0 else float("nan")


def _attributes(frame: geopandas.GeoDataFrame) -> str:
    return ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
