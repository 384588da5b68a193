"""Synthetic towns as training regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prngeo.config import Role, TrainConfig
from prngeo.errors import UsageError
from prngeo.synth import make_town
from prngeo.tiling.grid import Window
from prngeo.training.cache import made_of_what, mark_finished
from prngeo.training.regions import IGNORE, Region


def cache_towns(config: TrainConfig, folder: Path) -> list[Region]:
    """Cache towns of consecutive seeds; their GSDs are spread over the model's range by a fixed rule.

    Raises:
        UsageError: the model sees other bands than towns have.
    """
    towns = config.towns
    roles: list[Role] = ["train", "refine", "validation", "test"]
    counts = [towns.train, towns.refine, towns.validation, towns.test]
    if any(counts) and len(config.bands) != 3:
        raise UsageError(
            f"Synthetic towns have the bands red, green and blue, but `bands` of the configuration names "
            f"{len(config.bands)} ({', '.join(config.bands)}). Leave `towns` out, or name three."
        )
    regions = []
    seed = towns.seed
    for role, count in zip(roles, counts, strict=True):
        for number in range(count):
            position = (number + 0.5) / count
            gsd = float(config.gsd[0] * (config.gsd[1] / config.gsd[0]) ** position)
            key = f"synthetic-{seed}"
            _cache(folder / key, towns.size, gsd, seed, config.targets)
            regions.append(
                Region(
                    key=key,
                    source="synthetic",
                    role=role,
                    gsd=(gsd, gsd),
                    shape=(towns.size, towns.size),
                    targets=tuple(config.targets),
                    scene=f"synth:seed={seed}",
                    window=Window(0, 0, towns.size, towns.size),
                    block=key,
                )
            )
            seed += 1
    return regions


def _cache(place: Path, size: int, gsd: float, seed: int, targets: list[str]) -> None:
    made_of = f"{size} {gsd!r} {seed} {targets}"
    if made_of_what(place) == made_of:
        return
    place.mkdir(parents=True, exist_ok=True)
    town = make_town(size, gsd, seed)
    valid = np.full((size, size, 1), 255, np.uint8)
    np.save(place / "image.npy", np.concatenate([np.moveaxis(town.image, 0, -1), valid], -1))
    labels = np.stack([town.masks.get(target, np.full_like(valid[..., 0], IGNORE)) for target in targets], -1)
    np.save(place / "labels.npy", labels)
    mark_finished(place, made_of, labels.size)
