"""`evaluate` and `diagnose`: from files to figures and, where wanted, a report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio

from prngeo.errors import UsageError
from prngeo.evaluation.bias import PATCH, SIZES, bias_maps, headroom, tuned_threshold
from prngeo.evaluation.bootstrap import FEW_BLOCKS, pooled
from prngeo.evaluation.collect import Collected, Judged, collect
from prngeo.evaluation.inputs import Inputs, Prediction, open_inputs
from prngeo.evaluation.objects import IOU_THRESHOLDS, object_metrics
from prngeo.evaluation.options import EvaluateOptions
from prngeo.evaluation.pixel import Floats
from prngeo.evaluation.results import (
    Comparison,
    Curves,
    Diagnosis,
    Evaluation,
    Judgement,
    ObjectCounts,
    measure,
    numbers,
)
from prngeo.evaluation.wording import counted
from prngeo.files import staging
from prngeo.inference.memory import CACHE
from prngeo.progress import Report, silent


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
    with _started(str(prediction), str(truth), output, options, "PREDICTION") as run:
        collected = collect(run.inputs, options, run.scratch, run.inputs.target != "roads", report)
        result = _summary(run.inputs, collected, options)
        if run.inputs.target == "roads":
            found = networks(run.inputs, run.scratch, options.relax, collected.block, report)
            pairs = zip(result.predictions, found, strict=True)
            result = replace(result, predictions=[replace(one, network=network) for one, network in pairs])
        return run.written(result, options)


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
    with _started(str(scores), str(truth), output, options, "SCORES") as run:
        _refuse_masks(run.inputs.predictions)
        collected = collect(run.inputs, options, run.scratch, False, report)
        return run.written(_summary(run.inputs, collected, options), options)


@dataclass(frozen=True)
class _Run:
    """What a run works with: open inputs, a scratch folder, and where its files appear (None: nowhere)."""

    inputs: Inputs
    scratch: Path
    hidden: Path | None
    folder: Path | None

    def written(self, result: Evaluation, options: EvaluateOptions) -> Evaluation:
        """The result with its files, if any are wanted."""
        if self.hidden is None or self.folder is None:
            return result
        from prngeo.evaluation.files import write

        return replace(result, files=write(result, self.inputs, self.hidden, self.folder, options))


@contextmanager
def _started(
    prediction: str, truth: str, output: str | Path | None, options: EvaluateOptions, what: str
) -> Iterator[_Run]:
    """Everything that can be refused at once; nothing of scratch and unfinished files is left at the end."""
    folder = None if output is None else Path(output)
    with ExitStack() as stack:
        hidden = None
        if folder is not None:
            from prngeo.evaluation.files import refuse

            refuse(folder, options, [prediction, truth])
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE))
        inputs = stack.enter_context(open_inputs(prediction, truth, options, what))
        if folder is not None:
            hidden = stack.enter_context(staging(folder, "report"))
        place = options.scratch or hidden
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="prngeo-", dir=place))
        yield _Run(inputs, Path(scratch), hidden, folder)


def _refuse_masks(predictions: list[Prediction]) -> None:
    for one in predictions:
        if one.scores is None:
            raise UsageError(
                f"{one.source.what} is a {one.source.kind} source: bias can only be seen in probabilities. Give a "
                "probability raster, or say what its values mean with --values."
            )


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
        comparison=Comparison.of(*(one.table for one in collected.judged)) if len(judged) == 2 else None,
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
    return Judgement(
        name=prediction.name,
        path=prediction.path,
        kind=prediction.source.kind,
        threshold=prediction.source.threshold,
        scores=None if prediction.scores is None else prediction.scores.what.split(" ", 1)[1],
        pixels={name: int(totals[name]) for name in ("tp", "fp", "fn", "tn")},
        metrics=measure(one.table),
        curves=Curves.of(totals["levels"], totals["bins"]) if "levels" in totals else None,
        diagnosis=_diagnosis(one, totals, options) if "levels" in totals else None,
        objects=_object_counts(one, collected, totals),
        network=None,
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
