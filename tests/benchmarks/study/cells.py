"""The cells of the study: every method on every data set and base, each kept as a file of its own."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from prngeo.refine.calibrate import beats
from prngeo.refine.fit import LogitMap
from study import baselines, prn
from study.baselines import at, probability
from study.bases import BaseLogits, milliseconds
from study.prn import Prn, base_logits
from study.scoring import Prediction, keep

logger = logging.getLogger(__name__)

FAST = Prn(detail=True, weight=0.0)
SHORT = replace(FAST, steps=200, weight=0.5)
"""What ablations start from, but for the narrow one: few steps, and pseudo-labels."""
PAPER = Prn("paper", window=256, patch=64, pseudo="per_patch", weight=0.7, steps=80, batch=1, learning_rate=8e-4)
ABLATIONS = {
    "short": SHORT,
    "per_patch": replace(SHORT, pseudo="per_patch"),
    "weight-0": replace(SHORT, weight=0.0),
    "weight-0.3": replace(SHORT, weight=0.3),
    "weight-0.7": replace(SHORT, weight=0.7),
    "weight-1": replace(SHORT, weight=1.0),
    "patch-32": replace(SHORT, patch=32),
    "patch-64": replace(SHORT, patch=64),
    "patch-256": replace(SHORT, patch=256),
    "in-sample": replace(SHORT, in_sample=True),
    "no-image": replace(SHORT, image=False),
    "weight-0-no-image": replace(SHORT, weight=0.0, image=False),
    "window-256": replace(SHORT, window=256, batch=32),
    "window-512": replace(SHORT, window=512, batch=8),
    "half-resolution": replace(SHORT, reduction=2, width=8),
    "no-detail": replace(SHORT, detail=False),
    "narrow": replace(FAST, width=8),
    "statistics": replace(SHORT, statistics=True),
}
PRNS = {"fast": FAST, "paper": PAPER} | {f"fast {name}": value for name, value in ABLATIONS.items()}
ROWS = ("base", "tuned", "sauvola", "crf", "oracle image", "oracle per_patch", "oracle joint", "fast", "paper")


class Cells:
    """Methods on the test tiles of one data set and base.

    Args:
        logits: of the base.
        folder: where results go; a result that is there is not computed again.
        device: of PRN.
    """

    def __init__(self, logits: BaseLogits, folder: Path, device: torch.device) -> None:
        self.logits = logits
        self.folder = folder / logits.data.name / logits.base
        self.device = device

    def _tiles(self, role: str, reduction: int = 4, in_sample: bool = False) -> list[LogitMap]:
        items = getattr(self.logits, role)
        return prn.maps(items, self.logits.of(items, in_sample), reduction)

    @cached_property
    def fit(self) -> list[LogitMap]:
        return self._tiles("fit")

    @cached_property
    def validation(self) -> list[LogitMap]:
        return self._tiles("validation")

    @cached_property
    def test(self) -> list[LogitMap]:
        return self._tiles("test")

    @cached_property
    def threshold(self) -> tuple[float, float]:
        """Temperature and threshold of the base, from the tiles that PRN is fitted on."""
        found = prn.tuned(base_logits(self.fit), self.fit)
        return found.temperature, found.threshold

    def run(self, row: str) -> None:
        """Compute a row if it is missing."""
        path = self.folder / f"{row.replace(' ', '-')}.json"
        if path.exists():
            return
        logger.info("%s on %s: %s", self.logits.base, self.logits.data.name, row)
        predictions, notes = self._prn(PRNS[row]) if row in PRNS else getattr(self, "_" + row.replace(" ", "_"))()
        if predictions is None:
            logger.warning("%s is left out: %s", row, notes)
            return
        keep(path, predictions, [tile.labels[0] for tile in self.test], notes)

    def _base(self) -> tuple[list[Prediction], dict[str, object]]:
        found = [Prediction(p >= 0.5, p) for p in map(probability, base_logits(self.test))]
        size = {"fit_tiles": len(self.fit), "validation_tiles": len(self.validation), "test_tiles": len(self.test)}
        return found, {**size, "milliseconds": self.logits.milliseconds()}

    def _tuned(self) -> tuple[list[Prediction], dict[str, object]]:
        temperature, threshold = self.threshold
        return at(base_logits(self.test), temperature, threshold), {"temperature": temperature, "threshold": threshold}

    def _sauvola(self) -> tuple[list[Prediction], dict[str, object]]:
        window, k = baselines.best_sauvola(base_logits(self.fit), self.fit)
        crop = self.test[0].logits[0][:512, :512]
        spent = milliseconds(lambda: baselines.sauvola(crop, window, k))
        found = [Prediction(baselines.sauvola(base, window, k)) for base in base_logits(self.test)]
        return found, {"window": window, "k": k, "milliseconds": spent}

    def _crf(self) -> tuple[list[Prediction] | None, dict[str, object]]:
        temperature, threshold = self.threshold
        found = []
        for item, tile in zip(self.logits.test, self.test, strict=True):
            pixels = np.asarray(item.image[: tile.logits.shape[1], : tile.logits.shape[2], :3])
            mask = baselines.crf(pixels, tile.logits[0] / np.float32(temperature), threshold)
            if mask is None:
                return None, {"reason": "pydensecrf2 is not installed"}
            found.append(Prediction(mask))
        crop = pixels[:512, :512], tile.logits[0][:512, :512]
        return found, {"milliseconds": milliseconds(lambda: baselines.crf(*crop, threshold))}

    def _oracle_image(self) -> tuple[list[Prediction], dict[str, object]]:
        return baselines.oracle_image(base_logits(self.test), self.test), {}

    def _oracle_per_patch(self) -> tuple[list[Prediction], dict[str, object]]:
        return baselines.oracle(base_logits(self.test), self.test, joint=False), {"patch": baselines.ORACLE_PATCH}

    def _oracle_joint(self) -> tuple[list[Prediction], dict[str, object]]:
        return baselines.oracle(base_logits(self.test), self.test), {"patch": baselines.ORACLE_PATCH}

    def _prn(self, settings: Prn) -> tuple[list[Prediction], dict[str, object]]:
        plain = settings.reduction == FAST.reduction
        fit = (
            self.fit if plain and not settings.in_sample else self._tiles("fit", settings.reduction, settings.in_sample)
        )
        validation, test = (
            (self.validation, self.test)
            if plain
            else (self._tiles(r, settings.reduction) for r in ("validation", "test"))
        )
        refiner, seconds = prn.fit(settings, fit, self.device)
        judged = prn.tuned([prn.refine(settings, refiner, tile, self.device) for tile in validation], validation)
        plainly = prn.tuned(base_logits(validation), validation)
        refined = [prn.refine(settings, refiner, tile, self.device) for tile in test]
        tile = _crop(test[0], 512, settings.reduction)
        notes: dict[str, object] = {
            **asdict(settings),
            "steps": settings.options().steps_for(fit),
            "temperature": judged.temperature,
            "threshold": judged.threshold,
            "validation_base": plainly.iou,
            "validation_refined": judged.iou,
            "enabled": beats(judged, plainly),
            "fit_seconds": round(seconds, 1),
            "parameters": sum(p.numel() for p in refiner.parameters()),
            "milliseconds": milliseconds(lambda: prn.refine(settings, refiner, tile, self.device)),
        }
        return at(refined, judged.temperature, judged.threshold), notes


def _crop(tile: LogitMap, side: int, reduction: int) -> LogitMap:
    small = side // reduction
    return LogitMap(
        tile.source, tile.logits[:, :side, :side], tile.image[:, :small, :small], tile.valid[:small, :small],
        tile.labels[:, :side, :side],
    )  # fmt: skip
