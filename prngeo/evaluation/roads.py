"""Roads compared as networks: from the sources of an evaluation to graphs in metres and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes

from prngeo.evaluation.bootstrap import intervals
from prngeo.evaluation.graph import (
    Apls,
    Connectivity,
    Matching,
    PathTotals,
    apls_of,
    buffer_matching,
    connectivity,
    junctions,
    network,
    path_totals,
    topo,
)
from prngeo.evaluation.inputs import Inputs
from prngeo.evaluation.pixel import Floats, f_score, ratio
from prngeo.progress import Progress, Report
from prngeo.raster.cog import RasterSpec, RasterWriter
from prngeo.raster.layer import moved
from prngeo.raster.sources import LayerSource, Source
from prngeo.tiling.grid import Grid
from prngeo.vectorize.centerlines import centerlines
from prngeo.vectorize.trace import LineGraph

WINDOW = 2048
"""Side of the windows in which the known area is read, in pixels."""
NODATA = 255


@dataclass(frozen=True)
class Network:
    """Figures of a predicted road network.

    Attributes:
        apls: average path length similarity.
        topo: places reached from the same seeds.
        junctions: crossings matched one to one.
        lengths: completeness (recall) and correctness (precision) of lengths.
        connectivity: components, lengths, and how true paths fare.
        apls_interval: 95 % interval of the score, from a bootstrap over the blocks in which paths start.
    """

    apls: Apls
    topo: Matching
    junctions: Matching
    lengths: Matching
    connectivity: Connectivity
    apls_interval: tuple[float, float] | None


def networks(inputs: Inputs, scratch: Path, relax: float, block: int, report: Report) -> list[Network]:
    """Figures of every prediction.

    Args:
        inputs: what is compared. Layers of lines are taken as they are, cut at the edge of what all inputs know;
            masks are traced to their center lines as `prngeo predict` traces them, but no gap is bridged and no piece
            is dropped, so that a prediction is judged as it stands.
        scratch: existing folder for the masks.
        relax: tolerance of lengths, in metres.
        block: side of a bootstrap block in pixels.
        report: is told of every step.
    """
    steps = len(inputs.predictions) * 2 + 1
    name = Path(inputs.predictions[0].path).name
    report(Progress(name, "network", 0, steps))
    truth = _graph(inputs.truth, inputs, scratch / "truth.tif")
    found = []
    for number, prediction in enumerate(inputs.predictions):
        report(Progress(name, "network", 1 + 2 * number, steps))
        predicted = _graph(prediction.source, inputs, scratch / f"{prediction.name}.tif")
        report(Progress(name, "network", 2 + 2 * number, steps))
        there, back = path_totals(truth, predicted), path_totals(predicted, truth)
        found.append(
            Network(
                apls_of(there, back),
                topo(truth, predicted),
                junctions(truth, predicted),
                buffer_matching(truth, predicted, relax),
                connectivity(truth, predicted, there),
                _apls_interval(there, back, block * np.array(inputs.ground.gsd)),
            )
        )
    report(Progress(name, "network", steps, steps))
    return found


def _apls_interval(there: PathTotals, back: PathTotals, block: NDArray[np.float64]) -> tuple[float, float] | None:
    """The interval of the APLS score; blocks are drawn with the paths that start in them.

    Args:
        there: paths of the truth looked up in the prediction.
        back: paths of the prediction looked up in the truth.
        block: (x, y) size of a block in metres.
    """
    places = [np.floor(totals.points / block).astype(np.int64) for totals in (there, back)]
    _, number = np.unique(np.concatenate(places), axis=0, return_inverse=True)
    numbers = np.split(number.ravel(), [len(places[0])])
    count = int(number.max(initial=-1)) + 1
    if count < 2:
        return None
    table = {}
    for name, totals, of in zip(("there", "back"), (there, back), numbers, strict=True):
        sums = [np.bincount(of, values, count).astype(float) for values in (totals.cost, totals.kinds.sum(1))]
        table[name] = np.stack(sums, 1)
    return intervals(table, _apls)["apls"]


def _apls(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """APLS from summed costs and numbers of paths, (..., 2) each."""
    there, back = (1 - ratio(counts[name][..., 0], counts[name][..., 1]) for name in ("there", "back"))
    return {"apls": f_score(there, back)}


def _graph(source: Source, inputs: Inputs, path: Path) -> LineGraph:
    """A source's network in metres from the grid's upper left corner, inside the known area."""
    ground = inputs.ground
    if isinstance(source, LayerSource) and source.lines is not None:
        return network(ground.to_metres(_cut(source.lines, inputs)))
    _write_mask(source, inputs, path)
    found = centerlines(path, max_gap=0, min_length=0, pixel_size=float(np.sqrt(ground.gsd[0] * ground.gsd[1])))
    return network(ground.to_metres(found.geometry.to_numpy()))


def _write_mask(source: Source, inputs: Inputs, path: Path) -> None:
    """The mask of a source as a file, nodata where not everything is known."""
    grid = inputs.ground.grid
    spec = RasterSpec(
        grid.height, grid.width, grid.transform, grid.crs, "uint8", NODATA, overviews="nearest", description="roads"
    )
    windows = Grid(grid.height, grid.width, WINDOW)
    with RasterWriter(path, spec) as file:
        for index in windows.indices():
            window = windows.window(index).intersect(windows.extent)
            known = inputs.known(window)
            if known.any():
                file.write(window, np.where(known, source.read(window).mask, NODATA))


def _cut(lines: NDArray[np.object_], inputs: Inputs) -> NDArray[np.object_]:
    """The parts of lines (map coordinates) that lie where everything is known."""
    grid = inputs.ground.grid
    tree = shapely.STRtree(lines)
    windows = Grid(grid.height, grid.width, WINDOW)
    pieces = [np.empty(0, object)]
    for index in windows.indices():
        window = windows.window(index).intersect(windows.extent)
        transform = grid.drawing_transform @ Affine.translation(window.col, window.row)
        frame = shapely.box(0, 0, window.width, window.height)
        near = np.sort(tree.query(moved(np.array([frame]), transform)[0]))
        if not len(near):
            continue
        known = inputs.known(window)
        areas = [shapely.geometry.shape(shape) for shape, _ in shapes(known.astype(np.uint8), mask=known)]
        area = frame if known.all() else shapely.union_all(areas)
        pieces.append(shapely.intersection(lines[near], moved(np.array([area]), transform)[0]))
    return np.concatenate(pieces)
