"""Test tiles as pictures: image, truth, base mask, refined mask and the bias that PRN took away."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from prngeo.evaluation import plots
from prngeo.evaluation.page import color_key, figure
from prngeo.evaluation.rows import number
from prngeo.training.count import PRN, TUNED
from prngeo.training.regions import IGNORE
from prngeo.training.tiles import Ranking, Tile

_MAP = "RdBu_r"
_GRAY = "#d4d4d4"
_UNKNOWN = np.array([int(_GRAY[1:3], 16)] * 3, np.uint8)
MASK_COLORS = (*plots.ERRORS[:-1], (_GRAY, "unlabelled or without data"))
"""What the colors of masks mean."""
_LEAST_REACH = 0.5  # logits: a correction of next to nothing should look so


def tile_strips(ranking: Ranking, used: str) -> str:
    """The tiles of one target, a strip of pictures each.

    Args:
        ranking: of the target.
        used: the prediction that the model gives, by whose IoU tiles are ranked.
    """
    best, worst = ranking.shown
    if not best:
        return "<p>No tile has enough true pixels to be ranked.</p>"
    reach = _reach([*best, *worst])
    parts = [] if reach is None else [_bias_key(reach)]
    for title, tiles in (("Best", best), ("Worst", worst)):
        parts += [
            _strip(f"{title} {place + 1} of {ranking.ranked}", tile, used, reach) for place, tile in enumerate(tiles)
        ]
    return "".join(parts)


def _reach(tiles: list[Tile]) -> float | None:
    """Logits at which colors of the bias map are full: the same for all tiles of a target; None without PRN."""
    found = [
        np.abs(tile.correction[tile.truth != IGNORE].astype(np.float32))
        for tile in tiles
        if tile.correction is not None
    ]
    return max(_LEAST_REACH, float(np.percentile(np.concatenate(found), 99.5))) if found else None


def _bias_key(reach: float) -> str:
    low, middle, high = (_css(colormaps[_MAP](place)) for place in (0.0, 0.5, 1.0))
    return color_key(
        [
            (high, f"PRN adds {reach:.1f} logits or more"),
            (middle, "unchanged"),
            (low, f"PRN takes {reach:.1f} logits or more"),
        ]
    )


def _css(color: tuple[float, float, float, float]) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in color[:3])


def _strip(title: str, tile: Tile, used: str, reach: float | None) -> str:
    where = f"{Path(tile.scene).name.replace('synth:seed=', 'town ')}, row {tile.window.row}, column {tile.window.col}"
    caption = f"{title}: {tile.source}, {where}"
    pictures = [(plots.jpeg(tile.image), "Image"), (plots.png(_truth(tile)), "Truth")]
    for name, label in ((TUNED, "Base network"), (PRN, "PRN")):
        if name in tile.masks:
            off = ", off" if name == PRN and used != PRN else ""
            pictures.append((plots.png(_errors(tile, name)), f"{label}{off}: IoU {number(tile.iou[name])}"))
    if tile.correction is not None and reach is not None:
        pictures.append((plots.jpeg(_bias(tile.correction, tile.truth, reach)), "Bias map"))
    shown = "".join(figure(source, f"{label}. {caption}", label) for source, label in pictures)
    return f'<p class="tile">{escape(caption)}</p><div class="strip">{shown}</div>'


def _truth(tile: Tile) -> NDArray[np.uint8]:
    colors = np.array([[241, 240, 234], [34, 34, 34]], np.uint8)[(tile.truth == 1).astype(np.uint8)]
    return np.where((tile.truth == IGNORE)[..., None], _UNKNOWN, colors)


def _errors(tile: Tile, name: str) -> NDArray[np.uint8]:
    """As the error maps of an evaluation."""
    known, true, mask = tile.truth != IGNORE, tile.truth == 1, tile.masks[name]
    shares = np.stack([mask & true, mask & ~true, true & ~mask], -1) & known[..., None]
    colors = plots.error_colors(shares.astype(float), known.astype(float))
    return np.where(known[..., None], colors, _UNKNOWN)


def _bias(correction: NDArray[np.float16], truth: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Colors from blue (taken) over white to red (added), symmetric about 0."""
    share = 0.5 + 0.5 * np.clip(correction.astype(np.float32) / reach, -1, 1)
    colors = np.rint(colormaps[_MAP](share)[..., :3] * 255).astype(np.uint8)
    return np.where((truth == IGNORE)[..., None], _UNKNOWN, colors)
