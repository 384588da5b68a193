"""Training the base network: a resumable loop whose data order is a function of the step."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from prngeo.config import TrainConfig
from prngeo.models.devices import training_precision
from prngeo.models.segmenter import Segmenter, load_imagenet_lite0
from prngeo.progress import Progress, Report, silent
from prngeo.refine.losses import segmentation_loss
from prngeo.training.crops import Batch, CropSampler
from prngeo.training.regions import IGNORE, CachedRegion

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 100
WARM_UP = 100


def train_base(
    config: TrainConfig,
    regions: Sequence[CachedRegion],
    folder: Path,
    device: torch.device,
    start: Mapping[str, Tensor] | None = None,
    report: Report = silent,
) -> Segmenter:
    """Train the base network, or continue from the last checkpoint in `folder`.

    Args:
        config: the run.
        regions: what to train on.
        folder: checkpoint (`base.pt`) and log (`base.csv`).
        device: where to compute.
        start: weights to begin with, by their names in the segmenter; it may hold a part of them.
        report: is told of every step.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    network = Segmenter(config.network.architecture, config.network.encoder, len(config.targets))
    if config.network.weights == "imagenet-lite0":
        load_imagenet_lite0(network)
    network.load_state_dict(start or {}, strict=False)
    network = network.to(device).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.base.average),
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.base.learning_rate, weight_decay=config.base.weight_decay
    )
    checkpoint = folder / "base.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        logger.info("base network: continuing at step %d of %d", first, config.base.steps)
    weights = {source.name: source.weight for source in config.sources} | {"synthetic": config.towns.weight}
    weights = {name: weight for name, weight in weights.items() if any(r.region.source == name for r in regions)}
    sampler = CropSampler(regions, weights, config.base.crop, config.gsd, config.seed)
    network.train()
    log = folder / "base.csv"
    started = time.monotonic()
    with ThreadPoolExecutor(1) as ahead:
        upcoming = ahead.submit(sampler.batch, first, config.base.batch)
        for step in range(first, config.base.steps):
            batch = upcoming.result()
            upcoming = ahead.submit(sampler.batch, step + 1, config.base.batch)
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(config.seed + step)  # A resumed run draws the dropout it would have drawn.
            loss = train_step(network, optimizer, batch, device)
            average.update_parameters(network)
            report(Progress(config.name, "base", step + 1, config.base.steps))
            if (step + 1) % 20 == 0:
                _log(log, step + 1, loss, rate, time.monotonic() - started)
                logger.info("base network: step %d of %d, loss %.4f", step + 1, config.base.steps, loss)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == config.base.steps:
                state = {
                    "step": step + 1,
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                }
                _save(checkpoint, state)
    trained = average.module
    assert isinstance(trained, Segmenter)
    return trained.eval()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up (at most a tenth of the steps), constant, then linear to zero from `decay_from` of the steps."""
    base = config.base
    warm_up = max(1, min(WARM_UP, base.steps // 10))
    decay_start = base.decay_from * base.steps
    falling = max(0.0, (step - decay_start) / max(1.0, base.steps - decay_start))
    return base.learning_rate * min(1.0, (step + 1) / warm_up) * (1 - falling)


def train_step(network: Segmenter, optimizer: torch.optim.Optimizer, batch: Batch, device: torch.device) -> float:
    """One optimizer step on a batch of crops; the loss before it."""
    image, valid, labels = (part.to(device) for part in (batch.image, batch.valid, batch.labels))
    with training_precision(device):
        logits: Tensor = network(image, valid)
    known = labels != IGNORE
    loss = segmentation_loss(logits.float(), (labels == 1).float(), known.float())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _log(path: Path, step: int, loss: float, rate: float, seconds: float) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "learning_rate", "seconds"])
        writer.writerow([step, f"{loss:.5f}", f"{rate:.3g}", f"{seconds:.1f}"])


def _save(path: Path, state: dict[str, object]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
