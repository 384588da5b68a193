"""A whole run: base, cross-fitted PRN, gate, test areas, bundle; it continues, and refuses what cannot work early."""

import numpy as np
import pytest

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.models.bundle import open_bundle
from prngeo.training import run


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
    """Notes the keys of the regions of every base network that is trained."""
    seen = []
    original = run.train_base

    def noting(config, regions, *more, **named):
        seen.append({item.region.key for item in regions})
        return original(config, regions, *more, **named)

    monkeypatch.setattr(run, "train_base", noting)
    return seen


def test_a_run_with_folds_gives_a_bundle_and_trains_one_network_more_a_fold(tmp_path, trained):
    bundle = open_bundle(run.train(config(tmp_path)))
    whole, first, second = trained
    assert len(whole) == 4
    assert first | second == whole
    assert not first & second
    assert set(bundle.card.targets) == {"roads", "buildings"}
    assert all(target.gate is not None for target in bundle.card.targets.values())
    assert {name.split(".")[0] for name in bundle.tensors()} == {"network", "refiner"}
    assert bundle.card.tests


def test_a_finished_run_is_not_fitted_again(tmp_path, monkeypatch):
    first = open_bundle(run.train(config(tmp_path))).card.weights_sha256
    monkeypatch.setattr(run, "fit_refiner", lambda *_: pytest.fail("fitted again"))
    assert open_bundle(run.train(config(tmp_path))).card.weights_sha256 == first


def test_maps_of_folds_and_of_areas_held_for_it_are_used_together(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(run, "fit_refiner", lambda refiner, maps, *_: used.extend(maps))
    run.train(config(tmp_path, refine=1))
    assert len(used) == 5
    assert all(np.isfinite(item.logits).all() for item in used)


@pytest.mark.parametrize(("folds", "train"), [(0, 4), (2, 1)])
def test_a_run_that_leaves_nothing_to_fit_prn_on_is_refused_before_it_trains(tmp_path, trained, folds, train):
    with pytest.raises(UsageError, match="refiner.folds"):
        run.train(config(tmp_path, folds=folds, train=train))
    assert not trained
