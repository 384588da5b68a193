"""`prngeo export`: what is checked first, and how the files appear."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from prngeo.errors import UsageError
from prngeo.export.gate import enabled
from prngeo.files import publish, refuse_existing, refuse_inputs, staging
from prngeo.models.bundle import BASE_GRAPH, CARD, DEFAULT, REFINER_GRAPH, Bundle, open_bundle

if TYPE_CHECKING:
    from prngeo.export.convert import Precision

Target = Literal["onnx", "geodeep", "deepness", "stac"]


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        files: in the order of their names.
        notes: what a user should know, a sentence or two each.
    """

    files: list[Path]
    notes: list[str]


def export_model(
    model: str | Path = DEFAULT,
    to: Target = "onnx",
    output: str | Path | None = None,
    precision: Precision | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a model for another program; graphs are compared with torch before they appear.

    Args:
        model: name of an embedded model or folder of a bundle.
        to: onnx, a folder with the graphs of base network and PRN, also for `prngeo predict -m`; geodeep or deepness,
            one file for these tools; stac, the model's files with a STAC item.
        output: folder, or for geodeep and deepness the .onnx file; in the current folder, named after the model, if
            None.
        precision: how weights are stored in graphs, fp32 (None) or fp16; see prngeo.export.convert.to_onnx.
        overwrite: replace existing files.

    Raises:
        UsageError: there is no such model, an argument does not suit, a package is missing; nothing was written.
        PrngeoError: the graph does not compute what torch does; nothing was written.
    """
    if to not in get_args(Target):
        raise UsageError(f"--to is one of {', '.join(get_args(Target))}, got {to!r}.")
    bundle = open_bundle(model)
    if precision is not None and to == "stac":
        raise UsageError("--precision belongs to graphs; --to stac writes none. Leave it out.")
    folder, names = _place(bundle, to, output)
    outputs = [folder / name for name in names]
    refuse_inputs(outputs, [bundle.path / name for name in (CARD, *bundle.files)])
    refuse_existing(outputs, overwrite)
    bundle.check_files()
    with staging(folder, names[-1]) as hidden:
        notes = _write(bundle, to, hidden, names, precision or "fp32")
        publish(hidden, folder, names)
    if to == "onnx" and REFINER_GRAPH not in names:
        (folder / REFINER_GRAPH).unlink(missing_ok=True)  # of an earlier export, which this card no longer names
    return ExportResult(outputs, notes)


def _place(bundle: Bundle, to: Target, output: str | Path | None) -> tuple[Path, list[str]]:
    """The folder and the names of all files, in the order in which they appear."""
    card = bundle.card
    if to in ("geodeep", "deepness"):
        path = Path(output) if output is not None else Path(f"{card.name}-{to}.onnx")
        if path.suffix != ".onnx":
            raise UsageError(f"--to {to} writes one file that ends in .onnx, got -o {path}.")
        return path.parent, [path.name]
    folder = Path(output) if output is not None else Path(f"{card.name}-{to}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; --to {to} writes a folder.")
    if to == "stac":
        from prngeo.export.stac import ITEM

        return folder, [*bundle.files, CARD, ITEM]
    return folder, [BASE_GRAPH, *([REFINER_GRAPH] if any(enabled(card)) else []), CARD]


def _write(bundle: Bundle, to: Target, hidden: Path, names: list[str], precision: Precision) -> list[str]:
    if to == "stac":
        from prngeo.export.stac import write_stac

        return write_stac(bundle, hidden)
    if to == "onnx":
        from prngeo.export.onnx_folder import write_folder

        return write_folder(bundle, hidden, precision)
    from prngeo.export.tile import write_tile_model

    return write_tile_model(bundle, hidden / names[0], precision)
