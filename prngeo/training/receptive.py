"""How far a base network looks: the pixels that the logit of one pixel depends on."""

from __future__ import annotations

from functools import lru_cache

SHARE = 0.99
"""Of what a logit depends on, as the absolute gradient measures it, that lies inside the receptive field."""


@lru_cache
def receptive_field(architecture: str, encoder: str, bands: int, tile: int) -> int:
    """Side in pixels of the square around a pixel that its logit depends on, at most the tile's.

    Measured on an untrained network: 99 % of the absolute gradient of a logit with respect to the image lie inside
    (the effective receptive field of Luo et al., Understanding the Effective Receptive Field in Deep Convolutional
    Neural Networks, NeurIPS 2016). What lies beyond a tile has no influence at all.

    Args:
        architecture: see prngeo.models.segmenter.
        encoder: likewise.
        bands: of the image.
        tile: side of a tile in pixels.

    Raises:
        UsageError: there is no such network.
    """
    import numpy as np
    import torch

    from prngeo.models.segmenter import Segmenter

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Segmenter(architecture, encoder, 1, [0.5] * bands, [0.25] * bands).eval()
        image = torch.rand((1, bands, tile, tile)).requires_grad_()
    network(image, torch.ones((1, 1, tile, tile)))[0, 0, tile // 2, tile // 2].backward()
    assert image.grad is not None
    gradient = image.grad.abs().sum((0, 1)).double().numpy()
    offset = np.abs(np.arange(tile) - tile // 2)
    rings = np.bincount(np.maximum(offset[:, None], offset).ravel(), gradient.ravel())
    radius = int(np.searchsorted(np.cumsum(rings), SHARE * rings.sum()))
    return min(tile, 2 * radius + 1)
