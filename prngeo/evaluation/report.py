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
from prngeo.evaluation.page import color_key, figure, page, section, table
from prngeo.evaluation.results import Comparison, Diagnosis, Evaluation
from prngeo.evaluation.rows import difference, interval, network_rows, number, object_rows, verdict
from prngeo.evaluation.wording import blocks_sentence, counted, headroom_sentence
from prngeo.tiling.grid import Window

WORST = 6
"""Blocks with the most wrong pixels that are shown."""
_LARGEST_CROP = 512  # pixels a side


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
        section("Metrics", _metric_table(result) + _pixel_table(result)),
    ]
    if result.comparison is not None:
        parts.append(section("Prediction against baseline", _comparison(result, result.comparison)))
    parts.append(section("Where it is right and wrong", _maps(result) + _worst(result, inputs)))
    if first.curves is not None:
        parts.append(section("Thresholds and calibration", _curves(result)))
    if first.diagnosis is not None:
        parts.append(section("Regional bias", _diagnosis(result, first.diagnosis)))
    if first.objects is not None:
        parts.append(section("Objects", _objects(result)))
    if first.network is not None:
        parts.append(section("Roads as a network", _network(result)))
    parts.append(section("How it was computed", _method(result, files)))
    return page(title, parts)


def _lead(result: Evaluation) -> str:
    gsd = " x ".join(f"{value:.3g}" for value in dict.fromkeys(result.gsd))
    size = f"{result.width:,} x {result.height:,} pixels of {gsd} {result.unit}"
    return escape(
        f"{result.target or 'Objects'}; {size}, {result.crs or 'no coordinate system'}; "
        f"{result.known_pixels:,} pixels compared, {result.true_share:.1%} of them objects; "
        f"{counted(result.blocks, 'block')} of {result.block} pixels; prngeo {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )


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
    return table(headings, rows, plain=(0, len(headings) - 1))


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
    return table(["", "File", "Read as", "TP", "FP", "FN", "TN"], rows, plain=(0, 1, 2))


def _comparison(result: Evaluation, comparison: Comparison) -> str:
    rows = [
        [escape(METRICS[name].label), difference(found.value), interval(found, signed=True), verdict(name, found)]
        for name, found in comparison.differences.items()
    ]
    one, other = result.collected.judged
    gains = block_gain(one.table, other.table)
    return (
        table(["", "Difference", "95 % interval", ""], rows, plain=(0, 3))
        + f"<p>{escape(blocks_sentence(comparison))} Both are judged on the pixels that both know, and every interval "
        "draws the same blocks for both.</p>"
        + figure(plots.gain_histogram(gains), "Difference of IoU, block by block", "Green: the prediction is better.")
    )


def _maps(result: Evaluation) -> str:
    collected = result.collected
    shown = [color_key(plots.ERRORS), '<div class="map">']
    for one in collected.judged:
        caption = f"The {one.name}; a cell is {one.picture.cell} x {one.picture.cell} pixels."
        shown.append(figure(plots.error_map(one.picture), f"Errors of the {one.name}", caption))
    iou = block_iou(collected.judged[0].table)
    caption = f"IoU of blocks of {collected.block} pixels; the same blocks are in blocks.gpkg."
    return "".join(shown) + "</div>" + figure(plots.block_map(collected, iou), "IoU of blocks", caption)


def _worst(result: Evaluation, inputs: Inputs) -> str:
    """The blocks with the most wrong pixels, in their own pixels."""
    collected, counts = result.collected, result.collected.judged[0].table
    wrong = (counts["fp"] + counts["fn"]).astype(np.int64)
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
        shown.append(figure(plots.png(colors), f"Block at row {window.row}, column {window.col}", caption))
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
    drawn = _series(result)
    return (
        figure(
            plots.threshold_curves(drawn),
            "IoU, precision and recall over the threshold",
            "The best threshold is chosen on this truth: on other scenes it will reach less.",
        )
        + figure(plots.precision_recall(drawn), "Precision over recall", "Precision and recall at every threshold.")
        + figure(
            plots.reliability_diagram(drawn),
            "Reliability diagram",
            "On the diagonal a probability means what it says; below it the map is over-confident.",
        )
    )


def _series(result: Evaluation) -> list[plots.Series]:
    """The predictions with probabilities; of the first one the threshold used and the best one are marked."""
    drawn = []
    for one in result.predictions:
        if one.curves is None:
            continue
        marked = one is result.prediction
        best = None
        if marked and one.diagnosis is not None and one.diagnosis.tuned_threshold is not None:
            best = one.diagnosis.tuned_threshold
        drawn.append(
            plots.Series(
                name=one.name,
                color=plots.NAMES[one.name],
                curves=one.curves,
                average_precision=one.figure("average_precision").value,
                calibration_error=one.figure("calibration_error").value,
                threshold=one.threshold if marked else None,
                best=best,
            )
        )
    return drawn


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
            table(headings, rows, plain=()),
            figure(
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
            parts.append(figure(picture, f"Bias of the {one.name}", caption))
    picture = plots.field_map(first.maps.threshold, "best threshold", "viridis", 0, 1)
    caption = "The threshold that would serve each patch best; nothing where the truth has no object."
    return "".join([*parts, figure(picture, "Best threshold of patches", caption)])


def _objects(result: Evaluation) -> str:
    headings = ["", *(one.name.capitalize() for one in result.predictions)]
    curve = plots.object_curve(result.predictions)
    return table(headings, object_rows(result.predictions)) + figure(
        curve, "F1 of objects over IoU", "The stricter a match has to be, the fewer objects pass."
    )


def _network(result: Evaluation) -> str:
    rows = [
        [escape(label), *values, f'<span class="d">{escape(definition)}</span>']
        for label, values, definition in network_rows(result.predictions, result.unit)
    ]
    headings = ["", *(one.name.capitalize() for one in result.predictions), ""]
    return table(headings, rows, plain=(0, len(headings) - 1))


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
