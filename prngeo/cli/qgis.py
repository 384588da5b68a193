"""`prngeo qgis`: projects of outputs, and the Processing plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

qgis_app = typer.Typer(help="Projects of outputs for QGIS, and its Processing plugin.", no_args_is_help=True)


@qgis_app.command(no_args_is_help=True)
def project(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of outputs of `prngeo predict`.", show_default=False)
    ],
    scene: Annotated[
        str | None,
        typer.Option(metavar="SCENE", help="Where the scene is now; else where it was predicted.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing projects.")] = False,
) -> None:
    """Write the QGIS project of existing outputs: styled layers over the scene, as `prngeo predict` does.

    The project and its folder can be moved. A scene elsewhere is named by its absolute path.
    """
    from prngeo.inference.project import write_projects

    for written in write_projects(folder, scene, overwrite):
        if written.warning:
            typer.echo(f"warning: {written.warning}", err=True)
        typer.echo(f"{written.path}: {len(written.layers)} layers", err=True)
