"""`prngeo doctor`: is this installation fit to run."""

import json
from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tell versions, devices, why a GPU is unused, free memory and disk, and whether models are intact.

    Exit code: 0 predictions can run, 1 something is broken.
    """
    from dataclasses import asdict

    from prngeo.inspection.system import inspect_system

    report = inspect_system()
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
    else:
        from prngeo.cli.reports import print_system

        print_system(report)
    if report.problems:
        raise typer.Exit(1)
