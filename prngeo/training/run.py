"""A whole training run: cache, base network, refiner, calibration and gate, test areas, bundle.

Every stage leaves its result in the run's folder and is not done again when it is there, so that an interrupted run
continues.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from prngeo.config import Role, TrainConfig
from prngeo.errors import UsageError
from prngeo.models.bundle import CARD, Bundle, open_bundle, write_bundle
from prngeo.models.card import Card
from prngeo.models.devices import Compute, choose_compute
from prngeo.models.runtime import Runtime
from prngeo.progress import Progress, Report, silent
from prngeo.training.base import train_base
from prngeo.training.cards import base_card, refiner_card
from prngeo.training.evaluate import area_cards, evaluate_tests
from prngeo.training.facts import read_split
from prngeo.training.loop import CHECKPOINT, make_fabric
from prngeo.training.network import check_network
from prngeo.training.prepare import prepare
from prngeo.training.refiner import ByRole, check_validation, fold_count, judge, trained_refiner
from prngeo.training.regions import Region, load_regions
from prngeo.training.report import write_report
from prngeo.training.state import begin, finish, finished

logger = logging.getLogger(__name__)

CACHE, CANDIDATE = "cache", "candidate"


def train(config: TrainConfig, report: Report = silent, resume: bool = False, overwrite: bool = False) -> Path:
    """Run a training, or continue one that was interrupted.

    The folder `config.work / config.name` holds everything unfinished: cache of the scenes, checkpoints, curves.

    Args:
        config: see configs/.
        report: is told of every step.
        resume: continue what an interrupted run of this configuration left; it ends as it would have ended. Where
            nothing was begun, the run starts.
        overwrite: start again, and remove what an earlier run of this name left.

    Returns:
        Folder of the finished bundle.

    Raises:
        UsageError: the configuration does not fit its data, or an earlier run of this name is there and neither
            `resume` nor `overwrite` is given.
        PrngeoError: memory ran out.
    """
    compute = choose_compute(config.device, "device=")
    folder = begin(config, resume, overwrite)
    done = finished(config, folder)
    if done is not None:
        logger.info("this training is finished")
        return done
    run = _Run(config, compute, folder, report)
    started = time.monotonic()
    described, regions = _prepare(run)
    marks = {"prepare": time.monotonic()}
    base = _base(run, described, regions)
    marks["base network"] = time.monotonic()
    candidate = _candidate(run, base, regions)
    marks["PRN, with the networks of its folds"] = time.monotonic()
    candidate = _judged(run, candidate, regions)
    marks["validation"] = time.monotonic()
    ends = list(marks.values())
    spent = {name: end - begin for name, begin, end in zip(marks, [started, *ends], ends, strict=False)}
    report(Progress(config.name, "test", 0, 1))
    # Of a run that continues, earlier stages took their time before.
    bundle = _tested(run, candidate, described, regions, {} if resume else spent)
    report(Progress(config.name, "test", 1, 1))
    finish(config, folder, bundle.path)
    logger.info("bundle written to %s", bundle.path)
    return bundle.path


@dataclass(frozen=True)
class _Run:
    config: TrainConfig
    compute: Compute
    folder: Path
    report: Report


def _prepare(run: _Run) -> tuple[list[Region], ByRole]:
    """Cache the scenes, and refuse what a later stage could not work with before anything is trained."""
    if not run.config.sources and not run.config.towns.train:
        raise UsageError("There is nothing to train on: give sources, or towns with a number of `train`.")
    if not (run.folder / CHECKPOINT).exists():
        check_network(run.config)
        make_fabric(torch.device(run.compute.device), run.config.base)
    run.report(Progress(run.config.name, "prepare", 0, 1))
    described = prepare(run.config, run.folder / CACHE)
    run.report(Progress(run.config.name, "prepare", 1, 1))
    regions: ByRole = {role: load_regions(run.folder / CACHE, role) for role in get_args(Role)}
    if not regions["train"]:
        raise UsageError(f"There is nothing to train on: no scene has the role train.{_why(run.folder / CACHE)}")
    fold_count(run.config, regions)
    check_validation(run.config, regions)
    return described, regions


def _why(cache: Path) -> str:
    """What became of the first scene that is not used."""
    for told in read_split(cache).values():
        for kind in ("left_out", "skipped"):
            if told[kind]:
                first, more = told[kind][0], len(told[kind]) - 1
                also = f", as {more} more were" * bool(more)
                return f" {first['scene']} was {kind.replace('_', ' ')}{also}: {first['reason']}."
    return ""


def _base(run: _Run, described: list[Region], regions: ByRole) -> Bundle:
    """The base network as a bundle without thresholds."""
    device = torch.device(run.compute.device)
    network = train_base(run.config, regions["train"], run.folder, device, None, run.report, regions["validation"])
    card = base_card(run.config, network, described, regions["train"])
    return write_bundle(run.folder / "base", card, _named(network, "network."))


def _candidate(run: _Run, base: Bundle, regions: ByRole) -> Bundle:
    """Base network and fitted refiner as a bundle, with the gates if an interrupted run judged it."""
    refiner = trained_refiner(run.config, base, run.compute, regions, run.folder, run.report)
    tensors = base.tensors() | _named(refiner, "refiner.")
    place = run.folder / CANDIDATE
    judged = _judgement(place)
    card = base.card.model_copy(update={"refiner": refiner_card(run.config)})
    written = write_bundle(place, card, tensors)
    if judged and judged.weights_sha256 == written.card.weights_sha256:
        return write_bundle(place, card.model_copy(update={"targets": judged.targets}), tensors)
    return written


def _judgement(folder: Path) -> Card | None:
    card = open_bundle(folder).card if (folder / CARD).exists() else None
    return card if card and all(target.gate for target in card.targets.values()) else None


def _judged(run: _Run, candidate: Bundle, regions: ByRole) -> Bundle:
    """The bundle with thresholds and gates."""
    if _judgement(candidate.path) is not None:
        return candidate
    targets = judge(run.config, regions["validation"], candidate, Runtime(candidate, run.compute))
    return write_bundle(candidate.path, candidate.card.model_copy(update={"targets": targets}), candidate.tensors())


def _tested(
    run: _Run, judged: Bundle, described: list[Region], regions: ByRole, seconds: Mapping[str, float]
) -> Bundle:
    """The finished bundle with figures on test areas, and the report of them."""
    runtime = Runtime(judged, run.compute)
    tested = evaluate_tests(run.config, regions["test"], judged, runtime, run.report)
    tests = area_cards(tested.results)
    final = judged.card.model_copy(update={"tests": tests, "created": datetime.now(UTC).date().isoformat()})
    bundle = write_bundle(run.config.out or run.folder / "bundle", final, judged.tensors())
    page = write_report(run.config, run.folder, bundle, described, tested, runtime.facts(), seconds)
    logger.info("report written to %s", page)
    return bundle


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}
