"""Roads compared as networks: from the sources of an evaluation to graphs in metres and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes

from prngeo.evaluation.graph import (
    Apls,
    Connectivity,
    Matching,
    apls,
    buffer_matching,
    connectivity,
    junctions,
    network,
    topo,
)
from prngeo.evaluation.inputs import Inputs
from prngeo.evaluation.sources import LayerSource, Source
from prngeo.progress import Progress, Report
from prngeo.tiling.grid import Grid, Window
from prngeo.vectorize.skeleton import LineGraph, skeleton_graph

WINDOW = 2048
"""Side of the windows in which lines are cut at the edge of the known area, in pixels."""


@dataclass(frozen=True)
class Network:
    """Figures of a predicted road network.

    Attributes:
        apls: average path length similarity.
        topo: places reached from the same seeds.
        junctions: crossings matched one to one.
        lengths: completeness (recall) and correctness (precision) of lengths.
        connectivity: components, lengths, and how true paths fare.
    """

    apls: Apls
    topo: Matching
    junctions: Matching
    lengths: Matching
    connectivity: Connectivity


def networks(inputs: Inputs, relax: float, report: Report) -> list[Network]:
    """Figures of every prediction.

    Args:
        inputs: what is compared. Layers of lines are taken as they are, cut at the edge of what all inputs know;
            masks are thinned to their center lines.
        relax: tolerance of lengths, in metres.
        report: is told of every step.
    """
    steps = len(inputs.predictions) * 2 + 1
    name = Path(inputs.predictions[0].path).name
    report(Progress(name, "network", 0, steps))
    truth = _graph(inputs.truth, inputs)
    found = []
    for number, prediction in enumerate(inputs.predictions):
        report(Progress(name, "network", 1 + 2 * number, steps))
        predicted = _graph(prediction.source, inputs)
        report(Progress(name, "network", 2 + 2 * number, steps))
        found.append(
            Network(
                apls(truth, predicted),
                topo(truth, predicted),
                junctions(truth, predicted),
                buffer_matching(truth, predicted, relax),
                connectivity(truth, predicted),
            )
        )
    report(Progress(name, "network", steps, steps))
    return found


def _graph(source: Source, inputs: Inputs) -> LineGraph:
    """A source's network in metres from the grid's upper left corner, inside the known area."""
    ground = inputs.ground
    if isinstance(source, LayerSource) and source.lines is not None:
        return network(ground.to_metres(_cut(source.lines, inputs)))

    def read(window: Window) -> NDArray[np.bool_]:
        return source.read(window).mask & inputs.known(window)

    traced = skeleton_graph(read, ground.grid.height, ground.grid.width)
    return LineGraph(traced.nodes * ground.gsd, traced.ends, tuple(line * ground.gsd for line in traced.lines))


def _cut(lines: NDArray[np.object_], inputs: Inputs) -> NDArray[np.object_]:
    """The parts of lines (map coordinates) that lie where everything is known."""
    grid = inputs.ground.grid
    tree = shapely.STRtree(lines)
    windows = Grid(grid.height, grid.width, WINDOW)
    pieces = [np.empty(0, object)]
    for index in windows.indices():
        window = windows.window(index).intersect(windows.extent)
        transform = grid.drawing_transform @ Affine.translation(window.col, window.row)
        near = np.sort(tree.query(_placed(shapely.box(0, 0, window.width, window.height), transform)))
        if not len(near):
            continue
        known = inputs.known(window)
        areas = [shapely.geometry.shape(shape) for shape, _ in shapes(known.astype(np.uint8), mask=known)]
        area = shapely.box(0, 0, window.width, window.height) if known.all() else shapely.union_all(areas)
        pieces.append(shapely.intersection(lines[near], _placed(area, transform)))
    return np.concatenate(pieces)


def _placed(shape: shapely.Geometry, t: Affine) -> shapely.Geometry:
    return shapely.affinity.affine_transform(shape, (t.a, t.b, t.d, t.e, t.c, t.f))
