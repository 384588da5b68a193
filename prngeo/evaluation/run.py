"""`evaluate` and `diagnose`: from files to figures and, where wanted, a report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio

from prngeo.errors import UsageError
from prngeo.evaluation.bias import PATCH, SIZES, bias_maps, headroom, tuned_threshold
from prngeo.evaluation.bootstrap import intervals, paired_intervals, pooled
from prngeo.evaluation.collect import Collected, Judged, collect
from prngeo.evaluation.inputs import Inputs, Prediction, open_inputs
from prngeo.evaluation.metrics import block_gain, figures
from prngeo.evaluation.objects import IOU_THRESHOLDS, object_metrics
from prngeo.evaluation.options import EvaluateOptions
from prngeo.evaluation.pixel import THRESHOLDS, Floats, reliability, threshold_curve
from prngeo.evaluation.results import (
    Comparison,
    Curves,
    Diagnosis,
    Evaluation,
    Figure,
    Judgement,
    ObjectCounts,
    numbers,
)
from prngeo.evaluation.wording import counted
from prngeo.inference.memory import CACHE
from prngeo.progress import Report, silent

FEW_BLOCKS = 20
"""Below this number of blocks intervals are called rough."""


def evaluate(
    prediction: str | Path,
    truth: str | Path,
    output: str | Path | None = None,
    options: EvaluateOptions | None = None,
    report: Report = silent,
) -> Evaluation:
    """Judge a prediction by a truth: pixels, objects, roads as a network, calibration and regional bias.

    Args:
        prediction: mask raster, probability raster or vector layer, of any grid and coordinate system.
        truth: likewise.
        output: folder for the report (report.html, metrics.json, blocks.gpkg and bias rasters); none if None.
        options: see EvaluateOptions.
        report: is told of every step.

    Returns:
        The figures. Everything is compared on the pixels of the first of prediction and truth that is a raster; other
        rasters are read there by nearest neighbor, vector layers are drawn there.

    Raises:
        UsageError: an input or option does not suit; nothing was written.
        PrngeoError: a file could not be read or written.
    """
    from prngeo.evaluation.roads import networks

    options = options or EvaluateOptions()
    with _compared(str(prediction), str(truth), output, options, report, objects=True) as (inputs, collected):
        result = _summary(inputs, collected, options)
        if inputs.target == "roads":
            found = zip(result.predictions, networks(inputs, options.relax, report), strict=True)
            result = replace(result, predictions=[replace(one, network=network) for one, network in found])
        return _written(result, inputs, output, options)


def diagnose(
    scores: str | Path,
    truth: str | Path,
    output: str | Path | None = None,
    options: EvaluateOptions | None = None,
    report: Report = silent,
) -> Evaluation:
    """Show how biased probabilities are region by region, and what correcting that could gain at most.

    Args:
        scores: probability or logit raster.
        truth: mask raster, probability raster or vector layer.
        output: folder for the report; none if None.
        options: see EvaluateOptions; `baseline` may hold other probabilities of the same scene, such as those before
            a refiner.
        report: is told of every step.

    Returns:
        As `evaluate`, without objects and networks.

    Raises:
        UsageError: an input or option does not suit, the scores are no probabilities; nothing was written.
        PrngeoError: a file could not be read or written.
    """
    options = options or EvaluateOptions()
    with _compared(str(scores), str(truth), output, options, report, objects=False) as (inputs, collected):
        return _written(_summary(inputs, collected, options), inputs, output, options)


@contextmanager
def _compared(
    prediction: str, truth: str, output: str | Path | None, options: EvaluateOptions, report: Report, objects: bool
) -> Iterator[tuple[Inputs, Collected]]:
    """Inputs and what one pass over them counted; nothing of the scratch folder is left at the end."""
    if output is not None:
        from prngeo.evaluation.files import refuse

        refuse(Path(output), options, [prediction, truth])
    with rasterio.Env(GDAL_CACHEMAX=CACHE), open_inputs(prediction, truth, options) as inputs:
        if not objects:
            _refuse_masks(inputs.predictions)
        compare_objects = objects and inputs.target != "roads"
        with tempfile.TemporaryDirectory(prefix="prngeo-", dir=options.scratch) as scratch:
            yield inputs, collect(inputs, options, Path(scratch), compare_objects, report)


def _refuse_masks(predictions: list[Prediction]) -> None:
    for one in predictions:
        if one.scores is None:
            raise UsageError(
                f"{one.source.what} is a {one.source.kind} source: bias can only be seen in probabilities. Give a "
                "probability raster, or say what its values mean with --values."
            )


def _written(result: Evaluation, inputs: Inputs, output: str | Path | None, options: EvaluateOptions) -> Evaluation:
    if output is None:
        return result
    from prngeo.evaluation.files import write

    return replace(result, files=write(result, inputs, Path(output), options))


def _summary(inputs: Inputs, collected: Collected, options: EvaluateOptions) -> Evaluation:
    grid = inputs.ground.grid
    judged = [
        _judgement(prediction, one, collected, options)
        for prediction, one in zip(inputs.predictions, collected.judged, strict=True)
    ]
    counts = judged[0].pixels
    true, known = counts["tp"] + counts["fn"], int(collected.known.sum())
    return Evaluation(
        truth=inputs.truth_path,
        target=inputs.target,
        height=grid.height,
        width=grid.width,
        crs=grid.crs.to_string() if grid.crs else None,
        gsd=inputs.ground.gsd,
        unit=inputs.ground.unit,
        known_pixels=known,
        true_share=true / known,
        block=collected.block,
        blocks=len(collected.blocks),
        relax=options.relax,
        boundary=options.boundary,
        predictions=judged,
        comparison=_comparison(*collected.judged) if len(judged) == 2 else None,
        warnings=[*inputs.warnings, *_warnings(collected, true, counts)],
        collected=collected,
    )


def _warnings(collected: Collected, true: int, counts: dict[str, int]) -> list[str]:
    found = []
    if not true:
        found.append(
            f"The truth holds no object in the compared area: IoU, recall, F1 and what builds on them are undefined. "
            f"{counts['fp']} pixels were predicted there."
        )
    if len(collected.blocks) < FEW_BLOCKS:
        found.append(
            f"Only {counted(len(collected.blocks), 'block')} of {collected.block} pixels with data: intervals are "
            f"{'left out' if len(collected.blocks) < 2 else 'rough'}. A smaller --block gives more of them, but "
            "neighboring blocks are then less independent."
        )
    return found


def _judgement(prediction: Prediction, one: Judged, collected: Collected, options: EvaluateOptions) -> Judgement:
    totals = pooled(one.table)
    values, ends = figures(totals), intervals(one.table, figures)
    return Judgement(
        name=prediction.name,
        path=prediction.path,
        kind=prediction.source.kind,
        threshold=prediction.source.threshold,
        scores=None if prediction.scores is None else prediction.scores.what.split(" ", 1)[1],
        pixels={name: int(totals[name]) for name in ("tp", "fp", "fn", "tn")},
        metrics={name: Figure.of(value, ends[name]) for name, value in values.items()},
        curves=_curves(totals) if "levels" in totals else None,
        diagnosis=_diagnosis(one, totals, options) if "levels" in totals else None,
        objects=_object_counts(one, collected, totals),
        network=None,
    )


def _curves(totals: dict[str, Floats]) -> Curves:
    curve = threshold_curve(totals["levels"])
    bins = reliability(totals["levels"], totals["bins"])
    return Curves(
        THRESHOLDS.round(6).tolist(),
        *(numbers(curve[name]) for name in ("iou", "precision", "recall", "f1")),
        *(numbers(values) for values in bins),
    )


def _diagnosis(one: Judged, totals: dict[str, Floats], options: EvaluateOptions) -> Diagnosis | None:
    if one.scores is None:
        return None
    patches = one.scores.patches
    levels = totals["levels"]
    tuned = tuned_threshold(levels)
    goal = tuned[1] if tuned is not None else 0.0
    maps = bias_maps(patches, options.patch // PATCH, goal, one.scores.level_probability)
    absolute = np.abs(maps.bias[~np.isnan(maps.bias)])
    return Diagnosis(
        mean_bias=float((totals["bins"].sum() - levels[1].sum()) / levels.sum()),
        mean_absolute_bias=float(absolute.mean()) if len(absolute) else None,
        tuned_threshold=None if tuned is None else round(tuned[0], 6),
        tuned_iou=None if tuned is None else tuned[1],
        headroom=[] if tuned is None else [headroom(patches, size, tuned[1]) for size in SIZES],
        maps=maps,
    )


def _object_counts(one: Judged, collected: Collected, totals: dict[str, Floats]) -> ObjectCounts | None:
    if one.objects is None or collected.true_objects is None:
        return None
    predicted, matching = one.objects
    by_threshold = [object_metrics(totals["objects"][[index]])["object_f1"] for index in range(len(IOU_THRESHOLDS))]
    return ObjectCounts(
        predicted=len(predicted.area),
        true=len(collected.true_objects.area),
        matched=len(matching.iou),
        mean_iou=float(matching.iou.mean()) if len(matching.iou) else None,
        split=int(matching.split.sum()),
        merging=int(matching.merging.sum()),
        f1_by_iou=numbers(np.array(by_threshold)),
    )


def _comparison(prediction: Judged, baseline: Judged) -> Comparison:
    mine, theirs = figures(pooled(prediction.table)), figures(pooled(baseline.table))
    ends = paired_intervals(prediction.table, baseline.table, figures)
    gain = block_gain(prediction.table, baseline.table)
    return Comparison(
        {name: Figure.of(mine[name] - theirs[name], ends[name]) for name in mine if name in theirs},
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        equal=int((gain == 0).sum()),
    )
