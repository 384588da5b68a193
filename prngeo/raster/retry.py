"""Reading again what could not be read: networks and disks fail for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import ReadError
from prngeo.raster.scene import Scene
from prngeo.tiling.grid import Window

PAUSES = (1.0, 4.0)
"""Seconds before each further attempt."""

T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """The result of `read`, tried again after a pause where a window cannot be read.

    Raises:
        ReadError: no attempt succeeded.
    """
    for pause in PAUSES:
        try:
            return read()
        except ReadError:
            time.sleep(pause)
    try:
        return read()
    except ReadError as error:
        raise ReadError(f"{error} It was tried {len(PAUSES) + 1} times.") from error


class PatientSource:
    """The image of a scene, each window read patiently."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values and validity, see `Scene.read`."""
        return patiently(lambda: self._scene.read(window))
