"""How well centerlines stand for streets: towns from their truth masks, Massachusetts tiles from predictions.

    python tests/benchmarks/centerlines_comparison.py --towns 1 2 3 7
    python tests/benchmarks/centerlines_comparison.py --data FOLDER

FOLDER holds massachusetts/roads/images and masks; the eight tiles that the embedded model never saw are predicted
(about 15 s each) and compared with the centerlines of their truth masks, which are lines drawn at a fixed width.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

import prngeo
from prngeo.evaluation.graph import apls, apls_of, buffer_matching, junctions, network, path_totals, topo
from prngeo.synth.write import write_town

TEST_TILES = ("10078735", "10978945", "15628870", "19678630", "23429170", "23579125", "24629305", "25229185")


def within(one: Any, other: Any, metres: float) -> float:
    """Share of the length of lines that lies within a distance of others."""
    near = shapely.intersection(one, shapely.union_all(other).buffer(metres))
    return float(shapely.length(near).sum() / shapely.length(one).sum())


def town(seed: int, folder: Path) -> None:
    files = write_town(folder / f"{seed}.tif", size=2048, gsd=0.3, seed=seed)
    started = time.process_time()
    lines = prngeo.centerlines(files.roads_mask).geometry.to_numpy()
    seconds = time.process_time() - started
    streets = gpd.read_file(files.truth, layer="road_centerlines").geometry.to_numpy()
    truth, found = network(streets, 0.05), network(lines, 0.05)
    crossings = junctions(truth, found, 5.0)
    print(
        f"town {seed}: {shapely.length(streets).sum() / 1000:.2f} km, {seconds:.1f} s; within 1 m: "
        f"{within(streets, lines, 1):.4f} of the streets, {within(lines, streets, 1):.4f} of the lines; "
        f"APLS {apls(truth, found).score:.4f}; crossings within 5 m: recall {crossings.recall:.3f}, "
        f"precision {crossings.precision:.3f}"
    )


def tiles(data: Path, folder: Path) -> None:
    rows = []
    for tile in TEST_TILES:
        roads = data / "massachusetts" / "roads"
        options = prngeo.PredictOptions(targets=("roads",))
        result = prngeo.predict(roads / "images" / f"{tile}_15.tif", folder / tile, options).rasters["roads"]
        truth = network(prngeo.centerlines(roads / "masks" / f"{tile}_15.tif").geometry.to_numpy(), 0.1)
        for name, more in (("no bridges", {"max_gap": 0.0}), ("bridges", {})):
            lines = prngeo.centerlines(result["mask"], result["probability"], **more)
            found = network(lines.geometry.to_numpy(), 0.1)
            near, places = buffer_matching(truth, found, 5.0), topo(truth, found)
            figures = [
                apls_of(path_totals(truth, found, snap=8.0), path_totals(found, truth, snap=8.0)).score,
                places.f1,
                near.recall,
                near.precision,
                junctions(truth, found, 12.0).f1,
            ]
            rows.append((name, near.truth, [np.nan if figure is None else figure for figure in figures]))
    for name in ("no bridges", "bridges"):
        lengths = np.array([length for row, length, _ in rows if row == name])
        values = np.array([figures for row, _, figures in rows if row == name])
        mean = [np.average(column[~np.isnan(column)], weights=lengths[~np.isnan(column)]) for column in values.T]
        print(
            f"{name}: {lengths.sum() / 1000:.1f} km; APLS {mean[0]:.3f}, TOPO F1 {mean[1]:.3f}, completeness "
            f"{mean[2]:.3f} and correctness {mean[3]:.3f} within 5 m, crossings F1 {mean[4]:.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, nargs="*", default=[])
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for seed in given.towns:
            town(seed, Path(name))
        if given.data:
            tiles(given.data, Path(name))


if __name__ == "__main__":
    main()
