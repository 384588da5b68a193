"""From a training configuration to a cache of labelled regions, split by block with a gap."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from prngeo.config import Role, Source, Towns, TrainConfig
from prngeo.errors import UsageError
from prngeo.raster.scene import Scene, open_scene
from prngeo.synth import make_town
from prngeo.tiling.grid import Grid, Window
from prngeo.training.labels import open_labels
from prngeo.training.regions import IGNORE, Region, read_index, write_index

logger = logging.getLogger(__name__)

Bounds = tuple[float, float, float, float]


def prepare(config: TrainConfig, folder: Path) -> list[Region]:
    """Cache every region of the configuration as arrays; nothing is done if the cache is complete.

    Args:
        config: the run.
        folder: where the arrays go.

    Returns:
        The regions, held-out ones first.

    Raises:
        UsageError: a pattern finds no scene, a mask is missing or has another size than its scene.
    """
    fingerprint = hashlib.sha256(
        config.model_dump_json(include={"sources", "towns", "targets", "gsd"}).encode()
    ).hexdigest()
    known, regions = read_index(folder)
    if known == fingerprint:
        return regions
    planned = [region for source in config.sources for region in _plan(source, config.root)]
    repeated = [key for key, number in Counter(region.key for region in planned).items() if number > 1]
    if repeated:
        raise UsageError(f"Scenes of one source need file names of their own; there are several of {repeated[0]}.")
    regions = list(_keep_apart(planned, {source.name: source.gap for source in config.sources}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    for number, region in enumerate(regions):
        logger.info("caching %s (%d of %d)", region.key, number + 1, len(regions))
        _cache(region, config.targets, folder / region.key)
    regions += _cache_towns(config.towns, config, folder)
    write_index(folder, regions, fingerprint)
    return regions


def _plan(source: Source, root: Path) -> Iterator[Region]:
    scenes = sorted(glob.glob(str(root / source.images)))
    if not scenes:
        raise UsageError(
            f"Source {source.name}: no image matches {root / source.images}; set root=FOLDER or correct images."
        )
    for path in scenes:
        stem = Path(path).stem
        labels = _label_files(source, root, stem)
        if not labels:
            raise UsageError(f"Source {source.name}: no label file has the stem of {path}.")
        with open_scene(path, gsd=source.gsd) as scene:
            whole = Region(
                key=f"{source.name}-{stem}",
                source=source.name,
                role=_role(source, stem),
                gsd=scene.gsd,
                shape=(scene.height, scene.width),
                targets=tuple(labels),
                scene=path,
                window=Window(0, 0, scene.height, scene.width),
                labels=labels,
            )
        yield from _cut_areas(whole, source)


def _label_files(source: Source, root: Path, stem: str) -> dict[str, str]:
    """The label file of every target: a pattern's match with the scene's stem; a plain name serves every scene."""
    found = {}
    for target, truth in source.labels.items():
        pattern = truth.path
        matches = glob.glob(str(root / pattern))
        named = [path for path in matches if Path(path).stem == stem]
        if named or (matches and not glob.has_magic(pattern)):
            found[target] = (named or matches)[0]
    return found


def _role(source: Source, stem: str) -> Role:
    patterns: list[tuple[Role, list[str]]] = [
        ("test", source.test),
        ("validation", source.validation),
        ("refine", source.refine),
    ]
    for role, names in patterns:
        if any(fnmatch.fnmatch(stem, name) for name in names):
            return role
    return "train"


def _cut_areas(whole: Region, source: Source) -> Iterator[Region]:
    margin = round(source.gap / min(whole.gsd))
    forbidden = []
    for number, area in enumerate(source.areas):
        window = Window(area.rows[0], area.cols[0], area.rows[1] - area.rows[0], area.cols[1] - area.cols[0]).intersect(
            whole.window
        )
        if window.is_empty:
            raise UsageError(
                f"Source {source.name}: the area of rows {list(area.rows)} and columns {list(area.cols)} holds no "
                f"pixel of {whole.scene} ({whole.shape[0]} x {whole.shape[1]})."
            )
        forbidden.append(window.expand(margin))
        yield replace(whole, key=f"{whole.key}-{area.role}{number}", role=area.role, shape=window.shape, window=window)
    yield replace(whole, forbidden=tuple(forbidden))


@dataclass
class _Place:
    """Where a region lies: system (WKT), extent there, metres (x, y) of its unit, and the region."""

    crs: str | None
    bounds: Bounds
    metres: tuple[float, float]
    region: Region

    def near(self, other: _Place, gap: float) -> bool:
        """True if both lie in one system, or one scene, closer together than the gap in metres."""
        together = (self.crs is not None and self.crs == other.crs) or self.region.scene == other.region.scene
        return together and _distance(self.bounds, other.bounds, self.metres) < gap


def _keep_apart(regions: list[Region], gaps: dict[str, float]) -> Iterator[Region]:
    """Drop whole-scene regions that come closer than the gap to a region held out with a stricter role.

    Test regions push out all others, validation pushes out refine and train, refine pushes out train. Regions of one
    role that come so close get a common block.
    """
    order: list[Role] = ["test", "validation", "refine", "train"]
    kept: list[_Place] = []
    for role in order:
        rank: list[_Place] = []
        for region in (region for region in regions if region.role == role):
            with open_scene(region.scene, gsd=region.gsd[0]) as scene:
                crs = scene.crs.to_wkt() if scene.crs else None
                place = _Place(crs, *_bounds(scene, region), region)
            own = (region.source, region.scene)
            others = (other for other in kept if (other.region.source, other.region.scene) != own)
            abutting = next((other.region for other in others if place.near(other, gaps[region.source])), None)
            if abutting is None:
                rank.append(place)
            else:
                logger.info("left out %s: it abuts %s (%s)", region.key, abutting.key, abutting.role)
        kept += rank
        yield from _with_blocks(rank, gaps)


def _with_blocks(places: list[_Place], gaps: dict[str, float]) -> Iterator[Region]:
    """The regions, each with the key of the first one of its connected group as block."""
    blocks: list[str] = []
    for number, place in enumerate(places):
        joined = {blocks[i] for i, other in enumerate(places[:number]) if place.near(other, gaps[place.region.source])}
        name = next((block for block in blocks if block in joined), place.region.key)
        blocks = [name if block in joined else block for block in blocks] + [name]
    for place, block in zip(places, blocks, strict=True):
        yield replace(place.region, block=block)


def _bounds(scene: Scene, region: Region) -> tuple[Bounds, tuple[float, float]]:
    """Extent in the scene's system, and the metres (x, y) of its unit there."""
    transform, window = scene.transform, region.window
    metres = (
        region.gsd[0] / math.hypot(transform.a, transform.d),
        region.gsd[1] / math.hypot(transform.b, transform.e),
    )
    corners = [transform @ (col, row) for row in (window.row, window.row_end) for col in (window.col, window.col_end)]
    xs, ys = zip(*corners, strict=True)
    return (min(xs), min(ys), max(xs), max(ys)), metres


def _distance(a: Bounds, b: Bounds, metres: tuple[float, float]) -> float:
    dx = max(0.0, max(a[0], b[0]) - min(a[2], b[2]))
    dy = max(0.0, max(a[1], b[1]) - min(a[3], b[3]))
    return math.hypot(dx * metres[0], dy * metres[1])


def _cache(region: Region, targets: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    height, width = region.shape
    labels = open_memmap(folder / "labels.npy", "w+", np.uint8, (height, width, len(targets)))
    labels[...] = IGNORE
    with open_scene(region.scene, gsd=region.gsd[0]) as scene:
        image = open_memmap(folder / "image.npy", "w+", np.uint8, (height, width, len(scene.bands) + 1))
        readers = {target: open_labels(path, scene) for target, path in region.labels.items()}
        grid = Grid(height, width, 2048)
        for index in grid.indices():
            window = grid.window(index).intersect(grid.extent)
            place = Window(window.row + region.window.row, window.col + region.window.col, window.height, window.width)
            here = (slice(window.row, window.row_end), slice(window.col, window.col_end))
            pixels, valid = scene.read(place)
            image[(*here, slice(0, -1))] = np.moveaxis(np.rint(pixels * 255).astype(np.uint8), 0, -1)
            image[(*here, -1)] = valid * np.uint8(255)
            for target, reader in readers.items():
                labels[(*here, targets.index(target))] = np.where(valid, reader.read(place), IGNORE)
    image.flush()
    labels.flush()


def _cache_towns(towns: Towns, config: TrainConfig, folder: Path) -> list[Region]:
    """Towns of consecutive seeds; their GSDs are spread over the model's range by a fixed rule."""
    roles: list[Role] = ["train", "refine", "validation", "test"]
    counts = [towns.train, towns.refine, towns.validation, towns.test]
    regions = []
    seed = towns.seed
    for role, count in zip(roles, counts, strict=True):
        for number in range(count):
            position = (number + 0.5) / count
            gsd = float(config.gsd[0] * (config.gsd[1] / config.gsd[0]) ** position)
            key = f"synthetic-{seed}"
            (folder / key).mkdir(parents=True, exist_ok=True)
            town = make_town(towns.size, gsd, seed)
            valid = np.full((towns.size, towns.size, 1), 255, np.uint8)
            np.save(folder / key / "image.npy", np.concatenate([np.moveaxis(town.image, 0, -1), valid], -1))
            labels = np.stack(
                [town.masks.get(target, np.full_like(valid[..., 0], IGNORE)) for target in config.targets], -1
            )
            np.save(folder / key / "labels.npy", labels)
            regions.append(
                Region(
                    key=key,
                    source="synthetic",
                    role=role,
                    gsd=(gsd, gsd),
                    shape=(towns.size, towns.size),
                    targets=tuple(config.targets),
                    scene=f"synth:seed={seed}",
                    window=Window(0, 0, towns.size, towns.size),
                    block=key,
                )
            )
            seed += 1
    return regions
