"""A picture of results over their image, for people to look at."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.env import Env
from rasterio.errors import NotGeoreferencedWarning

from prngeo.qgis.styles import target_color
from prngeo.raster.scene import open_scene
from prngeo.tiling.grid import Window

OPACITY = 0.45
"""Of a target's color over the image."""


def write_overlay(scene: str | Path, masks: Mapping[str, Path], picture: Path, side: int = 900) -> Path:
    """Draw masks over their scene as a PNG, image on the left and results on the right.

    Args:
        scene: the scene, opened as `prngeo predict` does.
        masks: target -> mask raster on the scene's grid.
        picture: PNG to write.
        side: longest side of each half in pixels; a larger scene is thinned out.

    Returns:
        `picture`.

    Raises:
        UsageError: the scene cannot be opened.
    """
    with open_scene(scene) as opened:
        step = max(1, -(-max(opened.height, opened.width) // side))
        rows, cols = opened.height // step or 1, opened.width // step or 1
        image = np.empty((3, rows, cols), np.float32)
        for row in range(rows):  # a row of the picture at a time: the scene may be large
            strip, _ = opened.read(Window(row * step, 0, step, cols * step))
            image[:, row] = strip[:3].reshape(3, step, cols, step).mean((1, 3))
    drawn = image.copy()
    for target, path in masks.items():
        with rasterio.open(path) as file:
            mask = file.read(1, out_shape=(rows, cols), resampling=Resampling.nearest) == 1
        color = np.array(target_color(target)[:3], np.float32)[:, None] / 255
        drawn[:, mask] = drawn[:, mask] * (1 - OPACITY) + color * OPACITY
    both = np.rint(np.concatenate([image, drawn], 2) * 255).astype(np.uint8)
    profile = {"driver": "PNG", "height": rows, "width": 2 * cols, "count": 3, "dtype": "uint8"}
    with warnings.catch_warnings(), Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(picture, "w", **profile) as file:
            file.write(both)
    return picture
