"""`prngeo predict`: only turns options into a call of prngeo.predict and its result into a summary."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prngeo.cli.failures import report_failure
from prngeo.cli.progress import Shown, showing
from prngeo.cli.scenes import expand, refuse_same_names
from prngeo.cli.summary import result_event, result_lines

if TYPE_CHECKING:
    from prngeo.inference.options import PredictOptions

OUTPUT, MODEL, INPUT, SPEED = "Outputs", "Model", "Scene", "Resources"


class Device(StrEnum):
    """Where the networks run."""

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
    scenes: Annotated[
        list[str], typer.Argument(metavar="SCENE...", help="Rasters: paths, patterns, /vsi names or URLs.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the outputs; else beside the scene.", rich_help_panel=OUTPUT
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Embedded model or folder of a bundle.", rich_help_panel=MODEL),
    ] = "prngeo-rgb",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", help="roads or buildings; repeat for more. All if not given.", rich_help_panel=MODEL
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
            help="Probability from which a pixel is in the mask; else the model's.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Average four flips of each tile; four times slower.", rich_help_panel=MODEL
        ),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", help="Side of a tile in model pixels; else the model's (512).", rich_help_panel=MODEL
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            help="Overlap of tiles in model pixels; else the model's (128).",
            rich_help_panel=MODEL,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option("--bands", help="Bands for red, green, blue, e.g. 3,2,1.", rich_help_panel=INPUT),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option("--gsd", help="Metres per pixel, if the scene does not tell.", rich_help_panel=INPUT),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option("--aoi", help="Polygons (any CRS); outside them is nodata.", rich_help_panel=INPUT),
    ] = None,
    grid: Annotated[
        OnGrid,
        typer.Option(
            "--grid", help="Outputs on the scene's pixels or on the model's.", rich_help_panel=OUTPUT
        ),
    ] = OnGrid.scene,
    format: Annotated[
        Format, typer.Option("--format", help="Format of the polygons.", rich_help_panel=OUTPUT)
    ] = Format.gpkg,
    min_area: Annotated[
        float, typer.Option("--min-area", help="Smallest polygon in m2.", rich_help_panel=OUTPUT)
    ] = 4.0,
    simplify: Annotated[
        float,
        typer.Option(
            "--simplify", help="Tolerance of outlines in metres; 0 keeps pixel edges.", rich_help_panel=OUTPUT
        ),
    ] = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel=OUTPUT)
    ] = False,
    device: Annotated[
        Device, typer.Option("--device", help="Where the networks run.", rich_help_panel=SPEED)
    ] = Device.auto,
    max_memory: Annotated[
        str, typer.Option("--max-memory", help="Memory the run may use, e.g. 4GB.", rich_help_panel=SPEED)
    ] = "4GB",
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch", help="Folder for what does not fit; else beside the outputs.", rich_help_panel=SPEED
        ),
    ] = None,
    progress: Annotated[
        Shown,
        typer.Option("--progress", help="Bar on a terminal, JSON lines, or nothing.", rich_help_panel=SPEED),
    ] = Shown.auto,
) -> None:
    """Segment scenes into probability, mask and correction rasters and polygons."""
    from prngeo.errors import PrngeoError
    from prngeo.inference.options import PredictOptions, parse_bands, parse_memory

    options = PredictOptions(
        model=model,
        targets=tuple(target or ()),
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
    )
    paths = expand(scenes)
    refuse_same_names(paths, output)
    codes = [0]
    for path in paths:
        try:
            _one(path, output, options, progress)
        except PrngeoError as error:
            if len(paths) == 1:
                raise
            codes.append(report_failure(error, debug=False))
    raise typer.Exit(max(codes))


def _one(path: str, output: Path | None, options: PredictOptions, shown: Shown) -> None:
    import prngeo

    with showing(shown) as report:
        result = prngeo.predict(path, output, options, report)
    if shown is Shown.json:
        typer.echo(json.dumps(result_event(result)), err=True)
    else:
        typer.echo("\n".join(result_lines(result)), err=True)
