"""A whole run: base, cross-fitted PRN, gate, test areas, bundle; it continues, and refuses what cannot work early."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import prngeo
from prngeo.config import TrainConfig
from prngeo.errors import PrngeoError, UsageError
from prngeo.models.bundle import open_bundle
from prngeo.models.segmenter import Segmenter
from prngeo.progress import Progress
from prngeo.training import refiner, run
from tests.conftest import write_scene


def config(root, folds=2, refine=0, **towns):
    return TrainConfig.model_validate(
        {
            "name": "t",
            "work": root,
            "targets": ["roads", "buildings"],
            "gsd": [0.5, 1.0],
            "tile": 64,
            "overlap": 16,
            "network": {"architecture": "unet", "encoder": "tu-lcnet_050", "weights": "none"},
            "base": {"steps": 2, "batch": 2, "crop": 64},
            "refiner": {"window": 256, "overlap": 64, "patch": 32, "width": 4, "steps": 2, "folds": folds},
            "towns": {"train": 4, "refine": refine, "validation": 1, "test": 1, "size": 128} | towns,
        }
    )


@pytest.fixture
def trained(monkeypatch):
    """Notes the keys of the regions of every base network that is trained, and of those it is judged on."""
    seen = []
    original = run.train_base

    def noting(config, regions, folder, device, start, report, validation):
        seen.append({item.region.key for item in regions})
        assert {item.region.role for item in validation} == {"validation"}
        return original(config, regions, folder, device, start, report, validation)

    for module in (run, refiner):
        monkeypatch.setattr(module, "train_base", noting)
    return seen


@pytest.mark.slow
def test_a_run_with_folds_gives_a_bundle_and_trains_one_network_more_a_fold(tmp_path, trained):
    told = []
    bundle = open_bundle(run.train(config(tmp_path), told.append))
    whole, first, second = trained
    assert len(whole) == 4
    assert first | second == whole
    assert not first & second
    assert set(bundle.card.targets) == {"roads", "buildings"}
    assert all(target.gate is not None for target in bundle.card.targets.values())
    assert {name.split(".")[0] for name in bundle.tensors()} == {"network", "refiner"}
    assert bundle.card.tests
    assert list(dict.fromkeys(step.stage for step in told)) == ["prepare", "base", "folds", "refiner", "test"]
    assert [step for step in told if step.stage == "folds"][-1] == Progress("t", "folds", 4, 4)
    with (tmp_path / "t" / "logs" / "refiner.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "2"
    assert float(row["loss"]) > 0
    assert (tmp_path / "t" / "logs" / "metrics.csv").is_file()
    assert not (tmp_path / "t" / "maps").exists()


@pytest.mark.parametrize(
    ("refine", "folds", "networks", "maps"),
    [(0, None, 3, 4), (1, None, 1, 1), (1, 0, 1, 1), (1, 2, 3, 5)],
)
@pytest.mark.slow
def test_folds_are_made_where_nothing_is_held_for_prn(tmp_path, trained, monkeypatch, refine, folds, networks, maps):
    """With folds and areas both maps are used."""
    used = []
    monkeypatch.setattr(refiner, "fit_refiner", lambda _, maps, *more: used.extend(maps))
    run.train(config(tmp_path, folds=folds, refine=refine))
    assert len(trained) == networks
    assert len(used) == maps
    assert all(np.isfinite(item.logits).all() for item in used)


def _noted(name, original, done, stop):
    def noting(*arguments):
        if name == stop:
            raise KeyboardInterrupt
        done.append(name)
        return original(*arguments)

    return noting


def stages(monkeypatch, stop=None):
    """Notes what a run does; the stage of that name is not reached."""
    done = []
    places = [(refiner, "logit_map"), (refiner, "fit_refiner"), (run, "judge"), (run, "evaluate_tests")]
    for module, name in places:
        monkeypatch.setattr(module, name, _noted(name, getattr(module, name), done, stop))
    original = Segmenter.forward

    def forward(network, image, valid):
        if network.training:
            done.append("step")
        return original(network, image, valid)

    monkeypatch.setattr(Segmenter, "forward", forward)
    return done


@pytest.mark.slow
def test_a_stage_that_is_finished_is_not_done_again(tmp_path):
    """Interrupted before each stage, a run does all once, and ends as one that was not."""
    expected = open_bundle(run.train(config(tmp_path / "whole"))).card
    done = []
    for stop in ("fit_refiner", "judge", "evaluate_tests", None):
        with pytest.MonkeyPatch.context() as patch:
            own = stages(patch, stop)
            if stop:
                with pytest.raises(KeyboardInterrupt):
                    run.train(config(tmp_path / "cut"), resume=True)
            else:
                finished = run.train(config(tmp_path / "cut"), resume=True)
            done += own
    assert open_bundle(finished).card == expected
    counts = {name: done.count(name) for name in dict.fromkeys(done)}
    assert counts == {"step": 6, "logit_map": 4, "fit_refiner": 1, "judge": 1, "evaluate_tests": 1}
    with pytest.MonkeyPatch.context() as patch:
        own = stages(patch)
        assert run.train(config(tmp_path / "cut"), resume=True) == finished
        assert own == []


@pytest.mark.slow
def test_a_model_of_four_bands_trains_and_predicts(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("a", "b", "c", "d")):
        write_scene(tmp_path / "images" / f"{name}.tif", 128, 128, count=4, crs=None, seed=number)
        mask = np.zeros((128, 128), np.uint8)
        mask[20 + 10 * number :, 30:60] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    source = {
        "name": "s",
        "images": str(tmp_path / "images" / "*.tif"),
        "labels": {"roads": str(tmp_path / "masks" / "*.png")},
        "gsd": 0.8,
        "bands": [1, 2, 3, 4],
        "gap": 0,
        "test": ["a"],
        "validation": ["b"],
        "refine": ["c"],
    }
    content = config(tmp_path, refine=1).model_dump() | {
        "targets": ["roads"],
        "bands": ["red", "green", "blue", "nir"],
        "sources": [source],
        "towns": {},
    }
    model = run.train(TrainConfig.model_validate(content))
    card = open_bundle(model).card
    assert card.bands == ["red", "green", "blue", "nir"]
    assert list(card.targets) == ["roads"]
    assert card.network.mean[:3] == [0.485, 0.456, 0.406]
    assert 0 < card.network.mean[3] < 1
    assert [test.source for test in card.tests] == ["s"]
    options = prngeo.PredictOptions(model=model, bands=(1, 2, 3, 4), gsd=0.8)
    result = prngeo.predict(tmp_path / "images" / "a.tif", tmp_path / "out", options)
    assert result.targets["roads"].valid_pixels == 128 * 128


@pytest.mark.parametrize(("folds", "train"), [(0, 4), (2, 1), (None, 1)])
def test_a_run_that_leaves_nothing_to_fit_prn_on_is_refused_before_it_trains(tmp_path, trained, folds, train):
    with pytest.raises(UsageError, match="refiner.folds"):
        run.train(config(tmp_path, folds=folds, train=train))
    assert not trained


def test_a_run_that_nothing_could_judge_is_refused_before_it_trains(tmp_path, trained):
    with pytest.raises(UsageError, match="No validation area holds roads"):
        run.train(config(tmp_path, validation=0))
    assert not trained


def test_a_run_without_anything_to_train_on_says_so(tmp_path):
    with pytest.raises(UsageError, match="nothing to train on: give sources, or towns"):
        run.train(config(tmp_path, train=0))


def test_a_network_that_cannot_be_made_is_refused_before_any_scene_is_read(tmp_path):
    settings = config(tmp_path)
    for key, value in (("weights", "nosuch.pt"), ("encoder", "nosuch")):
        wrong = settings.network.model_copy(update={key: value})
        with pytest.raises(UsageError, match="nosuch"):
            run.train(settings.model_copy(update={"network": wrong}))
    assert not (tmp_path / "t" / "cache").exists()


@pytest.mark.slow
def test_a_refiner_that_broke_down_is_an_error_and_is_not_kept(tmp_path):
    settings = config(tmp_path, folds=0, refine=1, train=1)
    broken = settings.refiner.model_copy(update={"learning_rate": 1e30, "steps": 4})
    with pytest.raises(PrngeoError, match=r"weights of the refiner are .* Make refiner\.learning_rate smaller"):
        run.train(settings.model_copy(update={"refiner": broken}))
    assert not list((tmp_path / "t").glob("refiner-*"))


@pytest.mark.slow
def test_a_run_that_was_refused_can_be_corrected_without_overwriting(tmp_path):
    with pytest.raises(UsageError):
        run.train(config(tmp_path, validation=0))
    settings = config(tmp_path)
    wrong = settings.model_copy(update={"network": settings.network.model_copy(update={"weights": "nosuch"})})
    with pytest.raises(UsageError, match="nosuch"):
        run.train(wrong)
    assert json.loads((tmp_path / "t" / "run.json").read_text())["config"]["network"]["weights"] == "nosuch"
    assert run.train(settings).is_dir()
