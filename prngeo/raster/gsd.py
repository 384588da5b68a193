"""Ground sample distance, and the grid on which a model sees a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pyproj
import pyproj.exceptions
from affine import Affine

from prngeo.errors import UsageError

GsdSource = Literal["crs", "geographic", "geodesic", "option", "unknown"]

_DISTORTION = 0.02  # beyond this, a projection's metres (Web Mercator's above all) are not metres on the ground
_SQUARE = 1.25  # largest ratio of the two GSDs of pixels that count as square
_PLAUSIBLE = (0.001, 100.0)  # metres per pixel that `--gsd` may be told
_EPSILON = 1e-6  # of a model pixel: rounding of size / factor does not add a row or column


@dataclass(frozen=True)
class ModelGrid:
    """The grid on which the model sees the scene: same origin and rotation, other pixel size.

    Attributes:
        height: rows; the last may reach beyond the scene.
        width: columns.
        transform: from model pixels to the scene's coordinates.
        factor: scene pixels per model pixel along columns (x) and rows (y).
    """

    height: int
    width: int
    transform: Affine
    factor: tuple[float, float]

    @property
    def resampled(self) -> bool:
        """True if the grid is not the scene's own."""
        return self.factor != (1.0, 1.0)


def measure_gsd(
    wkt: str | None, transform: Affine, height: int, width: int
) -> tuple[tuple[float, float], GsdSource] | None:
    """Metres on the ground a pixel spans along columns (x) and rows (y), at the scene's center.

    Args:
        wkt: the coordinate system, or None.
        transform: from pixels to its coordinates; may be rotated.
        height: the scene's rows.
        width: the scene's columns.

    Returns:
        The two lengths and where they come from: "crs" (the projection's unit), "geodesic" (measured on the
        ellipsoid, since the projection distorts lengths here) or "geographic" (degrees, measured likewise).
        None if nothing tells.
    """
    if wkt is None:
        return None
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except pyproj.exceptions.CRSError:
        return None
    if not crs.axis_info:
        return None
    unit = crs.axis_info[0].unit_conversion_factor
    measured = _on_ellipsoid(crs, transform, height, width)
    if crs.is_geographic:
        return None if measured is None else (measured, "geographic")
    nominal = (
        math.hypot(transform.a, transform.d) * unit,
        math.hypot(transform.b, transform.e) * unit,
    )
    if measured and any(abs(m / n - 1) > _DISTORTION for m, n in zip(measured, nominal, strict=True)):
        return measured, "geodesic"
    return nominal, "crs"


def fit_grid(
    height: int,
    width: int,
    transform: Affine,
    gsd: tuple[float, float],
    gsd_range: tuple[float, float] | None,
    tolerance: float,
) -> ModelGrid:
    """Chooses the model's grid.

    The scene's own grid if its pixels are about square and their GSD lies in the model's range, give or take
    `tolerance`; else square pixels at the nearest GSD within the range.

    Args:
        height: the scene's rows.
        width: the scene's columns.
        transform: the scene's.
        gsd: metres per scene pixel (x, y).
        gsd_range: smallest and largest GSD of the model in metres; None keeps the scene's grid.
        tolerance: share by which the range may be left.
    """
    if gsd_range is None:
        return ModelGrid(height, width, transform, (1.0, 1.0))
    low, high = gsd_range
    if not 0 < low <= high < math.inf or tolerance < 0:
        raise ValueError(
            f"expected a GSD range of two rising lengths and a tolerance >= 0, got {gsd_range}, {tolerance}"
        )
    mean = math.sqrt(gsd[0] * gsd[1])
    square = max(gsd) <= _SQUARE * min(gsd)
    if square and low * (1 - tolerance) <= mean <= high * (1 + tolerance):
        return ModelGrid(height, width, transform, (1.0, 1.0))
    target = min(max(mean, low), high)
    factor = target / gsd[0], target / gsd[1]
    return ModelGrid(
        height=max(1, math.ceil(height / factor[1] - _EPSILON)),
        width=max(1, math.ceil(width / factor[0] - _EPSILON)),
        transform=transform @ Affine.scale(*factor),
        factor=factor,
    )


def check_gsd(gsd: float) -> float:
    """The `--gsd` option, if it is a length.

    Raises:
        UsageError: it is not a plausible one.
    """
    low, high = _PLAUSIBLE
    if not low <= gsd <= high:
        raise UsageError(
            f"`--gsd` takes the length of a pixel on the ground in metres, {low:g} to {high:g}; got {gsd:g}."
        )
    return float(gsd)


def _on_ellipsoid(crs: pyproj.CRS, transform: Affine, height: int, width: int) -> tuple[float, float] | None:
    geod, geodetic = crs.get_geod(), crs.geodetic_crs
    if geod is None or geodetic is None:
        return None
    row, col = height / 2, width / 2
    pixels = [(col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5)]
    points = [transform @ pixel for pixel in pixels]
    if crs.is_geographic:
        degree = math.degrees(crs.axis_info[0].unit_conversion_factor)
        lons, lats = [x * degree for x, _ in points], [y * degree for _, y in points]
    else:
        try:
            to_degrees = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
            lons, lats = to_degrees.transform([x for x, _ in points], [y for _, y in points])
        except pyproj.exceptions.ProjError:
            return None
    if not all(math.isfinite(lon) and abs(lat) <= 90 for lon, lat in zip(lons, lats, strict=True)):
        return None
    _, _, (x, y) = geod.inv([lons[0], lons[2]], [lats[0], lats[2]], [lons[1], lons[3]], [lats[1], lats[3]])
    return (float(x), float(y)) if min(x, y) > 0 else None
