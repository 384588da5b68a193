"""A whole training run: cache, base network, refiner, calibration and gate, test areas, bundle.

Every stage leaves its result in the run's folder and is not done again when it is there, so that an interrupted run
continues.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from prngeo.config import Role, TrainConfig
from prngeo.models.bundle import CARD, Bundle, open_bundle, write_bundle
from prngeo.models.card import Card
from prngeo.models.devices import Compute, choose_compute
from prngeo.models.runtime import Runtime
from prngeo.progress import Progress, Report, silent
from prngeo.training.base import train_base
from prngeo.training.cards import base_card, refiner_card
from prngeo.training.evaluate import evaluate_tests
from prngeo.training.prepare import prepare
from prngeo.training.refiner import ByRole, check_validation, fold_count, judge, trained_refiner
from prngeo.training.regions import Region, load_regions
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
    compute = choose_compute(config.device)
    folder = begin(config, resume, overwrite)
    done = finished(config, folder)
    if done is not None:
        logger.info("this training is finished")
        return done
    described, regions = _prepare(config, folder, report)
    base = _base(config, compute, folder, described, regions, report)
    candidate = _candidate(config, compute, folder, base, regions, report)
    report(Progress(config.name, "test", 0, 1))
    bundle = _finished(config, compute, folder, candidate, regions)
    report(Progress(config.name, "test", 1, 1))
    finish(config, folder, bundle.path)
    logger.info("bundle written to %s", bundle.path)
    return bundle.path


def _prepare(config: TrainConfig, folder: Path, report: Report) -> tuple[list[Region], ByRole]:
    """Cache the scenes, and refuse what a later stage could not work with before anything is trained."""
    report(Progress(config.name, "prepare", 0, 1))
    described = prepare(config, folder / CACHE)
    report(Progress(config.name, "prepare", 1, 1))
    regions: ByRole = {role: load_regions(folder / CACHE, role) for role in get_args(Role)}
    fold_count(config, regions)
    check_validation(config, regions["validation"])
    return described, regions


def _base(
    config: TrainConfig, compute: Compute, folder: Path, described: list[Region], regions: ByRole, report: Report
) -> Bundle:
    """The base network as a bundle without thresholds."""
    device = torch.device(compute.device)
    network = train_base(config, regions["train"], folder, device, None, report, regions["validation"])
    card = base_card(config, network, described, regions["train"])
    return write_bundle(folder / "base", card, _named(network, "network."))


def _candidate(
    config: TrainConfig, compute: Compute, folder: Path, base: Bundle, regions: ByRole, report: Report
) -> Bundle:
    """Base network and fitted refiner as a bundle, with the gates if an interrupted run judged it."""
    refiner = trained_refiner(config, base, compute, regions, folder, report)
    tensors = base.tensors() | _named(refiner, "refiner.")
    judged = _judgement(folder / CANDIDATE)
    card = base.card.model_copy(update={"refiner": refiner_card(config)})
    written = write_bundle(folder / CANDIDATE, card, tensors)
    if judged and judged.weights_sha256 == written.card.weights_sha256:
        return write_bundle(folder / CANDIDATE, card.model_copy(update={"targets": judged.targets}), tensors)
    return written


def _judgement(folder: Path) -> Card | None:
    card = open_bundle(folder).card if (folder / CARD).exists() else None
    return card if card and all(target.gate for target in card.targets.values()) else None


def _finished(config: TrainConfig, compute: Compute, folder: Path, candidate: Bundle, regions: ByRole) -> Bundle:
    """The bundle with thresholds, gates and figures on test areas."""
    tensors, runtime = candidate.tensors(), Runtime(candidate, compute)
    if _judgement(candidate.path) is None:
        targets = judge(config, regions["validation"], candidate, runtime)
        candidate = write_bundle(candidate.path, candidate.card.model_copy(update={"targets": targets}), tensors)
    tests = evaluate_tests(regions["test"], candidate, runtime, lambda key: logger.info("test area %s", key))
    final = candidate.card.model_copy(update={"tests": tests, "created": datetime.now(UTC).date().isoformat()})
    return write_bundle(config.out or folder / "bundle", final, tensors)


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}
