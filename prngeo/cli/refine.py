"""`prngeo refine fit` and `prngeo refine apply`: only turn options into calls and results into a summary."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prngeo.cli.evaluate import Numbers
from prngeo.cli.failures import report_failure
from prngeo.cli.predict import Device
from prngeo.cli.progress import Shown, showing
from prngeo.cli.scenes import expand, refuse_same_names

if TYPE_CHECKING:
    from prngeo.scores.apply_files import ApplyOptions, ApplyResult
    from prngeo.scores.fit_files import FitResult

refine_app = typer.Typer(
    help="Correct the regional bias of any segmenter's scores: fit a refiner on labels, apply it.", no_args_is_help=True
)
INPUT, REFINER, OUTPUT = "Input", "Refiner", "Output"


class Values(StrEnum):
    """What the numbers of scores mean."""

    auto = "auto"
    unit = "unit"
    percent = "percent"
    byte = "byte"
    logit = "logit"


class Variant(StrEnum):
    """The network of the refiner."""

    fast = "fast"
    paper = "paper"


Scores = Annotated[
    list[str],
    typer.Option(
        "--scores",
        metavar="FILES",
        help="Probability or logit rasters of any tool: a file or a quoted pattern such as 'probs/*.tif'; may be "
        "repeated. One band a class.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
Progress = Annotated[
    Shown,
    typer.Option("--progress", help="auto: a bar on a terminal; json: lines on stderr.", rich_help_panel=OUTPUT),
]


@refine_app.command(no_args_is_help=True)
def fit(
    scores: Scores,
    labels: Annotated[
        list[str],
        typer.Option(
            metavar="FILES",
            help="Masks, class maps or vector layers, any CRS; a file or a quoted pattern. They belong to the scores "
            "of the same name (what a star stands for) or place.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The refiner, e.g. my.prn.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES", help="Images on the pixels of the scores, for a refiner to read.", rich_help_panel=INPUT
        ),
    ] = None,
    values: Annotated[
        Values,
        typer.Option(
            metavar="KIND",
            help="What scores mean: unit (0..1), percent (0..100), byte (0..255) or logit; auto looks at them.",
            rich_help_panel=INPUT,
        ),
    ] = Values.auto,
    label_values: Annotated[
        Numbers,
        typer.Option(metavar="KIND", help="What masks mean, likewise, or mask: all but 0.", rich_help_panel=INPUT),
    ] = Numbers.auto,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Name of each band, and its value on class maps: roads=1,buildings=2; else 1, 2, ...",
            rich_help_panel=INPUT,
        ),
    ] = None,
    class_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Attribute of a layer that holds the class.", rich_help_panel=INPUT),
    ] = None,
    line_width: Annotated[
        float | None,
        typer.Option(metavar="M", help="Width of roads that come as lines, in metres.", rich_help_panel=INPUT),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Polygons inside which labels are complete.", rich_help_panel=INPUT),
    ] = None,
    variant: Annotated[
        Variant,
        typer.Option(help="fast, or paper: PatchRefineNet as published (slow).", rich_help_panel=REFINER),
    ] = Variant.fast,
    validation: Annotated[
        str,
        typer.Option(
            metavar="SHARE|NAMES",
            help="What is held out to judge it: a share of the labels, or names of scenes such as 'east*,a7'.",
            rich_help_panel=REFINER,
        ),
    ] = "0.25",
    window: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of what it sees at once; by the scenes, at most 1024.", rich_help_panel=REFINER
        ),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of pseudo-label patches; an eighth of the window.", rich_help_panel=REFINER
        ),
    ] = None,
    reduction: Annotated[
        int | None,
        typer.Option(
            metavar="1|2|4",
            help="It works at this fraction of the resolution; 2, or 1 in windows below 128.",
            rich_help_panel=REFINER,
        ),
    ] = None,
    pseudo_weight: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Share of pseudo-labels in the loss beside the labels; 0 for fast, 0.7 for paper.",
            rich_help_panel=REFINER,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps of the fit; by the labels, at most 800.", rich_help_panel=REFINER),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides everything random.", rich_help_panel=REFINER)] = 0,
    device: Annotated[
        Device, typer.Option(help="Where it computes; auto takes a GPU if it can.", rich_help_panel=REFINER)
    ] = Device.auto,
    license: Annotated[
        str, typer.Option(metavar="TEXT", help="License of the refiner, for its card.", rich_help_panel=OUTPUT)
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing refiner.", rich_help_panel=OUTPUT)
    ] = False,
    progress: Progress = Shown.auto,
) -> None:
    """Fit a refiner on scores of scenes that their segmenter was not trained on.

    A part of the labels is held out. A refiner that does not beat the best single threshold there is kept, but
    disabled.
    """
    from prngeo.scores.fit_files import FitRequest, fit_files
    from prngeo.scores.labels import LabelOptions
    from prngeo.scores.settings import Settings, parse_validation

    request = FitRequest(
        images=tuple(images or ()),
        values=values.value,
        classes=classes,
        labels=LabelOptions(label_values.value, class_field, line_width, aoi),
        license=license,
        overwrite=overwrite,
        settings=Settings(
            variant=variant.value,
            window=window,
            patch=patch,
            reduction=reduction,
            pseudo_weight=pseudo_weight,
            steps=steps,
            seed=seed,
            validation=parse_validation(validation),
            device=device.value,
        ),
    )
    with showing(output.name, progress) as report:
        result = fit_files(scores, labels, output, request, report)
    _print_fit(result, progress is Shown.json)


@refine_app.command(no_args_is_help=True)
def apply(
    context: typer.Context,
    scores: Scores,
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            "-m",
            metavar="FOLDER",
            help="The refiner, e.g. my.prn.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder of the outputs; else beside the scores.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES",
            help="Image on the pixels of the scores, for a refiner that reads one; a pattern for several scores.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    values: Annotated[
        Values,
        typer.Option(metavar="KIND", help="What scores mean; auto: as when it was fitted.", rich_help_panel=INPUT),
    ] = Values.auto,
    device: Annotated[Device, typer.Option(help="Where it computes.", rich_help_panel=INPUT)] = Device.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel=OUTPUT)
    ] = False,
    progress: Progress = Shown.auto,
) -> None:
    """Write refined probability, mask and correction of score rasters, on their pixels.

    Exit code: 0 done, 1 a run failed, 2 the call or a raster does not suit, 130 interrupted.
    """
    paths = expand(scores, scores=True)
    refuse_same_names(paths, output)
    from prngeo.scores.apply_files import ApplyOptions
    from prngeo.scores.match import named

    given = None if values is Values.auto else values.value
    keys = {file.path: file.key for file in named(scores)}
    options = ApplyOptions(
        images=tuple(image or ()),
        values=given,  # type: ignore[arg-type]
        device=device.value,
        overwrite=overwrite,
    )
    codes = []
    for path in paths:
        try:
            _apply_one(path, keys[path] if len(paths) > 1 else None, model, output, options, progress)
        except Exception as error:
            codes.append(report_failure(error, context.obj["debug"]))
        else:
            codes.append(0)
    if len(paths) > 1 and progress is not Shown.json:
        typer.echo(f"{codes.count(0)} of {len(paths)} scenes done.", err=True)
    raise typer.Exit(max(codes))


def _apply_one(
    path: str, key: str | None, model: Path, output: Path | None, options: ApplyOptions, shown: Shown
) -> None:
    from prngeo.scores.apply_files import apply_file

    with showing(Path(path).name, shown) as report:
        result = apply_file(path, model, output, options, report, key)
    lines = [json.dumps(_apply_event(result))] if shown is Shown.json else _apply_lines(result)
    typer.echo("\n".join(lines), err=True)


def _print_fit(result: FitResult, as_json: bool) -> None:
    from prngeo.cli.units import duration
    from prngeo.refine.calibrate import LEAST_GAIN

    card, path = result.bundle.card, result.bundle.path
    if as_json:
        targets = {name: target.model_dump() for name, target in card.targets.items()}
        event = {"event": "result", "refiner": str(path), "targets": targets, "warnings": result.warnings}
        typer.echo(json.dumps(event | {"seconds": round(result.seconds, 2)}), err=True)
        return
    lines = [f"warning: {text}" for text in result.warnings]
    lines.append(f"{path}: fitted on {card.scenes} scene(s) in {duration(result.seconds)}; held out: {card.validation}")
    for name, target in card.targets.items():
        gate = target.gate
        if gate is None:
            continue
        lines.append(
            f"  {name}: IoU of the held-out scores {gate.base_iou:.3f} at their best single threshold "
            f"({target.base.threshold:g}), refined {gate.refined_iou:.3f} ({gate.refined_iou - gate.base_iou:+.3f}) at "
            f"{target.calibration(refined=True).threshold:g}; {gate.joint_oracle_iou:.3f} if the best threshold of "
            "every patch were known."
        )
        if not gate.enabled:
            lines.append(
                f"  {name}: the refiner did not gain {LEAST_GAIN:g} over the single threshold, so the gate has "
                "disabled it: `prngeo refine apply` will write the scores as they are, cut at that threshold, with a "
                "correction of zero."
            )
    lines.append(
        "  These figures hold for scenes like the ones held out, and only if the segmenter was not trained on the "
        "scenes given here: scores of its training scenes are better than those it will make elsewhere."
    )
    typer.echo("\n".join(lines), err=True)


def _apply_lines(result: ApplyResult) -> list[str]:
    from prngeo.cli.units import duration

    lines = [f"warning: {text}" for text in result.warnings]
    lines.append(f"{result.scene}: refined in {duration(result.seconds)}")
    for name, summary in result.classes.items():
        share = summary.mask_pixels / max(1, summary.valid_pixels)
        changed = summary.changed_pixels / max(1, summary.valid_pixels)
        state = f"PRN changed {changed:.2%} of the pixels" if summary.refined else "scores as they are"
        lines.append(f"  {name}  {share:.2%} of the pixels at threshold {summary.threshold:g}, {state}")
    lines.append(f"  outputs in {result.folder.resolve()}")
    return lines


def _apply_event(result: ApplyResult) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "event": "result",
        "scene": result.scene,
        "folder": str(result.folder.resolve()),
        "rasters": {name: {kind: str(path) for kind, path in kinds.items()} for name, kinds in result.rasters.items()},
        "class_map": None if result.class_map is None else str(result.class_map),
        "classes": {name: asdict(summary) for name, summary in result.classes.items()},
        "seconds": round(result.seconds, 2),
        "warnings": result.warnings,
    }
