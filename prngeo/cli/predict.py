"""`prngeo predict`: only turns options into a call of prngeo.predict and its result into a summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prngeo.cli.failures import describe, report_failure
from prngeo.cli.progress import Shown, showing
from prngeo.cli.scenes import expand, refuse_same_names
from prngeo.errors import UsageError
from prngeo.progress import Report

if TYPE_CHECKING:
    from prngeo.inference.options import PredictOptions
    from prngeo.inference.result import PredictResult

OUTPUT, MODEL, INPUT, SPEED = "Outputs", "Model", "Scene", "Resources"


class Device(StrEnum):
    """Where the networks run; auto takes a GPU if it can."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class OnGrid(StrEnum):
    """Whose pixels the outputs have."""

    scene = "scene"
    model = "model"


class Format(StrEnum):
    """Vector formats."""

    gpkg = "gpkg"
    geoparquet = "geoparquet"
    flatgeobuf = "flatgeobuf"
    geojson = "geojson"


def predict(
    context: typer.Context,
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE",
            help="Rasters that GDAL opens: files, patterns such as 'tiles/*.tif', /vsi names, URLs.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder of the outputs; else beside the scene.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    mosaic: Annotated[
        bool,
        typer.Option(
            "--mosaic",
            help="Take the scenes for one that is cut into files: one result without seams, of scenes with one "
            "coordinate system, grid of pixels, bands and nodata value.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the --mosaic, with which its outputs begin; else mosaic.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Name of an embedded model (`prngeo models`) or folder of a trained or exported one. An exported one "
            "(`prngeo export --to onnx`) runs on the CPU by ONNX Runtime, without torch.",
            rich_help_panel=MODEL,
        ),
    ] = "prngeo-rgb",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="roads or buildings; repeat for more. All if not given.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine/--no-refine",
            help="Correct regional bias with PRN where the model's gate allows.",
            rich_help_panel=MODEL,
        ),
    ] = True,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="P",
            help="Probability from which a pixel is in the mask; else the model's own.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Average four flips of each tile; four times slower.", rich_help_panel=MODEL),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            metavar="PIXELS",
            help="Side of a tile in model pixels; else the model's own.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            metavar="PIXELS",
            help="Overlap of tiles in model pixels; else the model's own.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            "--bands",
            metavar="LIST",
            help="Bands for red, green, blue, from 1, e.g. 3,2,1; else by color interpretation.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            "--gsd",
            metavar="M",
            help="Metres per pixel on the ground; else what the scene tells.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(
            "--aoi",
            metavar="FILE",
            help="Vector file of polygons in any CRS; nodata outside them.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    grid: Annotated[
        OnGrid,
        typer.Option("--grid", help="Outputs on the scene's pixels or on the model's.", rich_help_panel=OUTPUT),
    ] = OnGrid.scene,
    format: Annotated[
        Format, typer.Option("--format", help="Format of the polygons.", rich_help_panel=OUTPUT)
    ] = Format.gpkg,
    min_area: Annotated[
        float, typer.Option("--min-area", metavar="M2", help="Smallest polygon in m2.", rich_help_panel=OUTPUT)
    ] = 4.0,
    simplify: Annotated[
        float,
        typer.Option(
            "--simplify",
            metavar="M",
            help="Tolerance of outlines in metres; 0 keeps pixel edges.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0.0,
    min_hole: Annotated[
        float,
        typer.Option("--min-hole", metavar="M2", help="Holes smaller than this are filled.", rich_help_panel=OUTPUT),
    ] = 0.0,
    regularize: Annotated[
        bool,
        typer.Option(
            "--regularize/--no-regularize",
            help="Straight walls and right angles for buildings; --simplify says within how much (2 pixels if 0).",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    split: Annotated[
        float | None,
        typer.Option(
            "--split",
            metavar="P",
            help="Split buildings where the probability dips by at least P between two parts, e.g. 0.1.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace existing outputs, and start afresh where an unfinished run could be continued.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    device: Annotated[
        Device,
        typer.Option("--device", help="Where the networks run; auto takes a GPU if it can.", rich_help_panel=SPEED),
    ] = Device.auto,
    max_memory: Annotated[
        str,
        typer.Option(
            "--max-memory", metavar="SIZE", help="Memory the run may use, e.g. 800MB or 4GB.", rich_help_panel=SPEED
        ),
    ] = "4GB",
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            metavar="DIR",
            help="Folder for what does not fit into memory; else beside the outputs, with --dask where workers keep "
            "files.",
            rich_help_panel=SPEED,
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="WHERE",
            help="Run on Dask distributed: the address of a scheduler, e.g. tcp://host:8786, or local, or local:4 for "
            "4 workers on this machine. --max-memory and --scratch are those of a worker.",
            rich_help_panel=SPEED,
        ),
    ] = None,
    progress: Annotated[
        Shown,
        typer.Option(
            "--progress", help="auto: a bar on a terminal; json: one line a step on stderr.", rich_help_panel=SPEED
        ),
    ] = Shown.auto,
) -> None:
    """Segment scenes into probability, mask and correction rasters and polygons.

    Several scenes are predicted one after the other, or with --mosaic as one.
    An interrupted or failed run continues where it was when the same command is run again.

    Exit code: 0 done, 1 a run failed, 2 the call or a scene does not suit, 130 interrupted.
    """
    paths = expand(scenes)
    if name is not None and not mosaic:
        raise UsageError("--name names a mosaic; pass --mosaic too, or leave it out.")
    if not mosaic:
        refuse_same_names(paths, output)

    from prngeo.inference.options import PredictOptions, parse_bands, parse_memory

    options = PredictOptions(
        model=model,
        targets=tuple(dict.fromkeys(target or ())),
        refine=refine,
        device=device.value,
        bands=parse_bands(bands) if bands is not None else None,
        gsd=gsd,
        grid=grid.value,
        aoi=aoi,
        threshold=threshold,
        tile=tile,
        overlap=overlap,
        max_memory=parse_memory(max_memory),
        scratch=scratch,
        tta=tta,
        overwrite=overwrite,
        format=format.value,
        min_area=min_area,
        simplify=simplify,
        min_hole=min_hole,
        regularize=regularize,
        split=split,
        dask=dask,
        apart=True,
    )
    import prngeo

    if not mosaic:
        raise typer.Exit(_each(paths, output, options, progress, context.obj["debug"]))
    name = name or "mosaic"
    _run(lambda report: prngeo.predict_mosaic(paths, output, options, report, name=name), name, progress)


def _each(paths: list[str], output: Path | None, options: PredictOptions, shown: Shown, debug: bool) -> int:
    """Predict one scene after the other; one that fails does not stop the rest. Returns the largest exit code.

    Scenes that the same command has finished before are left out.
    """
    import prngeo
    from prngeo.inference.pipeline import finished_before
    from prngeo.raster.source import public_path, scene_name

    failed, code, before = [], 0, 0
    for path in paths:
        try:
            if len(paths) > 1 and finished_before(path, output, options):
                before += 1
                if shown is Shown.json:
                    told = {
                        "event": "note",
                        "scene": scene_name(path),
                        "note": "It was finished before.",
                        "seconds": 0.0,
                    }
                    typer.echo(json.dumps(told), err=True)
                continue
            _run(lambda report, path=path: prngeo.predict(path, output, options, report), Path(path).name, shown)  # type: ignore[misc]
        except Exception as error:
            code = max(code, report_failure(error, debug))
            failed.append(f"  {public_path(path)}: {describe(error)[0]}")
    if len(paths) > 1 and shown is not Shown.json:
        done = f"{len(paths) - len(failed)} of {len(paths)} scenes done" + (f", {before} of them before" * bool(before))
        typer.echo("\n".join([f"{done}. Failed:", *failed] if failed else [f"{done}."]), err=True)
    return code


def _run(call: Callable[[Report], PredictResult], shown_name: str, shown: Shown) -> None:
    """Predict with progress, and tell the result."""
    from prngeo.cli.summary import result_event, result_lines

    with showing(shown_name, shown) as report:
        result = call(report)
    lines = [json.dumps(result_event(result))] if shown is Shown.json else result_lines(result)
    typer.echo("\n".join(lines), err=True)
