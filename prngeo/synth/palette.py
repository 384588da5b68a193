"""Materials (colour and texture of a surface) and the look of a scene (sun, haze, sensor)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from prngeo.synth.fields import FloatArray

Rng = np.random.Generator
Color = tuple[float, float, float]

ROOFS: dict[str, tuple[Color, float]] = {
    # colour (reflectance as 0..255) and how much single roofs scatter about it
    "grey": ((128, 127, 126), 22),
    "dark": ((84, 83, 86), 14),
    "red": ((152, 98, 79), 16),
    "brown": ((122, 98, 82), 16),
    "white": ((212, 211, 208), 16),
    "metal": ((176, 181, 186), 20),
    "blue": ((122, 140, 160), 14),
    "rust": ((140, 106, 88), 18),
    "green": ((108, 132, 116), 14),
}


class Materials:
    """A growing table of surfaces; an index raster looks its colours and textures up here."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(
        self,
        color: Color | FloatArray,
        other: Color | FloatArray | None = None,
        *,
        mix: float = 0.0,
        grain: float = 0.05,
        mottle: float = 0.04,
        stripe: float = 0.0,
        wavelength: float = 1.0,
        angle: float = 0.0,
    ) -> int:
        """Append a material and return its index.

        Args:
            color: RGB, 0..255.
            other: a second RGB that replaces the first in patches.
            mix: share of patches, 0..1.
            grain: relative amplitude of texture at the pixel's scale.
            mottle: relative amplitude of texture at metres.
            stripe: relative amplitude of stripes (rows of a field, ribs of a roof).
            wavelength: distance of stripes, metres.
            angle: direction of the stripes' normal, radians.
        """
        second = color if other is None else other
        self._rows.append((*color, *second, mix, grain, mottle, stripe, wavelength, angle))
        return len(self._rows) - 1

    def table(self) -> FloatArray:
        """(N, 12) float32: color, other, mix, grain, mottle, stripe, wavelength, angle."""
        return np.asarray(self._rows, np.float32)


@dataclass(frozen=True)
class Look:
    """What one flight gives every surface of a scene.

    Attributes:
        sun: unit vector toward the sun in the plane (x, y).
        reach: length of a shadow for each metre of height.
        shade: (3,) factor of a surface in shadow.
        gain: (3,) colour cast.
        haze: (3,) light added everywhere, 0..255.
        contrast: about the middle grey.
        gamma: exponent of the tone curve.
        saturation: 1 leaves colours as they are.
        blur: standard deviation of the sensor's blur, pixels.
        noise: standard deviation of the sensor's noise, 0..255.
        grass, dry, soil, asphalt, leaf: (3,) base colours of this region and season.
        roofs: names and weights of the roof families in use.
    """

    sun: tuple[float, float]
    reach: float
    shade: FloatArray
    gain: FloatArray
    haze: FloatArray
    contrast: float
    gamma: float
    saturation: float
    blur: float
    noise: float
    grass: FloatArray
    dry: FloatArray
    soil: FloatArray
    asphalt: FloatArray
    leaf: FloatArray
    roofs: dict[str, float] = field(default_factory=dict)


def _vary(rng: Rng, color: Color, spread: float, tint: float = 0.4) -> FloatArray:
    """A colour scattered in brightness and, less, in hue."""
    shift = rng.normal(0, spread) + rng.normal(0, spread * tint, 3)
    return np.clip(np.asarray(color) + shift, 12, 240).astype(np.float32)


def make_look(rng: Rng) -> Look:
    """Draw the look of a scene."""
    azimuth = rng.uniform(0, 2 * np.pi) if rng.random() < 0.25 else rng.uniform(np.pi * 1.1, np.pi * 1.9)
    elevation = np.deg2rad(rng.uniform(28, 66))
    dark = rng.uniform(0.28, 0.55)
    soil = [(168, 140, 108), (150, 118, 88), (182, 158, 126), (160, 104, 76), (140, 124, 104)]
    grass = [(98, 116, 66), (84, 106, 58), (122, 124, 78), (108, 128, 72)]
    families = list(ROOFS)
    weights = rng.dirichlet(np.asarray([1.6, 0.8, 1.3, 0.9, 0.9, 0.8, 0.25, 0.5, 0.2]))
    return Look(
        sun=(float(np.cos(azimuth)), float(np.sin(azimuth))),
        reach=float(1 / np.tan(elevation)),
        shade=np.asarray([dark, dark * 1.06, dark * 1.2], np.float32),
        gain=(rng.uniform(0.78, 1.14) * rng.normal(1, 0.045, 3)).astype(np.float32),
        haze=(rng.uniform(0, 24) * np.asarray([0.85, 0.95, 1.15])).astype(np.float32),
        contrast=float(rng.uniform(0.72, 1.28)),
        gamma=float(rng.uniform(0.8, 1.2)),
        saturation=float(rng.uniform(0.5, 1.15)),
        blur=float(rng.uniform(0.35, 1.0)),
        noise=float(rng.uniform(1.0, 5.5)),
        grass=_vary(rng, grass[int(rng.integers(len(grass)))], 9),
        dry=_vary(rng, (158, 146, 104), 10),
        soil=_vary(rng, soil[int(rng.integers(len(soil)))], 10),
        asphalt=_vary(rng, (112, 112, 113), 20, 0.12),
        leaf=_vary(rng, (60, 78, 44), 13),
        roofs=dict(zip(families, weights.tolist(), strict=True)),
    )
