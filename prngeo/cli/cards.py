"""Model cards as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from prngeo.cli.tables import console, table
from prngeo.cli.units import size
from prngeo.inspection.models import ModelEntry
from prngeo.models.bundle import WEIGHTS, Bundle, PrnBundle
from prngeo.models.card import Card, TargetCard


def print_models(models: list[ModelEntry]) -> None:
    """One line a model."""
    out = console()
    if not models:
        out.print("No embedded models in this installation; give `-m` the folder of a trained one.")
        return
    rows = [
        (
            model.name,
            model.version,
            ", ".join(model.targets),
            _gsd(model.gsd),
            model.license,
            size(model.size_bytes) if model.size_bytes else "weights missing",
        )
        for model in models
    ]
    out.print(table(("model", "version", "targets", "GSD", "license", "size"), rows, right=("size",)))
    out.print(Text("`prngeo models show NAME` prints a model's card."))


def print_card(bundle: Bundle) -> None:
    """Everything a model says of itself."""
    card, out = bundle.card, console()
    out.print(Text(f"{card.name} {card.version}", style="bold"))
    if card.description:
        out.print(Text(textwrap.fill(card.description, 100)))
    out.print(table(("", ""), _facts(bundle)))
    _print_targets(card.targets)
    sources = _gate_rows(card)
    if sources:
        headings = ("target", "validation data", "IoU", "with PRN", "change")
        out.print(table(headings, sources, title="The gate by data set", right=headings[2:]))
    print_tests(card)
    if card.data:
        data = [
            (item.name, ", ".join(item.targets), str(item.scenes), f"{item.megapixels:g}", item.license)
            for item in card.data
        ]
        headings = ("data set", "targets", "scenes", "Mpx", "license")
        out.print(table(headings, data, title="Training data", right=headings[2:4]))


def print_tests(card: Card) -> None:
    """What a model reaches on its test areas, if it has any."""
    if not card.tests:
        return
    out = console()
    headings = ["target", "test data", "scenes", "Mpx", "IoU [95 %]", "with PRN [95 %]", "change [95 %]"]
    title = "Test areas, neither trained nor tuned on"
    out.print(table(headings, _test_rows(card), title=title, right=headings[2:]))
    relaxed = [
        (test.target, test.source, *_change(test.base_relaxed_f1, test.refined_relaxed_f1))
        for test in card.tests
        if test.base_relaxed_f1 is not None and test.refined_relaxed_f1 is not None
    ]
    if relaxed:
        headings = ["target", "test data", "relaxed F1 (3 m)", "with PRN", "change"]
        out.print(table(headings, relaxed, right=headings[2:]))


def print_prn(bundle: PrnBundle) -> None:
    """Everything a refiner of scores says of itself."""
    card, out = bundle.card, console()
    out.print(Text(f"{card.name}: a refiner for the scores of a segmenter", style="bold"))
    refiner, weights = card.refiner, bundle.path / WEIGHTS
    values = ", ".join(f"{name}={value}" for name, value in card.class_values.items())
    facts = [
        ("license", card.license or "not stated"),
        (
            "reads",
            f"{len(card.targets)} band(s) of scores" + (f", {card.image_bands} of the image" * bool(card.image_bands)),
        ),
        *([("class map", values)] if values else []),
        ("values", {"unit": "0..1", "percent": "0..100", "byte": "0..255"}.get(card.values, card.values)),
        ("GSD", "unknown" if card.gsd is None else _gsd(card.gsd)),
        ("refiner", f"PRN {refiner.variant}, window {refiner.window} px, at 1/{refiner.reduction} resolution"),
        (
            "fitted on",
            f"{card.scenes} scene(s), {card.pixels / 1e6:.3g} million labelled pixels"
            + f"; {card.left} of {card.pieces + card.left} pieces left out" * bool(card.left),
        ),
        ("held out", card.validation),
        ("options", ", ".join(f"{name} {value}" for name, value in card.fit.items())),
        ("created", card.created or "unknown"),
        ("weights", f"{size(weights.stat().st_size) if weights.is_file() else 'missing'}, {weights}"),
        ("SHA-256", card.weights_sha256),
    ]
    out.print(table(("", ""), facts))
    _print_targets(card.targets)


def _print_targets(targets: dict[str, TargetCard]) -> None:
    out = console()
    rows = [_target_row(name, target) for name, target in targets.items()]
    columns = ("target", "threshold", "temperature", "PRN", "validation IoU", "with PRN", "change", "ideal")
    out.print(table(columns, rows, title="Targets and PRN's gate", right=columns[4:]))
    out.print(Text("  ideal: IoU if the best thresholds of every patch were known"))
    for name, target in targets.items():
        if target.gate and target.gate.note:
            out.print(Text(f"  {name}: {target.gate.note}"))


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    card = bundle.card
    refiner = card.refiner
    stretch = f"percentiles {card.scaling.percentiles[0]:g} to {card.scaling.percentiles[1]:g}"
    return [
        ("license", card.license),
        ("bands", ", ".join(card.bands)),
        ("GSD", f"{_gsd(card.gsd)}, {card.gsd_tolerance:.0%} beyond without resampling"),
        ("values", f"8 bit: {'0-255' if card.scaling.uint8 == 'full' else stretch}; others: {stretch}"),
        ("tile", f"{card.tile} px, overlap {card.overlap} px"),
        ("network", f"{card.network.architecture} on {card.network.encoder}"),
        *([("trained", _trained(card.training))] if card.training else []),
        ("refiner", f"PRN {refiner.variant}, window {refiner.window} px" if refiner else "none"),
        ("created", card.created or "unknown"),
        ("runs on", f"ONNX Runtime, CPU, weights {card.graphs.precision}" if card.graphs else "torch"),
        *(row for name, digest in bundle.files.items() for row in _file_rows(bundle.path / name, digest)),
    ]


def _trained(training: Mapping[str, Any]) -> str:
    """What a card tells of the base network's training; older cards tell less."""
    base = training.get("base", {})
    told = [
        f"from weights {training['weights']}" if "weights" in training else "",
        "{steps} steps of {batch} crops of {crop} px".format_map(base)
        if {"steps", "batch", "crop"} <= base.keys()
        else "",
        f"loss {base['loss']}" if "loss" in base else "",
        f"seed {training['seed']}" if "seed" in training else "",
    ]
    return ", ".join(filter(None, told))


def _file_rows(path: Path, digest: str) -> list[tuple[str, str]]:
    label = "weights" if path.name == WEIGHTS else path.stem
    return [(label, f"{size(path.stat().st_size) if path.is_file() else 'missing'}, {path}"), ("SHA-256", digest)]


def _target_row(name: str, target: TargetCard) -> tuple[str, ...]:
    gate = target.gate
    used = target.calibration(target.refine)
    state = "no refiner" if gate is None else "on" if target.refine else "off, by the gate"
    figures = (
        ("", "", "", "")
        if gate is None
        else (*_change(gate.base_iou, gate.refined_iou), f"{gate.joint_oracle_iou:.3f}")
    )
    return (name, f"{used.threshold:g}", f"{used.temperature:.3g}", state, *figures)


def _gate_rows(card: Card) -> list[tuple[str, ...]]:
    return [
        (name, source, *_change(figures["base"], figures["refined"]))
        for name, target in card.targets.items()
        if target.gate
        for source, figures in target.gate.by_source.items()
        if {"base", "refined"} <= figures.keys()
    ]


def _test_rows(card: Card) -> list[tuple[str, ...]]:
    return [
        (
            test.target,
            test.source,
            str(test.scenes),
            f"{test.megapixels:g}",
            f"{test.base_iou:.3f} {_interval(test.base_interval)}",
            f"{test.refined_iou:.3f} {_interval(test.refined_interval)}",
            f"{test.refined_iou - test.base_iou:+.3f} {_interval(test.gain_interval, '+')}",
        )
        for test in card.tests
    ]


def _change(base: float, refined: float) -> tuple[str, str, str]:
    return f"{base:.3f}", f"{refined:.3f}", f"{refined - base:+.3f}"


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    if interval is None:
        return ""
    low, high = (format(value, f"{sign}.3f") for value in interval)
    return f"[{low}, {high}]"


def _gsd(gsd: tuple[float, float]) -> str:
    return f"{gsd[0]:g} to {gsd[1]:g} m"
