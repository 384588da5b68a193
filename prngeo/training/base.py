"""Training the base network: resumable, on one device or several, with the best network at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.models.segmenter import Segmenter
from prngeo.progress import Report, silent
from prngeo.training.loop import Job, fit, make_fabric, read_checkpoint
from prngeo.training.network import new_network
from prngeo.training.regions import CachedRegion
from prngeo.training.several import fit_on_several


def train_base(
    config: TrainConfig,
    regions: Sequence[CachedRegion],
    folder: Path,
    device: torch.device,
    start: Mapping[str, Tensor] | None = None,
    report: Report = silent,
    validation: Sequence[CachedRegion] = (),
) -> Segmenter:
    """Train the base network, or continue from the last checkpoint in `folder`.

    Args:
        config: the run.
        regions: what to train on.
        folder: checkpoint (`base.pt`) and curves (`logs/metrics.csv`, TensorBoard's files).
        device: where to compute.
        start: weights laid over the initial ones, by their names in the segmenter; it may hold a part of them.
        report: is told of every step.
        validation: what the averaged network is judged on every `base.validate_every` steps.

    Returns:
        The network with averaged weights, on the CPU and in evaluation mode: the best one judged, or without
        validation the last one.

    Raises:
        UsageError: there is nothing to train on, or network, weights or devices do not suit.
        PrngeoError: memory ran out, also with each batch computed in two halves.
    """
    if not regions:
        raise UsageError("There is nothing to train on: no scene of the sources has the role train.")
    folder.mkdir(parents=True, exist_ok=True)
    saved = read_checkpoint(folder)
    if saved is None or not saved["state"]["finished"]:
        fabric = make_fabric(device, config.base)
        job = Job(config, regions, validation, folder, dict(start or {}))
        (fit if config.base.devices == 1 else fit_on_several)(fabric, job, report)
        saved = read_checkpoint(folder)
        assert saved is not None
    average = {name.removeprefix("module."): value for name, value in saved["average"].items() if name != "n_averaged"}
    network = new_network(config, regions)
    network.load_state_dict(saved["best"] or average)
    return network.eval()
