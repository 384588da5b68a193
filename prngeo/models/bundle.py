"""A model bundle: a folder with card.json and weights.safetensors, opened without executing anything.

An exported model (`prngeo export MODEL --to onnx`) is such a folder with ONNX graphs in place of the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from prngeo.errors import PrngeoError, UsageError
from prngeo.files import file_hash
from prngeo.models.card import FORMAT, REFINER, Card, PrnCard

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"
DEFAULT = "prngeo-rgb"
CARD = "card.json"
WEIGHTS = "weights.safetensors"
BASE_GRAPH = "base.onnx"
REFINER_GRAPH = "refiner.onnx"

AnyCard = TypeVar("AnyCard", Card, PrnCard)


@dataclass(frozen=True)
class _Stored:
    path: Path
    card: Card | PrnCard

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 by name of the files beside the card."""
        return {WEIGHTS: self.card.weights_sha256}

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

        if WEIGHTS not in self.files:
            raise UsageError(f"{self.path} holds ONNX graphs and no weights: give the model it was exported from.")
        self.check_files()
        path = self.path / WEIGHTS
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{path} cannot be read: {error}.") from error
        return tensors


@dataclass(frozen=True)
class Bundle(_Stored):
    """A model on disk.

    Attributes:
        path: its folder.
        card: what it says of itself.
    """

    card: Card

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 by name of the files beside the card: the weights, or the graphs of an exported model."""
        graphs = self.card.graphs
        if graphs is None:
            return super().files
        return {BASE_GRAPH: graphs.base} | ({REFINER_GRAPH: graphs.refiner} if graphs.refiner else {})


@dataclass(frozen=True)
class PrnBundle(_Stored):
    """A refiner for the scores of any segmenter, on disk; attributes as of `Bundle`."""

    card: PrnCard


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CARD}"))


def open_bundle(model: str | Path = DEFAULT) -> Bundle:
    """Open a model by the name of an embedded one or by its folder.

    Raises:
        UsageError: there is no such model, or its card is damaged or of another format.
    """
    bundle = open_any(model)
    if isinstance(bundle, PrnBundle):
        raise UsageError(
            f"{model} is a refiner for the scores of another segmenter, it cannot segment by itself. Apply it with "
            f"`prngeo refine apply --scores SCORES -m {model}`, or give a model (`prngeo models`) with -m."
        )
    return bundle


def open_prn(folder: str | Path) -> PrnBundle:
    """Open a refiner that `prngeo refine fit` wrote.

    Raises:
        UsageError: there is none, or its card is damaged or of another format.
    """
    bundle = open_any(folder)
    if isinstance(bundle, Bundle):
        raise UsageError(
            f"{folder} is a model with a base network, not a refiner for the scores of any segmenter: use it with "
            f"`prngeo predict SCENE -m {folder}`, or make a refiner with `prngeo refine fit`."
        )
    return bundle


def open_any(model: str | Path) -> Bundle | PrnBundle:
    """Open a bundle of either kind.

    Raises:
        UsageError: see `open_bundle`.
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
        if isinstance(content, dict) and content.get("kind") == REFINER:
            return PrnBundle(folder, PrnCard.model_validate(content))
        return Bundle(folder, Card.model_validate(content))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path} is not a model card: {place}: {first['msg']}.") from error


def write_bundle(folder: Path, card: Card, tensors: dict[str, Tensor]) -> Bundle:
    """Write a model; weights are stored as float16, the card gets their hash.

    Args:
        folder: created if missing; a bundle already there is replaced.
        card: its `weights_sha256` is filled in.
        tensors: weights by name; floating ones are cast to float16.

    Raises:
        PrngeoError: a weight is not a number, or too large for float16.
    """
    return Bundle(folder, _write(folder, card, tensors))


def write_prn(folder: Path, card: PrnCard, tensors: dict[str, Tensor]) -> PrnBundle:
    """Write a refiner; arguments and errors as of `write_bundle`."""
    return PrnBundle(folder, _write(folder, card, tensors))


def _write(folder: Path, card: AnyCard, tensors: dict[str, Tensor]) -> AnyCard:
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
    return card
