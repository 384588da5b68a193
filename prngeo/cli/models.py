"""`prngeo models` and `prngeo models show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from prngeo.models.card import Card

models = typer.Typer(help="List models, or show the card of one.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


@models.callback()
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List the models that ship inside the package."""
    if context.invoked_subcommand is not None:
        return
    import json

    from rich.console import Console

    from prngeo.models.bundle import WEIGHTS, embedded_models, open_bundle

    bundles = [open_bundle(name) for name in embedded_models()]
    if as_json:
        typer.echo(json.dumps([bundle.card.model_dump(mode="json") for bundle in bundles], indent=1))
        return
    table = _table("model", "version", "targets", "GSD (m)", "size (MB)", "license")
    for bundle in bundles:
        card = bundle.card
        size = (bundle.path / WEIGHTS).stat().st_size / 1e6
        low, high = card.gsd
        table.add_row(
            card.name,
            card.version,
            ", ".join(card.targets),
            f"{low:g} to {high:g}",
            f"{size:.1f}",
            card.license,
        )
    Console().print(table)


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="Embedded model or folder of a bundle.")], as_json: Json = False
) -> None:
    """Print a model's card."""
    from rich.console import Console

    from prngeo.models.bundle import open_bundle

    card = open_bundle(name).card
    if as_json:
        typer.echo(card.model_dump_json(indent=1))
        return
    console = Console()
    low, high = card.gsd
    console.print(f"[bold]{card.name}[/bold] {card.version}  {card.description}")
    console.print(
        f"Network {card.network.architecture} / {card.network.encoder}; bands {', '.join(card.bands)}; GSD {low:g} to "
        f"{high:g} m; tile {card.tile} px, overlap {card.overlap} px; license {card.license}; {card.created}"
    )
    console.print("\nPRN's gate: mean IoU over validation sources, each at one tuned threshold")
    console.print(_gates(card))
    if card.tests:
        console.print("\nTest areas, never trained or tuned on: IoU with 95 % interval over blocks")
        console.print(_tests(card))
    console.print("\nTraining data")
    data = _table("data set", "targets", "scenes", "Mpx", "license")
    for item in card.data:
        data.add_row(
            item.name, ", ".join(item.targets), str(item.scenes), f"{item.megapixels:g}", item.license
        )
    console.print(data)


def _gates(card: Card) -> Table:
    table = _table(
        "target", "threshold", "temperature", "base IoU", "with PRN", "best thresholds per patch", "PRN"
    )
    for name, target in card.targets.items():
        used, gate = target.calibration(target.refine), target.gate
        figures = (
            (f"{gate.base_iou:.3f}", f"{gate.refined_iou:.3f}", f"{gate.joint_oracle_iou:.3f}")
            if gate
            else ("", "", "")
        )
        table.add_row(
            name,
            f"{used.threshold:g}",
            f"{used.temperature:g}",
            *figures,
            "used" if target.refine else "disabled",
        )
    return table


def _tests(card: Card) -> Table:
    table = _table("data set", "target", "scenes", "Mpx", "base IoU", "with PRN", "gain in points")
    for test in card.tests:
        table.add_row(
            test.source,
            test.target,
            str(test.scenes),
            f"{test.megapixels:g}",
            f"{test.base_iou:.3f} ({test.base_interval[0]:.3f} to {test.base_interval[1]:.3f})",
            f"{test.refined_iou:.3f} ({test.refined_interval[0]:.3f} to {test.refined_interval[1]:.3f})",
            f"{100 * (test.refined_iou - test.base_iou):+.2f} "
            f"({100 * test.gain_interval[0]:+.2f} to {100 * test.gain_interval[1]:+.2f})",
        )
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table
