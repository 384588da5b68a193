"""Training the base network: it continues, judges, keeps the best, halves, and is a function of its seed."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from prngeo.config import TrainConfig
from prngeo.errors import PrngeoError, UsageError
from prngeo.models.memory import Halving
from prngeo.models.segmenter import Segmenter
from prngeo.refine.losses import LOSSES, segmentation_loss
from prngeo.tiling.grid import Window
from prngeo.training import base, loop
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
    regions = [
        Region("scene", "a", role, (0.5, 0.5), (192, 192), ("roads", "buildings"), "s", whole)
        for role in ("train", "validation")
    ]
    write_index(folder, regions, "x")
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
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)


def interrupt_at(monkeypatch, step):
    """Make the loop fail in its nth step."""
    original, count = loop.train_step, iter(range(1, 1000))

    def failing(*arguments):
        if next(count) == step:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "train_step", failing)


def read(folder):
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", ["unet", "fpn"])
@pytest.mark.slow
def test_an_interrupted_run_ends_bitwise_like_an_uninterrupted_one(tmp_path, cache, often, architecture):
    """The FPN has dropout, which draws from the global generator."""

    def run(name):
        settings = config(architecture=architecture, validate_every=3)
        train, validation = (load_regions(cache, role) for role in ("train", "validation"))
        return base.train_base(settings, train, tmp_path / name, CPU, validation=validation)

    expected = run("whole")
    for step in (2, 4):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(KeyboardInterrupt):
                run("cut")
        torch.rand(7)
    assert equal(run("cut"), expected)
    assert not list(tmp_path.rglob("*.partial"))
    curves = [(tmp_path / name / "logs" / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]
    assert curves[0].startswith("learning_rate,loss,step,validation_iou,validation_iou_buildings,validation_iou_roads")


@pytest.mark.slow
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


@pytest.mark.slow
def test_training_reduces_the_loss(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(loop, "WARM_UP", 5)
    settings = config(steps=40, batch=4, learning_rate=0.003)
    batch = CropSampler(load_regions(cache, "train"), {"a": 1.0}, 64, settings.gsd, 99).batch(0, range(8))

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
    rows = read(tmp_path / "trained")
    assert [int(row["step"]) for row in rows] == [20, 40]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert list((tmp_path / "trained" / "logs").glob("events.out.tfevents.*")), "TensorBoard's, beside it"


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_pixels_teach_nothing(cache, name):
    """Without a single label no weight gets a gradient."""
    fabric = loop.make_fabric(CPU, config().base)
    network = Segmenter("unet", "tu-lcnet_050", 2)
    module, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=1.0))
    batch = CropSampler(load_regions(cache, "train"), {"a": 1.0}, 64, (0.25, 1.25), 0).batch(0, range(2))
    batch.labels.fill_(IGNORE)
    before = {name: value.clone() for name, value in network.named_parameters()}
    assert loop.train_step(fabric, module, optimizer, batch, LOSSES[name], Halving(2, "")) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(tmp_path, cache, name):
    settings = config(steps=2, loss=name, balance=0.5, augmentation={"angle": 30.0})
    trained = base.train_base(settings, load_regions(cache, "train"), tmp_path, CPU)
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


@pytest.mark.slow
def test_the_best_network_is_kept_and_patience_ends_the_training(tmp_path, cache, monkeypatch):
    figures = iter([0.3, 0.5, 0.4, 0.5, 0.9])
    judged = []

    def score(self, network, device):
        judged.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"roads": next(figures), "buildings": 0.0}

    monkeypatch.setattr(loop.Judge, "score", score)
    settings = config(steps=10, validate_every=2, patience=2)
    train, validation = (load_regions(cache, role) for role in ("train", "validation"))
    best = base.train_base(settings, train, tmp_path, CPU, validation=validation)
    assert [int(row["step"]) for row in read(tmp_path)] == [2, 4, 6, 8]
    assert [float(row["validation_iou"]) for row in read(tmp_path)] == [0.15, 0.25, 0.2, 0.25]
    assert all(torch.equal(value, judged[1][name]) for name, value in best.state_dict().items())
    monkeypatch.setattr(loop, "fit", lambda *_: pytest.fail("trained again"))
    assert equal(base.train_base(settings, train, tmp_path, CPU, validation=validation), best)


class Exhausted:
    """A network's forward that runs out of memory with more than `most` crops, for the first `times` calls."""

    def __init__(self, monkeypatch, most, times=1000):
        original = Segmenter.forward
        self.sizes = []

        def forward(network, image, valid):
            if network.training:
                self.sizes.append(len(image))
                if len(image) > most and len(self.sizes) <= times:
                    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1000000 bytes")
            return original(network, image, valid)

        monkeypatch.setattr(Segmenter, "forward", forward)


def test_out_of_memory_halves_the_batch_once_and_the_steps_stay(tmp_path, cache, monkeypatch, caplog, often):
    limited = Exhausted(monkeypatch, 2)
    settings = config(steps=3, batch=4)
    base.train_base(settings, load_regions(cache, "train"), tmp_path, CPU)
    assert limited.sizes == [4, 2, 2, 2, 2, 2, 2]
    (message,) = [record.message for record in caplog.records if "out of memory" in record.message]
    assert "base.batch" in message
    assert torch.load(tmp_path / "base.pt", weights_only=True)["state"]["parts"] == 2, "a resumed run halves at once"


def test_out_of_memory_again_is_an_error_that_names_the_keys(tmp_path, cache, monkeypatch):
    limited = Exhausted(monkeypatch, 0)
    with pytest.raises(PrngeoError, match=r"two halves.*base\.batch or base\.crop"):
        base.train_base(config(batch=4), load_regions(cache, "train"), tmp_path, CPU)
    assert limited.sizes == [4, 2]


def test_halves_give_the_step_of_the_whole_but_for_normalization(cache):
    """A network without batch normalization, and a loss that is a mean over crops."""
    batch = CropSampler(load_regions(cache, "train"), {"a": 1.0}, 64, (0.5, 0.5), 0).batch(0, range(4))
    batch.labels[:] = (batch.labels == 1).to(torch.uint8)
    fabric, found = loop.make_fabric(CPU, config(precision="float32").base), []
    for parts in (1, 2):
        torch.manual_seed(0)
        network = Segmenter("fcn", "none", 2)
        module, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
        loss = loop.train_step(fabric, module, optimizer, batch, LOSSES["focal"], Halving(4, "", parts))
        found.append((loss, network.network.last.weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "float16"}, "base.precision=float16 needs an NVIDIA GPU"),
        ({"batch": 3, "devices": 2}, "must be a multiple of base.devices"),
    ],
)
def test_what_the_device_cannot_do_is_refused(tmp_path, cache, values, message):
    with pytest.raises(UsageError, match=message):
        base.train_base(config(**values), load_regions(cache, "train"), tmp_path, CPU)


def test_a_network_that_needs_two_crops_says_so(tmp_path, cache):
    with pytest.raises(UsageError, match="at least two crops"):
        base.train_base(config(batch=1, architecture="deeplabv3plus"), load_regions(cache, "train"), tmp_path, CPU)


@pytest.mark.parametrize("bands", [1, 4])
def test_any_number_of_bands_is_normalized_by_its_names(tmp_path, cache, bands):
    """Red by ImageNet, others by what the training pixels are."""
    (item,) = load_regions(cache, "train")
    image = np.concatenate([item.image[..., :1]] * bands + [item.image[..., 3:]], -1)
    settings = config(steps=2).model_copy(update={"bands": ["red", "nir", "swir", "dsm"][:bands]})
    trained = base.train_base(settings, [replace(item, image=image)], tmp_path, CPU)
    assert trained.mean.flatten()[0] == pytest.approx(0.485)
    for band in range(1, bands):
        pixels = image[::16, ::16, band] / 255
        assert trained.mean.flatten()[band] == pytest.approx(pixels.mean(), abs=1e-3)
        assert trained.std.flatten()[band] == pytest.approx(pixels.std(), abs=1e-3)
    with torch.no_grad():
        assert trained(torch.rand(1, bands, 64, 64), torch.ones(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_another_number_of_bands_than_the_images_have_is_refused(tmp_path, cache):
    settings = config().model_copy(update={"bands": ["red", "green", "blue", "nir"]})
    with pytest.raises(UsageError, match="s gives 3 bands, the model takes 4: red, green, blue, nir"):
        base.train_base(settings, load_regions(cache, "train"), tmp_path, CPU)


@pytest.mark.parametrize("steps", [3, 50])
def test_weights_that_are_no_numbers_end_the_training_with_the_key_to_change(tmp_path, cache, steps):
    settings = config(steps=steps, learning_rate=1e30)
    with pytest.raises(PrngeoError, match=r"weights of the base network at step .* Make base\.learning_rate smaller"):
        base.train_base(settings, load_regions(cache, "train"), tmp_path, CPU)
    assert loop.read_checkpoint(tmp_path) is None


def test_a_damaged_checkpoint_is_an_error(tmp_path, cache):
    (tmp_path / "base.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match=r"base\.pt is damaged.*--overwrite"):
        base.train_base(config(), load_regions(cache, "train"), tmp_path, CPU)


def test_what_is_returned_is_the_moving_average(tmp_path, cache):
    averaged = base.train_base(config(steps=3), load_regions(cache, "train"), tmp_path, CPU)
    state = torch.load(tmp_path / "base.pt", weights_only=True)
    assert state["state"]["step"] == 3
    last = state["network"]["network.segmentation_head.0.weight"]
    assert not torch.equal(averaged.state_dict()["network.segmentation_head.0.weight"], last)
    mean = "network.encoder.model.bn1.running_mean"
    assert averaged.state_dict()[mean].any(), "statistics of the normalization are averaged, too"
    assert torch.isfinite(averaged.state_dict()[mean]).all()


def test_learning_rate_warms_up_holds_and_falls_to_zero(monkeypatch):
    monkeypatch.setattr(loop, "WARM_UP", 10)
    settings = config(steps=100, decay_from=0.6).base
    rates = [loop.learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9:61] == pytest.approx([0.01] * 52)
    assert rates[80] == pytest.approx(0.005)
    assert rates[100] == 0
    assert min(rates[:100]) > 0


def test_nothing_to_train_on_is_an_error(tmp_path):
    write_index(tmp_path, [], "x")
    with pytest.raises(UsageError, match="nothing to train on"):
        base.train_base(config(), load_regions(tmp_path, "train"), tmp_path / "run", CPU)
