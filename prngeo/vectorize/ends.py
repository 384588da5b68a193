"""Dead ends that reach the end of their road."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prngeo.vectorize.web import EDGE, RADIUS, Web, along

Floats = NDArray[np.float64]

BACK = 2.0
"""Half widths from a tip in which the line may bend to a corner of the road's end; that far it may be cut back."""
STRAIGHT = 3.0
"""Half widths before that along which the road's direction is taken."""
FULL = 0.9
"""Share of the line's usual half width at which the road has not begun to end."""


CORNER = (0.85, 0.8)
"""Half widths ahead and to both sides that are road before a square end, and are none before a round one."""


def reach_ends(web: Web, inside: Callable[[Floats], NDArray[np.bool_]]) -> None:
    """Continue dead ends straight to the end of their road, where that is square.

    Thinning stops half a road's width before a square end, or bends into one of its corners. A line is cut back to
    where its road is still wide, and continued from there in its own direction by the distance to the road's edge.
    A round end, as of a line drawn with a round pen, is none: there the line ends where the pen did. Ends at no-data or
    the raster's border, and at bridges, stay.

    Args:
        web: is changed.
        inside: tells which places, float64 (places, 2) in metres, lie on a road.
    """
    found = {}
    for node in web.nodes:
        if web.degree(node) == 1:
            end = _end(web.leaving(web.lines[node][0], node))
            if end is not None:
                found[node] = end
    if not found:
        return
    corners = [_corners(web.leaving(web.lines[node][0], node)[first], ahead) for node, (first, ahead) in found.items()]
    square = np.atleast_1d(inside(np.concatenate(corners)).reshape(-1, 2).all(1))
    for (node, (first, ahead)), ends in zip(found.items(), square, strict=True):
        if not ends:
            continue
        line = web.lines[node][0]
        points = web.leaving(line, node)[first:]  # anew: the line's other end may have changed
        tip = points[0].copy()
        tip[:2] += points[0, RADIUS] * ahead
        longer = np.concatenate([tip[None], points])
        web.points[line] = longer if web.ends[line][0] == node else longer[::-1]
        web.nodes[node] = tip[:2]


def _corners(point: Floats, ahead: Floats) -> Floats:
    """Places before both corners of a square end, (2, 2)."""
    aside = np.array([-ahead[1], ahead[0]])
    forward, sideward = (share * point[RADIUS] for share in CORNER)
    return np.stack([point[:2] + forward * ahead + side * sideward * aside for side in (-1, 1)])


def _end(points: Floats) -> tuple[int, Floats] | None:
    """The point of a line at which its road begins to end, and the direction there; None if nothing is to be said."""
    known = points[:, RADIUS][np.isfinite(points[:, RADIUS])]
    passed = along(points)
    if not len(known) or points[0, EDGE] == 1 or np.isnan(points[0, RADIUS]):
        return None
    usual = float(np.median(known))
    if passed[-1] < (BACK + STRAIGHT) * usual:
        return None
    wide = np.flatnonzero((points[:, RADIUS] >= FULL * usual) & (passed <= BACK * usual))
    if not len(wide):
        return None
    first = int(wide[0])
    behind = min(int(np.searchsorted(passed, passed[first] + STRAIGHT * usual)), len(points) - 1)
    ahead = points[first, :2] - points[behind, :2]
    return first, ahead / max(float(np.hypot(*ahead)), 1e-9)
