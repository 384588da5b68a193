"""Road centerlines of a mask: a network with widths and probabilities."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.vectorize.bridges import Lattice, bridge
from prngeo.vectorize.crossings import contract, straighten
from prngeo.vectorize.ends import reach_ends
from prngeo.vectorize.ground import Ground
from prngeo.vectorize.mask import as_mask, opened, reading
from prngeo.vectorize.planar import planar
from prngeo.vectorize.plane import Plane
from prngeo.vectorize.polygons import check_grids
from prngeo.vectorize.room import Room
from prngeo.vectorize.skeleton import skeleton_graph
from prngeo.vectorize.smooth import mean_width, simplified, smoothed, thinned
from prngeo.vectorize.tidy import drop_specks, prune
from prngeo.vectorize.web import EDGE, PROBABILITY, RADIUS, Web, in_order

Floats = NDArray[np.float64]

BLOCK = 2048
BATCH = 50_000
"""Lines that are traced before their spurs go, so that a network never has all that it was traced with."""
SPUR = 3.0
"""A dead end that reaches no farther beyond a road than this many metres, or two pixels, is none."""
WIDEST = 60.0
"""Roads up to this width in metres are followed in their middle; the line runs around what is wider."""
SMALLEST_HALO, LARGEST_HALO = 64, 1024
"""Bounds of the pixels read around a block, whatever the pixel size."""


def centerlines(
    mask_path: str | Path,
    probability_path: str | Path | None = None,
    *,
    value: float | None = None,
    threshold: float | None = None,
    simplify: float = 0.5,
    max_gap: float = 30.0,
    gap_probability: float = 0.1,
    min_length: float = 20.0,
    min_hole: float = 10.0,
    pixel_size: float | None = None,
    max_memory: int | None = None,
) -> gpd.GeoDataFrame:
    """Trace the centerlines of the roads in a mask or probability raster.

    The mask is thinned and traced by windows (`prngeo.vectorize.skeleton`); the network is then worked on
    as a whole, so that the result does not depend on how the raster is cut. Spurs shorter than the road is
    wide go, gaps are bridged (`prngeo.vectorize.bridges`), what is left of less than `min_length` goes,
    crossings move to where the roads' directions meet, dead ends reach their road's end, and lines are
    smoothed. Lines meet in their ends only, in exactly equal coordinates.

    Args:
        mask_path: raster whose first band says what is road, see `value` and `threshold`.
        probability_path: raster on the same grid with the calibrated probability in its first band, for the
            attribute and for bridging; if None, `mask_path` itself where a threshold turns it into a mask.
        value: pixels of this value are road, see `prngeo.vectorize.mask.as_mask`.
        threshold: the raster holds probabilities, and pixels that reach this one are road.
        simplify: farthest in metres that a line lies from the line through the pixels outside of crossings;
            less than a pixel counts as a pixel.
        max_gap: longest bridge in metres; 0 for none. Without probabilities there is none.
        gap_probability: mean probability that a bridge needs, 0 to 1.
        min_length: shortest network kept, metres.
        min_hole: holes smaller than this (square metres) are filled first.
        pixel_size: a pixel's side in metres, used only if the raster has no CRS. Without both, a pixel counts
            as a metre.
        max_memory: bytes of memory that this process may take. Lines take about 800 bytes each before spurs go, and 40
            a pixel of their length; masks of noise have so many that this is refused while they are traced.

    Returns:
        One row a line, ordered by its nodes (row, then column), with a fresh index and the columns `length_m`
        (float64, geodesic for a geographic CRS), `width_m` (float64: mean width outside of crossings, NaN if
        all of it is a bridge), `probability` (float64: mean along the line, NaN without a raster), `gap_m` (float64:
        length of bridges in it), `degree_start` and `degree_end` (int32: number of line ends at its nodes),
        `touches_edge` (bool: it reaches no-data or the raster's border) and `geometry`, a LineString in the
        raster's CRS; without CRS and geotransform x = column, y = -row.

    Raises:
        UsageError: a raster is missing, unreadable, of the wrong type or on another grid, does not say what its
            objects are, or an option is out of range.
        PrngeoError: reading broke off, or the lines would take more than `max_memory`.
    """
    _check_options(simplify, max_gap, gap_probability, min_length, min_hole, pixel_size)
    with ExitStack() as stack:
        mask = stack.enter_context(opened(mask_path, "mask"))
        probability = None
        if probability_path is not None:
            probability = stack.enter_context(opened(probability_path, "probability raster"))
        check_grids(mask, probability)
        stack.enter_context(reading(mask_path))
        source = as_mask(mask, value, threshold)
        if source.threshold is not None and probability is None:
            probability = mask
        plane = Plane.of(mask, pixel_size)
        ground = Ground(source, probability, plane.metres, min_hole / plane.pixel_area)
        spur = max(SPUR, 2 * ground.side)
        web = _traced(ground, spur, Room(mask_path, max_memory))
        prune(web, spur)
        web = in_order(web)
        if probability is not None and max_gap > 0:
            _bridge(web, ground, max_gap, gap_probability)
        drop_specks(web, min_length)
        contract(web, plane.side)
        web.join_all()
        prune(web, spur)
        reach_ends(web, lambda places: ground.inside(places, BLOCK))
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * ground.extent.shape[::-1] @ plane.metres.T
    known = {line: _attributes(web, line) for line in web.ends}
    straighten(web, plane.side, shapely.Polygon(corners))
    return _frame(web, known, plane, max(simplify, plane.side))


def _traced(ground: Ground, spur: float, room: Room) -> Web:
    """The middle lines of the mask with what is known along them, without most of their spurs."""
    halo = int(np.clip(np.ceil(2 * WIDEST / ground.side), SMALLEST_HALO, LARGEST_HALO))
    height, width = ground.extent.shape
    sample = partial(ground.sample, halo=halo // 2)
    graph = skeleton_graph(ground.mask, height, width, block=BLOCK, halo=halo, measure=sample, watch=room.watch)
    web = Web()
    places, number = graph.nodes @ ground.metres.T, np.zeros(len(graph.nodes), np.int64)
    graph.lines.reverse()
    for first in range(0, len(graph.ends), BATCH):
        added = []
        for nodes in graph.ends[first : first + BATCH].tolist():
            line = graph.lines.pop().astype(np.float64)  # out of there: nothing else holds as much
            line[:, :2] = line[:, :2] @ ground.metres.T
            for node in nodes:
                number[node] = number[node] or web.add_node(places[node])
            added.append(web.add(int(number[nodes[0]]), int(number[nodes[1]]), line))
        # A line starts at its earlier node, and lines come in the order of their starts: no node before gets another.
        following = number[nodes[0] :]
        prune(web, spur, added, set(following[following > 0].tolist()))
    return web


def _bridge(web: Web, ground: Ground, max_gap: float, probability: float) -> None:
    closed = {
        node for node in web.nodes if web.degree(node) == 1 and web.leaving(web.lines[node][0], node)[0, EDGE] == 1
    }
    lattice = Lattice(ground.probabilities, ground.mask, ground.extent.shape, ground.metres)
    bridge(web, lattice, closed, max_gap, probability)


def _frame(web: Web, known: dict[int, dict[str, Any]], plane: Plane, tolerance: float) -> gpd.GeoDataFrame:
    """The network as rows; its lines are taken out of it one by one."""
    lines, drawn = list(web.ends), []
    for line in lines:
        ends = np.array([web.nodes[node] for node in web.ends[line]])
        # Simplifying all lines together takes hundreds of bytes a point: most go before.
        soft = smoothed(web.points.pop(line), ends, plane.side, tolerance / 2)
        drawn.append(thinned(soft, min(tolerance / 20, plane.side / 10)))
    pieces, source = planar(simplified(drawn, 0.45 * tolerance))
    back = np.linalg.inv(plane.metres.T)
    rows = [(_forward(points @ back), known[lines[index]]) for points, index in zip(pieces, source, strict=True)]
    rows.sort(key=lambda row: (*row[0][0, ::-1], *row[0][-1, ::-1], len(row[0]), *row[0][1]))
    geometry = np.array([shapely.linestrings(points) for points, _ in rows], dtype=object)
    ends = np.array([points[[0, -1]] for points, _ in rows]).reshape(-1, 2)
    _, node, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    degree = count[node.ravel()].reshape(-1, 2).astype(np.int32)
    length = plane.lengths(geometry)
    columns: dict[str, NDArray[Any]]
    columns = {name: np.array([row[name] for _, row in rows], kind) for name, kind in KNOWN.items()}
    columns["gap_m"] = np.minimum(columns["gap_m"], length)
    frame = gpd.GeoDataFrame(
        {
            "length_m": length,
            **columns,
            "degree_start": degree[:, 0],
            "degree_end": degree[:, 1],
        },
        geometry=plane.to_map(geometry),
        crs=plane.crs,
    )
    frame.attrs["geometry_type"] = "LineString"
    return frame


def _forward(points: Floats) -> Floats:
    """A line that starts at its earlier node (row, then column)."""
    return points if tuple(points[0, ::-1]) <= tuple(points[-1, ::-1]) else points[::-1]


KNOWN = {"width_m": np.float64, "probability": np.float64, "gap_m": np.float64, "touches_edge": np.bool_}
"""Columns that are known before lines are drawn."""


def _attributes(web: Web, line: int) -> dict[str, Any]:
    """What is known of a line before its crossings are straightened."""
    points = web.points[line]
    radii = [2 * web.radius(node) if web.degree(node) >= 3 else 0.0 for node in web.ends[line]]
    bridged = np.isnan(points[:, RADIUS])
    steps = np.hypot(*np.diff(points[:, :2], axis=0).T)
    seen = points[np.isfinite(points[:, PROBABILITY]), PROBABILITY]
    return {
        "width_m": mean_width(points, (radii[0], radii[1])),
        "probability": float(seen.mean()) if len(seen) else np.nan,
        "gap_m": float(steps[bridged[:-1] | bridged[1:]].sum()),
        "touches_edge": bool((points[:, EDGE] == 1).any()),
    }


def _check_options(
    simplify: float,
    max_gap: float,
    gap_probability: float,
    min_length: float,
    min_hole: float,
    pixel_size: float | None,
) -> None:
    given = {"simplify": simplify, "max_gap": max_gap, "min_length": min_length, "min_hole": min_hole}
    for name, number in given.items():
        if not number >= 0:
            raise UsageError(f"{name} must be 0 or more, got {number}.")
    if not 0 <= gap_probability <= 1:
        raise UsageError(f"gap_probability must lie between 0 and 1, got {gap_probability}.")
    if pixel_size is not None and not pixel_size > 0:
        raise UsageError(f"pixel_size must be a positive number of metres, got {pixel_size}.")
