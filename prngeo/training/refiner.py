"""The stages of PRN in a training: maps it learns from, its fit, and the judgement that decides its gate."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prngeo.config import Role, TrainConfig
from prngeo.errors import UsageError
from prngeo.files import whole
from prngeo.models.bundle import Bundle, write_bundle
from prngeo.models.card import TargetCard
from prngeo.models.devices import Compute
from prngeo.models.runtime import Runtime, make_refiner
from prngeo.progress import Progress, Report
from prngeo.refine.branches import Refiner
from prngeo.refine.calibrate import LEAST_GAIN, Histogram, Tuned, beats, tune, verdict
from prngeo.refine.fit import FitOptions, LogitMap, fit_refiner
from prngeo.refine.pseudo_labels import oracle_counts
from prngeo.training.base import train_base
from prngeo.training.cards import network_card, refiner_card
from prngeo.training.folds import Predictor, cross_fit, cut_blocks, split_folds
from prngeo.training.logits import logit_map, region_logits
from prngeo.training.logs import FOLDER
from prngeo.training.loop import refuse_broken
from prngeo.training.positives import Positives
from prngeo.training.regions import CachedRegion

logger = logging.getLogger(__name__)

MAPS = "maps"


ByRole = Mapping[Role, Sequence[CachedRegion]]


def fold_count(config: TrainConfig, regions: ByRole) -> int:
    """How many folds PRN is cross-fitted with: as configured, else 2 where no region has the role refine.

    Raises:
        UsageError: PRN would be left without a map to be fitted on.
    """
    count, train, refine = config.refiner.folds, regions["train"], regions["refine"]
    if count is None:
        count = 0 if refine else 2
    if not refine and (not count or all(fold is None for fold in split_folds(cut_blocks(train, count), count))):
        raise UsageError(
            "There is nothing to fit PRN on: no scene or area has the role refine, and refiner.folds is "
            f"{count or '0 (no cross-fitting)'}, which needs as many blocks of training scenes, or one that is "
            "wider than so many gaps. Give scenes or areas the role refine (or set split.refine), or set "
            "refiner.folds=2."
        )
    return count


def trained_refiner(
    config: TrainConfig,
    bundle: Bundle,
    compute: Compute,
    regions: ByRole,
    folder: Path,
    report: Report,
) -> Refiner:
    """The fitted refiner of a base network; read from the folder if it was fitted before.

    Args:
        config: the run.
        bundle: the base network.
        compute: device and precision.
        regions: those of role refine, which the base network never saw, and through folds those of role train; the
            networks of folds are judged on those of role validation.
        folder: of the run.
        report: is told of every step.
    """
    settings = config.refiner
    torch.manual_seed(config.seed)  # its first weights do not depend on whether the base was trained in this process
    refiner = make_refiner(refiner_card(config), len(config.targets), len(config.bands))
    finished = folder / f"refiner-{bundle.card.weights_sha256[:16]}.pt"
    if finished.exists():
        refiner.load_state_dict(torch.load(finished, map_location="cpu", weights_only=True))
        return refiner.eval()
    predict = _predictor(bundle, compute, settings.reduction, folder)
    maps = [predict(item) for item in regions["refine"]]
    folds = fold_count(config, regions)
    if folds:

        def train_fold(fold: int, others: Sequence[CachedRegion]) -> Predictor:
            logger.info("base network of fold %d of %d", fold + 1, folds)
            place = folder / f"fold-{fold + 1}-of-{folds}"

            def relay(step: Progress) -> None:
                done, total = fold * step.total + step.done, folds * step.total
                report(Progress(step.scene, "folds", done, total))

            device = torch.device(compute.device)
            network = train_base(config, others, place, device, None, relay, regions["validation"])
            tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
            card = bundle.card.model_copy(update={"network": network_card(config, network)})
            return _predictor(write_bundle(place / "base", card, tensors), compute, settings.reduction, folder)

        maps += cross_fit(regions["train"], folds, train_fold)
    options = FitOptions(
        window=settings.window,
        patch=settings.patch,
        pseudo=settings.pseudo,
        pseudo_weight=settings.pseudo_weight,
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        seed=config.seed,
    )
    steps = options.steps_for(maps)

    def on_step(done: int) -> None:
        report(Progress(config.name, "refiner", done, steps))

    rows: list[tuple[int, float]] = []

    def on_loss(step: int, loss: float) -> None:
        rows.append((step, loss))
        _write_rows(folder / FOLDER / "refiner.csv", rows)

    told = replace(options, steps=steps)
    fit_refiner(refiner, maps, told, torch.device(compute.device), on_step, on_loss)
    refuse_broken(refiner, "refiner", "refiner.learning_rate", settings.learning_rate)
    with whole(finished) as partial:
        torch.save(refiner.state_dict(), partial)
    shutil.rmtree(folder / MAPS, ignore_errors=True)
    return refiner.cpu()


def _write_rows(path: Path, rows: Sequence[tuple[int, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows((step, f"{loss:.6g}") for step, loss in rows)


def _predictor(bundle: Bundle, compute: Compute, reduction: int, folder: Path) -> Predictor:
    """Maps regions by a network; a map that an interrupted run made is read."""
    runtime = Runtime(bundle, compute)

    def predict(item: CachedRegion) -> LogitMap:
        path = folder / MAPS / f"{bundle.card.weights_sha256[:16]}-{item.region.key}.npz"
        if path.exists():
            with np.load(path) as arrays:
                return LogitMap(source=item.region.source, **arrays)
        logger.info("logits of %s", item.region.key)
        found = logit_map(item, runtime, bundle.card, reduction)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            np.savez(partial, logits=found.logits, image=found.image, valid=found.valid, labels=found.labels)
        return found

    return predict


def check_validation(config: TrainConfig, regions: ByRole) -> None:
    """Refuse a run whose thresholds and gates nothing could decide.

    Raises:
        UsageError: a target has no positive pixel in any validation region, or in none at all.
    """
    for count, name in zip(_positives(config, regions["validation"]), config.targets, strict=True):
        if not count:
            everywhere = _positives(config, [item for own in regions.values() for item in own])
            if not everywhere[config.targets.index(name)]:
                raise UsageError(
                    f"No label shows any {name}: all of it is background or unlabelled. Check labels.{name} of the "
                    "sources (path, where, values), or leave it out of targets."
                )
            raise UsageError(
                f"No validation area holds {name}: thresholds are chosen and PRN is judged there. Give scenes or areas "
                "that hold some the role validation, or let `split` make blocks of that role (a larger "
                "split.validation, or a smaller split.block)."
            )


def _positives(config: TrainConfig, regions: Sequence[CachedRegion]) -> NDArray[np.int64]:
    """(targets,) positive pixels."""
    return sum((Positives(item.labels).pixels for item in regions), np.zeros(len(config.targets), np.int64))


def judge(
    config: TrainConfig, regions: Sequence[CachedRegion], bundle: Bundle, runtime: Runtime
) -> dict[str, TargetCard]:
    """Calibrate base and refined logits on validation regions and decide the gate of every target."""
    base: dict[str, dict[str, Histogram]] = {name: {} for name in config.targets}
    refined: dict[str, dict[str, Histogram]] = {name: {} for name in config.targets}
    oracle: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in config.targets}
    for item in regions:
        logger.info("validation region %s", item.region.key)
        logits = region_logits(item, runtime, bundle.card, refine=True)
        for channel, name in enumerate(config.targets):
            labels = item.labels[..., channel]
            if name not in item.region.targets:
                continue
            source = item.region.source
            base[name].setdefault(source, Histogram.empty()).add(logits.base[channel], labels)
            final = logits.base[channel] + logits.correction[channel]
            refined[name].setdefault(source, Histogram.empty()).add(final, labels)
            reached = oracle_counts(logits.base[channel], labels, config.refiner.patch)
            known = oracle[name].get(source, (0, 0))
            oracle[name][source] = (known[0] + reached[0], known[1] + reached[1])
    return {name: _target(tune(base[name]), tune(refined[name]), oracle[name]) for name in config.targets}


def _target(base: Tuned, refined: Tuned, oracle: dict[str, tuple[int, int]]) -> TargetCard:
    note = "mean IoU over validation sources, each at the one threshold tuned on them"
    if not beats(refined, base):
        note += f"; PRN did not gain {LEAST_GAIN:g} over it, so it is disabled"
    joint = float(np.mean([oracle[s][0] / oracle[s][1] for s in base.by_source]))
    return verdict(base, refined, joint, note, by_source=True)
