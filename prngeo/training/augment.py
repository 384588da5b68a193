"""Changes of training crops on their device: flips, turns, colors; functions of the crops and of their generators.

Every crop has a generator of its own, so that its changes do not depend on which others are beside it. kornia's
augmentations are not used: they draw from torch's process-wide generator, and those of color take three bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prngeo.config import Augmentation
from prngeo.training.crops import Batch
from prngeo.training.regions import IGNORE

Generators = Sequence[np.random.Generator]


def generators(seed: int, step: int, crops: Sequence[int]) -> list[np.random.Generator]:
    """The generators of some crops of a step, others than those that drew their places."""
    return [np.random.default_rng([seed, step, number, 1]) for number in crops]


def augment(batch: Batch, options: Augmentation, rngs: Generators) -> Batch:
    """Change crops as a configuration says; `scale` has had its part when they were cut.

    Args:
        batch: crops on any device, with any number of bands.
        options: what to change.
        rngs: one generator a crop.
    """
    if options.flips:
        batch = flip(batch, rngs)
    if options.angle:
        batch = turn(batch, options.angle, rngs)
    if options.radiometry:
        image = radiometric(batch.image, options.radiometry, rngs)
        batch = Batch(image * batch.valid, batch.valid, batch.labels)
    return batch


def flip(batch: Batch, rngs: Generators) -> Batch:
    """Turn every crop by quarters and mirror it, in one of eight ways."""
    ways = [(int(rng.integers(4)), bool(rng.integers(2))) for rng in rngs]

    def changed(crops: Tensor) -> Tensor:
        turned = [torch.rot90(crop, turns, (-2, -1)) for crop, (turns, _) in zip(crops, ways, strict=True)]
        return torch.stack(
            [crop.flip(-1) if mirrored else crop for crop, (_, mirrored) in zip(turned, ways, strict=True)]
        )

    return Batch(changed(batch.image), changed(batch.valid), changed(batch.labels))


def turn(batch: Batch, angle: float, rngs: Generators) -> Batch:
    """Turn every crop about its middle by up to `angle` degrees; labels take the nearest pixel.

    What comes from outside, or from between valid pixels and others, is invalid and unlabelled.
    """
    angles = [math.radians(rng.uniform(-angle, angle)) for rng in rngs]
    matrices = [[[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]] for a in angles]
    theta = torch.tensor(matrices, dtype=torch.float32, device=batch.image.device)
    grid = F.affine_grid(theta, list(batch.image.shape), align_corners=False)
    image = F.grid_sample(batch.image, grid, mode="bilinear", align_corners=False)
    valid = (F.grid_sample(batch.valid, grid, mode="bilinear", align_corners=False) > 0.999).float()
    # Beyond the crop the sample is 0: counted from IGNORE, that is unlabelled.
    labels = F.grid_sample(batch.labels.float() - IGNORE, grid, mode="nearest", align_corners=False) + IGNORE
    known = torch.where(valid.bool(), labels.to(torch.uint8), torch.full_like(batch.labels, IGNORE))
    return Batch(image * valid, valid, known)


def radiometric(image: Tensor, strength: float, rngs: Generators) -> Tensor:
    """Gamma, contrast, brightness (haze), per-band gain, saturation, blur or sharpening, and noise.

    Args:
        image: (N, bands, H, W) float in 0..1.
        strength: factor on the size of every change.
        rngs: one generator a crop.

    Returns:
        The same shape, in 0..1.
    """
    bands = image.shape[1]

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        values = np.stack([rng.uniform(low * strength, high * strength, (channels, 1, 1)) for rng in rngs])
        return torch.from_numpy(values.astype(np.float32)).to(image.device)

    image = image.clamp(1e-4, 1) ** torch.exp(draw(-0.35, 0.35))
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (image - middle) * torch.exp(draw(-0.3, 0.3)) + middle + draw(-0.12, 0.12)
    image = image * (1 + draw(-0.08, 0.08, bands))
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (1 + draw(-0.6, 0.4))
    blurred = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    image = image + (blurred - image) * draw(-0.8, 0.8)
    level = draw(0.0, 0.03)
    return (image + _noise(image, rngs) * level).clamp(0, 1)


def _noise(image: Tensor, rngs: Generators) -> Tensor:
    """Standard normal noise, made where the image lies."""
    source = torch.Generator(image.device)
    noise = torch.empty_like(image)
    for crop, rng in zip(noise, rngs, strict=True):
        crop.normal_(generator=source.manual_seed(int(rng.integers(2**62))))
    return noise
