"""The command line: verbs, exit codes, and errors as one paragraph on stderr."""

from __future__ import annotations

from typing import Annotated

import typer

from prngeo import __version__
from prngeo.cli.check import check
from prngeo.cli.doctor import doctor
from prngeo.cli.failures import report_failure
from prngeo.cli.models import models
from prngeo.cli.predict import predict
from prngeo.cli.synth import synth
from prngeo.cli.train import train

app = typer.Typer(
    name="prngeo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command()(check)
app.add_typer(models, name="models")
app.command()(doctor)
app.command()(train)
app.command()(synth)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prngeo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Roads and buildings from aerial imagery, with a refiner (PRN) that corrects regional bias."""


def run(arguments: list[str]) -> int:
    """Run a command.

    Args:
        arguments: without the program's name; `--debug` may stand anywhere.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 the call was wrong, 130 interrupted.
    """
    debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="prngeo")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(error, debug)
    return 0
