"""QGIS styles (QML) of the outputs, as strings, and the colours that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from prngeo.files import whole

HEADER = '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n<qgis version="3.22.0">\n'


class Color(NamedTuple):
    """Red, green, blue and opacity, each 0 to 255."""

    red: int
    green: int
    blue: int
    alpha: int = 255

    @property
    def hex(self) -> str:
        """As `#rrggbb`."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @property
    def numbers(self) -> str:
        """As `red,green,blue,alpha`, which is how QGIS writes a symbol's colour."""
        return ",".join(map(str, self))

    def opacity(self, alpha: int) -> Color:
        """The same hue with another opacity."""
        return self._replace(alpha=alpha)


class Stop(NamedTuple):
    """A point of a colour ramp: value in the unit that QGIS shows, colour, legend label."""

    value: float
    color: Color
    label: str

    @property
    def attributes(self) -> str:
        """As QML writes it."""
        return (
            f'value="{self.value:g}" color="{self.color.hex}" alpha="{self.color.alpha}" label={quoteattr(self.label)}'
        )


TARGET_COLORS = {"roads": Color(255, 127, 0), "buildings": Color(220, 20, 90)}
OTHER_COLORS = (
    Color(31, 120, 180),
    Color(51, 160, 44),
    Color(106, 61, 154),
    Color(0, 150, 150),
    Color(177, 89, 40),
    Color(200, 170, 0),
)
REMOVED, ADDED = Color(33, 102, 172), Color(178, 24, 43)
FILL_ALPHA, MASK_ALPHA = 90, 200
LINE_WIDTH = 0.6  # millimetres


def target_color(target: str) -> Color:
    """The opaque colour of a target: always the same for the same name."""
    if target in TARGET_COLORS:
        return TARGET_COLORS[target]
    return OTHER_COLORS[sha256(target.encode()).digest()[0] % len(OTHER_COLORS)]


def polygon_style(target: str) -> str:
    """Style of a polygon layer: the target's colour, half transparent inside a solid outline, no labels.

    Args:
        target: name of the target, such as `roads`.

    Returns:
        QML.
    """
    color = target_color(target)
    return (
        f'{HEADER}<renderer-v2 type="singleSymbol" forceraster="0" symbollevels="0" enableorderby="0">\n'
        f"<symbols>{fill_symbol('0', color.opacity(FILL_ALPHA), color, 0.3)}</symbols>\n</renderer-v2>\n"
        "<blendMode>0</blendMode>\n<layerOpacity>1</layerOpacity>\n</qgis>\n"
    )


def fill_symbol(name: str, fill: Color, outline: Color, width: float) -> str:
    """A polygon symbol, as a part of a style.

    Args:
        name: by which the renderer calls it.
        fill: inside.
        outline: of the border.
        width: of the border in millimetres.

    Returns:
        QML.
    """
    options = {
        "color": fill.numbers,
        "style": "solid",
        "outline_color": outline.numbers,
        "outline_style": "solid",
        "outline_width": f"{width:g}",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    return _symbol("fill", name, "SimpleFill", options)


def line_style(target: str) -> str:
    """Style of a line layer: one solid line of the target's colour with round ends, no labels.

    Args:
        target: name of the target, such as `roads`.

    Returns:
        QML.
    """
    options = {
        "line_color": target_color(target).numbers,
        "line_style": "solid",
        "line_width": f"{LINE_WIDTH:g}",
        "line_width_unit": "MM",
        "capstyle": "round",
        "joinstyle": "round",
    }
    return (
        f'{HEADER}<renderer-v2 type="singleSymbol" forceraster="0" symbollevels="0" enableorderby="0">\n'
        f"<symbols>{_symbol('line', '0', 'SimpleLine', options)}</symbols>\n</renderer-v2>\n"
        "<blendMode>0</blendMode>\n<layerOpacity>1</layerOpacity>\n</qgis>\n"
    )


def _symbol(kind: str, name: str, layer: str, options: dict[str, str]) -> str:
    """A symbol of one layer."""
    # Version 3.22 reads <prop>, later ones <Option>; a reader ignores the one that it does not know.
    old = "".join(f"<prop k={quoteattr(key)} v={quoteattr(value)}/>" for key, value in options.items())
    new = "".join(
        f'<Option type="QString" name={quoteattr(key)} value={quoteattr(value)}/>' for key, value in options.items()
    )
    return (
        f'<symbol type="{kind}" name={quoteattr(name)} alpha="1" clip_to_extent="1" force_rhr="0">\n'
        f'<layer class="{layer}" enabled="1" locked="0" pass="0">\n'
        f'<Option type="Map">{new}</Option>\n{old}\n</layer></symbol>\n'
    )


def mask_style(target: str) -> str:
    """Style of a mask raster: the target's colour where it is 1, nothing where it is 0.

    Args:
        target: name of the target.

    Returns:
        QML.
    """
    stops = (
        Stop(0, Color(0, 0, 0, 0), f"no {target}"),
        Stop(1, target_color(target).opacity(MASK_ALPHA), target),
    )
    return _palette_style(stops)


def class_style(classes: Mapping[str, int]) -> str:
    """Style of a class map: a color for each class, nothing elsewhere.

    Args:
        classes: value of each class.

    Returns:
        QML.
    """
    colors = class_colors(classes)
    return _palette_style([Stop(value, colors[value].opacity(MASK_ALPHA), name) for name, value in classes.items()])


def class_colors(classes: Mapping[str, int]) -> dict[int, Color]:
    """Opaque colors of a class map by value: a target's own, else one after the other.

    Args:
        classes: value of each class.
    """
    colors = {
        value: TARGET_COLORS.get(name, OTHER_COLORS[number % len(OTHER_COLORS)])
        for number, (name, value) in enumerate(classes.items())
    }
    return {0: Color(0, 0, 0, 0)} | colors


def _palette_style(stops: Sequence[Stop]) -> str:
    palette = "".join(f"<paletteEntry {stop.attributes}/>\n" for stop in stops)
    return (
        f"{HEADER}<pipe>\n"
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"<colorPalette>\n{palette}</colorPalette>\n</rasterrenderer>\n</pipe>\n</qgis>\n"
    )


def probability_style(target: str, scale: float = 1.0) -> str:
    """Style of a probability raster: from nothing at 0 to the target's full colour at 1.

    QGIS applies the scale that a band carries before it looks up a colour, so the ramp runs from 0 to 1
    whatever the raw values are.

    Args:
        target: name of the target.
        scale: the band's scale: probability of one raw step. The ramp's end is the largest multiple of it
            that is not above 1.

    Returns:
        QML.
    """
    color, steps = target_color(target), int(1 / scale + 1e-9)
    top = steps * scale
    stops = [
        Stop(
            round(share * top, 9),
            color.opacity(round(255 * share)),
            f"{share * top:.0%} {target}",
        )
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return ramp_style(stops)


def correction_style(target: str, limit: float = 4.0) -> str:
    """Style of a correction raster: blue where the refiner took away, red where it added, nothing at 0.

    Args:
        target: name of the target.
        limit: correction, in logits, from which on the colour is full.

    Returns:
        QML.
    """
    shares = (-1.0, -0.5, 0.0, 0.5, 1.0)
    verbs = {-1: f"less {target}", 0: "unchanged", 1: f"more {target}"}
    stops = [
        Stop(
            share * limit,
            (REMOVED if share < 0 else ADDED).opacity(round(230 * abs(share))),
            f"{share * limit:+g} {verbs[(share > 0) - (share < 0)]}" if share else verbs[0],
        )
        for share in shares
    ]
    return ramp_style(stops)


def mask_colormap(target: str) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a mask raster, for programs that read no QML.

    Args:
        target: name of the target.

    Returns:
        Red, green, blue and opacity by value. TIFF drops the opacity.
    """
    return {0: Color(0, 0, 0, 0), 1: target_color(target)}


def style_path(path: str | Path) -> Path:
    """Where QGIS looks for the style of a file: beside it, with the suffix `.qml`."""
    return Path(path).with_suffix(".qml")


def write_sidecar(path: str | Path, qml: str) -> Path:
    """Put a style beside a file, under the name by which QGIS finds it.

    Args:
        path: of the raster or vector file, such as `out/scene_roads_mask.tif`.
        qml: the style.

    Returns:
        Path of the style.

    Raises:
        OSError: the folder cannot be written.
    """
    style = style_path(path)
    with whole(style) as hidden:
        hidden.write_text(qml, encoding="utf-8")
    return style


def image_style(bands: Sequence[int], stretch: Sequence[Sequence[float]], alpha: int | None = None) -> str:
    """Style of a scene in natural colors.

    Args:
        bands: for red, green and blue, 1-based; one band alone is shown in gray.
        stretch: lowest and highest value of each band, shown as black and full.
        alpha: band of opacity.

    Returns:
        QML.
    """
    shown = [(bands[channel % len(bands)], stretch[channel % len(bands)]) for channel in range(3)]
    names = ("red", "green", "blue")
    numbers = " ".join(f'{name}Band="{band}"' for name, (band, _) in zip(names, shown, strict=True))
    contrast = "".join(
        f"<{name}ContrastEnhancement><minValue>{low:g}</minValue><maxValue>{high:g}</maxValue>"
        f"<algorithm>StretchToMinimumMaximum</algorithm></{name}ContrastEnhancement>\n"
        for name, (_, (low, high)) in zip(names, shown, strict=True)
    )
    return (
        f'{HEADER}<pipe>\n<rasterrenderer type="multibandcolor" {numbers} opacity="1" '
        f'alphaBand="{-1 if alpha is None else alpha}" nodataColor="">\n{contrast}</rasterrenderer>\n</pipe>\n</qgis>\n'
    )


def ramp_style(stops: Sequence[Stop]) -> str:
    """Style of a raster whose colours run from stop to stop; they rise in value."""
    low, high = f"{stops[0].value:g}", f"{stops[-1].value:g}"
    items = "".join(f"<item {stop.attributes}/>\n" for stop in stops)
    return (
        f"{HEADER}<pipe>\n"
        '<rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" '
        f'classificationMin="{low}" classificationMax="{high}">\n'
        '<rastershader><colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="{low}" maximumValue="{high}">\n{items}</colorrampshader></rastershader>\n'
        "</rasterrenderer>\n</pipe>\n</qgis>\n"
    )
