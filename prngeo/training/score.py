"""How good a network is on validation regions while it is trained: windows chosen once, IoU at the best threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from prngeo.refine.calibrate import Histogram, tune
from prngeo.tiling.grid import Window
from prngeo.training.crops import cut, render
from prngeo.training.regions import IGNORE, CachedRegion

WINDOWS = 64
"""Windows in all, in equal parts for every source: what a judgement costs does not grow with the regions."""


class Judge:
    """Judges networks on the same windows, always.

    Windows are seen at their scene's GSD, or at the nearest one of the model's range, and lie evenly over the labelled
    parts of each source.

    Args:
        regions: of role validation.
        targets: names, in the order of the network's channels.
        size: side of a window in model pixels.
        gsd_range: (smallest, largest) GSD in metres.
    """

    def __init__(
        self, regions: Sequence[CachedRegion], targets: Sequence[str], size: int, gsd_range: tuple[float, float]
    ) -> None:
        self.targets = list(targets)
        self.size = size
        self.windows: list[tuple[CachedRegion, Window]] = []
        sources = sorted({item.region.source for item in regions})
        for source in sources:
            own = [item for item in regions if item.region.source == source]
            known = [(item, window) for item in own for window in _labelled(item, size, gsd_range)]
            count = min(len(known), max(1, WINDOWS // len(sources)))
            self.windows += [known[place] for place in np.linspace(0, len(known) - 1, count).round().astype(int)]

    def score(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """IoU of every target at its best threshold, a mean over sources; those without positive pixels are left out.

        Args:
            network: takes image and validity; its mode is left as it was.
            device: where it is.
        """
        found: dict[str, dict[str, Histogram]] = {name: {} for name in self.targets}
        training = network.training
        network.eval()
        with torch.inference_mode():
            for item, window in self.windows:
                image, valid, labels = render(cut(item.image, window, 0), cut(item.labels, window, IGNORE), self.size)
                logits = network(image[None].to(device), valid[None].to(device))[0].float().cpu().numpy()
                for name, values, truth in zip(self.targets, logits, labels.numpy(), strict=True):
                    found[name].setdefault(item.region.source, Histogram.empty()).add(values, truth)
        network.train(training)
        positive = [name for name, sources in found.items() if any(h.positive.sum() for h in sources.values())]
        return {name: tune(found[name]).iou for name in positive}


def _labelled(item: CachedRegion, size: int, gsd_range: tuple[float, float]) -> list[Window]:
    """Windows of a region side by side, but those without a labelled pixel."""
    native = float(np.sqrt(item.region.gsd[0] * item.region.gsd[1]))
    gsd = min(max(native, gsd_range[0]), gsd_range[1])
    height, width = (max(1, round(size * gsd / g)) for g in reversed(item.region.gsd))
    rows, cols = item.region.shape
    windows = [Window(row, col, height, width) for row in range(0, rows, height) for col in range(0, cols, width)]
    return [window for window in windows if (cut(item.labels, window, IGNORE) != IGNORE).any()]
