"""`prngeo check`: does a scene suit a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from prngeo.inference import PredictOptions


def check(
    scene: Annotated[
        str,
        typer.Argument(
            help="Raster that GDAL opens: a file, a URL, a /vsi name; it is not changed.", show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="Name of an embedded model or folder of a trained one.")
    ] = "prngeo-rgb",
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="roads or buildings; may be repeated.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Bands in the model's order, from 1, e.g. 3,2,1.")
    ] = None,
    gsd: Annotated[float | None, typer.Option(metavar="M", help="Metres on the ground a pixel.")] = None,
    grid: Annotated[
        Literal["scene", "model"], typer.Option(help="Outputs on the scene's pixels or on the model's.")
    ] = "scene",
    aoi: Annotated[Path | None, typer.Option(metavar="FILE", help="Vector file with the area of interest.")] = None,
    tile: Annotated[int | None, typer.Option(metavar="PIXELS", help="Side of a tile.")] = None,
    overlap: Annotated[int | None, typer.Option(metavar="PIXELS", help="Overlap of tiles.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="As if run with --tta.")] = False,
    max_memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory the run may use, e.g. 800MB or 4GB.")] = "4GB",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a scene with what a model expects, and estimate memory and time; nothing is written.

    Options mean what they mean to `prngeo predict`. Exit code: 0 it can run, 1 something prevents it, 2 the
    call is wrong.
    """
    from prngeo.inference.options import PredictOptions, parse_bands, parse_memory

    options = PredictOptions(
        model=model,
        targets=tuple(dict.fromkeys(target or ())),
        bands=None if bands is None else parse_bands(bands),
        gsd=gsd,
        grid=grid,
        aoi=aoi,
        tile=tile,
        overlap=overlap,
        tta=tta,
        max_memory=parse_memory(max_memory),
        apart=True,
    )
    if not _show(scene, options, as_json):
        raise typer.Exit(1)


def _show(scene: str, options: "PredictOptions", as_json: bool) -> bool:
    from dataclasses import asdict

    from prngeo.inspection.check import check_scene

    report = check_scene(scene, options)
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"can_run": report.can_run}, indent=1))
    else:
        from prngeo.cli.reports import print_check

        print_check(report)
    return report.can_run
