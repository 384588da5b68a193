"""The report: one HTML page with its figures inside, which opens without a network and prints well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np

from prngeo import __version__
from prngeo.evaluation import plots
from prngeo.evaluation.bootstrap import RESAMPLES
from prngeo.evaluation.inputs import Inputs
from prngeo.evaluation.metrics import METRICS, block_gain, block_iou
from prngeo.evaluation.results import Comparison, Diagnosis, Evaluation
from prngeo.evaluation.rows import difference, interval, network_rows, number, object_rows, verdict
from prngeo.evaluation.wording import blocks_sentence, counted, headroom_sentence
from prngeo.tiling.grid import Window

WORST = 6
"""Blocks with the most wrong pixels that are shown."""
_LARGEST_CROP = 512  # pixels a side

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #222; max-width: 1100px; margin: 2em auto;
  padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: .1em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
p.lead { color: #555; margin-top: 0; }
table { border-collapse: collapse; margin: .8em 0; } th, td { padding: .25em .8em .25em 0; text-align: left;
  border-bottom: 1px solid #eee; vertical-align: top; } th { font-weight: 600; } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; } td.d { color: #666; font-size: .88em; }
figure { margin: .6em 0; display: inline-block; vertical-align: top; max-width: 100%; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; } figcaption { color: #555; font-size: .88em;
  max-width: 34em; }
.crops figure { margin-right: .8em; } .crops img { width: 310px; image-rendering: pixelated; border: 1px solid #ddd; }
.crops figcaption { max-width: 310px; } .map figure { max-width: 49%; margin-right: .5%; }
.map img { border: 1px solid #ddd; } td:first-child { white-space: nowrap; }
.note { background: #fff6dd; border-left: 4px solid #e0a800; padding: .4em .8em; margin: .5em 0; }
.verdict { background: #eef5ee; border-left: 4px solid #2a9d55; padding: .4em .8em; }
.key span { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; vertical-align: -1px; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; }
  table { break-inside: avoid; } figure { max-width: 48%; } .crops figure { max-width: 31%; }
  .crops img { width: 100%; } }
"""


def render(result: Evaluation, inputs: Inputs, files: Sequence[str]) -> str:
    """The page.

    Args:
        result: all figures.
        inputs: still open, for pictures of the worst blocks.
        files: names of the files beside the report.

    Returns:
        HTML.
    """
    first = result.prediction
    title = f"{Path(first.path).name} judged by {Path(result.truth).name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{_lead(result)}</p>',
        *(f'<p class="note">{escape(text)}</p>' for text in result.warnings),
        _section("Metrics", _metric_table(result) + _pixel_table(result)),
    ]
    if result.comparison is not None:
        parts.append(_section("Prediction against baseline", _comparison(result, result.comparison)))
    parts.append(_section("Where it is right and wrong", _maps(result) + _worst(result, inputs)))
    if first.curves is not None:
        parts.append(_section("Thresholds and calibration", _curves(result)))
    if first.diagnosis is not None:
        parts.append(_section("Regional bias", _diagnosis(result, first.diagnosis)))
    if first.objects is not None:
        parts.append(_section("Objects", _objects(result)))
    if first.network is not None:
        parts.append(_section("Roads as a network", _network(result)))
    parts.append(_section("How it was computed", _method(result, files)))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _lead(result: Evaluation) -> str:
    gsd = " x ".join(f"{value:.3g}" for value in dict.fromkeys(result.gsd))
    size = f"{result.width:,} x {result.height:,} pixels of {gsd} {result.unit}"
    return escape(
        f"{result.target or 'Objects'}; {size}, {result.crs or 'no coordinate system'}; "
        f"{result.known_pixels:,} pixels compared, {result.true_share:.1%} of them objects; "
        f"{counted(result.blocks, 'block')} of {result.block} pixels; prngeo {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], plain: Sequence[int] = (0,)) -> str:
    """Cells are HTML already; columns not in `plain` are numbers, and the last may hold definitions (class d)."""
    kinds = ["" if index in plain else ' class="n"' for index in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, headings, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _metric_table(result: Evaluation) -> str:
    rows = []
    for name, metric in METRICS.items():
        if name not in result.prediction.metrics:
            continue
        cells = [escape(metric.label)]
        for one in result.predictions:
            cells += [number(one.figure(name).value), interval(one.figure(name))]
        rows.append([*cells, f'<span class="d">{escape(metric.definition)}</span>'])
    headings = ["", *(text for one in result.predictions for text in (one.name.capitalize(), "95 % interval")), ""]
    return _table(headings, rows, plain=(0, len(headings) - 1))


def _pixel_table(result: Evaluation) -> str:
    rows = [
        [
            escape(one.name.capitalize()),
            escape(Path(one.path).name),
            f"{one.kind}" + ("" if one.threshold is None else f", from {one.threshold:g}"),
            *(f"{one.pixels[name]:,}" for name in ("tp", "fp", "fn", "tn")),
        ]
        for one in result.predictions
    ]
    return _table(["", "File", "Read as", "TP", "FP", "FN", "TN"], rows, plain=(0, 1, 2))


def _comparison(result: Evaluation, comparison: Comparison) -> str:
    rows = [
        [escape(METRICS[name].label), difference(figure.value), interval(figure, signed=True), verdict(name, figure)]
        for name, figure in comparison.differences.items()
    ]
    one, other = result.collected.judged
    gains = block_gain(one.table, other.table)
    return (
        _table(["", "Difference", "95 % interval", ""], rows, plain=(0, 3))
        + f"<p>{escape(blocks_sentence(comparison))} Both are judged on the pixels that both know, and every interval "
        "draws the same blocks for both.</p>"
        + _figure(plots.gain_histogram(gains), "Difference of IoU, block by block", "Green: the prediction is better.")
    )


def _figure(source: str, alt: str, caption: str) -> str:
    return f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _maps(result: Evaluation) -> str:
    collected = result.collected
    key = "".join(
        f'<span style="background:{color}"></span>{text}'
        for color, text in (
            (plots.HIT, "found"),
            (plots.FALSE, "false alarm"),
            (plots.MISSED, "missed"),
            (plots.BACKGROUND, "background"),
            (plots.UNKNOWN, "not compared"),
        )
    )
    shown = [f'<p class="key">{key}</p><div class="map">']
    for one in collected.judged:
        caption = f"The {one.name}; a cell is {one.picture.cell} x {one.picture.cell} pixels."
        shown.append(_figure(plots.error_map(one.picture), f"Errors of the {one.name}", caption))
    iou = block_iou(collected.judged[0].table)
    caption = f"IoU of blocks of {collected.block} pixels; the same blocks are in blocks.gpkg."
    return "".join(shown) + "</div>" + _figure(plots.block_map(collected, iou), "IoU of blocks", caption)


def _worst(result: Evaluation, inputs: Inputs) -> str:
    """The blocks with the most wrong pixels, in their own pixels."""
    collected, table = result.collected, result.collected.judged[0].table
    wrong = (table["fp"] + table["fn"]).astype(np.int64)
    order = [index for index in np.argsort(-wrong, kind="stable")[:WORST] if wrong[index]]
    if not order:
        return "<p>No pixel is wrong.</p>"
    shown = []
    for index in order:
        row, col = (int(value) for value in collected.blocks[index])
        block = collected.grid.window((row, col)).intersect(collected.grid.extent)
        window = _densest(block, result)
        truth, mine = inputs.truth.read(window), inputs.predictions[0].source.read(window)
        known = inputs.known(window)
        flags = (truth.mask & mine.mask, mine.mask & ~truth.mask, truth.mask & ~mine.mask)
        colors = plots.error_colors(np.stack([flag & known for flag in flags], -1).astype(float), known.astype(float))
        caption = f"Row {window.row}, column {window.col}: {int(wrong[index]):,} wrong pixels in the block"
        shown.append(_figure(plots.png(colors), f"Block at row {window.row}, column {window.col}", caption))
    return f'<p>The blocks with the most wrong pixels:</p><div class="crops">{"".join(shown)}</div>'


def _densest(block: Window, result: Evaluation) -> Window:
    """A block, or of a large one the part around the cell of the picture with the most wrong pixels."""
    side = min(_LARGEST_CROP, max(block.shape))
    picture = result.collected.judged[0].picture
    rows, cols = (
        slice(start // picture.cell, -(-stop // picture.cell))
        for start, stop in ((block.row, block.row_end), (block.col, block.col_end))
    )
    wrong = picture.shares[rows, cols, 1:3].sum(-1)
    row, col = (int(place) for place in np.unravel_index(wrong.argmax(), wrong.shape))
    at = (rows.start + row) * picture.cell - side // 2, (cols.start + col) * picture.cell - side // 2
    return Window(
        max(block.row, min(at[0], block.row_end - side)), max(block.col, min(at[1], block.col_end - side)), side, side
    ).intersect(block)


def _curves(result: Evaluation) -> str:
    judged = result.predictions
    return (
        _figure(
            plots.threshold_curves(judged),
            "IoU, precision and recall over the threshold",
            "The best threshold is chosen on this truth: on other scenes it will reach less.",
        )
        + _figure(plots.precision_recall(judged), "Precision over recall", "Precision and recall at every threshold.")
        + _figure(
            plots.reliability_diagram(judged),
            "Reliability diagram",
            "On the diagonal a probability means what it says; below it the map is over-confident.",
        )
    )


def _diagnosis(result: Evaluation, first: Diagnosis) -> str:
    """Headroom and maps; before and after, where there are two."""
    parts = [f'<p class="verdict">{escape(headroom_sentence(first))}</p>']
    if first.headroom:
        rows = [
            [f"{one.patch}", f"{one.patches:,}", number(one.tuned), number(one.neighbors), number(one.joint)]
            for one in first.headroom
        ]
        headings = ["Patch (pixels)", "Patches", "Best single threshold", "Neighbors' threshold", "Joint oracle"]
        parts += [
            _table(headings, rows, plain=()),
            _figure(
                plots.headroom_curves(first.headroom),
                "IoU that thresholds of patches would reach",
                "The joint oracle gives every patch the threshold that serves the pooled IoU best: an upper bound. "
                "Where every patch takes the threshold of its neighbors, without a look at its own truth, what is "
                "gained is regional.",
            ),
        ]
    for one in reversed(result.predictions):
        if one.diagnosis is not None:
            maps = one.diagnosis.maps
            caption = (
                f"Mean probability minus share of objects, patches of {maps.patch} pixels. Red: over-confident, blue: "
                f"too low. Mean {one.diagnosis.mean_bias:+.3f}, mean size {number(one.diagnosis.mean_absolute_bias)}."
            )
            picture = plots.field_map(maps.bias, f"bias, {one.name}", "RdBu_r", -0.3, 0.3)
            parts.append(_figure(picture, f"Bias of the {one.name}", caption))
    picture = plots.field_map(first.maps.threshold, "best threshold", "viridis", 0, 1)
    caption = "The threshold that would serve each patch best; nothing where the truth has no object."
    return "".join([*parts, _figure(picture, "Best threshold of patches", caption)])


def _objects(result: Evaluation) -> str:
    headings = ["", *(one.name.capitalize() for one in result.predictions)]
    curve = plots.object_curve(result.predictions)
    return _table(headings, object_rows(result.predictions)) + _figure(
        curve, "F1 of objects over IoU", "The stricter a match has to be, the fewer objects pass."
    )


def _network(result: Evaluation) -> str:
    rows = [
        [escape(label), *values, f'<span class="d">{escape(definition)}</span>']
        for label, values, definition in network_rows(result.predictions, result.unit)
    ]
    headings = ["", *(one.name.capitalize() for one in result.predictions), ""]
    return _table(headings, rows, plain=(0, len(headings) - 1))


def _method(result: Evaluation, files: Sequence[str]) -> str:
    text = (
        f"All inputs were compared on {result.width:,} x {result.height:,} pixels; rasters of other grids were read "
        "there by nearest neighbor, vector layers drawn where a pixel's center lies inside. Relaxed metrics allow "
        f"{result.relax:g} {result.unit}, boundary bands are {result.boundary:g} {result.unit} wide (a pixel at "
        f"least). Intervals are 95 % percentile intervals of a bootstrap over blocks of {result.block} pixels, "
        f"{RESAMPLES} draws; they tell how sure a figure is for scenes like this one, not for others; of a network "
        "only APLS has one, from the blocks in which paths start. An em dash stands for an undefined figure."
    )
    names = ", ".join(f"<code>{escape(name)}</code>" for name in files)
    return f"<p>{escape(text)}</p><p>Files: {names}. All figures are in <code>metrics.json</code>, with formulas.</p>"
