"""The report of a training: report.html, one self-contained page, and metrics.json, its figures for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np
import yaml

from prngeo import __version__
from prngeo.config import TrainConfig
from prngeo.errors import PrngeoError
from prngeo.evaluation import plots
from prngeo.evaluation.bootstrap import FEW_BLOCKS, RESAMPLES
from prngeo.evaluation.metrics import METRICS
from prngeo.evaluation.page import color_key, figure, page, section, table
from prngeo.evaluation.results import Figure
from prngeo.evaluation.rows import UNDEFINED, difference, interval, number, verdict
from prngeo.evaluation.wording import counted
from prngeo.files import whole
from prngeo.inspection.system import versions
from prngeo.models.bundle import Bundle
from prngeo.training.count import BASE, BLOCK, PRN, RELAX, TUNED
from prngeo.training.curves import LOSS, VALIDATION, loss_curve, read_log, validation_curve
from prngeo.training.evaluate import AreaResult, Findings
from prngeo.training.facts import ROLES, TrainingFacts, notes, read_split
from prngeo.training.metrics_file import as_json
from prngeo.training.regions import Region
from prngeo.training.split_map import panels, split_map
from prngeo.training.tile_pictures import MASK_COLORS, tile_strips
from prngeo.training.tiles import LEAST_KNOWN, LEAST_TRUE

REPORT, METRICS_FILE = "report.html", "metrics.json"
COLUMNS = ("iou", "precision", "recall", "f1", "relaxed_f1")
NAMES = {BASE: "Base network at 0.5", TUNED: "Base network, tuned threshold", PRN: "PRN"}
COLORS = {TUNED: plots.NAMES["baseline"], PRN: plots.NAMES["prediction"]}
MOST_LISTED = 30
"""Scenes that were not used and are listed by name; metrics.json has all."""


def write_report(
    config: TrainConfig,
    folder: Path,
    bundle: Bundle,
    regions: Sequence[Region],
    tested: Findings,
    compute: Mapping[str, str | int],
    timings: Mapping[str, float],
) -> Path:
    """Write report.html and metrics.json of a finished run; earlier ones are replaced.

    Args:
        config: the run.
        folder: of the run, with its `cache` and `logs`, where both files go.
        bundle: the finished model.
        regions: all cached regions.
        tested: what its test areas say.
        compute: device, precision and so on, see Runtime.facts.
        timings: seconds of the stages before the test.

    Returns:
        Path of the report.

    Raises:
        PrngeoError: a file cannot be written.
    """
    facts = TrainingFacts(
        config=config,
        bundle=bundle,
        regions=regions,
        results=tested.results,
        tiles=tested.tiles,
        split=read_split(folder / "cache"),
        base_log=read_log(folder / "logs" / "metrics.csv"),
        refiner_log=read_log(folder / "logs" / "refiner.csv"),
        compute=compute,
        timings={**timings, "test": tested.seconds},
        versions=versions(),
    )
    contents = {
        METRICS_FILE: json.dumps(as_json(facts), indent=1, allow_nan=False) + "\n",
        REPORT: render(facts),
    }
    try:
        for name, content in contents.items():
            with whole(folder / name) as hidden:
                hidden.write_text(content, encoding="utf-8")
    except OSError as error:
        raise PrngeoError(f"The report could not be written in {folder}: {error}. Check its free space.") from error
    return folder / REPORT


def render(facts: TrainingFacts) -> str:
    """The page, as HTML."""
    title = f"Training of {facts.bundle.card.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_lead(facts))}</p>',
        *(f'<p class="note">{escape(text)}</p>' for text in notes(facts)),
    ]
    if facts.results:
        parts.append(section("Quality on the test areas", _quality(facts)))
        parts.append(section("Thresholds and calibration", _curves(facts)))
        parts.append(section("Best and worst test tiles", _tiles(facts)))
    parts += [
        section("The split", _split(facts)),
        section("Training", _training(facts)),
        section("Data and licenses", _data(facts)),
        section("How it was made", _method(facts)),
    ]
    return page(title, parts)


def _lead(facts: TrainingFacts) -> str:
    card = facts.bundle.card
    tests = len({region.scene for region in facts.regions if region.role == "test"})
    return (
        f"{card.description + ' ' if card.description else ''}Targets: {', '.join(card.targets)}. Figures of quality "
        f"are from {counted(tests, 'test scene')}, which the model neither was trained nor tuned on; thresholds and "
        f"temperatures are from the validation areas. prngeo {__version__}, {datetime.now(UTC):%Y-%m-%d}."
    )


def _quality(facts: TrainingFacts) -> str:
    parts = []
    for target in facts.bundle.card.targets:
        own = [result for result in facts.results if result.target == target]
        if own:
            headings = [target.capitalize(), "Prediction", *(METRICS[name].label for name in COLUMNS)]
            parts.append(table(headings, [row for result in own for row in _rows(result)], plain=(0, 1)))
    definitions = "; ".join(f"{METRICS[name].label}: {METRICS[name].definition}" for name in COLUMNS)
    text = (
        f"In bold: what the model predicts with. In brackets: 95 % intervals. {definitions}. Relaxed F1 is that of "
        f"relaxed precision and recall, which allow {RELAX:g} m."
    )
    return "".join(parts) + f'<p class="d">{escape(text)}</p>' + _ceilings(facts)


def _rows(result: AreaResult) -> list[list[str]]:
    """The predictions of a data set, and the difference that PRN makes."""
    share = result.true_pixels / result.known_pixels
    about = (
        f"{counted(result.scenes, 'scene')}, {result.known_pixels / 1e6:.3g} Mpx, {share:.1%} true, "
        f"{counted(result.blocks, 'block')}"
    )
    rows = []
    for name, one in result.predictions.items():
        off = " (off, for comparison)" if name == PRN and result.used != PRN else ""
        label = f"{NAMES[name]}{off}" + ("" if name == BASE else f", {one.threshold:g}")
        label = f"<b>{escape(label)}</b>" if name == result.used else escape(label)
        rows.append(["", label, *(_cell(one.metrics[metric]) for metric in COLUMNS)])
    rows[0][0] = f'{escape(result.source)}<br><span class="d">{escape(about)}</span>'
    if result.gain is not None:
        found = [result.gain.figure(metric) for metric in COLUMNS]
        told = verdict("iou", found[0]) if result.blocks >= FEW_BLOCKS else ""
        label = "PRN minus tuned threshold" + (f": {told}" if told else "")
        rows.append(["", escape(label), *(_cell(one, signed=True) for one in found)])
    return rows


def _cell(found: Figure, signed: bool = False) -> str:
    value = difference(found.value) if signed else number(found.value)
    ends = interval(found, signed)
    return value + (f'<br><span class="i">{ends}</span>' if ends else "")


def _ceilings(facts: TrainingFacts) -> str:
    rows = []
    for result in facts.results:
        if result.ceiling is not None:
            ious = [
                result.predictions[name].metrics["iou"].value for name in (TUNED, PRN) if name in result.predictions
            ]
            shown = [number(value) for value in ious] + [UNDEFINED] * (2 - len(ious))
            upper = [f"{number(result.ceiling.single)} at {result.ceiling.threshold:g}", number(result.ceiling.joint)]
            rows.append([escape(f"{result.target}, {result.source}"), *shown, *upper])
    if not rows:
        return ""
    headings = ["IoU", "Tuned threshold", "PRN", "Best single threshold", "Joint oracle"]
    patch = next(result.ceiling.patch for result in facts.results if result.ceiling is not None)
    text = (
        "The last two know the truth of the test areas and are upper bounds, not results: the single threshold that is "
        f"best there, and the thresholds of all patches of {patch} pixels that are best together."
    )
    return table(headings, rows) + f'<p class="d">{text}</p>'


def _curves(facts: TrainingFacts) -> str:
    parts = []
    for result in facts.results:
        drawn = [
            plots.Series(
                name="PRN" if name == PRN else "base network",
                color=COLORS[name],
                curves=one.curves,
                average_precision=one.metrics["average_precision"].value,
                calibration_error=one.metrics["calibration_error"].value,
                threshold=one.threshold,
            )
            for name, one in reversed(result.predictions.items())
            if one.curves is not None
        ]
        place = f"{result.target}, {result.source}"
        parts.append(f"<h3>{escape(place)}</h3>")
        parts.append(
            figure(
                plots.threshold_curves(drawn),
                f"IoU over the threshold, {place}",
                "IoU at every threshold; the vertical lines are at the thresholds that validation chose.",
            )
        )
        parts.append(
            figure(
                plots.reliability_diagram(drawn),
                f"Reliability diagram, {place}",
                "On the diagonal a probability means what it says; below it the model is over-confident. ECE: expected "
                "calibration error.",
            )
        )
    return "".join(parts)


def _tiles(facts: TrainingFacts) -> str:
    used = {result.target: result.used for result in facts.results}
    parts = [color_key(MASK_COLORS)]
    for target in facts.bundle.card.targets:
        if target in used:
            parts.append(f"<h3>{escape(target)}</h3>" + tile_strips(facts.tiles[target], used[target]))
    text = (
        f"Tiles of {BLOCK} pixels, ranked by the IoU of the mask that the model gives. Those with less than "
        f"{LEAST_KNOWN:.0%} labelled or less than {LEAST_TRUE:.1%} true pixels are not ranked."
    )
    return f"<p>{text}</p>" + "".join(parts)


def _split(facts: TrainingFacts) -> str:
    rows = []
    for source in facts.sources:
        told = facts.split.get(source, {})
        distances = told.get("smallest_distance_m", {})
        own = [region for region in facts.regions if region.source == source]
        counts = [len({region.scene for region in own if region.role == role}) for role in ROLES]
        dropped = [sum(name == source for name, _, _ in facts.dropped(kind)) for kind in ("skipped", "left_out")]
        lengths = [_meters(told.get("gap_m")), *(_meters(distances.get(role)) for role in ("validation", "test"))]
        rows.append([escape(source), *(f"{count:,}" for count in (*counts, *dropped)), *lengths])
    headings = [
        "Scenes with areas for",
        *(role.capitalize() for role in ROLES),
        "Skipped",
        "Left out",
        "Gap",
        "Train to validation",
        "Train to test",
    ]
    caption = "Where the areas of each role lie; scenes without a coordinate system lie side by side, to scale."
    drawn = figure(split_map(panels(facts.regions)), "Map of the split", caption) if facts.regions else ""
    text = (
        "A scene can hold areas of several roles. The last two columns are the smallest distances between training "
        "areas and held-out ones; a dash where there is none, or where places are not known."
    )
    return drawn + table(headings, rows) + f'<p class="d">{text}</p>' + _dropped(facts)


def _meters(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:,.0f} m"


def _dropped(facts: TrainingFacts) -> str:
    found = [(kind, *entry) for kind in ("skipped", "left_out") for entry in facts.dropped(kind)]
    if not found:
        return "<p>No scene was skipped or left out.</p>"
    rows = [
        [kind.replace("_", " "), escape(source), escape(Path(scene).name), escape(reason)]
        for kind, source, scene, reason in found[:MOST_LISTED]
    ]
    more = len(found) - len(rows)
    rest = f"<p>And {counted(more, 'scene')} more; <code>metrics.json</code> lists all.</p>" if more else ""
    return table(["", "Source", "Scene", "Reason"], rows, plain=range(4)) + rest


def _training(facts: TrainingFacts) -> str:
    parts = []
    if LOSS in facts.base_log:
        drawn = loss_curve(facts.base_log[LOSS], COLORS[TUNED])
        parts.append(figure(drawn, "Loss of the base network", "Loss of the base network on training crops."))
    courses = {name: course for name, course in facts.base_log.items() if name.startswith(VALIDATION)}
    if courses:
        parts.append(
            figure(
                validation_curve(courses),
                "IoU on the validation areas",
                "IoU of the base network on validation areas. It chose the network that was kept, so it says "
                "nothing of quality elsewhere.",
            )
        )
    if LOSS in facts.refiner_log:
        drawn = loss_curve(facts.refiner_log[LOSS], COLORS[PRN])
        parts.append(figure(drawn, "Loss of PRN", "Loss of PRN while it was fitted."))
    return "".join(parts) or "<p>The run's folder holds no log.</p>"


def _data(facts: TrainingFacts) -> str:
    rows = []
    for source in facts.sources:
        own = [region for region in facts.regions if region.source == source]
        sizes = [sum(np.prod(region.shape) for region in own if region.role == role) / 1e6 for role in ROLES]
        targets = ", ".join(dict.fromkeys(target for region in own for target in region.targets))
        rows.append(
            [
                escape(source),
                escape(targets) or UNDEFINED,
                *(f"{size:,.3g}" if size else UNDEFINED for size in sizes),
                escape(facts.license(source)),
            ]
        )
    headings = ["Source", "Targets", *(f"{role.capitalize()}, Mpx" for role in ROLES), "License"]
    return table(headings, rows, plain=(0, 1, len(headings) - 1)) + (
        '<p class="d">Megapixels of the areas, with their unlabelled parts and gaps.</p>'
        f"<p>License of the model: {escape(facts.bundle.card.license)}.</p>"
    )


def _method(facts: TrainingFacts) -> str:
    card = facts.bundle.card
    text = (
        "Only labelled pixels with data are compared, on the scenes' own grids. Intervals are 95 % percentile "
        f"intervals of a bootstrap over blocks of {BLOCK} pixels, {RESAMPLES} draws, the same for both sides of a "
        "difference; they tell how sure a figure is for areas like these, not for others. An em dash stands for an "
        f"undefined figure. All figures are in {METRICS_FILE}."
    )
    rows = [["SHA-256 of the weights", f"<code>{card.weights_sha256}</code>"], ["Seed", str(facts.config.seed)]]
    rows += [
        [escape(name.capitalize()), escape(str(value))] for name, value in facts.compute.items() if name != "version"
    ]
    rows += [[f"Time, {escape(stage)}", f"{seconds:,.0f} s"] for stage, seconds in facts.timings.items()]
    rows += [[escape(name), escape(value)] for name, value in facts.versions.items() if value != "not installed"]
    settings = yaml.safe_dump(
        facts.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return (
        f"<p>Test areas are predicted as <code>prngeo predict</code> does. {escape(text)}</p>"
        + table(["", ""], rows, plain=(0, 1))
        + f"<h3>Configuration</h3><pre>{escape(settings)}</pre>"
    )
