"""From shapes to pixels: surfaces, shadows, roofs, trees, then the sensor, block by block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry import Polygon

from prngeo.synth.fields import Coordinates, FloatArray, blur, pixel_noise, smooth_noise
from prngeo.synth.palette import Look, Materials

#: Output pixels a block has on a side; it bounds memory and does not show in the result.
BLOCK = 512
_HALO = 4


class Layer:
    """Shapes painted in order, each with a material; found again by window."""

    def __init__(self) -> None:
        self.shapes: list[Polygon] = []
        self.values: list[int] = []
        self._tree: shapely.STRtree | None = None

    def add(self, shape: Polygon, value: int) -> None:
        """Paint `shape` over what is there."""
        self.shapes.append(shape)
        self.values.append(value)
        self._tree = None

    def burn(self, frame: Frame, dtype: str = "int32", fill: int = -1) -> NDArray[np.int32]:
        """(H, W) values of the topmost shapes at the frame's pixel centres, `fill` where there is none."""
        if self._tree is None:
            self._tree = shapely.STRtree(self.shapes)
        hits = np.sort(self._tree.query(frame.bounds)) if self.shapes else np.zeros(0, int)
        if not len(hits):
            return np.full(frame.shape, fill, np.int32)
        pairs = [(self.shapes[i], self.values[i]) for i in hits.tolist() if not self.shapes[i].is_empty]
        burned: NDArray[np.int32] = rasterize(
            pairs, out_shape=frame.shape, transform=frame.transform, fill=fill, dtype=dtype
        )
        return burned


@dataclass
class Drawing:
    """All there is to render, in metres.

    Attributes:
        ground: surfaces from the ground up.
        shadows: areas in shadow of buildings.
        roofs: facets and what stands on them.
        trees: (N, 7) x, y, radius, height, and the crown's RGB.
        materials: what the layers' values mean.
        look: sun and sensor.
        seed: of all texture.
    """

    look: Look
    seed: int
    ground: Layer = field(default_factory=Layer)
    shadows: Layer = field(default_factory=Layer)
    roofs: Layer = field(default_factory=Layer)
    materials: Materials = field(default_factory=Materials)
    trees: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 7)))


class Frame:
    """A window of fine pixels: coordinates, transform and bounds."""

    def __init__(self, row: int, col: int, height: int, width: int, pixel: float) -> None:
        self.shape = (height, width)
        self.pixel = pixel
        self.x0, self.y0 = col * pixel, -row * pixel
        self.xs = (np.arange(col, col + width) + 0.5) * pixel
        self.ys = -(np.arange(row, row + height) + 0.5) * pixel
        self.transform = Affine(pixel, 0.0, self.x0, 0.0, -pixel, self.y0)
        self.bounds = shapely.box(self.x0, self.y0 - height * pixel, self.x0 + width * pixel, self.y0)

    def noise(self, wavelength: float, seed: int) -> FloatArray:
        """Smooth noise over the window; wavelengths below two pixels are raised to that."""
        return smooth_noise(self.xs, self.ys, max(wavelength, 2 * self.pixel), seed)


@dataclass(frozen=True)
class _Noise:
    """Texture of one window at three scales, (H, W) float32 each."""

    fine: FloatArray
    middle: FloatArray
    patch: FloatArray

    def take(self, at: NDArray[np.int64]) -> _Noise:
        """The texture at flat indices, (N,) each."""
        return _Noise(self.fine.ravel()[at], self.middle.ravel()[at], self.patch.ravel()[at])


def _surface(
    index: NDArray[np.int32], table: FloatArray, noise: _Noise, where: tuple[FloatArray, FloatArray, float]
) -> FloatArray:
    """Colours of surfaces with their textures.

    Args:
        index: (N,) materials.
        table: see `Materials.table`.
        noise: (N,) each.
        where: (N,) x and (N,) y, metres, and the size of a fine pixel.

    Returns:
        (3, N) float32.
    """

    def column(k: int, of: NDArray[np.int32] = index) -> FloatArray:
        return np.take(np.ascontiguousarray(table[:, k]), of, mode="clip")

    factor = 1 + column(7) * noise.fine + column(8) * noise.middle
    striped = np.nonzero(np.take(table[:, 9] > 0, index, mode="clip"))[0]
    if len(striped):
        of = index[striped]
        k, angle = 2 * np.pi / np.maximum(column(10, of), 2.2 * where[2]), column(11, of)
        phase = (where[0][striped] * np.cos(angle) + where[1][striped] * np.sin(angle)) * k
        factor[striped] += column(9, of) * np.sin(phase + 0.4 * noise.middle[striped])
    mix = column(6)
    cover = np.clip((noise.patch - 1.6 + 3.2 * mix) * 1.4 + 0.5, 0, 1) * (mix > 0)
    textured = np.empty((3, len(index)), np.float32)
    for band in range(3):
        color = column(band)
        textured[band] = (color + (column(band + 3) - color) * cover) * factor
    return textured


def _tree_windows(drawing: Drawing, frame: Frame, dx: float = 0.0, dy: float = 0.0) -> list[tuple[int, slice, slice]]:
    """(tree, rows, columns) of trees that touch the frame, shifted by dx, dy metres a metre of height."""
    t = drawing.trees
    x, y = t[:, 0] + dx * t[:, 3], t[:, 1] + dy * t[:, 3]
    reach = t[:, 2] * 1.5
    c0 = np.floor((x - reach - frame.x0) / frame.pixel).astype(int)
    c1 = np.ceil((x + reach - frame.x0) / frame.pixel).astype(int)
    r0 = np.floor((frame.y0 - y - reach) / frame.pixel).astype(int)
    r1 = np.ceil((frame.y0 - y + reach) / frame.pixel).astype(int)
    h, w = frame.shape
    inside = np.nonzero((c1 > 0) & (r1 > 0) & (c0 < w) & (r0 < h))[0]
    return [(int(i), slice(max(0, r0[i]), min(h, r1[i])), slice(max(0, c0[i]), min(w, c1[i]))) for i in inside]


def _tree_shadow(drawing: Drawing, frame: Frame, shade: FloatArray, noise: _Noise) -> None:
    """Darken `shade` (H, W), 0 for full sun to 1, where crowns cast their shadow."""
    sun, reach = drawing.look.sun, drawing.look.reach * 0.75
    for i, rows, cols in _tree_windows(drawing, frame, -sun[0] * reach, -sun[1] * reach):
        x, y, radius, height = drawing.trees[i, :4]
        x, y = x - sun[0] * reach * height, y - sun[1] * reach * height
        d2 = ((frame.xs[None, cols] - x) ** 2 + (frame.ys[rows, None] - y) ** 2) / radius**2
        cover = np.clip((1.0 - d2 + 0.3 * noise.middle[rows, cols]) * 4, 0, 0.95)
        np.maximum(shade[rows, cols], cover, out=shade[rows, cols])


def _paint_trees(drawing: Drawing, frame: Frame, rgb: FloatArray, noise: _Noise) -> None:
    """Draw the crowns over (3, H, W) `rgb`, in order: ragged edges, lit from the sun's side."""
    sun = drawing.look.sun
    for i, rows, cols in _tree_windows(drawing, frame):
        x, y, radius = drawing.trees[i, :3]
        dx = ((frame.xs[None, cols] - x) / radius).astype(np.float32)
        dy = ((frame.ys[rows, None] - y) / radius).astype(np.float32)
        d2 = dx**2 + dy**2
        rough = 0.24 * noise.middle[rows, cols] + 0.1 * noise.fine[rows, cols]
        cover = np.clip((1.0 - d2 + rough) * 3.5, 0, 1)
        light = 0.92 + 0.42 * (dx * sun[0] + dy * sun[1]) - 0.12 * d2 + 0.8 * rough
        crown = drawing.trees[i, 4:7, None, None].astype(np.float32) * np.clip(light, 0.3, 1.9)
        patch = rgb[:, rows, cols]
        patch += (crown - patch) * cover


def _radiance(drawing: Drawing, frame: Frame, table: FloatArray) -> FloatArray:
    """(3, H, W) what a perfect sensor would see, 0..255."""
    seed = drawing.seed
    noise = _Noise(
        0.6 * frame.noise(0.3, seed + 1) + 0.7 * frame.noise(0.75, seed + 2),
        0.75 * frame.noise(1.7, seed + 3) + 0.6 * frame.noise(4.5, seed + 4),
        0.5 * frame.noise(5.0, seed + 5) + 0.55 * frame.noise(15, seed + 6) + 0.65 * frame.noise(48, seed + 7),
    )
    h, w = frame.shape
    x = np.broadcast_to(frame.xs.astype(np.float32), (h, w)).ravel()
    y = np.broadcast_to(frame.ys.astype(np.float32)[:, None], (h, w)).ravel()
    whole = np.arange(h * w)
    rgb = _surface(drawing.ground.burn(frame).ravel(), table, noise.take(whole), (x, y, frame.pixel))
    rgb = rgb.reshape(3, h, w)
    shade = (drawing.shadows.burn(frame, fill=0) > 0).astype(np.float32)
    _tree_shadow(drawing, frame, shade, noise)
    rgb *= 1 - shade * (1 - drawing.look.shade[:, None, None])
    index = drawing.roofs.burn(frame).ravel()
    on = np.nonzero(index >= 0)[0]
    if len(on):
        rgb.reshape(3, -1)[:, on] = _surface(index[on], table, noise.take(on), (x[on], y[on], frame.pixel))
    _paint_trees(drawing, frame, rgb, noise)
    return rgb


def _sense(drawing: Drawing, rgb: FloatArray, row: int, col: int) -> FloatArray:
    """Blur, tone and noise of the sensor for a window that begins at (row, col), (3, H, W)."""
    look, f32 = drawing.look, np.float32
    rgb = blur(rgb, look.blur)
    grey: FloatArray = rgb.mean(axis=0, dtype=f32)
    rgb = grey + (rgb - grey) * f32(look.saturation)
    rgb = rgb * look.gain[:, None, None] + look.haze[:, None, None]
    rgb = 112 + (rgb - 112) * f32(look.contrast)
    toned: FloatArray = np.asarray(255 * np.clip(rgb / 255, 0.004, 1.2) ** f32(look.gamma), f32)
    shape = (rgb.shape[1], rgb.shape[2])
    # Seeds of the sensor's noise are apart from those of texture, which begin at the scene's own.
    first = 4 * drawing.seed + 1_000_003
    correlated = blur(pixel_noise(row, col, shape, first + 3), 0.7) * 2
    for band in range(3):
        white = pixel_noise(row, col, shape, first + band)
        toned[band] += f32(look.noise) * (f32(0.65) * white + f32(0.75) * correlated)
    return toned


def region_field(xs: Coordinates, ys: Coordinates, extent: float, seed: int) -> FloatArray:
    """How far each pixel lies in the scene's biased region: (H, W), smooth, 0 outside to 1 inside."""
    rng = np.random.default_rng((seed, 77))
    angle = rng.uniform(0, 2 * np.pi)
    along = (xs[None, :] / extent - 0.5) * np.cos(angle) + (ys[:, None] / extent + 0.5) * np.sin(angle)
    bent = along + 0.1 * smooth_noise(xs, ys, extent / 3, seed + 8)
    inside: FloatArray = (1 / (1 + np.exp(-(bent - rng.uniform(-0.1, 0.15)) * 11))).astype(np.float32)
    return inside


def _apply_bias(rgb: FloatArray, inside: FloatArray, bias: float) -> FloatArray:
    """Haze, lost contrast and a brighter, bluer tone, growing with `inside` times `bias`."""
    weight = inside * np.float32(bias)
    contrast = 1 / (1 + 1.1 * np.abs(weight))
    tone = np.asarray([34, 38, 48], np.float32)[:, None, None]
    biased: FloatArray = 118 + (rgb - 118) * contrast + tone * weight
    return biased


def render(drawing: Drawing, size: int, gsd: float, bias: float) -> NDArray[np.uint8]:
    """Render the scene.

    Args:
        drawing: what to draw; its upper left corner is (0, 0), y points up.
        size: pixels on a side.
        gsd: metres a pixel.
        bias: amplitude of the regional bias, see `make_town`.

    Returns:
        (3, size, size) uint8.
    """
    fine = int(np.clip(np.ceil(gsd / 0.3 - 1e-6), 2, 4))
    table = drawing.materials.table()
    image = np.empty((3, size, size), np.uint8)
    for row in range(0, size, BLOCK):
        for col in range(0, size, BLOCK):
            height, width = min(BLOCK, size - row), min(BLOCK, size - col)
            h, w = height + 2 * _HALO, width + 2 * _HALO
            frame = Frame((row - _HALO) * fine, (col - _HALO) * fine, h * fine, w * fine, gsd / fine)
            rgb = _radiance(drawing, frame, table).reshape(3, h, fine, w, fine).mean(axis=(2, 4))
            rgb = _sense(drawing, rgb, row - _HALO, col - _HALO)
            rgb = rgb[:, _HALO : _HALO + height, _HALO : _HALO + width]
            if bias:
                xs = (np.arange(col, col + width) + 0.5) * gsd
                ys = -(np.arange(row, row + height) + 0.5) * gsd
                rgb = _apply_bias(rgb, region_field(xs, ys, size * gsd, drawing.seed), bias)
            image[:, row : row + height, col : col + width] = np.clip(np.rint(rgb), 0, 255)
    return image
