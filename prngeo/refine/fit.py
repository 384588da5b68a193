"""Fitting a refiner on logits that its base network made of scenes it had not seen."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from prngeo.models.devices import training_precision
from prngeo.models.memory import Halving
from prngeo.refine.branches import Refiner
from prngeo.refine.network import Batch
from prngeo.refine.pseudo_labels import pseudo_labels

logger = logging.getLogger(__name__)

IGNORE = 255
LEAST_KNOWN = 0.1
"""Share of labelled pixels below which another window is drawn, so that no step is spent on nodata."""
DRAWS = 20
"""After so many the one with the most is taken."""
STEPS, PASSES = 800, 60
"""If nothing else is said: so many steps, or as many as draw every labelled pixel this often, if these are fewer. With
two tiles, 800 steps learn them by heart; with 25, 200 steps gain less than half as much (examples/refine_study)."""


@dataclass(frozen=True)
class LogitMap:
    """One labelled map of base logits; H and W are multiples of the refiner's reduction.

    Attributes:
        source: data set it belongs to.
        logits: (targets, H, W) float16.
        image: (bands, H / reduction, W / reduction) float16 in 0..1.
        valid: (H / reduction, W / reduction) float16, share of valid pixels.
        labels: (targets, H, W) uint8: 0, 1, or 255 where unlabelled.
    """

    source: str
    logits: NDArray[np.float16]
    image: NDArray[np.float16]
    valid: NDArray[np.float16]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class FitOptions:
    """How a refiner is fitted.

    Attributes:
        window: side of a training window in pixels.
        patch: side of a pseudo-label patch in pixels.
        pseudo: thresholds of patches chosen together or each for its own patch, see prngeo.refine.pseudo_labels.
        pseudo_weight: share of the pseudo-labels in the loss, 0 to 1; the rest is ground truth. None takes that of the
            variant: 0.7 for the published network, none for the fast one, which gains more without them
            (examples/refine_study).
        steps: optimizer steps; None goes by the labels, see `STEPS`.
        batch: windows a step.
        learning_rate: largest; it falls to zero along a cosine.
        seed: decides everything random.
    """

    window: int = 1024
    patch: int = 128
    pseudo: Literal["joint", "per_patch"] = "joint"
    pseudo_weight: float | None = None
    steps: int | None = None
    batch: int = 2
    learning_rate: float = 1e-3
    seed: int = 0

    def pseudo_share(self, refiner: Refiner) -> float:
        """The weight of pseudo-labels for a refiner: as given, else that of its variant."""
        return refiner.pseudo_weight if self.pseudo_weight is None else self.pseudo_weight

    def steps_for(self, maps: Sequence[LogitMap]) -> int:
        """Optimizer steps on these maps."""
        if self.steps is not None:
            return self.steps
        shapes = np.array([item.labels.shape[1:] for item in maps])
        ground = min(float(shapes.prod(1).sum()), labelled_pixels(maps) / LEAST_KNOWN)
        drawn = self.batch * float(np.minimum(shapes, self.window).prod(1).mean())
        return min(STEPS, max(1, math.ceil(PASSES * ground / drawn)))


def labelled_pixels(maps: Sequence[LogitMap]) -> int:
    """Pixels with a label of at least one target."""
    return sum(int(np.count_nonzero((item.labels != IGNORE).any(0))) for item in maps)


def fit_refiner(
    refiner: Refiner,
    maps: Sequence[LogitMap],
    options: FitOptions,
    device: torch.device,
    on_step: Callable[[int], None] = lambda _: None,
    on_loss: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Refiner:
    """Train a refiner; sources are drawn equally often.

    Args:
        refiner: changed in place; its variant decides the loss.
        maps: from scenes that the base network was not trained on.
        options: see FitOptions.
        device: where to compute.
        on_step: is told the number of steps done, after every one.
        on_loss: is told the number of steps done and the loss of the last, now and then.

    Returns:
        The refiner, in evaluation mode.

    Raises:
        PrngeoError: memory ran out, also with each batch computed in two halves.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    refiner = refiner.to(device).train()
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=options.learning_rate, weight_decay=refiner.weight_decay)
    steps = options.steps_for(maps)
    warm_up = 0.2 if steps == 10 else 0.1  # torch divides by zero if exactly one step warms up
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps, pct_start=warm_up
    )
    weight = options.pseudo_share(refiner)
    # Without weight no loss reads them, so that any labels will do.
    pseudo = [_pseudo(item, options.patch, options.pseudo == "joint") if weight else item.labels for item in maps]
    # Windows begin where patches do, so that a local branch cuts them as pseudo-labels were cut.
    every = math.lcm(options.patch, refiner.reduction)
    sources = sorted({item.source for item in maps})
    by_source = [[i for i, item in enumerate(maps) if item.source == source] for source in sources]
    halving = Halving(options.batch, "the refiner's batch or windows (refiner.batch, refiner.window)")
    for number in range(steps):
        picks = [by_source[rng.integers(len(sources))] for _ in range(options.batch)]
        drawn = [_labelled_window(maps, pseudo, pick, refiner.reduction, options, every, rng) for pick in picks]
        logits, image, valid, truth, labels = (torch.stack(part).to(device) for part in zip(*drawn, strict=True))
        batch = Batch(logits, image, valid, (truth == 1).float(), labels.float(), (truth != IGNORE).float())

        def backward(parts: int, batch: Batch = batch) -> float:
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for part in _split(batch, parts):
                with training_precision(device):
                    loss = refiner.loss(part, weight) * (len(part.logits) / options.batch)
                loss.backward()
                total += float(loss.detach())
            return total

        loss = halving(backward)
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(number + 1)
        if (number + 1) % 20 == 0 or number + 1 == steps:
            logger.info("refiner: step %d of %d, loss %.4f", number + 1, steps, loss)
            on_loss(number + 1, loss)
    return refiner.eval()


def _split(batch: Batch, parts: int) -> list[Batch]:
    columns = [getattr(batch, field.name).tensor_split(parts) for field in fields(batch)]
    return [Batch(*part) for part in zip(*columns, strict=True)]


def _pseudo(item: LogitMap, patch: int, joint: bool) -> NDArray[np.uint8]:
    """(targets, H, W) pseudo-labels of the map, each target for itself."""
    labels = torch.from_numpy(item.labels)
    maps = [
        pseudo_labels(
            torch.from_numpy(item.logits[t : t + 1].astype(np.float32)),
            labels[t : t + 1] == 1,
            labels[t : t + 1] != IGNORE,
            patch,
            joint,
        )
        for t in range(len(labels))
    ]
    drawn: NDArray[np.uint8] = torch.cat(maps).to(torch.uint8).numpy()
    return drawn


def _labelled_window(
    maps: Sequence[LogitMap],
    pseudo: Sequence[NDArray[np.uint8]],
    choice: Sequence[int],
    reduction: int,
    options: FitOptions,
    every: int,
    rng: np.random.Generator,
) -> tuple[Tensor, ...]:
    """A window of one of the chosen maps that holds labels, if there is any; see `_window`."""
    best = -1.0
    for _ in range(DRAWS):
        index = choice[int(rng.integers(len(choice)))]
        drawn = _window(maps[index], pseudo[index], reduction, options.window, every, rng)
        known = float((drawn[3] != IGNORE).float().mean())
        if known > best:
            best, found = known, drawn
        if best >= LEAST_KNOWN:
            break
    return found


def _window(
    item: LogitMap, pseudo: NDArray[np.uint8], reduction: int, size: int, every: int, rng: np.random.Generator
) -> tuple[Tensor, ...]:
    """A random window (padded as no-data if the map is smaller), flipped and rotated."""
    height, width = item.labels.shape[1:]
    row, col = (int(rng.integers(0, max(0, n - size) // every, endpoint=True)) * every for n in (height, width))
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))

    def cut(array: NDArray[np.generic], step: int, fill: float) -> Tensor:
        part = array[..., row // step : (row + size) // step, col // step : (col + size) // step]
        tensor = torch.from_numpy(part.astype(np.uint8 if array.dtype == np.uint8 else np.float32))
        missing = (0, size // step - tensor.shape[-1], 0, size // step - tensor.shape[-2])
        tensor = torch.rot90(F.pad(tensor, missing, value=fill), turns, (-2, -1))
        return tensor.flip(-1) if flip else tensor

    return (
        cut(item.logits, 1, 0.0),
        cut(item.image, reduction, 0.0),
        cut(item.valid[None], reduction, 0.0),
        cut(item.labels, 1, IGNORE),
        cut(pseudo, 1, 0),
    )
