"""`prngeo vectorize`: only turns options into a call of prngeo.vectorize_raster and its result into a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prngeo.cli.progress import Shown, showing

if TYPE_CHECKING:
    from prngeo.vectorize.run import VectorizeResult

INPUT, SHAPE, OUTPUT = "Input", "Shapes", "Output"


def vectorize(
    raster: Annotated[
        str,
        typer.Argument(help="Mask (0/1, 0/255, a class map) or probability raster, of any tool.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File ending in .gpkg, .parquet, .fgb or .geojson, or a database, "
            "postgresql://user:password@host/name; else a GeoPackage beside the raster.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What the objects are: name of the layer; roads gives centerlines too.",
            rich_help_panel=OUTPUT,
        ),
    ] = "buildings",
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="The raster holds probabilities; objects are where it reaches this. A raster of `prngeo predict` "
            "knows its own.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    value: Annotated[
        float | None,
        typer.Option(metavar="V", help="Value of the objects; needed only for class maps.", rich_help_panel=INPUT),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Probability raster on the mask's grid, for the attribute probability.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="M", help="Metres a pixel; only for rasters without a CRS.", rich_help_panel=INPUT),
    ] = None,
    connectivity: Annotated[
        int,
        typer.Option(
            metavar="4|8",
            help="4 joins pixels that share an edge, 8 also those that share a corner.",
            rich_help_panel=SHAPE,
        ),
    ] = 4,
    min_area: Annotated[float, typer.Option(metavar="M2", help="Smallest polygon in m2.", rich_help_panel=SHAPE)] = 4.0,
    min_hole: Annotated[
        float,
        typer.Option(metavar="M2", help="Holes smaller than this are filled.", rich_help_panel=SHAPE),
    ] = 0.0,
    simplify: Annotated[
        float,
        typer.Option(metavar="M", help="Tolerance of outlines in metres; 0 keeps pixel edges.", rich_help_panel=SHAPE),
    ] = 0.0,
    regularize: Annotated[
        bool,
        typer.Option(
            "--regularize/--no-regularize",
            help="Straight walls and right angles for buildings; --simplify says within how much (2 pixels if 0).",
            rich_help_panel=SHAPE,
        ),
    ] = False,
    split: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Split objects where the probability dips by at least P between two parts, e.g. 0.1.",
            rich_help_panel=SHAPE,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel=OUTPUT)
    ] = False,
    progress: Annotated[
        Shown,
        typer.Option(help="auto: a bar on a terminal; json: one line a step on stderr.", rich_help_panel=OUTPUT),
    ] = Shown.auto,
) -> None:
    """Turn a mask or probability raster into polygons.

    The result is that of the whole raster at once; memory grows with the polygons only. A probability raster gives
    polygons at another threshold without running the model again.
    """
    import prngeo

    options = prngeo.VectorizeOptions(
        target=target,
        probability=probability,
        value=value,
        threshold=threshold,
        min_area=min_area,
        min_hole=min_hole,
        simplify=simplify,
        regularize=regularize,
        split=split,
        connectivity=connectivity,  # type: ignore[arg-type]
        pixel_size=pixel_size,
        overwrite=overwrite,
    )
    with showing(Path(raster).name, progress) as report:
        result = prngeo.vectorize_raster(raster, output, options, report)
    _summary(result, progress is Shown.json)


def _summary(result: VectorizeResult, as_json: bool) -> None:
    from prngeo.cli.units import area, duration

    if as_json:
        counts = {name: len(frame) for name, frame in result.layers.items()}
        event = {"event": "result", "output": result.output, "layers": counts, "seconds": round(result.seconds, 2)}
        typer.echo(json.dumps(event), err=True)
        return
    for name, frame in result.layers.items():
        if "length_m" in frame:
            typer.echo(f"{name}: {frame['length_m'].sum() / 1000:,.2f} km in {len(frame)} lines", err=True)
            continue
        if frame.attrs.get("left_whole"):
            typer.echo(f"warning: {frame.attrs['left_whole']} objects of {name} are too large to be split", err=True)
        plural = "" if len(frame) == 1 else "s"
        typer.echo(f"{name}: {area(frame['area_m2'].sum())} in {len(frame)} polygon{plural}", err=True)
    typer.echo(f"{result.output}: written in {duration(result.seconds)}", err=True)
