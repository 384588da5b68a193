"""The training loop of the base network on one device or several, by Lightning Fabric.

Fabric is the half of Lightning that has devices, precision, gradient scaling and loggers. Its Trainer was left out: it
counts epochs, and continues in the middle of one with other data than the uninterrupted run would have seen, while here
the data of a step are a function of its number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prngeo.config import BaseTraining, TrainConfig
from prngeo.errors import PrngeoError, UsageError
from prngeo.inference.local import ahead
from prngeo.models.devices import training_dtype
from prngeo.models.memory import Halving, explained
from prngeo.progress import Progress, Report
from prngeo.refine.losses import LOSSES, Loss
from prngeo.training.augment import augment, generators
from prngeo.training.crops import Batch, CropSampler
from prngeo.training.logs import Logs
from prngeo.training.network import initialize, new_network
from prngeo.training.regions import IGNORE, CachedRegion
from prngeo.training.score import Judge

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

CHECKPOINT = "base.pt"
CHECKPOINT_EVERY = 100
LOG_EVERY = 20
WARM_UP = 100
GRADIENT_NORM = 5.0
MEMORY_KEYS = "base.batch or base.crop"
_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        config: the run.
        regions: what to train on.
        validation: what to judge on; may be empty.
        folder: of checkpoint and logs.
        start: weights laid over the initial ones, by their names in the segmenter; may be a part.
    """

    config: TrainConfig
    regions: Sequence[CachedRegion]
    validation: Sequence[CachedRegion]
    folder: Path
    start: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class State:
    """Where a training stands, beside the weights.

    Attributes:
        step: steps done.
        best: mean validation IoU of the best network so far; None before the first.
        waited: judgements since then.
        parts: 2 if memory ran out, and batches are computed in halves.
        losses: of the steps since the last row of the log.
        finished: nothing is left to do.
    """

    step: int = 0
    best: float | None = None
    waited: int = 0
    parts: int = 1
    losses: list[float] = field(default_factory=list)
    finished: bool = False


def make_fabric(device: torch.device, base: BaseTraining) -> Fabric:
    """Lightning's Fabric for the devices and precision of a configuration.

    Processes are spawned, so that a training works from the command line and from Python, and so that what was done
    before it is not done again by each of them.

    Raises:
        UsageError: there are too few devices, or they lack the precision.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, base.devices)
    if base.devices > available:
        raise UsageError(f"base.devices is {base.devices}, but this machine has {available} of device {device.type}.")
    if base.batch % base.devices:
        raise UsageError(f"base.batch ({base.batch}) must be a multiple of base.devices ({base.devices}).")
    return Fabric(
        accelerator=device.type,
        devices=base.devices,
        strategy="ddp_spawn" if base.devices > 1 else "auto",
        precision=_PRECISIONS[training_dtype(device, base.precision)],
        plugins=[LightningEnvironment()],
    )


def fit(fabric: Fabric, job: Job, report: Report) -> None:
    """Train until the last step or until patience ends; continue from a checkpoint that is there.

    Afterwards the checkpoint is marked as finished, see `read_checkpoint`.

    Raises:
        UsageError: the network cannot be trained on one crop at a time.
        PrngeoError: memory ran out, also with each batch computed in two halves, or weights became no numbers.
    """
    try:
        with explained(MEMORY_KEYS):
            _Loop(fabric, job).run(report)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "This network normalizes over its batch and needs at least two crops at a time: make base.batch larger, or "
            "where memory ran out base.crop smaller."
        ) from error


class _Loop:
    def __init__(self, fabric: Fabric, job: Job) -> None:
        config, base = job.config, job.config.base
        self.fabric, self.job, self.base = fabric, job, base
        saved = read_checkpoint(job.folder)
        torch.manual_seed(config.seed)
        self.network = new_network(config, job.regions)
        if saved is None:
            initialize(self.network, config)
            self.network.load_state_dict(job.start, strict=False)
        self.network.to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(base.average), use_buffers=True
        ).to(fabric.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=base.learning_rate, weight_decay=base.weight_decay
        )
        self.module, self.stepper = fabric.setup(self.network, self.optimizer)
        self.state = State()
        self.best: dict[str, Tensor] = {}
        if saved is not None:
            self._restore(saved)
        self.halving = Halving(base.batch // base.devices, MEMORY_KEYS, self.state.parts, base.devices == 1)
        weights = {source.name: source.weight for source in config.sources} | {"synthetic": config.towns.weight}
        used = {item.region.source for item in job.regions}
        self.sampler = CropSampler(
            job.regions,
            {name: weight for name, weight in weights.items() if name in used},
            base.crop,
            config.gsd,
            config.seed,
            base.augmentation.scale,
            base.balance,
        )

    def run(self, report: Report) -> None:
        """All steps that are left."""
        job, state, steps = self.job, self.state, self.base.steps
        first = self.fabric.global_rank == 0
        judge = Judge(job.validation, job.config.targets, self.base.crop, job.config.gsd) if first else None
        logs = Logs(job.folder, state.step) if first else None
        self.module.train()
        threads = 1 if self.fabric.device.type == "cpu" else 4
        with ahead(self._batch, range(state.step, steps), threads, threads) as batches:
            for batch in batches:
                if self._advance(batch, judge, logs, report):
                    break
        if logs:
            logs.close()
        self.fabric.barrier()

    def _advance(self, batch: Batch, judge: Judge | None, logs: Logs | None, report: Report) -> bool:
        """One step, and what is due after it; True if it was the last."""
        job, state, steps = self.job, self.state, self.base.steps
        rate = learning_rate(self.base, state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # A resumed run draws the dropout it would have drawn; devices draw their own.
        torch.manual_seed(job.config.seed + state.step + 1_000_003 * self.fabric.global_rank)
        loss = train_step(self.fabric, self.module, self.stepper, batch, LOSSES[self.base.loss], self.halving)
        self.average.update_parameters(self.network)
        state.losses.append(loss)
        state.parts = self.halving.parts
        state.step += 1
        if state.step == steps or not math.isfinite(loss):
            refuse_broken(self.average, f"base network at step {state.step}", "base.learning_rate", rate)
        report(Progress(job.config.name, "base", state.step, steps))
        due = state.step % self.base.validate_every == 0 or state.step == steps
        scores = self._judge(judge) if due else {}
        stop = state.step == steps or (due and self._out_of_patience())
        self._log(logs, rate, scores, stop)
        if due or stop or state.step % CHECKPOINT_EVERY == 0:
            state.finished = stop
            self._save()
        return stop

    def _batch(self, step: int) -> Batch:
        """The crops of a step that belong to this device, there."""
        crops = range(self.base.batch)[self.fabric.global_rank :: self.fabric.world_size]
        batch = self.sampler.batch(step, crops).to(self.fabric.device)
        return augment(batch, self.base.augmentation, generators(self.job.config.seed, step, crops))

    def _judge(self, judge: Judge | None) -> dict[str, float]:
        """Judge the averaged network and keep it if it is the best."""
        state = self.state
        if judge is None:
            return {}
        with self.fabric.autocast():
            scores = judge.score(self.average.module, self.fabric.device)
        if not scores:
            return {}
        mean = sum(scores.values()) / len(scores)
        if state.best is None or mean > state.best:
            state.best, state.waited = mean, 0
            self.best = {name: value.detach().cpu().clone() for name, value in self.average.module.state_dict().items()}
        else:
            state.waited += 1
        logger.info("base network: step %d, validation IoU %.4f (best %.4f)", state.step, mean, state.best)
        return {"validation_iou": mean} | {f"validation_iou_{name}": value for name, value in scores.items()}

    def _out_of_patience(self) -> bool:
        """True, on every device, if the first one has waited long enough for a better network."""
        waited: int = self.fabric.broadcast(self.state.waited)
        if not self.base.patience or waited < self.base.patience:
            return False
        logger.info("base network: %d judgements without a better one, stopped", waited)
        return True

    def _log(self, logs: Logs | None, rate: float, scores: dict[str, float], last: bool) -> None:
        """A row of the log, now and then; the loss is the mean since the last row."""
        state = self.state
        if not (scores or last or state.step % LOG_EVERY == 0):
            return
        loss = sum(state.losses) / len(state.losses)
        state.losses.clear()
        logger.info("base network: step %d of %d, loss %.4f", state.step, self.base.steps, loss)
        if logs:
            logs.write(state.step, {"loss": loss, "learning_rate": rate} | scores)

    def _save(self) -> None:
        if self.fabric.global_rank:
            return
        path = self.job.folder / CHECKPOINT
        partial = path.with_suffix(".partial")
        content = {
            "state": asdict(self.state),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "best": self.best,
        }
        torch.save(content, partial)
        partial.replace(path)

    def _restore(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["precision"]:
            self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.state, self.best = State(**saved["state"]), saved["best"]
        logger.info("base network: continuing at step %d of %d", self.state.step, self.base.steps)


def train_step(
    fabric: Fabric,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Loss,
    halving: Halving,
) -> float:
    """One optimizer step on a batch of crops; the loss before it.

    Args:
        fabric: has set up network and optimizer.
        network: takes image and validity.
        optimizer: of the network's weights.
        batch: crops on the network's device.
        loss: see prngeo.refine.losses.
        halving: decides in how many parts the batch is computed.
    """

    def backward(parts: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in batch.split(parts):
            logits: Tensor = network(part.image, part.valid)
            known = part.labels != IGNORE
            value = loss(logits.float(), (part.labels == 1).float(), known.float())
            fabric.backward(value * (len(part.labels) / len(batch.labels)))
            total += float(value.detach()) * len(part.labels) / len(batch.labels)
        return total

    found = halving(backward)
    fabric.clip_gradients(network, optimizer, max_norm=GRADIENT_NORM, error_if_nonfinite=False)
    optimizer.step()
    return found


def refuse_broken(network: torch.nn.Module, what: str, key: str, rate: float) -> None:
    """Stop where weights are no numbers any more: nothing can be learned from there.

    Args:
        network: with its weights.
        what: it is and when, for the message.
        key: of the learning rate in the configuration.
        rate: the learning rate.

    Raises:
        PrngeoError: a weight or a statistic of the normalization is infinite or not a number.
    """
    if all(tensor.isfinite().all() for tensor in network.state_dict().values() if tensor.is_floating_point()):
        return
    raise PrngeoError(
        f"Training broke down: weights of the {what} are no numbers any more. Make {key} smaller (it was {rate:.3g}) "
        "and start again with --overwrite."
    )


def learning_rate(base: BaseTraining, step: int) -> float:
    """Linear warm-up (at most a tenth of the steps), constant, then linear to zero from `decay_from` of the steps."""
    warm_up = max(1, min(WARM_UP, base.steps // 10))
    decay_start = base.decay_from * base.steps
    falling = max(0.0, (step - decay_start) / max(1.0, base.steps - decay_start))
    return base.learning_rate * min(1.0, (step + 1) / warm_up) * (1 - falling)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of a training, on the CPU: `state` (see State), `network`, `average`, `best` and more.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own for a damaged file
        raise UsageError(f"The checkpoint {path} is damaged. Start again with --overwrite.") from error
    return saved
