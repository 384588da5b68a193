"""Training regions: labelled pixels cached as memory-mapped arrays, each with one role.

This module needs numpy alone, so that training on a cached folder also runs where no GDAL is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prngeo.config import Role
from prngeo.files import write_json
from prngeo.tiling.grid import Window

IGNORE = 255


@dataclass(frozen=True)
class Region:
    """A rectangle of one scene.

    Attributes:
        key: folder name inside the cache.
        source: name of the data set.
        role: what the region is for.
        gsd: (x, y) ground size of a pixel in metres.
        shape: (height, width) in pixels.
        targets: names of the labelled targets, a subset of the run's.
        scene: path of the scene.
        window: the region's place in the scene, in pixels.
        forbidden: windows (in region pixels) that training must not touch: held-out areas and their gap.
        block: name shared by regions of one role that lie closer together than the gap.
        bounds: (left, bottom, right, top) in its coordinate system, or in pixels with y down if it has none.
        crs: its coordinate system as WKT; empty if it has none.
        transform: (a, b, c, d, e, f) from the scene's pixels to that system.
        bands: numbers of the scene's bands in the model's order; chosen by their colors if None.
        gap: metres that training keeps away from what is held out.
        arrays: folder of the whole scene's arrays inside the cache, of which the region is `window`; the region has a
            folder of its own if empty.
    """

    key: str
    source: str
    role: Role
    gsd: tuple[float, float]
    shape: tuple[int, int]
    targets: tuple[str, ...]
    scene: str
    window: Window
    forbidden: tuple[Window, ...] = ()
    block: str = ""
    bounds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    crs: str = ""
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    bands: tuple[int, ...] | None = None
    gap: float = 0.0
    arrays: str = ""


@dataclass(frozen=True)
class CachedRegion:
    """A region with its arrays.

    Attributes:
        region: what it is.
        image: (H, W, bands + 1) uint8, values scaled to 0..255; the last channel is 255 where data is valid.
        labels: (H, W, targets) uint8: 0, 1, or 255 where unlabelled.
    """

    region: Region
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def count_labels(labels: NDArray[np.uint8]) -> tuple[int, NDArray[np.int64]]:
    """Labelled pixels of (H, W, targets) labels, and those of each target's objects, (targets,)."""
    known = np.zeros(labels.shape[:2], bool)
    positives = np.zeros(labels.shape[2], np.int64)
    for target in range(labels.shape[2]):  # an axis of one or two is slow to reduce
        own = labels[..., target]
        known |= own != IGNORE
        positives[target] = np.count_nonzero(own == 1)
    return int(np.count_nonzero(known)), positives


def write_index(folder: Path, regions: Iterable[Region], fingerprint: str) -> None:
    """Record the regions of a finished cache; its presence marks the cache as complete."""
    content = {"fingerprint": fingerprint, "regions": [asdict(region) for region in regions]}
    write_json(folder / "index.json", content)


def read_index(folder: Path) -> tuple[str, list[Region]]:
    """(fingerprint, regions) of a cache; ('', []) if there is none that this version of prngeo understands."""
    try:
        content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        return content["fingerprint"], [_region(entry) for entry in content["regions"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "", []


def _region(entry: dict[str, object]) -> Region:
    values = dict(entry)
    values["window"] = Window(**values["window"])  # type: ignore[arg-type]
    values["forbidden"] = tuple(Window(**window) for window in values["forbidden"])  # type: ignore[attr-defined]
    for name in ("gsd", "shape", "targets", "bounds", "transform", "bands"):
        values[name] = values[name] and tuple(values[name])  # type: ignore[arg-type]
    return Region(**values)  # type: ignore[arg-type]


def load_regions(folder: Path, role: Role) -> list[CachedRegion]:
    """The cached regions of one role, memory-mapped."""
    _, regions = read_index(folder)
    return [load_region(folder, region) for region in regions if region.role == role]


def load_region(folder: Path, region: Region) -> CachedRegion:
    """A region of a cache with its arrays, memory-mapped."""
    image, labels = (
        np.load(folder / (region.arrays or region.key) / f"{name}.npy", mmap_mode="r") for name in ("image", "labels")
    )
    if region.arrays:
        here = region.window.within(Window(0, 0, *image.shape[:2]))
        image, labels = image[here], labels[here]
    return CachedRegion(region, image, labels)
