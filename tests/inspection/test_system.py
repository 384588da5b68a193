"""`prngeo doctor`: the machine and the installation."""

import dataclasses
import json
import shutil

import pytest

from prngeo.cli.app import run
from prngeo.inspection.system import NvidiaFacts, inspect_system, nvidia_reason
from prngeo.models import bundle as bundles
from prngeo.models.bundle import WEIGHTS

USED = NvidiaFacts(usable=True, built=True, hardware=True, driver=True, hidden=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "in use"),
        ({"usable": False, "hidden": True}, "CUDA_VISIBLE_DEVICES"),
        ({"usable": False, "hardware": False, "driver": False}, "none found"),
        ({"usable": False, "built": False}, "built without CUDA"),
        ({"usable": False, "driver": False}, "driver is not installed"),
        ({"usable": False, "error": "driver too old"}, r"cannot start it \(driver too old\)"),
    ],
)
def test_why_a_gpu_is_unused(change, reason):
    import re

    assert re.search(reason, nvidia_reason(dataclasses.replace(USED, **change)))


@pytest.fixture
def embedded(tiny_model, tmp_path, monkeypatch):
    folder = tmp_path / "weights" / "tiny"
    shutil.copytree(tiny_model, folder)
    monkeypatch.setattr(bundles, "EMBEDDED", folder.parent)
    return folder


def test_a_sound_installation_has_no_problems(embedded, capsys):
    report = inspect_system()
    assert report.problems == []
    assert report.device in ("cpu", "cuda", "mps")
    assert report.cpu.cores >= 1
    assert report.memory_total >= report.memory_free > 0
    assert {"prngeo", "python", "torch", "GDAL", "rasterio"} <= report.versions.keys()
    assert [(model.name, model.state) for model in report.models] == [("tiny", "intact")]
    assert run(["doctor"]) == 0
    assert "Predictions can run." in capsys.readouterr().out
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["state"] == "intact"


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x"), "damaged"),
        (lambda folder: (folder / WEIGHTS).unlink(), "missing"),
        (lambda folder: (folder / "card.json").write_text("{"), "not valid JSON"),
    ],
)
def test_a_damaged_model_is_a_problem(embedded, capsys, damage, state):
    damage(embedded)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "problem: model tiny:" in out
    assert state in " ".join(out.split())


def test_no_model_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "EMBEDDED", tmp_path)
    assert any("no embedded model" in problem for problem in inspect_system().problems)
