"""The scenes of a source, found and cached one by one; a run that was killed goes on behind the last whole one."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from prngeo.config import Source, TrainConfig
from prngeo.errors import PrngeoError, ReadError, UsageError
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.layer import LayerElsewhereError, split_layer
from prngeo.raster.scene import Scene, open_scene
from prngeo.raster.source import open_dataset
from prngeo.scores.match import Named, named
from prngeo.tiling.grid import Window
from prngeo.training.cache import cache_scene, labelled, made_of_what
from prngeo.training.labels import Pixels, TargetLabels, label_files
from prngeo.training.places import Place

logger = logging.getLogger(__name__)

_ALIKE = 2.0  # of 0..255: root mean square by which the cells of two copies differ after lossy compression


@dataclass(frozen=True)
class Picture:
    """A scene of a source.

    Attributes:
        key: folder of its arrays inside the cache.
        source: name of the source.
        name: stem of the file, which patterns of roles are matched with.
        path: of the scene.
        shape: (height, width) in pixels.
        gsd: metres a pixel (x, y).
        crs: WKT; empty if it has none.
        transform: (a, b, c, d, e, f) from pixels to coordinates.
        labels: files that label each target.
    """

    key: str
    source: str
    name: str
    path: str
    shape: tuple[int, int]
    gsd: tuple[float, float]
    crs: str
    transform: tuple[float, float, float, float, float, float]
    labels: Mapping[str, Sequence[str]]

    @property
    def extent(self) -> Window:
        """All of its pixels."""
        return Window(0, 0, *self.shape)


@dataclass
class Refused:
    """Scenes that are not used, and why.

    Attributes:
        left_out: those that have no labels, or lie too close to held-out ones.
        skipped: those that cannot be read.
    """

    left_out: list[dict[str, str]]
    skipped: list[dict[str, str]]

    @classmethod
    def none(cls) -> Refused:
        """Nothing yet."""
        return cls([], [])

    def leave_out(self, scene: str, reason: str) -> None:
        """Note and tell that a scene is not used."""
        logger.info("left out %s: %s", scene, reason)
        self.left_out.append({"scene": scene, "reason": reason})

    def skip(self, scene: str, error: Exception) -> None:
        """Note and warn that a scene cannot be read."""
        logger.warning("skipped %s, which cannot be read: %s", scene, error)
        self.skipped.append({"scene": scene, "reason": str(error)})


def files(source: Source, root: Path) -> list[str]:
    """The files that a source names, for telling whether they changed.

    Raises:
        UsageError: a pattern finds none.
    """
    labels = [split_layer(file.path)[0] for target in source.labels for file in label_files(target, source, root)]
    return [*(file.path for file in images(source, root)), *labels, *([str(root / source.aoi)] if source.aoi else [])]


def key_of(source: Source, path: str) -> str:
    """Folder of a scene's arrays inside the cache."""
    return f"{source.name}-{Path(path).stem}"


def stamp(path: str) -> str:
    """Name, size and time of a file; what is beside it under the same name (world files, masks) counts, too."""
    file = Path(path)
    beside = sorted(file.parent.glob(f"{glob.escape(file.name)}.*")) if file.is_file() else []
    found = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in (file, *beside) if part.exists()]
    return f"{path} {found}"


def pictures(source: Source, config: TrainConfig, folder: Path, refused: Refused) -> list[Picture]:
    """Cache the scenes of a source.

    Args:
        source: of the configuration.
        config: the run.
        folder: of the cache; each scene has a folder of its own inside.
        refused: is told of scenes that are not used.

    Returns:
        Those with a labelled pixel.

    Raises:
        UsageError: no image, no label, or a scene that does not fit the configuration.
        PrngeoError: the cache cannot be written.
    """
    found = list(_opened(source, config, refused))
    if not found:
        raise UsageError(
            f"Source {source.name}: none of its {len(refused.skipped)} images can be read. "
            f"{refused.skipped[0]['reason']} Mend the files, or set `images` of the source."
        )
    _check_alike(source, found)
    _check_gsd(source, found)
    truths = [TargetLabels(target, source, config.root, found) for target in source.labels]
    cached = []
    for number, scene in enumerate(found):
        labels = {truth.target: truth.of(scene) for truth in truths}
        picture = _picture(source, scene, {target: paths for target, paths in labels.items() if paths})
        if not picture.labels:
            refused.leave_out(scene.path, "no label touches it; if there really is nothing, say so with an `aoi`")
            continue
        place, made_of = folder / picture.key, _digest(config, source, picture)
        try:
            if made_of_what(place) != made_of:
                logger.info("caching %s (%d of %d)", picture.key, number + 1, len(found))
                _cache(scene, source, config, truths, place, made_of)
        except ReadError as error:
            refused.skip(scene.path, error)
            continue
        if labelled(place):
            cached.append(picture)
        else:
            refused.leave_out(scene.path, "nothing is labelled: all of it is nodata, ignored, or outside of the aoi")
    if not cached:
        raise UsageError(_nothing(source, found, truths, refused))
    return cached


def images(source: Source, root: Path) -> list[Named]:
    """The images of a source.

    Raises:
        UsageError: there are none.
    """
    try:
        found = named([str(root / source.images)])
    except UsageError:
        found = []
    if not found or not any(Path(file.path).exists() or "://" in file.path for file in found):
        raise UsageError(
            f"Source {source.name}: no image matches {root / source.images}; set root=FOLDER or correct images."
        )
    if Path(found[0].path).is_dir() and not Path(found[0].path).suffix:  # some rasters are folders: a.zarr
        raise UsageError(
            f"Source {source.name}: {found[0].path} is a folder; give a pattern of its files as images, such as "
            f"{source.images.rstrip('/')}/*.tif."
        )
    return found


def _opened(source: Source, config: TrainConfig, refused: Refused) -> Iterator[Pixels]:
    for file in images(source, config.root):
        try:
            dataset = open_dataset(file.path)
        except PrngeoError as error:
            refused.skip(file.path, error)
            continue
        with dataset:
            _check_bands(file.path, dataset.count, list(dataset.colorinterp), source, config)
        with _scene(file.path, source, config) as scene:
            yield Pixels(file.path, file.key, GeoGrid(scene.height, scene.width, scene.transform, scene.crs), scene.gsd)


def _scene(path: str, source: Source, config: TrainConfig) -> Scene:
    return open_scene(path, bands=source.bands, gsd=source.gsd, n_bands=len(config.bands))


def _check_bands(path: str, count: int, colors: Sequence[ColorInterp], source: Source, config: TrainConfig) -> None:
    names, asked = ", ".join(config.bands), source.bands
    image = sum(color != ColorInterp.alpha for color in colors)
    if asked is None and image < len(config.bands):
        alpha = "" if image == count else f" and {count - image} of transparency"
        raise UsageError(
            f"{path} has {image} band{'s' * (image != 1)} of image values{alpha}, but `bands` of the configuration "
            f"names {len(config.bands)} ({names}). Name there as many as your images have, or say with `bands` of "
            f"source {source.name} which of the file they are, from 1; one can be given several times."
        )
    wrong = [band for band in asked or () if band > count]
    if wrong:
        raise UsageError(
            f"{path} has {count} band{'s' * (count != 1)}, but `bands` of source {source.name} is {list(asked or ())}: "
            f"there is no band {wrong[0]}. Give the numbers of {names} in the file, from 1."
        )


def _check_alike(source: Source, found: Sequence[Pixels]) -> None:
    """Refuse images with a place and without one in one source."""
    placed = [scene.path for scene in found if scene.grid.crs is not None]
    if len(placed) in (0, len(found)):
        return
    plain = next(scene.path for scene in found if scene.grid.crs is None)
    raise UsageError(
        f"Source {source.name}: {plain} has no coordinate system, {placed[0]} has one. How far they lie from each "
        "other cannot be known, so that none could be held out safely. Define it (`gdal_edit.py -a_srs`), or make two "
        "sources of them, by their `images`."
    )


def _check_gsd(source: Source, found: Sequence[Pixels]) -> None:
    unknown = [scene.path for scene in found if not np.isfinite(scene.gsd).all()]
    if unknown:
        raise UsageError(
            f"Source {source.name}: the ground sample distance of {unknown[0]} is unknown, since it has no coordinate "
            "system. Set `gsd` of the source, the metres of a pixel."
        )


def _picture(source: Source, scene: Pixels, labels: Mapping[str, Sequence[str]]) -> Picture:
    grid, name = scene.grid, Path(scene.path).stem
    t: Affine = grid.transform
    return Picture(
        key=key_of(source, scene.path),
        source=source.name,
        name=name,
        path=scene.path,
        shape=(grid.height, grid.width),
        gsd=scene.gsd,
        crs=grid.crs.to_wkt() if grid.crs else "",
        transform=(t.a, t.b, t.c, t.d, t.e, t.f),
        labels=labels,
    )


def _digest(config: TrainConfig, source: Source, picture: Picture) -> str:
    """What the cached arrays of a scene follow from."""
    settings = source.model_dump(mode="json", include={"labels", "aoi", "bands", "gsd"})
    inputs = [picture.path, *(split_layer(path)[0] for paths in picture.labels.values() for path in paths)]
    inputs += [str(config.root / source.aoi)] if source.aoi else []
    about = json.dumps([settings, config.targets, config.bands, [stamp(path) for path in inputs]], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()


def _cache(
    scene: Pixels, source: Source, config: TrainConfig, truths: Sequence[TargetLabels], place: Path, made_of: str
) -> None:
    with ExitStack() as stack:
        image = stack.enter_context(_scene(scene.path, source, config))
        readers = {}
        for truth in truths:
            reader = truth.open(scene, stack)
            if reader is not None:
                readers[config.targets.index(truth.target)] = reader
        aoi = None
        if source.aoi:
            try:
                aoi = Aoi(config.root / source.aoi, scene.grid, "aoi")
            except LayerElsewhereError:
                readers = {}
        cache_scene(image, readers, aoi, len(config.targets), place, made_of)


def _nothing(source: Source, found: Sequence[Pixels], truths: Sequence[TargetLabels], refused: Refused) -> str:
    """Why no scene of a source is left, as a message."""
    if len(refused.skipped) and not refused.left_out:
        return f"Source {source.name}: none of its images can be read. {refused.skipped[0]['reason']}"
    if not any(truth.of(scene) for truth in truths for scene in found):
        return truths[0].never()
    outside = f"outside of the polygons of `aoi` ({source.aoi}), " if source.aoi else ""
    return (
        f"Source {source.name}: no pixel of its {len(found)} image{'s' * (len(found) > 1)} is labelled: all are "
        f"{outside}nodata in the image, or nodata in the labels. Check nodata values with `gdalinfo -stats`, and the "
        f"source's `aoi` and `labels`."
    )


def places(found: Sequence[Picture], folder: Path) -> dict[str, Place]:
    """Where the scenes of all sources lie, by key.

    A picture without a place lies where an equal one lies, whatever its file is called: copies of one tile, compressed
    anew or stripped of their coordinate system, are thus on the same ground.
    """
    thumbnails: dict[tuple[int, ...], list[tuple[NDArray[np.float32], Place]]] = {}
    known: dict[str, Place] = {}
    for picture in sorted(found, key=lambda picture: not picture.crs):
        thumbnail = np.load(folder / picture.key / "thumbnail.npy")
        alike = thumbnails.setdefault((*picture.shape, *thumbnail.shape), [])
        own = Place(picture.crs or picture.key, bool(picture.crs), picture.transform, picture.gsd)
        if not picture.crs:
            equal = (place for other, place in alike if np.sqrt(np.square(other - thumbnail).mean()) <= _ALIKE)
            same = next(equal, None)
            own = own if same is None else Place(same.frame, same.placed, same.transform, picture.gsd)
        alike.append((thumbnail, own))
        known[picture.key] = own
    return known
