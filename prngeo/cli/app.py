"""The command line: verbs, exit codes, and errors as one paragraph on stderr."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prngeo import __version__
from prngeo.cli.check import check
from prngeo.cli.doctor import doctor
from prngeo.cli.evaluate import diagnose, evaluate
from prngeo.cli.export import export
from prngeo.cli.failures import InterruptedRun, drop_stdout, report_failure
from prngeo.cli.models import models_app
from prngeo.cli.predict import predict
from prngeo.cli.qgis import qgis_app
from prngeo.cli.refine import refine_app
from prngeo.cli.stop import end_run, stop_at_end_of_input
from prngeo.cli.synth import synth
from prngeo.cli.train import train
from prngeo.cli.vectorize import vectorize


class _Group(TyperGroup):
    """Keeps Ctrl-C from Typer, which would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptedRun(str(error)) from error


app = typer.Typer(
    name="prngeo",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(predict)
app.command(no_args_is_help=True)(vectorize)
app.command(no_args_is_help=True)(check)
app.command(no_args_is_help=True)(evaluate)
app.command(no_args_is_help=True)(diagnose)
app.add_typer(refine_app, name="refine")
app.add_typer(models_app, name="models")
app.add_typer(qgis_app, name="qgis")
app.command()(doctor)
app.command(no_args_is_help=True)(train)
app.command(no_args_is_help=True)(export)
app.command(no_args_is_help=True)(synth)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prngeo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand after the command too.")
    ] = False,
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
    signal.signal(signal.SIGTERM, end_run)
    stop_at_end_of_input()
    code: object = 0
    try:
        kept = [argument for argument in arguments if argument != "--debug"]
        app(kept, prog_name="prngeo", obj={"debug": debug})
    except SystemExit as end:
        code = end.code or 0
    except (Exception, KeyboardInterrupt) as error:
        code = report_failure(error, debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    return code if isinstance(code, int) else 1
