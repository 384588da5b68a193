"""Judging while training: the same windows always, over all labelled parts, at the model's GSD, at a bounded cost."""

import numpy as np
import pytest
import torch

from prngeo.tiling.grid import Window
from prngeo.training import score
from prngeo.training.regions import IGNORE, CachedRegion, Region
from prngeo.training.score import Judge

CPU = torch.device("cpu")


def region(key, labels, source="a", gsd=0.5):
    """The red band is bright where roads are."""
    height, width = labels.shape[:2]
    about = Region(key, source, "validation", (gsd, gsd), (height, width), ("roads",), key, Window(0, 0, height, width))
    image = np.full((height, width, 4), 255, np.uint8)
    image[..., 0] = np.where(labels[..., 0] == 1, 255, 0)
    return CachedRegion(about, image, labels)


def squares(height=256, width=256, seed=0):
    coarse = np.random.default_rng(seed).random((height // 16, width // 16)) < 0.3
    return np.kron(coarse, np.ones((16, 16), bool)).astype(np.uint8)[..., None]


class Reader(torch.nn.Module):
    """Logits of two channels: red, and its opposite."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image, valid):
        assert not torch.is_grad_enabled()
        self.seen.append(image.shape)
        red = image[:, :1] * 4 - 1  # at 0.5 it would be cut wrong; the best threshold is found
        return torch.cat([red, -red], 1)


def test_iou_is_that_of_the_best_threshold_and_a_target_without_pixels_is_left_out():
    labels = np.concatenate([squares(), np.full((256, 256, 1), IGNORE, np.uint8)], -1)
    network = Reader().train()
    found = Judge([region("x", labels)], ["roads", "buildings"], 64, (0.25, 1.25)).score(network, CPU)
    assert set(found) == {"roads"}
    assert found["roads"] == pytest.approx(1.0)
    assert network.training, "its mode is left as it was"
    assert set(network.seen) == {(1, 3, 64, 64)}


def test_cost_is_bounded_and_every_source_has_its_part(monkeypatch):
    monkeypatch.setattr(score, "WINDOWS", 10)
    large = [region(f"large{n}", squares(512, 512), "a") for n in range(3)]
    judge = Judge([*large, region("small", squares(128, 128), "b")], ["roads"], 64, (0.25, 1.25))
    sources = [item.region.source for item, _ in judge.windows]
    assert sources.count("a") == 5
    assert sources.count("b") == 4, "all it has"
    assert len({item.region.key for item, _ in judge.windows}) == 4, "spread over the regions"
    again = Judge([*large, region("small", squares(128, 128), "b")], ["roads"], 64, (0.25, 1.25))
    assert [(item.region.key, window) for item, window in again.windows] == [
        (item.region.key, window) for item, window in judge.windows
    ]


def test_only_labelled_windows_are_judged():
    labels = np.full((256, 256, 1), IGNORE, np.uint8)
    labels[70:90, 130:150] = 1
    judge = Judge([region("x", labels)], ["roads"], 64, (0.25, 1.25))
    assert [window for _, window in judge.windows] == [Window(64, 128, 64, 64)]


@pytest.mark.parametrize(("gsd", "side"), [(0.5, 64), (0.1, 160), (2.0, 40)])
def test_windows_are_seen_within_the_range_of_gsd(gsd, side):
    judge = Judge([region("x", squares(640, 640), gsd=gsd)], ["roads"], 64, (0.25, 1.25))
    assert {window.shape for _, window in judge.windows} == {(side, side)}


def test_nothing_to_judge_on_is_no_figure():
    assert Judge([], ["roads"], 64, (0.25, 1.25)).score(Reader(), CPU) == {}
