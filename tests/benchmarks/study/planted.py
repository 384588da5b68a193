"""Towns with a planted bias. How much of what it costs does PRN win back?

Two ways to plant it: `logits` adds a smooth random field to the base logits, so that their order within a small
neighborhood stays; `haze` puts one side of every town in haze before the base sees it, which also hides things.

The share is (refined - biased) / (unbiased - biased), of pooled IoUs on towns that PRN was not fitted on; every IoU at
the best single threshold of the fitting towns.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from prngeo.models.bundle import open_bundle
from prngeo.models.devices import Compute
from prngeo.models.runtime import Runtime
from prngeo.refine.fit import LogitMap
from prngeo.synth import Town, make_town
from prngeo.synth.fields import smooth_noise
from prngeo.tiling.grid import Window
from prngeo.training.logits import as_map, region_logits
from prngeo.training.regions import CachedRegion, Region
from study import prn
from study.baselines import at, iou
from study.prn import Prn, base_logits

logger = logging.getLogger(__name__)

SIZE, GSD = 1024, 0.5
FIT, TEST = range(900, 924), range(950, 954)
"""Seeds; the embedded model was trained on others."""
KINDS = ("logits", "haze")
HAZE = 1.0
"""Its amplitude, see prngeo.synth.make_town."""
FIELD, WAVELENGTH = 2.0, 200.0
"""Standard deviation of the field of logits, and the distance in pixels over which it changes."""
FIELDS = 4
"""Every town that PRN is fitted on is seen with so many."""
PLANTED = Prn(reduction=2, width=8, detail=True, window=512, batch=4, steps=800, learning_rate=3e-3, weight=0.0)


@dataclass(frozen=True)
class Planted:
    """The case of one target and amplitude.

    Attributes:
        target: roads or buildings.
        kind: logits or haze.
        settings: of PRN.
        work: where logits are kept.
        compute: device and precision.
    """

    target: str
    kind: str
    settings: Prn
    work: Path
    compute: Compute

    def run(self) -> dict[str, object]:
        """IoUs and the share that is won back."""
        device = torch.device(self.compute.device)
        fit, test, plain_fit, plain = (
            self._maps(seeds, kind, fields)
            for seeds, kind, fields in ((FIT, self.kind, FIELDS), (TEST, self.kind, 1), (FIT, "", 1), (TEST, "", 1))
        )
        refiner, seconds = prn.fit(self.settings, fit, device)
        known, refined = ([prn.refine(self.settings, refiner, tile, device) for tile in part] for part in (fit, test))
        scores = {
            "biased": _score(base_logits(fit), fit, base_logits(test), test),
            "unbiased": _score(base_logits(plain_fit), plain_fit, base_logits(plain), plain),
            "refined": _score(known, fit, refined, test),
        }
        lost = scores["unbiased"] - scores["biased"]
        share = (scores["refined"] - scores["biased"]) / lost
        return {
            "target": self.target, "kind": self.kind, **scores, "share": share, "fit_seconds": seconds,
            "fit_towns": len(FIT), "test_towns": len(TEST), "settings": asdict(self.settings),
        }  # fmt: skip

    def _maps(self, seeds: Sequence[int], kind: str, fields: int) -> list[LogitMap]:
        bias = HAZE if kind == "haze" else 0.0
        bundle = open_bundle()
        channel = list(bundle.card.targets).index(self.target)
        runtime, found = None, []
        for seed in seeds:
            item = _town(seed, bias, self.target)
            path = self.work / "planted" / f"{seed}-{bias}.npy"
            if not path.exists():
                logger.info("planted bias %s: logits of town %d", bias, seed)
                runtime = runtime or Runtime(bundle, self.compute)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, region_logits(item, runtime, bundle.card, refine=False).base.astype(np.float16))
            logits = np.load(path)[channel : channel + 1].astype(np.float32)
            found += [as_map(item, one, self.settings.reduction) for one in self._biased(logits, kind, seed, fields)]
        return found

    @staticmethod
    def _biased(logits: np.ndarray, kind: str, seed: int, fields: int) -> list[np.ndarray]:
        if kind != "logits":
            return [logits]
        at = np.arange(SIZE, dtype=float)
        return [logits + FIELD * smooth_noise(at, at, WAVELENGTH, seed + 1000 * number) for number in range(fields)]


def run(target: str, kind: str, settings: Prn, work: Path, compute: Compute) -> None:
    """Keep the result as a file, if it is missing."""
    path = work / "planted" / f"{target}-{kind}.json"
    if path.exists():
        return
    result = Planted(target, kind, settings, work, compute).run()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, default=float))
    logger.info("planted bias: %s", {key: result[key] for key in ("target", "biased", "refined", "unbiased", "share")})


@lru_cache(maxsize=len(FIT) + len(TEST))
def _made(seed: int, bias: float) -> Town:
    return make_town(SIZE, GSD, seed, bias)


def _town(seed: int, bias: float, target: str) -> CachedRegion:
    town = _made(seed, bias)
    image = np.concatenate([np.moveaxis(town.image, 0, -1), np.full((SIZE, SIZE, 1), 255, np.uint8)], -1)
    whole = Window(0, 0, SIZE, SIZE)
    region = Region(str(seed), "towns", "train", (GSD, GSD), (SIZE, SIZE), (target,), f"town {seed}", whole)
    return CachedRegion(region, image, town.masks[target].astype(np.uint8)[..., None])


def _score(known: list[np.ndarray], fit: list[LogitMap], logits: list[np.ndarray], test: list[LogitMap]) -> float:
    found = prn.tuned(known, fit)
    return iou([one.mask for one in at(logits, found.temperature, found.threshold)], test)
