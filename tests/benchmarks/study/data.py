"""Data sets of the study, with the test areas that nothing is trained or tuned on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from prngeo.config import TrainConfig
from prngeo.tiling.grid import Window
from prngeo.training.prepare import prepare
from prngeo.training.regions import CachedRegion, load_regions

SIDES = {"train": 1500, "validation": 1024, "test": 1024}
"""Tiles are cut to at most this many pixels a side, around their middle: the published network takes seconds a tile."""


@dataclass(frozen=True)
class DataSet:
    """A labelled set of tiles.

    Attributes:
        name: as in the tables.
        target: roads or buildings.
        source: an entry of a training configuration.
        held: stems that the embedded model was not trained on beside test and validation: PRN is fitted there for it.
    """

    name: str
    target: str
    source: dict[str, object]
    held: tuple[str, ...]


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
    )
}  # fmt: skip
CORE = ("massachusetts-roads", "massachusetts-buildings", "dubai-roads")


def config(data: DataSet, root: Path, work: Path, name: str, **values: object) -> TrainConfig:
    """A training configuration of one data set; everything but test and validation is for training."""
    return TrainConfig.model_validate(
        {"name": name, "root": root, "work": work, "targets": [data.target], "gsd": [0.8, 1.25], **values}
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
    return {role: [_middle(item, side) for item in load_regions(cache, role)] for role, side in SIDES.items()}  # type: ignore[arg-type]


def held_out(data: DataSet, item: CachedRegion) -> bool:
    """True if the embedded model was neither trained nor tuned on a training tile of the study."""
    return Path(item.region.scene).stem.startswith(data.held)


def _middle(item: CachedRegion, side: int) -> CachedRegion:
    """The middle of a tile; images of one area of Dubai are one block."""
    rows, cols = item.region.shape
    height, width = (min(n, side) // 4 * 4 for n in (rows, cols))
    top, left = (rows - height) // 2, (cols - width) // 2
    here = slice(top, top + height), slice(left, left + width)
    stem = Path(item.region.scene).stem
    block = stem.split("_part")[0] if "_part" in stem else item.region.block
    region = replace(item.region, shape=(height, width), window=Window(top, left, height, width), block=block)
    return CachedRegion(region, item.image[here], item.labels[here])
