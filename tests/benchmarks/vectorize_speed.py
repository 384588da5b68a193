"""Speed and memory of vectorizing, beside `rasterio.features.shapes` on the whole array in the same run.

    python tests/benchmarks/vectorize_speed.py

Each case runs in a process of its own, twice; the best CPU time counts, which other
programs on the machine hardly change, and the growth of the largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

ROUNDS = 2


def town(size: int) -> np.ndarray:
    """Buildings of a procedural town of 2048 px, repeated."""
    from prngeo.synth import make_town

    part = make_town(2048, 0.3, 1).masks["buildings"]
    return np.tile(part, (size // 2048, size // 2048))


def specks(size: int) -> np.ndarray:
    """Noise, 30 % objects: one polygon to about eight pixels."""
    return (np.random.default_rng(0).random((size, size)) < 0.3).astype(np.uint8)


def squares(size: int) -> np.ndarray:
    """Squares of 5 px, 10 px apart: one polygon to 100 pixels."""
    mask = np.zeros((size, size), np.uint8)
    rows = np.arange(size) % 10 < 5
    mask[np.ix_(rows, rows)] = 1
    return mask


CASES = {
    "town, 17 Mpx": (town, 4096, 0.0),
    "town, 67 Mpx": (town, 8192, 0.0),
    "noise, 1 Mpx": (specks, 1024, 0.0),
    "noise, 4 Mpx": (specks, 2048, 0.0),
    "noise, 4 Mpx, from 4 m2": (specks, 2048, 4.0),
    "noise, 17 Mpx, from 4 m2": (specks, 4096, 4.0),
    "10^4 squares": (squares, 1000, 0.0),
    "10^5 squares": (squares, 3160, 0.0),
    "10^6 squares": (squares, 10000, 0.0),
}


def write(path: Path, mask: np.ndarray) -> None:
    profile = {"driver": "GTiff", "height": mask.shape[0], "width": mask.shape[1], "count": 1, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32631", "transform": Affine(0.3, 0, 5e5, 0, -0.3, 5e6), "nodata": 255}
    with rasterio.open(path, "w", **profile, tiled=True, blockxsize=512, blockysize=512, compress="deflate") as file:
        file.write(mask, 1)


def once(path: str, method: str, min_area: float) -> dict[str, float]:
    """Time one method on a file: CPU seconds, polygons, and the growth of the largest resident memory in MB."""
    from rasterio.features import shapes

    from prngeo.vectorize.polygons import polygonize

    with rasterio.open(path) as src:
        mask, transform = (src.read(1), src.transform) if method != "prngeo" else (None, None)
    polygonize(path.replace(".tif", ".warm.tif"))  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        if method == "prngeo":
            count = len(polygonize(path, value=1, min_area=min_area))
        else:
            found = [shape for shape, _ in shapes(mask, mask=mask == 1, transform=transform)]
            count = len(found)
            del found
        best = min(best, time.process_time() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": best, "count": count, "memory": grown}


def in_process(path: Path, method: str, min_area: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--once", str(path), method, str(min_area)]
    return dict(json.loads(subprocess.check_output(command, text=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once[0], given.once[1], float(given.once[2]))))
        return
    print("| mask | polygons | shapes Mpx/s | prngeo Mpx/s | ratio | seconds | shapes MB | prngeo MB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, size, min_area) in CASES.items():
            path = Path(folder) / "mask.tif"
            mask = make(size)
            write(path, mask)
            write(path.with_suffix(".warm.tif"), np.eye(16, dtype=np.uint8))
            found = [in_process(path, method, min_area) for method in ("shapes", "prngeo")]
            plain, ours = (mask.size / 1e6 / one["seconds"] for one in found)
            print(
                f"| {name} | {found[1]['count']:,.0f} | {plain:.2f} | {ours:.2f} | "
                f"{ours / plain:.1f} | {found[1]['seconds']:.1f} | "
                f"{found[0]['memory']:.0f} | {found[1]['memory']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
