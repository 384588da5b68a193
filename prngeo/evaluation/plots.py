"""Figures of a report, as image data for an HTML page: curves as SVG, maps as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from prngeo.evaluation.bias import Headroom
from prngeo.evaluation.collect import Collected
from prngeo.evaluation.objects import IOU_THRESHOLDS
from prngeo.evaluation.picture import Picture
from prngeo.evaluation.pixel import Floats
from prngeo.evaluation.results import Judgement

HIT, FALSE, MISSED = "#2a9d55", "#d1495b", "#2f6db5"
"""Colors of true positives, false positives and false negatives."""
BACKGROUND, UNKNOWN = "#f1f0ea", "#ffffff"
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


def threshold_curves(judged: Sequence[Judgement]) -> str:
    """IoU, precision and recall over the threshold, the one used and the best one marked."""
    canvas, axes = _axes("threshold (probability)", "")
    first = judged[0]
    for one in judged:
        if one.curves is None:
            continue
        color = NAMES[one.name]
        axes.plot(one.curves.threshold, _values(one.curves.iou), color=color, label=f"IoU, {one.name}")
        if one is first:
            axes.plot(one.curves.threshold, _values(one.curves.precision), "--", color="#888888", label="precision")
            axes.plot(one.curves.threshold, _values(one.curves.recall), ":", color="#888888", label="recall")
    if first.threshold is not None:
        axes.axvline(first.threshold, color=NAMES["prediction"], linewidth=0.8)
        axes.annotate(f" used: {first.threshold:g}", (first.threshold, 1.0), fontsize=8, va="top")
    if first.diagnosis is not None and first.diagnosis.tuned_iou is not None:
        best = first.diagnosis.tuned_threshold, first.diagnosis.tuned_iou
        axes.plot(*best, "o", color=NAMES["prediction"], markersize=5)
        axes.annotate(f"best: {best[1]:.3f} at {best[0]:g}", best, (0, 7), textcoords="offset points", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower center", fontsize=8, ncols=2, frameon=False)
    return _svg(canvas)


def precision_recall(judged: Sequence[Judgement]) -> str:
    """Precision over recall."""
    canvas, axes = _axes("recall", "precision")
    for one in judged:
        if one.curves is not None:
            value = one.metrics["average_precision"].value
            label = f"{one.name}, AP {'undefined' if value is None else format(value, '.3f')}"
            axes.plot(_values(one.curves.recall), _values(one.curves.precision), color=NAMES[one.name], label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return _svg(canvas)


def reliability_diagram(judged: Sequence[Judgement]) -> str:
    """Share of objects over mean probability of every bin, above the share of pixels in it."""
    with _styled():
        canvas = Canvas(figsize=(_SIZE[0], _SIZE[1] + 0.6), layout="constrained")
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    shown = [(one, one.curves) for one in judged if one.curves is not None]
    for number, (one, curves) in enumerate(shown):
        error = one.metrics["calibration_error"].value
        label = f"{one.name}, ECE {'undefined' if error is None else format(error, '.3f')}"
        points = _values(curves.bin_probability), _values(curves.bin_share)
        upper.plot(*points, "o-", color=NAMES[one.name], markersize=4, label=label)
        pixels = np.array(_values(curves.bin_pixels))
        width = 0.09 / len(shown)
        centers = (np.arange(len(pixels)) + 0.5) / len(pixels) + (number - (len(shown) - 1) / 2) * width
        lower.bar(centers, pixels / pixels.sum(), width, color=NAMES[one.name])
    upper.set_ylabel("share of objects")
    upper.legend(loc="upper left", fontsize=8, frameon=False)
    upper.set_ylim(0, 1)
    lower.set_yscale("log")
    lower.set_ylabel("share of pixels")
    lower.set_xlabel("predicted probability")
    lower.set_xlim(0, 1)
    return _svg(canvas)


def headroom_curves(headroom: Sequence[Headroom]) -> str:
    """What thresholds of patches would reach, by patch size."""
    canvas, axes = _axes("side of a patch (pixels)", "IoU, pooled")
    sides = [one.patch for one in headroom]
    axes.plot(sides, [one.joint for one in headroom], "s--", color="#8a8577", label="joint oracle (upper bound)")
    axes.plot(sides, _values([one.neighbors for one in headroom]), "o-", color="#4f8a3c", label="neighbors' threshold")
    axes.axhline(headroom[0].tuned, color=NAMES["prediction"], label="best single threshold")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.margins(y=0.15)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return _svg(canvas)


def object_curve(judged: Sequence[Judgement]) -> str:
    """F1 of objects over the IoU that counts as a match."""
    canvas, axes = _axes("IoU that counts as a match", "F1 of objects")
    for one in judged:
        if one.objects is not None:
            axes.plot(IOU_THRESHOLDS, _values(one.objects.f1_by_iou), "o-", color=NAMES[one.name], label=one.name)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False)
    return _svg(canvas)


def gain_histogram(gains: Floats) -> str:
    """Histogram of the difference of IoU between prediction and baseline over blocks."""
    canvas, axes = _axes("IoU of the prediction minus the baseline's, by block", "blocks")
    known = gains[~np.isnan(gains)]
    reach = max(0.01, float(np.abs(known).max(initial=0)))
    edges = np.linspace(-reach, reach, 32)
    axes.hist(known[known < 0], edges, color=FALSE)
    axes.hist(known[known >= 0], edges, color=HIT)
    axes.axvline(0, color="#333333", linewidth=0.8)
    return _svg(canvas)


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
    with _styled():
        canvas = Canvas(figsize=(width, min(6.5, max(1.6, width * ratio * 0.86))), layout="constrained")
        axes = canvas.subplots()
    image = axes.imshow(values, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    canvas.colorbar(image, ax=axes, label=label, shrink=0.8, extend="both" if low < 0 else "neither")
    stream = io.BytesIO()
    FigureCanvasAgg(canvas)
    canvas.savefig(stream, format="png", dpi=_DPI)
    return _data("image/png", stream.getvalue())


def _axes(x: str, y: str) -> tuple[Canvas, Any]:
    with _styled():
        canvas = Canvas(figsize=_SIZE, layout="constrained")
        axes = canvas.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return canvas, axes


def _styled() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _svg(canvas: Canvas) -> str:
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "prngeo"}):
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    return _data("image/svg+xml", stream.getvalue())


def png(colors: NDArray[np.uint8]) -> str:
    """A picture in its own pixels, from (h, w, 3) colors."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, colors, format="png")
    return _data("image/png", stream.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _values(found: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in found]


def _rgb(color: str) -> Floats:
    return np.array([int(color[index : index + 2], 16) for index in (1, 3, 5)], float)
