"""Figures of a report, as image data for an HTML page: curves as SVG, maps as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from prngeo.evaluation.bias import Headroom
from prngeo.evaluation.collect import Collected
from prngeo.evaluation.objects import IOU_THRESHOLDS
from prngeo.evaluation.picture import Picture
from prngeo.evaluation.pixel import Floats
from prngeo.evaluation.results import Curves, Judgement

HIT, FALSE, MISSED = "#2a9d55", "#d1495b", "#2f6db5"
"""Colors of true positives, false positives and false negatives."""
BACKGROUND, UNKNOWN = "#f1f0ea", "#ffffff"
ERRORS = (
    (HIT, "found"),
    (FALSE, "false alarm"),
    (MISSED, "missed"),
    (BACKGROUND, "background"),
    (UNKNOWN, "not compared"),
)
"""What the colors of error maps mean."""
NAMES = {"prediction": "#1d3557", "baseline": "#e08a1e"}
"""Colors of the two predictions."""
_SIZE = (5.2, 3.6)  # inches
_DPI = 110
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


@dataclass(frozen=True)
class Series:
    """The probabilities of one prediction, as curves show them.

    Attributes:
        name: in the legend.
        color: of its lines.
        curves: over thresholds and bins.
        average_precision: in the legend; None if undefined.
        calibration_error: likewise.
        threshold: the one used, to be marked; None for no mark.
        best: the best threshold on the truth, likewise.
    """

    name: str
    color: str
    curves: Curves
    average_precision: float | None
    calibration_error: float | None
    threshold: float | None = None
    best: float | None = None


def threshold_curves(drawn: Sequence[Series]) -> str:
    """IoU over the threshold, with thresholds used and best ones marked; of the first also precision and recall."""
    canvas, axes = new_axes("threshold (probability)", "")
    for number, one in enumerate(drawn):
        curves = one.curves
        axes.plot(curves.threshold, _values(curves.iou), color=one.color, label=f"IoU, {one.name}")
        if not number:
            axes.plot(
                curves.threshold, _values(curves.precision), "--", color="#888888", label=f"precision, {one.name}"
            )
            axes.plot(curves.threshold, _values(curves.recall), ":", color="#888888", label=f"recall, {one.name}")
        if one.threshold is not None:
            axes.axvline(one.threshold, color=one.color, linewidth=0.8)
            place = one.threshold, 1.0 - 0.055 * number
            axes.annotate(f" used: {one.threshold:g}", place, color=one.color, fontsize=8, va="top")
        if one.best is not None:
            best = one.best, curves.iou[curves.threshold.index(one.best)] or 0.0
            axes.plot(*best, "o", color=one.color, markersize=5)
            text = f"best: {best[1]:.3f} at {best[0]:g}"
            axes.annotate(text, best, (0, 7), textcoords="offset points", color=one.color, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    canvas.legend(loc="outside lower center", fontsize=8, ncols=2, frameon=False)
    return svg(canvas)


def precision_recall(drawn: Sequence[Series]) -> str:
    """Precision over recall."""
    canvas, axes = new_axes("recall", "precision")
    for one in drawn:
        label = f"{one.name}, AP {_three(one.average_precision)}"
        axes.plot(_values(one.curves.recall), _values(one.curves.precision), color=one.color, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return svg(canvas)


def reliability_diagram(drawn: Sequence[Series]) -> str:
    """Share of objects over mean probability of every bin, above the share of pixels in it."""
    with styled():
        canvas = Canvas(figsize=(_SIZE[0], _SIZE[1] + 0.6), layout="constrained")
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for number, one in enumerate(drawn):
        curves = one.curves
        label = f"{one.name}, ECE {_three(one.calibration_error)}"
        points = _values(curves.bin_probability), _values(curves.bin_share)
        upper.plot(*points, "o-", color=one.color, markersize=4, label=label)
        pixels = np.array(_values(curves.bin_pixels))
        width = 0.09 / len(drawn)
        centers = (np.arange(len(pixels)) + 0.5) / len(pixels) + (number - (len(drawn) - 1) / 2) * width
        lower.bar(centers, pixels / pixels.sum(), width, color=one.color)
    upper.set_ylabel("share of objects")
    upper.legend(loc="upper left", fontsize=8, frameon=False)
    upper.set_ylim(0, 1)
    lower.set_yscale("log")
    lower.yaxis.set_minor_formatter(NullFormatter())
    lower.set_ylabel("share of pixels")
    lower.set_xlabel("predicted probability")
    lower.set_xlim(0, 1)
    return svg(canvas)


def headroom_curves(headroom: Sequence[Headroom]) -> str:
    """What thresholds of patches would reach, by patch size."""
    canvas, axes = new_axes("side of a patch (pixels)", "IoU, pooled")
    sides = [one.patch for one in headroom]
    axes.plot(sides, [one.joint for one in headroom], "s--", color="#8a8577", label="joint oracle (upper bound)")
    axes.plot(sides, _values([one.neighbors for one in headroom]), "o-", color="#4f8a3c", label="neighbors' threshold")
    axes.axhline(headroom[0].tuned, color=NAMES["prediction"], label="best single threshold")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.margins(y=0.15)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return svg(canvas)


def object_curve(judged: Sequence[Judgement]) -> str:
    """F1 of objects over the IoU that counts as a match."""
    canvas, axes = new_axes("IoU that counts as a match", "F1 of objects")
    for one in judged:
        if one.objects is not None:
            axes.plot(IOU_THRESHOLDS, _values(one.objects.f1_by_iou), "o-", color=NAMES[one.name], label=one.name)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False)
    return svg(canvas)


def gain_histogram(gains: Floats) -> str:
    """Histogram of the difference of IoU between prediction and baseline over blocks."""
    canvas, axes = new_axes("IoU of the prediction minus the baseline's, by block", "blocks")
    known = gains[~np.isnan(gains)]
    reach = max(0.01, float(np.abs(known).max(initial=0)))
    edges = np.linspace(-reach, reach, 32)
    axes.hist(known[known < 0], edges, color=FALSE)
    axes.hist(known[known >= 0], edges, color=HIT)
    axes.axvline(0, color="#333333", linewidth=0.8)
    return svg(canvas)


def error_map(picture: Picture) -> str:
    """The scene in small: hits, false alarms and misses."""
    return png(error_colors(picture.shares[..., :3], picture.known))


def error_colors(shares: Floats, known: Floats) -> NDArray[np.uint8]:
    """(h, w, 3) colors of cells with shares (h, w, 3) of true positives, false positives and misses."""
    # Thin roads fill little of a cell; the square root keeps them visible.
    strong = np.sqrt(np.clip(shares, 0, 1))
    strong *= np.minimum(1, 1 / np.maximum(strong.sum(-1, keepdims=True), 1e-9))
    rest = 1 - strong.sum(-1, keepdims=True)
    paper = np.where(known[..., None] > 0, _rgb(BACKGROUND), _rgb(UNKNOWN))
    mixed = strong @ np.array([_rgb(HIT), _rgb(FALSE), _rgb(MISSED)]) + rest * paper
    return np.asarray(np.rint(mixed), np.uint8)


def block_map(collected: Collected, values: Floats) -> str:
    """IoU of blocks in their places."""
    grid = np.full((collected.grid.rows, collected.grid.cols), np.nan)
    grid[collected.blocks[:, 0], collected.blocks[:, 1]] = values
    return field_map(grid, "IoU of the block", "RdYlGn", 0, 1)


def field_map(values: NDArray[np.floating], label: str, colors: str, low: float, high: float) -> str:
    """One value a cell as colors with a bar beside; nothing where it is NaN."""
    ratio = values.shape[0] / values.shape[1]
    width = _SIZE[0] if ratio <= 1 else max(2.6, _SIZE[0] / ratio)
    with styled():
        canvas = Canvas(figsize=(width, min(6.5, max(1.6, width * ratio * 0.86))), layout="constrained")
        axes = canvas.subplots()
    image = axes.imshow(values, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    canvas.colorbar(image, ax=axes, label=label, shrink=0.8, extend="both" if low < 0 else "neither")
    stream = io.BytesIO()
    FigureCanvasAgg(canvas)
    canvas.savefig(stream, format="png", dpi=_DPI)
    return _data("image/png", stream.getvalue())


def new_axes(x: str, y: str) -> tuple[Canvas, Any]:
    """A figure with one pair of axes, in the style of the reports."""
    with styled():
        canvas = Canvas(figsize=_SIZE, layout="constrained")
        axes = canvas.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return canvas, axes


def styled() -> Any:
    """The style of the reports' figures, as a context."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def svg(canvas: Canvas) -> str:
    """A figure as an image for an HTML page."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "prngeo"}):
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    return _data("image/svg+xml", stream.getvalue())


def png(colors: NDArray[np.uint8]) -> str:
    """A picture in its own pixels, from (h, w, 3) colors."""
    return _picture(colors, "png")


def jpeg(colors: NDArray[np.uint8]) -> str:
    """As `png`, smaller and not exact: for photographs."""
    return _picture(colors, "jpeg", quality=85)


def _picture(colors: NDArray[np.uint8], kind: str, **options: int) -> str:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, colors, format=kind, pil_kwargs=options)
    return _data(f"image/{kind}", stream.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _three(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _values(found: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in found]


def _rgb(color: str) -> Floats:
    return np.array([int(color[index : index + 2], 16) for index in (1, 3, 5)], float)
