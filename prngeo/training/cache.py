"""The arrays of one scene on disk, written strip by strip; scene.json comes last and says what they were made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from prngeo.errors import PrngeoError, ReadError, UsageError
from prngeo.files import write_json
from prngeo.raster.aoi import Aoi
from prngeo.raster.scene import Scene
from prngeo.tiling.grid import Window
from prngeo.training.labels import LabelReader
from prngeo.training.regions import IGNORE

_STRIP = 1 << 22  # pixels held at once
_CELLS = 16  # along each side of the thumbnail that tells equal pictures


def made_of_what(place: Path) -> str:
    """What a finished scene of the cache was made of; empty if there is none."""
    try:
        return str(json.loads((place / "scene.json").read_text(encoding="utf-8"))["made_of"])
    except (OSError, ValueError, KeyError):
        return ""


def mark_finished(place: Path, made_of: str, labels: int) -> None:
    """Record that the arrays of a scene are whole: what they were made of, and their labels of all targets together."""
    write_json(place / "scene.json", {"made_of": made_of, "labels": labels})


def labelled(place: Path) -> int:
    """Labels of a finished scene of the cache, of all targets together."""
    return int(json.loads((place / "scene.json").read_text(encoding="utf-8"))["labels"])


def cache_scene(
    scene: Scene, readers: Mapping[int, LabelReader], aoi: Aoi | None, targets: int, place: Path, made_of: str
) -> None:
    """Write image.npy (H, W, bands + 1), labels.npy (H, W, targets) and thumbnail.npy, all but the last uint8.

    Args:
        scene: on its own grid.
        readers: labels of targets, by their numbers.
        aoi: outside of it nothing is labelled.
        targets: how many the run has.
        place: folder.
        made_of: tells these arrays from others of the scene.

    Raises:
        ReadError: the scene or a label cannot be read.
        PrngeoError: the arrays cannot be written.
    """
    shape, bands = (scene.height, scene.width), len(scene.bands)
    thumbnail, known = _Thumbnail(shape, bands), 0
    height = max(1, _STRIP // scene.width)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "scene.json").unlink(missing_ok=True)
        with (place / "image.npy").open("wb") as image, (place / "labels.npy").open("wb") as labels:
            _header(image, (*shape, bands + 1))
            _header(labels, (*shape, targets))
            for row in range(0, scene.height, height):
                strip = Window(row, 0, min(height, scene.height - row), scene.width)
                pixels, truth = _strip(scene, strip, readers, aoi, targets)
                thumbnail.add(row, pixels[..., :-1])
                known += int((truth != IGNORE).sum())
                image.write(pixels.tobytes())
                labels.write(truth.tobytes())
        np.save(place / "thumbnail.npy", thumbnail.means())
        mark_finished(place, made_of, known)
    except OSError as error:
        megabytes = round(scene.height * scene.width * (bands + 1 + targets) / 1e6)
        raise PrngeoError(
            f"{place} could not be written ({error.strerror or error}). The cache takes {megabytes} MB for "
            f"{scene.path} alone: make room, or set work=FOLDER on another disk. What is cached already is kept."
        ) from error


def _strip(
    scene: Scene, strip: Window, readers: Mapping[int, LabelReader], aoi: Aoi | None, targets: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels with their validity, and labels, of whole rows."""
    truth = np.full((*strip.shape, targets), IGNORE, np.uint8)
    try:
        pixels, valid = scene.read(strip)
        known = valid & aoi.read(strip) if aoi is not None else valid
        for channel, reader in readers.items():
            truth[..., channel] = np.where(known, reader.read(strip), IGNORE)
    except UsageError:
        raise
    except PrngeoError as error:
        raise ReadError(str(error)) from error
    image = np.concatenate([np.rint(pixels * 255), valid[None] * np.float32(255)]).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(image, 0, -1)), truth


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class _Thumbnail:
    """Mean values of a picture in a few cells, gathered strip by strip."""

    def __init__(self, shape: tuple[int, int], bands: int) -> None:
        self._row_cells, self._col_cells = (np.arange(n) * _CELLS // n for n in shape)
        self._sums = np.zeros((_CELLS, _CELLS, bands))

    def add(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Count whole rows from the given one on."""
        starts = np.flatnonzero(np.diff(self._col_cells, prepend=-1))
        sums = np.add.reduceat(pixels, starts, axis=1, dtype=np.float64)
        cells = self._col_cells[starts]
        for number, own in enumerate(self._row_cells[row : row + len(pixels)]):
            self._sums[own, cells] += sums[number]

    def means(self) -> NDArray[np.float32]:
        """(cells, cells, bands), 0 in cells without pixels."""
        counts = [np.bincount(cells, minlength=_CELLS) for cells in (self._row_cells, self._col_cells)]
        return (self._sums / np.maximum(np.outer(*counts), 1)[..., None]).astype(np.float32)
