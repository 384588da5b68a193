"""`prngeo train`: train a model from a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, e.g. base.steps=200."),
    ] = None,
) -> None:
    """Train a model on labelled scenes; run again after an interruption to continue."""
    import logging

    from prngeo.config import load_train_config

    checked = load_train_config(config, overrides)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("pyogrio").setLevel(logging.WARNING)  # it tells of every file it writes
    import prngeo

    folder = prngeo.train(checked)
    typer.echo(f"Model in {folder}; use it with `prngeo predict SCENE -m {folder}`.", err=True)
