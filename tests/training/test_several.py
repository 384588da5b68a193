"""Training on two devices: real processes on the CPU, which part the crops and end with the same weights."""

import logging
import pickle

import numpy as np
import pytest
import torch

from prngeo.errors import UsageError
from prngeo.training import base, several
from prngeo.training.regions import load_regions
from tests.training.test_base import CPU, config, equal, read
from tests.training.test_base import cache as cache


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Where every process leaves its weights and the crops it drew."""
    monkeypatch.setattr(several, "_work", work)
    monkeypatch.setenv("PRNGEO_TEST_FOLDER", str(tmp_path))
    return lambda rank: torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)


original = several._work


def work(fabric, **arguments):
    """In the process: what it does, and a note of it."""
    import os
    from pathlib import Path

    from prngeo.training import loop

    drawn, loops = [], []
    batch, run = loop.CropSampler.batch, loop._Loop.run
    loop.CropSampler.batch = lambda self, step, crops: drawn.append((step, list(crops))) or batch(self, step, crops)
    loop._Loop.run = lambda self, report: loops.append(self) or run(self, report)
    original(fabric, **arguments)
    state = {"network": loops[0].network.state_dict(), "average": loops[0].average.state_dict(), "drawn": drawn}
    torch.save(state, Path(os.environ["PRNGEO_TEST_FOLDER"]) / f"rank{fabric.global_rank}.pt")


@pytest.mark.parametrize("part", [np.s_[:], np.s_[3:17, 5:9], np.s_[19:20], np.s_[:, 7:]])
def test_mapped_arrays_are_sent_by_their_place_in_the_file(tmp_path, part):
    whole = np.random.default_rng(0).integers(0, 255, (20, 11, 4)).astype(np.uint8)
    np.save(tmp_path / "image.npy", whole)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")[part]
    sent = several._place(mapped)
    assert sent[0] == str(tmp_path / "image.npy")
    found = several._mapped(pickle.loads(pickle.dumps(sent)))
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, whole[part])


def test_other_arrays_are_sent_as_they_are(tmp_path):
    plain = np.zeros((4, 5, 1), np.uint8)
    np.save(tmp_path / "image.npy", plain)
    stepped = np.load(tmp_path / "image.npy", mmap_mode="r")[::2]
    for array in (plain, stepped):
        assert several._mapped(several._place(array)) is array


@pytest.mark.slow
def test_two_processes_part_the_crops_and_end_with_one_network(tmp_path, cache, weights, caplog):
    caplog.set_level(logging.INFO)
    told = []
    settings = config(steps=3, batch=4, devices=2, validate_every=2)
    train, validation = (load_regions(cache, role) for role in ("train", "validation"))
    found = base.train_base(settings, train, tmp_path / "run", CPU, report=told.append, validation=validation)
    first, second = weights(0), weights(1)
    parameters = {name for name, _ in found.named_parameters()}
    for name in parameters:
        assert torch.equal(first["network"][name], second["network"][name]), name
        assert torch.equal(first["average"][f"module.{name}"], second["average"][f"module.{name}"]), name
    assert first["drawn"] == [(step, [0, 2]) for step in range(3)]
    assert second["drawn"] == [(step, [1, 3]) for step in range(3)]
    assert [step.done for step in told] == [1, 2, 3], "progress of one"
    assert [int(row["step"]) for row in read(tmp_path / "run")] == [2, 3]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["base.pt", "logs"]
    assert sum("step 2 of 3" in record.message for record in caplog.records) == 1
    assert equal(base.train_base(settings, train, tmp_path / "run", CPU, validation=validation), found)


@pytest.mark.slow
def test_an_error_of_a_process_is_the_error_of_the_run(tmp_path, cache):
    settings = config(devices=2)
    wrong = settings.model_copy(update={"network": settings.network.model_copy(update={"weights": "nosuch"})})
    with pytest.raises(UsageError, match="'nosuch' is none of these"):
        base.train_base(wrong, load_regions(cache, "train"), tmp_path, CPU)
