"""QGIS styles (QML) of the layers of an evaluation."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from prngeo.qgis.styles import ADDED, HEADER, REMOVED, Color, Stop, fill_symbol, ramp_style

BIAS_LIMIT = 0.3
"""Bias, in probability, from which on the color is full."""
CLASSES = ((0.2, Color(165, 0, 38)), (0.4, Color(244, 109, 67)), (0.6, Color(254, 224, 139)),
           (0.8, Color(102, 189, 99)), (1.0, Color(0, 104, 55)))  # fmt: skip
"""Upper IoU of each class of blocks, and its color."""
MIDDLE = Color(247, 247, 247)


def bias_style() -> str:
    """Style of a map of bias: blue where probabilities are too low, red where they are too high."""
    stops = [
        Stop(-BIAS_LIMIT, REMOVED, f"{-BIAS_LIMIT:+g} too low"),
        Stop(0.0, MIDDLE, "0"),
        Stop(BIAS_LIMIT, ADDED, f"{BIAS_LIMIT:+g} too high"),
    ]
    return ramp_style(stops)


def threshold_style() -> str:
    """Style of a map of best thresholds: dark where a low one is best, light where a high one is."""
    colors = (Color(68, 1, 84), Color(59, 82, 139), Color(33, 145, 140), Color(94, 201, 98), Color(253, 231, 37))
    return ramp_style([Stop(index / 4, color, f"{index / 4:g}") for index, color in enumerate(colors)])


def block_style() -> str:
    """Style of blocks by their IoU: red to green, half transparent, thin outlines."""
    ranges, symbols, low = "", "", 0.0
    for number, (high, color) in enumerate(CLASSES):
        label = quoteattr(f"IoU {low:g} - {high:g}")
        ranges += f'<range lower="{low:g}" upper="{high:g}" symbol="{number}" label={label} render="true"/>\n'
        symbols += fill_symbol(str(number), color.opacity(140), color, 0.2)
        low = high
    return (
        f'{HEADER}<renderer-v2 type="graduatedSymbol" attr="iou" graduatedMethod="GraduatedColor" forceraster="0" '
        f'symbollevels="0" enableorderby="0">\n<ranges>\n{ranges}</ranges>\n<symbols>\n{symbols}</symbols>\n'
        "</renderer-v2>\n<blendMode>0</blendMode>\n<layerOpacity>1</layerOpacity>\n</qgis>\n"
    )
