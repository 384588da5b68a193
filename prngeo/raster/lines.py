"""Lines as areas: how wide a road is drawn."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray


def widened(lines: NDArray[np.object_], widths: NDArray[np.floating]) -> NDArray[np.object_]:
    """Lines as areas: flat where a road ends, round where several lines meet.

    Where lines of different width meet, the joint is as wide as the second widest of them: it fills the bend between
    two wide roads, and a wide road that goes on as a narrow one does not bulge into it.

    Args:
        lines: (n,) LineStrings in metres.
        widths: (n,) in metres.

    Returns:
        (n + joints,) polygons.
    """
    ends = np.concatenate([shapely.get_coordinates(shapely.get_point(lines, end)) for end in (0, -1)]).round(3)
    points, which = np.unique(ends, axis=0, return_inverse=True)
    of_end = np.concatenate([widths, widths])
    order = np.lexsort((of_end, which))
    last = np.cumsum(np.bincount(which, minlength=len(points))) - 1
    several = np.bincount(which, minlength=len(points)) > 1
    second = of_end[order][last[several] - 1]
    joints = shapely.buffer(shapely.points(points[several]), second / 2)
    return np.concatenate([shapely.buffer(lines, widths / 2, cap_style="flat", join_style="round"), joints])
