"""`prngeo evaluate` and `prngeo diagnose`: only turn options into calls and figures into tables."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prngeo.cli.progress import Shown, showing

if TYPE_CHECKING:
    from prngeo.evaluation.results import Evaluation


class Numbers(StrEnum):
    """What the numbers of a raster mean."""

    auto = "auto"
    mask = "mask"
    unit = "unit"
    percent = "percent"
    byte = "byte"
    logit = "logit"


Truth = Annotated[
    str,
    typer.Argument(
        metavar="TRUTH",
        help="Mask, probability raster or vector layer ('file.gpkg|layername=roads'), any CRS and grid.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder for the report; else figures are only printed."),
]
Baseline = Annotated[
    str | None, typer.Option(metavar="FILE", help="Another prediction to compare with, e.g. before PRN.")
]
Aoi = Annotated[Path | None, typer.Option(metavar="FILE", help="Vector file of polygons; only there is compared.")]
Values = Annotated[
    Numbers,
    typer.Option(
        metavar="KIND",
        help="What numbers of predictions and scores mean: mask, unit (0..1), percent (0..100), byte (0..255), logit.",
    ),
]
TruthValues = Annotated[Numbers, typer.Option(metavar="KIND", help="What numbers of a truth raster mean, likewise.")]
Gsd = Annotated[
    float | None,
    typer.Option(metavar="M", help="Metres a pixel, else as the CRS tells; of the pixels to draw two layers on."),
]
Scratch = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for histograms of patches.")]
LineWidth = Annotated[float | None, typer.Option(metavar="M", help="Width of roads that come as lines.")]
Block = Annotated[int, typer.Option(metavar="PIXELS", help="Side of bootstrap blocks, a multiple of 64.")]
Patch = Annotated[int, typer.Option(metavar="PIXELS", help="Side of patches on bias maps: 64, 128, 256 or 512.")]
Threshold = Annotated[
    float | None, typer.Option(metavar="P", help="Probability that counts as predicted; else as tagged, else 0.5.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")]
Json = Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")]
Progress = Annotated[Shown, typer.Option("--progress", help="auto: a bar on a terminal; json: one line a step.")]
Target = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="roads compares networks, other names objects; else from tags or file names."),
]


def evaluate(
    prediction: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTION", help="Mask, probability raster or vector layer, any CRS and grid.", show_default=False
        ),
    ],
    truth: Truth,
    output: Output = None,
    scores: Annotated[
        str | None, typer.Option(metavar="FILE", help="Probability raster of a prediction that is a mask or layer.")
    ] = None,
    target: Target = None,
    aoi: Aoi = None,
    baseline: Baseline = None,
    baseline_scores: Annotated[
        str | None, typer.Option(metavar="FILE", help="Probability raster of the baseline.")
    ] = None,
    threshold: Threshold = None,
    values: Values = Numbers.auto,
    truth_values: TruthValues = Numbers.auto,
    gsd: Gsd = None,
    line_width: LineWidth = None,
    relax: Annotated[float, typer.Option(metavar="M", help="Tolerance of relaxed precision and recall.")] = 3.0,
    boundary: Annotated[float, typer.Option(metavar="M", help="Width of the band that boundary IoU compares.")] = 2.0,
    block: Block = 512,
    patch: Patch = 128,
    scratch: Scratch = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    progress: Progress = Shown.auto,
) -> None:
    """Judge a prediction by a truth: pixels, objects, road network, calibration, regional bias, with intervals.

    Exit code: 0 done, 1 a file could not be read or written, 2 the call or an input does not suit.
    """
    from prngeo.evaluation.options import EvaluateOptions

    options = EvaluateOptions(
        target=target,
        scores=scores,
        baseline=baseline,
        baseline_scores=baseline_scores,
        aoi=aoi,
        threshold=threshold,
        values=values.value,
        truth_values=truth_values.value,
        gsd=gsd,
        line_width=line_width,
        relax=relax,
        boundary=boundary,
        block=block,
        patch=patch,
        scratch=scratch,
        overwrite=overwrite,
    )
    import prngeo

    with showing(Path(prediction).name, progress) as report:
        result = prngeo.evaluate(prediction, truth, output, options, report)
    if as_json:
        _print_json(result, options)
        return
    from prngeo.cli.evaluation import print_evaluation

    print_evaluation(result)


def diagnose(
    scores: Annotated[str, typer.Argument(metavar="SCORES", help="Probability or logit raster.", show_default=False)],
    truth: Truth,
    output: Output = None,
    target: Target = None,
    aoi: Aoi = None,
    baseline: Baseline = None,
    threshold: Threshold = None,
    values: Values = Numbers.auto,
    truth_values: TruthValues = Numbers.auto,
    gsd: Gsd = None,
    line_width: LineWidth = None,
    block: Block = 512,
    patch: Patch = 128,
    scratch: Scratch = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    progress: Progress = Shown.auto,
) -> None:
    """Show where probabilities are too high or too low, and what correcting that could gain, before training PRN.

    Exit code: 0 done, 1 a file could not be read or written, 2 the call or an input does not suit.
    """
    from prngeo.evaluation.options import EvaluateOptions

    options = EvaluateOptions(
        target=target,
        baseline=baseline,
        aoi=aoi,
        threshold=threshold,
        values=values.value,
        truth_values=truth_values.value,
        gsd=gsd,
        line_width=line_width,
        block=block,
        patch=patch,
        scratch=scratch,
        overwrite=overwrite,
    )
    import prngeo

    with showing(Path(scores).name, progress) as report:
        result = prngeo.diagnose(scores, truth, output, options, report)
    if as_json:
        _print_json(result, options)
        return
    from prngeo.cli.evaluation import print_diagnosis

    print_diagnosis(result)


def _print_json(result: Evaluation, options: object) -> None:
    from prngeo.evaluation.files import as_json

    typer.echo(json.dumps(as_json(result, options), indent=1, allow_nan=False))  # type: ignore[arg-type]
