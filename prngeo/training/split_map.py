"""The map of a split: where the areas of every role lie, in metres.

Every source has a panel for each coordinate system of its scenes. Scenes without one lie side by side, to scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from prngeo.config import Role
from prngeo.evaluation import plots
from prngeo.tiling.grid import Window
from prngeo.training.regions import Region

COLORS: dict[Role, str] = {"train": "#b9c4cf", "refine": "#7a9e7e", "validation": "#f0a43a", "test": "#c8394f"}
GAP = "#ffffff"
_WIDTH = 10.4  # inches
_COLUMNS = 3
_KILOMETERS = 4000.0  # metres from which on axes are in km

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """What is drawn together.

    Attributes:
        title: source and coordinate system, on two lines.
        shapes: (role, or None for a gap where nothing is trained; left, bottom, right, top in metres).
    """

    title: str
    shapes: list[tuple[Role | None, Rectangle]]

    @property
    def aspect(self) -> float:
        """Height by width of what is drawn."""
        boxes = [box for _, box in self.shapes]
        height = max(box[3] for box in boxes) - min(box[1] for box in boxes)
        return height / max(max(box[2] for box in boxes) - min(box[0] for box in boxes), 1e-9)


def panels(regions: Sequence[Region]) -> list[Panel]:
    """The panels of a split, in the order in which their sources come."""
    groups: dict[tuple[str, str], list[Region]] = {}
    for region in regions:
        groups.setdefault((region.source, region.crs), []).append(region)
    return [
        Panel(f"{source}\n{_system(crs)}", list(_placed(own) if crs else _side_by_side(own)))
        for (source, crs), own in groups.items()
    ]


def _system(wkt: str) -> str:
    if not wkt:
        return "no coordinate system"
    import pyproj

    system = pyproj.CRS.from_wkt(wkt)
    code = system.to_authority()
    return ":".join(code) if code else system.name


def _placed(regions: Sequence[Region]) -> Iterator[tuple[Role | None, Rectangle]]:
    """Regions of one system, in metres from their common lower left corner."""
    left, bottom = (min(region.bounds[side] for region in regions) for side in (0, 1))
    first = regions[0]
    metres = [
        length * gsd / max(high - low, 1e-12)
        for length, gsd, low, high in (
            (first.shape[1], first.gsd[0], first.bounds[0], first.bounds[2]),
            (first.shape[0], first.gsd[1], first.bounds[1], first.bounds[3]),
        )
    ]
    for region in regions:
        x0, y0, x1, y1 = region.bounds
        box = (x0 - left) * metres[0], (y0 - bottom) * metres[1], (x1 - left) * metres[0], (y1 - bottom) * metres[1]
        yield from _with_gaps(region, box)


def _side_by_side(regions: Sequence[Region]) -> Iterator[tuple[Role | None, Rectangle]]:
    """Scenes without a system in rows from the top; regions of one scene lie in it as they do."""
    scenes: dict[str, list[Region]] = {}
    for region in regions:
        scenes.setdefault(region.scene, []).append(region)
    sizes = [
        max(max(one.window.col_end * one.gsd[0], one.window.row_end * one.gsd[1]) for one in own)
        for own in scenes.values()
    ]
    step = max(sizes) * 1.15
    columns = math.ceil(math.sqrt(len(scenes) * 1.6))
    rows = -(-len(scenes) // columns)
    for number, own in enumerate(scenes.values()):
        row, col = divmod(number, columns)
        for region in own:
            yield from _with_gaps(region, _in_metres(region.window, region.gsd, (col * step, (rows - row) * step)))


def _with_gaps(region: Region, box: Rectangle) -> Iterator[tuple[Role | None, Rectangle]]:
    yield region.role, box
    height, width = region.shape
    size = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    for window in region.forbidden:
        inside = window.intersect(Window(0, 0, height, width))
        if not inside.is_empty:
            yield None, _in_metres(inside, size, (box[0], box[3]))


def _in_metres(window: Window, gsd: tuple[float, float], origin: tuple[float, float]) -> Rectangle:
    """A window of pixels from the upper left corner at `origin`."""
    left, top = origin[0] + window.col * gsd[0], origin[1] - window.row * gsd[1]
    return left, top - window.height * gsd[1], left + window.width * gsd[0], top


def split_map(shown: Sequence[Panel]) -> str:
    """The panels as one picture, as image data."""
    columns = min(_COLUMNS, len(shown))
    wide = _WIDTH / max(2, columns)
    heights = [
        min(4.5, max(0.8, wide * max(panel.aspect for panel in shown[start : start + columns]))) + 0.9
        for start in range(0, len(shown), columns)
    ]
    with plots.styled():
        canvas = Canvas(figsize=(wide * columns, sum(heights) + 0.4), layout="constrained")
        grid = canvas.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for number, axes in enumerate(grid.flat):
        if number < len(shown):
            _draw(axes, shown[number])
        else:
            axes.set_axis_off()
    present = {role for panel in shown for role, _ in panel.shapes}
    handles = [Patch(color=color, label=role) for role, color in COLORS.items() if role in present]
    if None in present:
        handles.append(Patch(facecolor=GAP, edgecolor="#999999", label="left out as gap"))
    canvas.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return plots.svg(canvas)


def _draw(axes: Any, panel: Panel) -> None:
    order: list[Role | None] = ["train", None, "refine", "validation", "test"]
    for height, role in enumerate(order):
        corners = [((x0, y0), (x1, y0), (x1, y1), (x0, y1)) for own, (x0, y0, x1, y1) in panel.shapes if own == role]
        if corners:
            color = GAP if role is None else COLORS[role]
            # The line keeps an area visible that is small beside the distances between areas.
            line = color if role is None else "#5a6670"
            made = PolyCollection(corners, facecolors=color, edgecolors=line, linewidths=0.6, zorder=2 + height)
            axes.add_collection(made)
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.margins(0.04)
    axes.set_title(panel.title, fontsize=9)
    reach = max(max(box) for _, box in panel.shapes)
    unit, factor = ("km", 1000.0) if reach > _KILOMETERS else ("m", 1.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / factor:g}"))
        axis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(unit)
    axes.set_ylabel(unit)
