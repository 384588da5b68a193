"""A model bundle: a folder with card.json and weights.safetensors, opened without executing anything.

An exported model (`prngeo export MODEL --to onnx`) is such a folder with ONNX graphs in place of the weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from prngeo.errors import PrngeoError, UsageError
from prngeo.models.card import FORMAT, Card

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"
DEFAULT = "prngeo-rgb"
CARD = "card.json"
WEIGHTS = "weights.safetensors"
BASE_GRAPH = "base.onnx"
REFINER_GRAPH = "refiner.onnx"


@dataclass(frozen=True)
class Bundle:
    """A model on disk.

    Attributes:
        path: its folder.
        card: what it says of itself.
    """

    path: Path
    card: Card

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 by name of the files beside the card: the weights, or the graphs of an exported model."""
        graphs = self.card.graphs
        if graphs is None:
            return {WEIGHTS: self.card.weights_sha256}
        return {BASE_GRAPH: graphs.base} | ({REFINER_GRAPH: graphs.refiner} if graphs.refiner else {})

    def check_files(self) -> None:
        """Compare the files with the card; torch is not needed.

        Raises:
            UsageError: a file is missing, damaged, or not the one the card belongs to.
        """
        for name, digest in self.files.items():
            path = self.path / name
            if not path.is_file():
                raise UsageError(f"The model {self.path} has no {name}.")
            if file_hash(path) != digest:
                raise UsageError(
                    f"{path} is not the file its card was written for (SHA-256 differs): copy the model's folder again."
                )

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, `network.*` and `refiner.*`, as stored.

        Raises:
            UsageError: the file is missing, damaged, or not the one the card belongs to; the model is an exported one.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self.card.graphs is not None:
            raise UsageError(f"{self.path} holds ONNX graphs and no weights: give the model it was exported from.")
        self.check_files()
        path = self.path / WEIGHTS
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{path} cannot be read: {error}.") from error
        return tensors


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CARD}"))


def open_bundle(model: str | Path = DEFAULT) -> Bundle:
    """Open a model by the name of an embedded one or by its folder.

    Raises:
        UsageError: there is no such model, or its card is damaged or of another format.
    """
    folder = Path(model)
    if str(model) in embedded_models():
        folder = EMBEDDED / str(model)
    path = folder / CARD
    if not path.is_file():
        known = ", ".join(embedded_models()) or "none"
        raise UsageError(
            f"No such model: {model}. Give one of the embedded models ({known}) or a folder that holds {CARD} "
            f"and {WEIGHTS}; `prngeo models` lists them."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise UsageError(
                f"{path} has bundle format {content.get('format')!r}; this prngeo reads format {FORMAT}. "
                "Train the model again, or use the prngeo version that wrote it."
            )
        return Bundle(folder, Card.model_validate(content))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path} is not a model card: {place}: {first['msg']}.") from error


def write_bundle(folder: Path, card: Card, tensors: dict[str, Tensor]) -> Bundle:
    """Write a bundle; weights are stored as float16, the card gets their hash.

    Args:
        folder: created if missing; a bundle already there is replaced.
        card: its `weights_sha256` is filled in.
        tensors: weights by name; floating ones are cast to float16.

    Raises:
        PrngeoError: a weight is not a number, or too large for float16.
    """
    import torch
    from safetensors.torch import save_file

    stored = {
        name: tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else None).contiguous()
        for name, tensor in tensors.items()
    }
    broken = [name for name, tensor in stored.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise PrngeoError(
            f"The weights cannot be stored: {broken[0]} holds values that float16 cannot (not a number, or beyond "
            "65504). Train again with a smaller learning rate."
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{WEIGHTS}.partial"
    save_file(stored, partial)
    partial.chmod(0o644)  # safetensors makes it readable by its owner alone
    card = card.model_copy(update={"weights_sha256": file_hash(partial)})
    text = folder / f"{CARD}.partial"
    text.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / WEIGHTS)
    text.replace(folder / CARD)
    return Bundle(folder, card)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
