"""Data sets of the study, with the test areas that nothing is trained or tuned on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prngeo.config import TrainConfig
from prngeo.tiling.grid import Window
from prngeo.training.prepare import prepare
from prngeo.training.regions import IGNORE, CachedRegion, load_regions

SIDES = {"train": 1500, "validation": 1024, "test": 1024}
"""Tiles have at most this many pixels a side: the published network takes seconds a tile."""


@dataclass(frozen=True)
class DataSet:
    """A labelled set of tiles.

    Attributes:
        name: as in the tables.
        target: roads or buildings.
        source: an entry of a training configuration.
        held: stems that the embedded model was not trained on beside test and validation: PRN is fitted there for it,
            and in areas of the role refine.
        gsd: smallest and largest GSD of training in metres.
    """

    name: str
    target: str
    source: dict[str, object]
    held: tuple[str, ...] = ()
    gsd: tuple[float, float] = (0.8, 1.25)


MASSACHUSETTS = "Mnih 2013; imagery MassGIS (open), road labels OpenStreetMap (ODbL)"
DUBAI = {
    "images": "dubai/images/*.jpg",
    "license": "Humans in the Loop / MBRSC, CC0",
    "gsd": 1.0,
    "test": ["tile7_*", "tile8_*"],
    "validation": ["tile1_*"],
}

DATA_SETS = {
    item.name: item
    for item in (
        DataSet(
            "massachusetts-roads",
            "roads",
            {
                "images": "massachusetts/roads/images/*.tif",
                "labels": {"roads": "massachusetts/roads/masks/*.tif"},
                "license": MASSACHUSETTS,
                "test": [f"{n}*" for n in (
                    "10078735", "10978945", "15628870", "19678630", "23429170", "23579125", "24629305", "25229185"
                )],
                "validation": ["17278960*", "21329035*", "18628795*", "20129005*"],
            },
            ("18028870", "19828915", "20729005", "24928900", "18778720", "18928720", "23578495"),
        ),
        DataSet(
            "massachusetts-buildings",
            "buildings",
            {
                "images": "massachusetts/buildings/images/*.tif",
                "labels": {"buildings": "massachusetts/buildings/masks/*.tif"},
                "license": MASSACHUSETTS,
                "test": ["23429170*", "23579110*", "23579125*", "23579140*"],
                "validation": ["23129155*", "23129170*"],
            },
            ("23279080", "23279095"),
        ),
        DataSet("dubai-roads", "roads", {**DUBAI, "labels": {"roads": "dubai/road/*.png"}}, ("tile2_",)),
        DataSet(
            "dubai-buildings", "buildings", {**DUBAI, "labels": {"buildings": "dubai/building/*.png"}}, ("tile2_",)
        ),
        DataSet(
            "accra-buildings",
            "buildings",
            {
                "images": "accra/scene.tif",
                "labels": {"buildings": "accra/buildings_mask.tif"},
                "license": "Open Cities AI, CC-BY-4.0",
                "areas": [
                    {"role": "test", "rows": [0, 1800], "cols": [0, 3000]},
                    {"role": "validation", "rows": [3000, 4400], "cols": [600, 2200]},
                    {"role": "refine", "rows": [4700, 6100], "cols": [2600, 4600]},
                ],
            },
            gsd=(0.16, 0.32),
        ),
    )
}  # fmt: skip
CORE = ("massachusetts-roads", "massachusetts-buildings", "dubai-roads")


def config(data: DataSet, root: Path, work: Path, name: str, **values: object) -> TrainConfig:
    """A training configuration of one data set; everything but test and validation is for training."""
    return TrainConfig.model_validate(
        {"name": name, "root": root, "work": work, "targets": [data.target], "gsd": data.gsd, **values}
        | {"sources": [{"name": data.name, **data.source}]}
    )


def load(data: DataSet, root: Path, work: Path) -> dict[str, list[CachedRegion]]:
    """Tiles by role: train, validation, test.

    Args:
        data: which.
        root: folder of the data.
        work: where pixels are cached.
    """
    cache = work / "pixels" / data.name
    prepare(config(data, root, work, "pixels"), cache)
    found = {role: _tiles(load_regions(cache, role), side) for role, side in SIDES.items()}  # type: ignore[arg-type]
    found["train"] += _tiles(load_regions(cache, "refine"), SIDES["train"])
    return found


def held_out(data: DataSet, item: CachedRegion) -> bool:
    """True if the embedded model was neither trained nor tuned on a training tile of the study."""
    return item.region.role == "refine" or Path(item.region.scene).stem.startswith(data.held)


def _tiles(items: list[CachedRegion], side: int) -> list[CachedRegion]:
    """As many whole tiles as there are in regions, around their middle; smaller regions are tiles themselves.

    Those without a label that may be used are left out.
    """
    return [tile for item in items for tile in _cut(item, side) if _is_labelled(tile)]


def _is_labelled(item: CachedRegion) -> bool:
    known = item.labels[..., 0] != IGNORE
    for window in item.region.forbidden:
        known[window.within(Window(0, 0, *known.shape))] = False
    return bool(known.any())


def _cut(item: CachedRegion, side: int) -> Iterator[CachedRegion]:
    """Tiles of one region; images of one area of Dubai are one block."""
    counts = [max(1, n // side) for n in item.region.shape]
    height, width = (min(n, side) // 4 * 4 for n in item.region.shape)
    top, left = (
        (n - count * size) // 2 for n, count, size in zip(item.region.shape, counts, (height, width), strict=True)
    )
    stem = Path(item.region.scene).stem
    block = stem.split("_part")[0] if "_part" in stem else item.region.block
    for number, (row, col) in enumerate(np.ndindex(*counts)):
        place = Window(top + row * height, left + col * width, height, width)
        common = (window.intersect(place) for window in item.region.forbidden)
        forbidden = tuple(window.moved(-place.row, -place.col) for window in common if not window.is_empty)
        key = f"{item.region.key}-{number}" if counts != [1, 1] else item.region.key
        window = place.moved(item.region.window.row, item.region.window.col)
        region = replace(item.region, key=key, shape=place.shape, window=window, block=block, forbidden=forbidden)
        here = slice(place.row, place.row_end), slice(place.col, place.col_end)
        yield CachedRegion(region, item.image[here], item.labels[here])
