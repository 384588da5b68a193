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


Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="QGIS profile; else the one QGIS starts with.", show_default=False),
]


@qgis_app.command()
def install(profile: Profile = None) -> None:
    """Put the Processing plugin into QGIS, switch it on and tell it where this prngeo is.

    Start QGIS again afterwards; the algorithms are in the Processing Toolbox, under prngeo.
    """
    from prngeo.qgis.install import install_plugin

    for done in install_plugin(profile):
        typer.echo(f"{done.profile.plugin}: installed, it calls {done.command}", err=True)
    typer.echo("Start QGIS again; the algorithms are in the Processing Toolbox, under prngeo.", err=True)


@qgis_app.command()
def doctor(profile: Profile = None) -> None:
    """Say what the plugin lacks: QGIS, the plugin itself, its settings, or the command it calls.

    Exit code: 0 it works, 1 something is missing.
    """
    from prngeo.qgis.doctor import inspect_plugin

    report = inspect_plugin(profile)
    for name, text in report.facts:
        typer.echo(f"{name}: {text}")
    for problem in report.problems:
        typer.echo(f"problem: {problem}")
    if report.problems:
        raise typer.Exit(1)
    typer.echo("The plugin is ready.")


@qgis_app.command()
def package(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The zip to write.")] = Path(
        "prngeo_qgis.zip"
    ),
    email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the publisher, for the repository.", show_default=False)
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the source is published.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Pack the plugin: for "Install from ZIP" in QGIS's plugin manager, or for the plugin repository.

    The repository checks that --email and --repository are real; "Install from ZIP" needs neither.
    """
    from prngeo.qgis.package import package_plugin

    refused = package_plugin(output, email, repository, overwrite)
    typer.echo(f"{output}: ready for Plugins > Manage and Install Plugins > Install from ZIP", err=True)
    for reason in refused:
        typer.echo(f"before an upload to the plugin repository: {reason}", err=True)
