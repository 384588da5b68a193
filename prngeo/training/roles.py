"""What every region is for: as its name says, or by blocks."""

from __future__ import annotations

import fnmatch
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from prngeo.config import Role, Source, Split, TrainConfig
from prngeo.errors import UsageError
from prngeo.raster.gsd import fit_grid
from prngeo.tiling.grid import Window
from prngeo.training.apart import keep_apart
from prngeo.training.pictures import Picture, Refused
from prngeo.training.places import Place, around, bounds, box_of, free
from prngeo.training.receptive import receptive_field
from prngeo.training.regions import Region, count_labels, load_region
from prngeo.training.splits import HeldOut, Land, split_blocks

logger = logging.getLogger(__name__)

GSD_TOLERANCE = 0.25
"""Share by which the model's range of GSD may be left before a scene is resampled, as in predicting."""
LEAST = 0.1
"""Share of the labels of a source that must be left to train on."""


def with_roles(
    config: TrainConfig,
    found: Mapping[str, Sequence[Picture]],
    placed: Mapping[str, Place],
    folder: Path,
    refused: Mapping[str, Refused],
) -> list[Region]:
    """The regions of all sources, kept apart.

    Args:
        config: the run.
        found: cached scenes, by source.
        placed: where they lie, by key.
        folder: of the cache.
        refused: is told of scenes that are left out, by source.

    Raises:
        UsageError: an area without pixels, or too little is left to train on.
    """
    split = config.split
    named = [source for source in config.sources if split is None or _has_roles(source)]
    drafts = [
        region for source in named for picture in found[source.name] for region in _by_name(picture, source, placed)
    ]
    blocks: list[Source] = [source for source in config.sources if source not in named]
    gaps = {}
    for source in blocks:
        assert split is not None
        gaps[source.name] = _gap(split, config, found[source.name])
        held = [
            HeldOut(region.role, placed[region.arrays], region.window) for region in drafts if region.role != "train"
        ]
        drafts += _by_blocks(found[source.name], split, gaps[source.name], config.seed, placed, held, folder)
    drafts = [replace(region, bands=_bands(config, region.source)) for region in drafts]
    regions = keep_apart(drafts, placed, set(gaps), refused)
    for source in blocks:
        _check_left(config, source, gaps[source.name], found[source.name], regions, folder)
    return regions


def check_names(source: Source, names: Sequence[str]) -> None:
    """Refuse patterns of a role that match no image: nothing would be held out, and it would be trained on.

    Args:
        source: of the configuration.
        names: stems of its images.

    Raises:
        UsageError: a role is given by name, and no image has such a name.
    """
    for role, patterns in _patterns(source):
        missed = [pattern for pattern in patterns if not any(fnmatch.fnmatch(name, pattern) for name in names)]
        if not missed:
            continue
        shown = ", ".join(missed)
        if len(missed) == len(patterns):
            raise UsageError(
                f"Source {source.name}: no image has a name that `{role}` ({shown}) matches. Patterns stand for the "
                f"whole name without its ending; the first image is called {names[0]}."
            )
        logger.warning("source %s: no image has a name that `%s` matches: %s", source.name, role, shown)


def _has_roles(source: Source) -> bool:
    return bool(source.areas or source.refine or source.validation or source.test)


def _bands(config: TrainConfig, name: str) -> tuple[int, ...] | None:
    return next(source.bands for source in config.sources if source.name == name)


def _by_name(picture: Picture, source: Source, placed: Mapping[str, Place]) -> Iterator[Region]:
    """A scene with the role that its name has, and the areas inside it."""
    whole = _region(picture, _role(source, picture.name), picture.extent, picture.key, source.gap)
    forbidden = []
    for number, area in enumerate(source.areas):
        window = Window(area.rows[0], area.cols[0], area.rows[1] - area.rows[0], area.cols[1] - area.cols[0])
        window = window.intersect(whole.window)
        if window.is_empty:
            raise UsageError(
                f"Source {source.name}: the area of rows {list(area.rows)} and columns {list(area.cols)} holds no "
                f"pixel of {whole.scene} ({whole.shape[0]} x {whole.shape[1]})."
            )
        forbidden.append(around(box_of(window), source.gap, whole.gsd))
        yield _region(picture, area.role, window, f"{picture.key}-{area.role}{number}", source.gap)
    yield replace(whole, forbidden=tuple(forbidden))


def _role(source: Source, stem: str) -> Role:
    for role, patterns in _patterns(source):
        if any(fnmatch.fnmatch(stem, pattern) for pattern in patterns):
            return role
    return "train"


def _patterns(source: Source) -> list[tuple[Role, list[str]]]:
    return [("test", source.test), ("validation", source.validation), ("refine", source.refine)]


def _region(picture: Picture, role: Role, window: Window, key: str, gap: float) -> Region:
    return Region(
        key=key,
        source=picture.source,
        role=role,
        gsd=picture.gsd,
        shape=window.shape,
        targets=tuple(picture.labels),
        scene=picture.path,
        window=window,
        bounds=bounds(window, picture.transform, bool(picture.crs)),
        crs=picture.crs,
        transform=picture.transform,
        gap=gap,
        arrays=picture.key,
    )


def _gap(split: Split, config: TrainConfig, found: Sequence[Picture]) -> float:
    """Metres between what trains and what does not: as told, or a tile and the base network's receptive field."""
    tile = config.tile * max(_model_gsd(picture, config) for picture in found)
    if split.gap is not None:
        if split.gap < tile:
            logger.warning("split.gap is %g m; a tile sees %.0f m of its surroundings", split.gap, tile)
        return split.gap
    return tile * (1 + _field(config) / config.tile)


def _field(config: TrainConfig) -> int:
    return receptive_field(config.network.architecture, config.network.encoder, len(config.bands), config.tile)


def _model_gsd(picture: Picture, config: TrainConfig) -> float:
    """The larger GSD at which a prediction sees a scene, metres."""
    grid = fit_grid(*picture.shape, Affine(*picture.transform), picture.gsd, config.gsd, GSD_TOLERANCE)
    return max(factor * gsd for factor, gsd in zip(grid.factor, picture.gsd, strict=True))


def _by_blocks(
    found: Sequence[Picture],
    split: Split,
    gap: float,
    seed: int,
    placed: Mapping[str, Place],
    held: Sequence[HeldOut],
    folder: Path,
) -> Iterator[Region]:
    """Blocks of scenes that are held out, and the scenes themselves to train on what `keep_apart` leaves of them."""
    areas = _areas(found, placed)
    lands = [
        Land(placed[picture.key], picture.shape, _counts(picture, folder), area)
        for picture, area in zip(found, areas, strict=True)
    ]
    for picture, area, windows in zip(found, areas, split_blocks(lands, split, gap, seed, held), strict=True):
        for role, own in windows.items():
            for number, window in enumerate(own):
                yield replace(_region(picture, role, window, f"{picture.key}-{role}{number}", gap), block=area)
        yield replace(_region(picture, "train", picture.extent, picture.key, gap), block=area)


def _areas(found: Sequence[Picture], placed: Mapping[str, Place]) -> list[str]:
    """For pictures without a place the part of their names before the last number, which parts of one area share."""
    if placed[found[0].key].placed or len(found) == 1:
        return [""] * len(found)
    names = [re.sub(r"[\W_]*\d+$", "", picture.name) for picture in found]
    number = len(set(names))
    told = (
        f"those whose names differ in the last number alone are taken for parts of one area ({number} areas)"
        if number > 1
        else "each is taken for an area of its own"
    )
    logger.warning(
        "source %s: nothing tells where its images lie to each other; %s. If that is wrong, name what is held out with "
        "its `test` and `validation`.",
        found[0].source,
        told,
    )
    return [f"{found[0].source}-{name}" if number > 1 else "" for name in names]


def _counts(picture: Picture, folder: Path) -> Callable[[Window], tuple[int, NDArray[np.int64]]]:
    labels = np.load(folder / picture.key / "labels.npy", mmap_mode="r")

    def counts(window: Window) -> tuple[int, NDArray[np.int64]]:
        return count_labels(labels[window.within(picture.extent)])

    return counts


def _check_left(
    config: TrainConfig, source: Source, gap: float, found: Sequence[Picture], regions: Sequence[Region], folder: Path
) -> None:
    """Refuse a split that leaves too little to train on."""
    total = sum(_counts(picture, folder)(picture.extent)[0] for picture in found)
    left = 0
    for region in regions:
        if region.role == "train" and region.source == source.name:
            labels = load_region(folder, region).labels
            for window in free(region.shape, region.forbidden):
                left += count_labels(labels[window.within(Window(0, 0, *region.shape))])[0]
    logger.info("source %s: gap %.0f m, %.0f %% of the labels train", source.name, gap, 100 * left / total)
    if left >= LEAST * total:
        return
    assert config.split is not None
    why = "as split.gap says"
    if config.split.gap is None:
        gsd = max(_model_gsd(picture, config) for picture in found)
        why = f"a tile of {config.tile} and a receptive field of {_field(config)} pixels of {gsd:.3g} m"
    area = sum(math.prod(picture.shape) * math.prod(picture.gsd) for picture in found)
    raise UsageError(
        f"Source {source.name}: {left / total:.0%} of its labels are left to train on, as nothing that trains may lie "
        f"within {gap:.0f} m of what is held out ({why}), and its {len(found)} image{'s' * (len(found) > 1)} cover "
        f"{area / 1e4:.3g} ha. Make `tile` smaller, set split.gap or smaller shares (split.test, split.validation), "
        "or give more images."
    )
