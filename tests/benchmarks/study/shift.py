"""Region shift: a base of one region on another, where a few tiles are labelled. PRN against fine-tuning.

Every method gets the same labelled tiles and the same seconds of computing, and takes its threshold from those tiles.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prngeo.config import Augmentation, BaseTraining, Source
from prngeo.models.bundle import Bundle, write_bundle
from prngeo.models.card import TargetCard
from prngeo.models.devices import Compute
from prngeo.models.memory import Halving
from prngeo.models.runtime import Runtime, build_segmenter
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.scene import open_scene
from prngeo.refine.fit import LogitMap
from prngeo.refine.losses import segmentation_loss
from prngeo.tiling.grid import Window
from prngeo.training.augment import augment, generators
from prngeo.training.crops import CropSampler
from prngeo.training.labels import Pixels, TargetLabels
from prngeo.training.logits import as_map, region_logits
from prngeo.training.loop import make_fabric, train_step
from prngeo.training.regions import IGNORE, CachedRegion, Region
from study import prn
from study.baselines import at
from study.prn import Prn, base_logits
from study.scoring import Prediction, keep

logger = logging.getLogger(__name__)

COUNTS = (2, 4, 8, 20, 36)
SHIFTED = Prn(detail=True, window=512, batch=2, learning_rate=2e-3, weight=0.0)
"""Of large tiles; the steps follow from the seconds, or are as many as labels allow, if these are fewer."""
PRNS = {
    "prn": SHIFTED,
    "prn no-image": replace(SHIFTED, image=False),
    "prn half-resolution": replace(SHIFTED, reduction=2, width=8, window=256, batch=4),
}
METHODS = ("base", "tuned", *PRNS, "fine-tuned", "both")
PROBE = 4
"""Steps that tell how long one takes."""


@dataclass(frozen=True)
class Shift:
    """A base network in a region it was not trained on.

    Attributes:
        base: the bundle.
        tiles: labelled tiles of the new region, in the order in which they are used.
        test: test tiles of the new region.
        folder: where results go.
        compute: device and precision.
        seconds: of computing for every method; on the CPU those of all threads together.
    """

    base: Bundle
    tiles: Sequence[CachedRegion]
    test: Sequence[CachedRegion]
    folder: Path
    compute: Compute
    seconds: float

    @property
    def channel(self) -> int:
        """Of the base's logits."""
        return list(self.base.card.targets).index(self.tiles[0].region.targets[0])

    def settings(self, method: str) -> Prn:
        """Of PRN, for the size of the tiles: many small steps, as time is short."""
        chosen = PRNS.get(method, PRNS["prn"])
        side = max(max(item.region.shape) for item in self.tiles)
        side = min(side + -side % 64, chosen.window)
        return replace(chosen, window=side, patch=side // 8, batch=chosen.batch * (chosen.window // side) ** 2)

    def run(self, method: str, count: int) -> None:
        """Compute a result if it is missing; with more tiles than there are, nothing."""
        if count > len(self.tiles):
            return
        if method == "base":
            count = 0
        path = self.folder / f"{method.replace(' ', '-')}-{count}.json"
        if path.exists():
            return
        logger.info("region shift: %s with %d tiles", method, count)
        predictions, notes = self._predict(method, self.tiles[:count])
        keep(path, predictions, [item.labels[..., 0] for item in self.test], notes)

    def _predict(self, method: str, tiles: Sequence[CachedRegion]) -> tuple[list[Prediction], dict[str, object]]:
        notes: dict[str, object] = {"tiles": len(tiles), "seconds": self.seconds}
        bundle, share = self.base, 1.0
        if method in ("fine-tuned", "both"):
            share = 0.5 if method == "both" else 1.0
            bundle, notes["base_steps"] = self._fine_tuned(tiles, share * self.seconds)
        settings = self.settings(method)
        mine, test = (self._maps(bundle, part, settings.reduction) for part in (tiles, self.test))
        if method == "base":
            return at(base_logits(test), 1.0, 0.5), {"labelled": len(self.tiles)}
        fitted, refined = base_logits(mine), base_logits(test)
        if method in PRNS or method == "both":
            device = torch.device(self.compute.device)
            step = self._time(lambda: prn.fit(replace(settings, steps=PROBE), mine, device)) / PROBE
            most = settings.options().steps_for(mine)
            settings = replace(settings, steps=min(most, max(PROBE, round(share * self.seconds / step))))
            notes["prn_steps"] = settings.steps
            refiner, _ = prn.fit(settings, mine, device)
            fitted, refined = ([prn.refine(settings, refiner, tile, device) for tile in part] for part in (mine, test))
        found = prn.tuned(fitted, mine)
        notes |= {"temperature": found.temperature, "threshold": found.threshold}
        return at(refined, found.temperature, found.threshold), notes

    def _maps(self, bundle: Bundle, items: Sequence[CachedRegion], reduction: int) -> list[LogitMap]:
        runtime = Runtime(bundle, self.compute)
        found = []
        for item in items:
            path = self.folder / "logits" / f"{bundle.card.weights_sha256[:12]}-{item.region.key}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                logits = region_logits(item, runtime, bundle.card, refine=False).base
                np.save(path, logits[self.channel : self.channel + 1].astype(np.float16))
            found.append(as_map(item, np.load(path), reduction))
        return found

    def _fine_tuned(self, tiles: Sequence[CachedRegion], seconds: float) -> tuple[Bundle, int]:
        """The base after training on the tiles for so long, and the steps it took."""
        device = torch.device(self.compute.device)
        network = build_segmenter(self.base)
        tensors = {
            k.removeprefix("network."): v.float() for k, v in self.base.tensors().items() if v.is_floating_point()
        }
        network.load_state_dict(tensors, strict=False)
        network = network.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=FINE_TUNE.learning_rate, weight_decay=1e-4)
        fabric = make_fabric(device, BaseTraining())
        module, stepper = fabric.setup(network, optimizer)
        halving = Halving(FINE_TUNE.batch, "FINE_TUNE.batch")
        source = tiles[0].region.source
        gsd = tiles[0].region.gsd[0]
        sampler = CropSampler(tiles, {source: 1.0}, FINE_TUNE.crop, (0.8 * gsd, 1.25 * gsd), 0)

        def step(number: int) -> None:
            crops = range(FINE_TUNE.batch)
            batch = augment(sampler.batch(number, crops), Augmentation(), generators(0, number, crops))
            labels = torch.full((len(batch.labels), len(self.base.card.targets), *batch.labels.shape[2:]), IGNORE)
            labels[:, self.channel] = batch.labels[:, 0]
            given = replace(batch, labels=labels).to(device)
            train_step(fabric, module, stepper, given, segmentation_loss, halving)

        each = self._time(lambda: [step(number) for number in range(PROBE)]) / PROBE
        steps = max(PROBE, round(seconds / each))
        for number in range(PROBE, steps):
            rate = FINE_TUNE.learning_rate * min(1.0, 2 * (1 - number / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            step(number)
        named = {f"network.{name}": tensor for name, tensor in network.eval().state_dict().items()}
        plain = {name: TargetCard() for name in self.base.card.targets}
        card = self.base.card.model_copy(update={"refiner": None, "targets": plain})
        return write_bundle(self.folder / f"fine-tuned-{len(tiles)}-{round(seconds)}", card, named), steps

    def _time(self, call: Callable[[], object]) -> float:
        clock = time.process_time if self.compute.device == "cpu" else time.perf_counter
        started = clock()
        call()
        return clock() - started


@dataclass(frozen=True)
class _FineTune:
    learning_rate: float = 5e-4
    batch: int = 4
    crop: int = 256


FINE_TUNE = _FineTune()


def banepa(root: Path) -> tuple[list[CachedRegion], list[CachedRegion]]:
    """Tiles of 256 pixels of 0.3 m of a town that the embedded model never saw: to label, and to test.

    The scene is averaged two by two. The upper rows of tiles are to label, the lower ones to test, a gap between them.
    """
    path = str(root / "banepa" / "scene.tif")
    with open_scene(path) as scene:
        whole = Window(0, 0, scene.height // 2 * 2, scene.width // 2 * 2)
        pixels, valid = scene.read(whole)
        grid = GeoGrid(scene.height, scene.width, scene.transform, scene.crs)
        place = Pixels(path, scene.name, grid, scene.gsd)
        source = Source(name="banepa", images=path, labels={"buildings": "banepa/buildings_osm.geojson"})
        with ExitStack() as stack:
            reader = TargetLabels("buildings", source, root, [place]).open(place, stack)
            assert reader is not None
            truth = reader.read(whole)
    pixels, valid, truth = (_halved(part.astype(np.float32)) for part in (pixels, valid, truth == 1))
    image = np.moveaxis(np.rint(np.concatenate([pixels, valid[None] > 0.5]) * 255).astype(np.uint8), 0, -1)
    labels = np.where(valid > 0.5, truth >= 0.5, IGNORE).astype(np.uint8)[..., None]
    height, width = labels.shape[:2]
    below = height - height // 256 * 256

    def tile(row: int, col: int) -> CachedRegion:
        here = slice(row, row + 256), slice(col, col + 256)
        region = Region(
            f"banepa-{row}-{col}", "banepa", "train", (0.3, 0.3), (256, 256), ("buildings",), path,
            Window(row, col, 256, 256), block=str(row),
        )  # fmt: skip
        return CachedRegion(region, image[here], labels[here])

    rows, cols = range(0, height - 255, 256), range(0, width - 255, 256)
    split = len(rows) // 2 + 1
    fit = [tile(row, col) for row in rows[:split] for col in cols]
    return fit, [tile(row + below, col) for row in rows[split:] for col in cols]


def _halved(array: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = array.shape[-2:]
    mean: NDArray[np.float32] = array.reshape(*array.shape[:-2], height // 2, 2, width // 2, 2).mean((-3, -1))
    return mean


def spread(items: Sequence[CachedRegion]) -> list[CachedRegion]:
    """Tiles in an order in which the first few come from different blocks; those without objects last."""
    blocks: dict[str, list[CachedRegion]] = {}
    for item in sorted(items, key=lambda item: item.region.key):
        blocks.setdefault(item.region.block, []).append(item)
    turns = max(map(len, blocks.values()))
    ordered = [block[turn] for turn in range(turns) for block in blocks.values() if turn < len(block)]
    return sorted(ordered, key=lambda item: not (item.labels == 1).any())
