"""Base networks of the study and their logits: of training tiles always from a network that did not see them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prngeo.models.bundle import Bundle, open_bundle, write_bundle
from prngeo.models.card import Card, NetworkCard, TargetCard
from prngeo.models.devices import Compute
from prngeo.models.runtime import Runtime
from prngeo.models.segmenter import IMAGENET_MEAN, IMAGENET_STD
from prngeo.training.base import train_base
from prngeo.training.folds import cut_blocks, outside, split_folds
from prngeo.training.logits import region_logits
from prngeo.training.regions import CachedRegion
from study.data import DataSet, config, held_out

logger = logging.getLogger(__name__)

FOLDS = 2
Half = NDArray[np.float16]


@dataclass(frozen=True)
class Base:
    """A base network.

    Attributes:
        name: as in the tables.
        architecture: by its segmentation-models-pytorch name.
        encoder: likewise.
        weights: what the encoder starts from; "embedded" is the embedded model's, which then tells what may be trained
            on: PRN gets the tiles that model was not trained on, and the base the others.
    """

    name: str
    architecture: str
    encoder: str
    weights: str


EMBEDDED = "embedded"
BASES = {
    item.name: item
    for item in (
        Base("deeplab-lite0", "deeplabv3plus", "tu-tf_efficientnet_lite0", "embedded"),
        Base("linknet-lite0", "linknet", "tu-tf_efficientnet_lite0", "imagenet-lite0"),
        Base("fpn-resnet18", "fpn", "resnet18", "none"),
    )
}


@dataclass(frozen=True)
class Schedule:
    """How long a base network is trained; folds take as many steps as the network of all tiles."""

    steps: int = 500
    batch: int = 4
    learning_rate: float = 1e-3


class BaseLogits:
    """Logits of one base network on one data set, kept in a folder.

    PRN is fitted on the tiles `fit` and judged on those of `validation`. If the latter are of one place, that of a
    cross-fitted base is judged on the smallest block of training tiles, too: thresholds differ between places.

    Args:
        data: the data set.
        base: name of the base.
        roles: its tiles, see study.data.load.
        root: folder of the data.
        work: where everything is kept.
        compute: device and precision.
        schedule: of training.
    """

    def __init__(
        self,
        data: DataSet,
        base: str,
        roles: dict[str, list[CachedRegion]],
        root: Path,
        work: Path,
        compute: Compute,
        schedule: Schedule,
    ) -> None:
        self.data, self.base, self.root, self.work, self.compute = data, base, root, work, compute
        self.schedule = schedule
        self.folder = work / "bases" / data.name / base
        self.train, self.validation, self.test = (roles[name] for name in ("train", "validation", "test"))
        self.crossed = base != EMBEDDED and BASES[base].weights != EMBEDDED
        self.folds: list[int | None] = [None] * len(self.train)
        if self.crossed:
            if any(item.region.role == "refine" for item in self.train):
                raise ValueError(f"{data.name} is one scene, of which {base} cannot be cross-fitted")
            self.train = cut_blocks(self.train, FOLDS)
            self.folds = split_folds(self.train, FOLDS)
            self.fit = [item for item, fold in zip(self.train, self.folds, strict=True) if fold is not None]
            if len({item.region.block for item in self.validation}) == 1:
                tiles = Counter(item.region.block for item in self.fit)
                judged = min(sorted(tiles), key=tiles.__getitem__)
                self.validation = [*self.validation, *(item for item in self.fit if item.region.block == judged)]
                self.fit = [item for item in self.fit if item.region.block != judged]
        else:
            self.fit = [item for item in self.train if held_out(data, item)]

    def bundle(self, fold: int | None = None) -> Bundle:
        """The trained network: of all training tiles, or of those outside a fold."""
        if self.base == EMBEDDED:
            return open_bundle()
        place = self.folder / ("whole" if fold is None else f"without-{fold}")
        if (place / "bundle" / "card.json").exists():
            return open_bundle(place / "bundle")
        if fold is None:
            used = [item for item in self.train if self.crossed or not held_out(self.data, item)]
        else:
            used = outside(self.train, self.folds, fold)
        started = time.perf_counter()
        spec = BASES[self.base]
        start = encoder_of(open_bundle()) if spec.weights == EMBEDDED else None
        network = train_base(self._config(), used, place, torch.device(self.compute.device), start)
        card = Card(
            name=self.base,
            version="1",
            license="Apache-2.0",
            targets={self.data.target: TargetCard()},
            gsd=self.data.gsd,
            network=NetworkCard(
                architecture=spec.architecture, encoder=spec.encoder, mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD)
            ),
            training={
                "seconds": round(time.perf_counter() - started),
                "tiles": len(used),
                "steps": self.schedule.steps,
            },
        )
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        return write_bundle(place / "bundle", card, tensors)

    def _config(self):
        spec = BASES[self.base]
        return config(
            self.data,
            self.root,
            self.work,
            self.base,
            network={
                "architecture": spec.architecture,
                "encoder": spec.encoder,
                "weights": "none" if spec.weights == EMBEDDED else spec.weights,
            },
            base={
                "steps": self.schedule.steps,
                "batch": self.schedule.batch,
                "learning_rate": self.schedule.learning_rate,
                "average": 0.98,
            },
        )

    def of(self, items: Sequence[CachedRegion], in_sample: bool = False) -> list[Half]:
        """Logits (H, W) float16 of tiles; of training tiles out of fold, unless in-sample ones are asked for."""
        train = {item.region.key: number for number, item in enumerate(self.train)}
        runtimes: dict[int | None, Runtime] = {}
        found = []
        for item in items:
            number = train.get(item.region.key)
            fold = None if in_sample or number is None else self.folds[number]
            path = self.folder / "logits" / f"{item.region.key}{'-in-sample' if in_sample else ''}.npy"
            if not path.exists():
                if fold not in runtimes:
                    runtimes[fold] = Runtime(self.bundle(fold), self.compute)
                logger.info("%s on %s: logits of %s", self.base, self.data.name, item.region.key)
                runtime = runtimes[fold]
                channel = list(runtime.card.targets).index(self.data.target)
                logits = region_logits(item, runtime, runtime.card, refine=False).base[channel]
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                with partial.open("wb") as file:
                    np.save(file, logits.astype(np.float16))
                partial.replace(path)
            found.append(np.load(path))
        return found

    def milliseconds(self, side: int = 512) -> float:
        """Of the base network for one tile of `side` pixels."""
        runtime = Runtime(self.bundle(), self.compute)
        image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
        return milliseconds(lambda: runtime.segment(image, np.ones((1, side, side), bool)))


def encoder_of(bundle: Bundle) -> dict[str, torch.Tensor]:
    """The weights of a bundle's encoder, by their names in a segmenter."""
    prefix = "network."
    tensors = {
        name.removeprefix(prefix): tensor for name, tensor in bundle.tensors().items() if name.startswith(prefix)
    }
    return {name: tensor.float() for name, tensor in tensors.items() if ".encoder." in name}


def milliseconds(call) -> float:
    """The least time of five calls."""
    call()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times) * 1000
