"""`prngeo train`: train a model from a configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prngeo.cli.progress import Shown, showing


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, e.g. base.steps=200."),
    ] = None,
    progress: Annotated[
        Shown, typer.Option(help="auto: a bar on a terminal; json: one line a step on stderr, beside the log.")
    ] = Shown.auto,
) -> None:
    """Train a model on labelled scenes; run again after an interruption to continue."""
    import logging

    from prngeo.config import load_train_config

    checked = load_train_config(config, overrides)
    import prngeo

    with showing(checked.name, progress) as report:
        # A bar takes hold of stderr: the log, begun after it, goes above it.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("pyogrio").setLevel(logging.WARNING)  # it tells of every file it writes
        folder = prngeo.train(checked, report)
    page = checked.work / checked.name / "report.html"
    if progress is Shown.json:
        told = {"report": str(page.resolve())} if page.exists() else {}
        typer.echo(json.dumps({"event": "result", "model": str(folder.resolve())} | told), err=True)
        return
    if page.exists():
        from prngeo.cli.cards import print_tests
        from prngeo.models.bundle import open_bundle

        print_tests(open_bundle(folder).card)
        typer.echo(f"Report in {page}, its figures in metrics.json beside it.", err=True)
    typer.echo(f"Model in {folder}; use it with `prngeo predict SCENE -m {folder}`.", err=True)
