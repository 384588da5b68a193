"""`--to geodeep` and `--to deepness`: one file that these tools run tile by tile, with the metadata they read.

Both take a network of one image to a probability for each class, the first of which is background, and read custom
metadata with JSON values: see "Adding metadata to ONNX model" in Deepness' documentation.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from prngeo.errors import UsageError
from prngeo.export.convert import Precision, to_onnx
from prngeo.export.gate import enabled, gate_note
from prngeo.export.graphs import RefinerGraph, TileGraph
from prngeo.export.verify import TOLERANCE, example_image, verify
from prngeo.models.bundle import Bundle
from prngeo.models.card import Card
from prngeo.models.runtime import load_networks

BANDS = 3
"""Both tools give a network red, green and blue."""


def write_tile_model(bundle: Bundle, path: Path, precision: Precision) -> list[str]:
    """Write the file.

    Args:
        bundle: the model.
        path: of the file.
        precision: how weights are stored.

    Returns:
        What to tell the user, a sentence or two a line.

    Raises:
        PrngeoError: ONNX Runtime does not compute what torch does.
        UsageError: the model takes other bands than these tools give; a package is missing.
    """
    card = bundle.card
    if len(card.bands) != BANDS:
        raise UsageError(
            f"GeoDeep and Deepness give a network {BANDS} bands, red, green and blue; {card.name} takes "
            f"{len(card.bands)} ({', '.join(card.bands)}). --to onnx exports it for other programs."
        )
    network, refiner = load_networks(bundle)
    on = enabled(card)
    gated = RefinerGraph(refiner, on) if refiner is not None and any(on) else None
    calibrations = [target.calibration(target.refine) for target in card.targets.values()]
    graph = TileGraph(network, gated, calibrations).eval()
    limits = tile_limits(card)
    inputs: dict[str, Tensor] = {"image": example_image(1, BANDS, tile_side(card))}
    inputs["image"][..., :40, :60] = 0
    metadata = {key: json.dumps(value) for key, value in tile_metadata(card, limits).items()}
    content = to_onnx(graph, inputs, ["probabilities"], precision, metadata, dynamic_batch=False)
    difference = verify(content, graph, inputs, "probabilities")
    path.write_bytes(content)
    return [
        f"Verified with ONNX Runtime: probabilities within {difference:.1e} of torch (allowed: {TOLERANCE:g}).",
        gate_note(card),
        *limits,
        f"Deepness resamples every layer to {model_resolution(card):g} cm a pixel: set its resolution to the layer's "
        f"own if that lies between {card.gsd[0] * 100:g} and {card.gsd[1] * 100:g} cm.",
    ]


def tile_side(card: Card) -> int:
    """The card's tile in pixels, enlarged to what the refiner takes if PRN is in the graph."""
    step = 16 * card.refiner.reduction if card.refiner is not None and any(enabled(card)) else 1
    return -(-card.tile // step) * step


def model_resolution(card: Card) -> float:
    """Pixel size in cm for tools that reduce finer scenes by a whole number.

    Twice the smallest GSD the model takes: reduced to no more than this, a finer scene is still coarse enough, and a
    scene within the model's range is left as it is.
    """
    return round(min(2 * card.gsd[0] * (1 - card.gsd_tolerance), card.gsd[1]) * 100, 4)


def tile_metadata(card: Card, limits: list[str]) -> dict[str, object]:
    """Custom metadata by key; GeoDeep and Deepness read all but the last, values are to be encoded as JSON."""
    classes = ["background", *card.targets]
    return {
        "model_type": "Segmentor",
        "class_names": {str(number): name for number, name in enumerate(classes)},
        "resolution": model_resolution(card),
        "tiles_size": tile_side(card),
        "tiles_overlap": round(100 * card.overlap / card.tile),
        "seg_thresh": 0.5,
        "seg_small_segment": 0,
        "prngeo": {
            "model": f"{card.name} {card.version}",
            "license": card.license,
            "weights_sha256": card.weights_sha256,
            "thresholds": {name: target.calibration(target.refine).threshold for name, target in card.targets.items()},
            "limits": limits,
        },
    }


def tile_limits(card: Card) -> list[str]:
    """What is lost against `prngeo predict`, a sentence or two each."""
    limits = [
        "Each target's own threshold is moved to 0.5, as these tools know one for all classes. A pixel is of one "
        "class: where targets overlap, the more probable one is shown. Tiles are cut, not blended, at their borders.",
        "Scenes must be 8 bit, and 0 in every band is taken as nodata"
        + ("." if card.scaling.uint8 == "full" else "; the stretch the model was trained with is not made."),
    ]
    if card.refiner is not None and any(enabled(card)):
        limits.append(
            f"PRN sees one tile of {tile_side(card)} px alone, where `prngeo predict` gives it mosaicked windows of "
            f"{card.refiner.window} px: it knows less of a region's bias, and its correction may jump between tiles."
        )
    return limits
