import csv

import numpy as np
import pytest
import torch

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.refine.losses import segmentation_loss
from prngeo.tiling.grid import Window
from prngeo.training import base
from prngeo.training.crops import CropSampler
from prngeo.training.regions import IGNORE, Region, load_regions, write_index

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One scene whose red squares are roads; of the second target half is labelled."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    roads = np.kron(rng.random((12, 12)) < 0.4, np.ones((16, 16), bool))
    image = np.full((192, 192, 4), 255, np.uint8)
    image[..., :3] = rng.integers(60, 120, (192, 192, 3))
    image[roads, 0] = 230
    labels = np.stack([roads, ~roads], -1).astype(np.uint8)
    labels[:96, :, 1] = IGNORE
    (folder / "scene").mkdir()
    np.save(folder / "scene" / "image.npy", image)
    np.save(folder / "scene" / "labels.npy", labels)
    whole = Window(0, 0, 192, 192)
    region = Region("scene", "a", "train", (0.5, 0.5), (192, 192), ("roads", "buildings"), "s", whole)
    write_index(folder, [region], "x")
    return folder


def config(steps=6, architecture="unet", **values):
    return TrainConfig.model_validate(
        {
            "name": "t",
            "targets": ["roads", "buildings"],
            "network": {"architecture": architecture, "encoder": "tu-lcnet_050", "weights": "none"},
            "base": {"steps": steps, "batch": 2, "crop": 64, "average": 0.5, "learning_rate": 0.01} | values,
            "sources": [{"name": "a", "images": "*", "labels": {"roads": "*"}, "license": "x"}],
        }
    )


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(base, "CHECKPOINT_EVERY", 2)


def interrupt_at(monkeypatch, step):
    """Make the loop fail in its nth step."""
    original, count = base.train_step, iter(range(1, 1000))

    def failing(*arguments):
        if next(count) == step:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(base, "train_step", failing)


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", ["unet", "fpn"])
def test_an_interrupted_run_ends_bitwise_like_an_uninterrupted_one(tmp_path, cache, often, architecture):
    """The FPN has dropout, which draws from the global generator."""
    expected = base.train_base(config(architecture=architecture), load_regions(cache, "train"), tmp_path / "whole", CPU)
    for step in (2, 4):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(KeyboardInterrupt):
                base.train_base(config(architecture=architecture), load_regions(cache, "train"), tmp_path / "cut", CPU)
        torch.rand(7)
    found = base.train_base(config(architecture=architecture), load_regions(cache, "train"), tmp_path / "cut", CPU)
    assert equal(found, expected)
    assert not list(tmp_path.rglob("*.partial"))


def test_two_runs_are_the_same_and_another_seed_is_not(tmp_path, cache):
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = config(steps=2).model_copy(update={"seed": seed})
        runs.append(base.train_base(settings, load_regions(cache, "train"), tmp_path / name, CPU))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_a_finished_run_is_not_continued(tmp_path, cache, monkeypatch):
    first = base.train_base(config(steps=2), load_regions(cache, "train"), tmp_path, CPU)
    interrupt_at(monkeypatch, 1)
    assert equal(base.train_base(config(steps=2), load_regions(cache, "train"), tmp_path, CPU), first)


def test_training_reduces_the_loss(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(base, "WARM_UP", 5)
    settings = config(steps=40, batch=4, learning_rate=0.003)
    batch = CropSampler(load_regions(cache, "train"), {"a": 1.0}, 64, settings.gsd, 99).batch(0, 8)

    def loss(network):
        """By the statistics of the batch: the running ones are far from settled after so few steps."""
        with torch.no_grad():
            logits = network.train()(batch.image, batch.valid)
        known = (batch.labels != IGNORE).float()
        return float(segmentation_loss(logits, (batch.labels == 1).float(), known))

    untrained = base.train_base(
        config(steps=1, learning_rate=1e-12), load_regions(cache, "train"), tmp_path / "untrained", CPU
    )
    trained = base.train_base(settings, load_regions(cache, "train"), tmp_path / "trained", CPU)
    assert not trained.training
    assert loss(trained) < 0.5 * loss(untrained)
    rows = list(csv.DictReader((tmp_path / "trained" / "base.csv").open()))
    assert [int(row["step"]) for row in rows] == [20, 40]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_unlabelled_pixels_teach_nothing(cache):
    """Without a single label no weight gets a gradient."""
    network = base.Segmenter("unet", "tu-lcnet_050", 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    batch = CropSampler(load_regions(cache, "train"), {"a": 1.0}, 64, (0.25, 1.25), 0).batch(0, 2)
    batch.labels.fill_(IGNORE)
    before = {name: value.clone() for name, value in network.named_parameters()}
    assert base.train_step(network, optimizer, batch, CPU) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_what_is_returned_is_the_moving_average(tmp_path, cache):
    averaged = base.train_base(config(steps=3), load_regions(cache, "train"), tmp_path, CPU)
    state = torch.load(tmp_path / "base.pt", weights_only=True)
    assert state["step"] == 3
    last = state["network"]["network.segmentation_head.0.weight"]
    assert not torch.equal(averaged.state_dict()["network.segmentation_head.0.weight"], last)
    mean = "network.encoder.model.bn1.running_mean"
    assert averaged.state_dict()[mean].any(), "statistics of the normalization are averaged, too"
    assert torch.isfinite(averaged.state_dict()[mean]).all()


def test_learning_rate_warms_up_holds_and_falls_to_zero(monkeypatch):
    monkeypatch.setattr(base, "WARM_UP", 10)
    settings = config(steps=100, decay_from=0.6)
    rates = [base.learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9:61] == pytest.approx([0.01] * 52)
    assert rates[80] == pytest.approx(0.005)
    assert rates[100] == 0
    assert min(rates[:100]) > 0


def test_nothing_to_train_on_is_an_error(tmp_path):
    write_index(tmp_path, [], "x")
    with pytest.raises(UsageError, match="nothing to train on"):
        base.train_base(config(), load_regions(tmp_path, "train"), tmp_path / "run", CPU)
