"""`prngeo models` and `prngeo models show`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

models_app = typer.Typer(help="List the embedded models, or show the card of one.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models_app.callback()
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the embedded models; `models show NAME` prints a model's card."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from prngeo.inspection.models import list_models

    listed = list_models()
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in listed], indent=1))
        return
    from prngeo.cli.cards import print_models

    print_models(listed)


@models_app.command(no_args_is_help=True)
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of an embedded model, or folder of a trained one or of a refiner.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Print a model's or refiner's card: targets, PRN's gate, test areas, data and licences."""
    from prngeo.models.bundle import PrnBundle, open_any

    bundle = open_any(name)
    if as_json:
        typer.echo(bundle.card.model_dump_json(indent=1))
        return
    from prngeo.cli.cards import print_card, print_prn

    if isinstance(bundle, PrnBundle):
        print_prn(bundle)
    else:
        print_card(bundle)
