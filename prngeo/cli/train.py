"""`prngeo train`: train a model from a configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prngeo.cli.progress import Shown, showing
from prngeo.errors import UsageError

PANEL = "A configuration to begin with"


def train(
    config: Annotated[Path | None, typer.Argument(help="YAML file; see configs/.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, e.g. base.steps=200."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training of this configuration.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start again, and remove what an earlier training of this name left; with --init, replace the YAML.",
        ),
    ] = False,
    progress: Annotated[
        Shown, typer.Option(help="auto: a bar on a terminal; json: one line a step on stderr, beside the log.")
    ] = Shown.auto,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=PANEL,
            help="Look at --images and --labels, write a commented YAML for them, and stop.",
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="PATTERN", rich_help_panel=PANEL, help="The scenes, in quotes: 'ortho/*.tif'.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=PANEL,
            help="Masks ('masks/*.tif') or a layer ('osm.gpkg|layername=roads'). Once for each target.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=PANEL,
            help="What the labels show; by default told by their names. Once for each.",
        ),
    ] = None,
    aoi: Annotated[
        str | None,
        typer.Option(metavar="PATH", rich_help_panel=PANEL, help="Polygons inside which labels are complete."),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(metavar="METRES", rich_help_panel=PANEL, help="Size of a pixel, of scenes that do not tell."),
    ] = None,
) -> None:
    """Train a model on labelled scenes; with --resume an interrupted training continues where it was."""
    import logging

    from prngeo.config import load_train_config

    given = {"--images": images, "--labels": labels, "--target": target, "--aoi": aoi, "--gsd": gsd}
    if init is not None:
        extra = [str(config), *(overrides or [])] if config else []
        _write_config(init, extra, images, labels or [], target or [], aoi, gsd, overwrite)
        return
    stray = [name for name, value in given.items() if value]
    if stray or config is None:
        start = f"{stray[0]} goes with --init" if stray else "No configuration was given"
        raise UsageError(
            f"{start}. Write one with `prngeo train --init my.yaml --images 'ortho/*.tif' --labels roads.gpkg`, then "
            "train with `prngeo train my.yaml`."
        )
    checked = load_train_config(config, overrides)
    import prngeo

    with showing(checked.name, progress) as report:
        # A bar takes hold of stderr: the log, begun after it, goes above it.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        for library in ("pyogrio", "rasterio"):  # one tells of every file it writes, the other all errors twice
            logging.getLogger(library).setLevel(logging.WARNING)
        folder = prngeo.train(checked, report, resume=resume, overwrite=overwrite)
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


def _write_config(
    path: Path,
    extra: list[str],
    images: str | None,
    labels: list[str],
    targets: list[str],
    aoi: str | None,
    gsd: float | None,
    overwrite: bool,
) -> None:
    """What `--init` does."""
    if extra:
        raise UsageError(
            f"--init takes no {extra[0]}. Put patterns in quotes, so that the shell does not replace them by the "
            "files: --images 'ortho/*.tif'."
        )
    if images is None or not labels:
        raise UsageError(
            f"--init {path} needs {'--labels' if images else '--images'}: give the scenes and what labels them, for "
            "example --images 'ortho/*.tif' --labels roads.gpkg (or --labels 'masks/*.tif')."
        )
    from prngeo.training.init import Request, write_config

    for line in write_config(Request(path, images, labels, targets, aoi, gsd), overwrite):
        typer.echo(line, err=True)
    typer.echo(f"Wrote {path}: read it and fill in the licenses. Next: prngeo train {path}", err=True)
