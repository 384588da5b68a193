"""`prngeo export`: only turns options into a call of prngeo.export.export_model and its result into lines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class To(StrEnum):
    """For whom a model is written."""

    onnx = "onnx"
    geodeep = "geodeep"
    deepness = "deepness"
    stac = "stac"


class Stored(StrEnum):
    """How weights are stored."""

    fp32 = "fp32"
    fp16 = "fp16"


def export(
    model: Annotated[
        str, typer.Argument(help="Name of an embedded model or folder of a trained one.", show_default=False)
    ],
    to: Annotated[
        To,
        typer.Option(
            "--to",
            help="onnx: a folder that ONNX Runtime runs, and `prngeo predict -m` without torch: sooner ready and "
            "as fast as torch in float32. geodeep, deepness: one file for these tools. stac: the model's files with "
            "a STAC item (MLM extension).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder, or the .onnx file of geodeep and deepness; else MODEL-TO in the current folder.",
        ),
    ] = None,
    precision: Annotated[
        Stored | None,
        typer.Option(
            "--precision",
            help="How graphs store weights: fp16 nearly halves the file and rounds nothing, as models store theirs so; "
            "arithmetic is float32 either way. fp32 if not given.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Write a model for other programs; graphs are compared with torch before they appear.

    Exit code: 0 done, 1 a graph differs from torch, 2 the call or the model does not suit.
    """
    from prngeo.cli.units import size
    from prngeo.export import export_model

    result = export_model(model, to.value, output, precision.value if precision else None, overwrite)
    for path in result.files:
        typer.echo(f"{path}: {size(path.stat().st_size)}", err=True)
    for note in result.notes:
        typer.echo(note, err=True)
    typer.echo(_usage(to, result.files), err=True)


def _usage(to: To, files: list[Path]) -> str:
    if to is To.geodeep:
        return f"Use it: geodeep SCENE {files[0]}"
    if to is To.deepness:
        return f"Use it: choose {files[0]} as model in Deepness, a plugin of QGIS."
    return f"Use it: prngeo predict SCENE -m {files[0].parent}"
