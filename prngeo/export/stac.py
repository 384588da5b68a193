"""`--to stac`: a model's files with a STAC item that describes them by the Machine Learning Model (MLM) extension.

Fields are those of https://github.com/stac-extensions/mlm, version 1.4.0.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prngeo.export.gate import gate_note
from prngeo.models.bundle import BASE_GRAPH, CARD, REFINER_GRAPH, WEIGHTS, Bundle
from prngeo.models.card import Card

ITEM = "item.json"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
TASK = "semantic-segmentation"
WORLD = [-180.0, -90.0, 180.0, 90.0]
ASSETS = {
    WEIGHTS: ("Weights of base network and PRN", "application/octet-stream; application=safetensors", "safetensors"),
    BASE_GRAPH: ("Graph of the base network", "application/octet-stream; application=onnx", "onnx"),
    REFINER_GRAPH: ("Graph of PRN", "application/octet-stream; application=onnx", "onnx"),
}


def write_stac(bundle: Bundle, folder: Path) -> list[str]:
    """Copy a model's files into a folder and write the item beside them.

    Args:
        bundle: the model, exported to ONNX or not.
        folder: exists.

    Returns:
        What to tell the user, a sentence or two a line.
    """
    for name in (*bundle.files, CARD):
        shutil.copyfile(bundle.path / name, folder / name)
    (folder / ITEM).write_text(json.dumps(model_item(bundle), indent=1) + "\n", encoding="utf-8")
    return ["A STAC item with the MLM extension beside the files it names.", gate_note(bundle.card)]


def model_item(bundle: Bundle) -> dict[str, Any]:
    """The STAC item of a model, whose assets are the files beside it.

    Its place and time are the whole world and all years, as the extension advises for a model that is not bound to
    any.
    """
    card = bundle.card
    west, south, east, north = WORLD
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, CLASSIFICATION],
        "id": f"{card.name}-{card.version}",
        "bbox": WORLD,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": _properties(bundle),
        "links": [],
        "assets": {Path(name).stem: _asset(name, card) for name in bundle.files}
        | {
            "card": {
                "href": f"./{CARD}",
                "title": "Model card: calibration, PRN's gate, test areas, training data and its licenses",
                "type": "application/json",
                "roles": ["metadata"],
            }
        },
    }


def _properties(bundle: Bundle) -> dict[str, Any]:
    card = bundle.card
    properties: dict[str, Any] = {
        "title": f"{card.name} {card.version}",
        "description": card.description or f"Segments {' and '.join(card.targets)}.",
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "license": card.license if re.fullmatch(r"[\w.+-]+", card.license) else "other",
        "gsd": card.gsd[0],
        "bands": _bands(card),
        "mlm:name": card.name,
        "mlm:architecture": f"{card.network.architecture} with {card.network.encoder}"
        + (f" and PatchRefineNet ({card.refiner.variant})" if card.refiner else ""),
        "mlm:framework": "ONNX" if card.graphs else "PyTorch",
        "mlm:tasks": [TASK],
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [_image_input(card), _valid_input(card)],
        "mlm:output": [_output(card)],
        "mlm:hyperparameters": _hyperparameters(card),
    }
    created = _instant(card.created)
    if created is not None:
        properties["created"] = created
    if card.graphs is None:
        properties["mlm:total_parameters"] = count_parameters(bundle.path / WEIGHTS)
    return properties


def _bands(card: Card) -> list[dict[str, str]]:
    """Named in the item, to which mlm:input refers, and in the assets, without which the item may not name them."""
    return [{"name": band} for band in card.bands]


def _image_input(card: Card) -> dict[str, Any]:
    full = card.scaling.uint8 == "full"
    low, high = card.scaling.percentiles
    stretch = f"percentiles {low:g} and {high:g} of each band over the whole scene become 0 and 1"
    return {
        "name": "image",
        "bands": card.bands,
        "input": {
            "shape": [-1, len(card.bands), card.tile, card.tile],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "description": f"Values in 0..1, at {card.gsd[0]:g} to {card.gsd[1]:g} m a pixel; normalization is part of the "
        f"network. {'Other data types than uint8' if full else 'All data types'}: {stretch}.",
        "value_scaling": [{"type": "min-max", "minimum": 0, "maximum": 255}] if full else None,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _valid_input(card: Card) -> dict[str, Any]:
    return {
        "name": "valid",
        "bands": [],
        "input": {
            "shape": [-1, 1, card.tile, card.tile],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "description": "1 where the image holds data, 0 on nodata.",
        "value_scaling": None,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _output(card: Card) -> dict[str, Any]:
    return {
        "name": "logits",
        "tasks": [TASK],
        "result": {
            "shape": [-1, len(card.targets), card.tile, card.tile],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "description": "One logit a target, independent of each other. A pixel belongs to a target where "
        "sigmoid(logit / temperature) reaches the threshold (see mlm:hyperparameters); where PRN is on, the logit is "
        "the refined one.",
        "classification:classes": [
            {"value": number, "name": name, "description": f"Channel {number}: {name}"}
            for number, name in enumerate(card.targets)
        ],
        "post_processing_function": None,
    }


def _hyperparameters(card: Card) -> dict[str, Any]:
    calibrations = {name: target.calibration(target.refine) for name, target in card.targets.items()}
    return {
        "gsd": list(card.gsd),
        "tile": card.tile,
        "overlap": card.overlap,
        "threshold": {name: part.threshold for name, part in calibrations.items()},
        "temperature": {name: part.temperature for name, part in calibrations.items()},
        "refined": {name: target.refine for name, target in card.targets.items()},
        "refiner": card.refiner.model_dump() if card.refiner else None,
    }


def _asset(name: str, card: Card) -> dict[str, Any]:
    title, media_type, artifact = ASSETS[name]
    return {
        "href": f"./{name}",
        "title": title,
        "type": media_type,
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": artifact,
        "bands": _bands(card),
    }


def _instant(created: str) -> str | None:
    """A card's date as RFC 3339, or None if it is none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count_parameters(weights: Path) -> int:
    """Number of values in a safetensors file that are no running statistics; reads its header alone."""
    from safetensors import safe_open

    statistics = ("running_mean", "running_var", "num_batches_tracked")
    with safe_open(weights, "numpy") as tensors:
        names = [name for name in tensors.keys() if not name.endswith(statistics)]  # noqa: SIM118
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
