"""`prngeo synth`: write a procedural town."""

from pathlib import Path
from typing import Annotated

import typer


def synth(
    scene: Annotated[Path, typer.Argument(help="GeoTIFF to write, e.g. town.tif; masks and vectors go beside it.")],
    size: Annotated[int, typer.Option(help="Width and height in pixels, 16 to 20000.")] = 1024,
    gsd: Annotated[float, typer.Option(help="Ground sampling distance in metres a pixel, 0.05 to 5.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Which town: the same seed gives the same town.")] = 0,
    crs: Annotated[str, typer.Option(help="Projected CRS in metres.")] = "EPSG:32631",
    bias: Annotated[
        float,
        typer.Option(help="Amplitude of a planted regional bias (haze over a part of the scene); 0 is none, 1 clear."),
    ] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Write a procedural town: an aerial scene with exact road and building truth (masks and vectors)."""
    from prngeo.synth.write import write_town

    files = write_town(scene, size=size, gsd=gsd, seed=seed, crs=crs, bias=bias, overwrite=overwrite)
    counts = files.counts
    typer.echo(f"{files.scene}: RGB scene, {size} x {size} pixels, GSD {gsd} m, {crs}", err=True)
    typer.echo(f"{files.roads_mask}: roads mask, {counts['roads_share']:.1%} of the pixels", err=True)
    typer.echo(f"{files.buildings_mask}: buildings mask, {counts['buildings_share']:.1%} of the pixels", err=True)
    typer.echo(
        f"{files.truth}: vectors, {counts['buildings']:.0f} buildings, {counts['road_km']:.2f} km of road",
        err=True,
    )
