"""`prngeo train` on the command line; training itself is tested in tests/training."""

import json

import pytest

import prngeo
from prngeo.models.bundle import open_bundle, write_bundle
from prngeo.models.card import AreaCard
from prngeo.progress import Progress


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: mine\ntargets: [roads]\n")
    return path


def test_it_trains_what_the_file_and_the_overrides_say(cli, config, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        prngeo, "train", lambda given, report, **how: seen.append((given, how)) or tmp_path / "bundle", raising=False
    )
    ran = cli("train", config, "base.steps=7", "seed=3")
    assert ran.code == 0
    given, how = seen[0]
    assert (given.name, given.base.steps, given.seed) == ("mine", 7, 3)
    assert how == {"resume": False, "overwrite": False}
    assert str(tmp_path / "bundle") in ran.err


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_it_continues_or_starts_again_when_told(cli, config, monkeypatch, tmp_path, option):
    seen = []
    monkeypatch.setattr(prngeo, "train", lambda given, report, **how: seen.append(how) or tmp_path, raising=False)
    assert cli("train", config, f"--{option}").code == 0
    assert seen == [{"resume": False, "overwrite": False} | {option: True}]


@pytest.mark.parametrize("override", ["steps", "base.steps=0", "nosuch=1", "base.steps=[", "name.x=1"])
def test_wrong_overrides_are_refused(cli, config, override):
    ran = cli("train", config, override)
    assert ran.code == 2
    assert ran.err.startswith("prngeo: ")


def test_a_missing_file_is_refused(cli, tmp_path):
    assert "No such configuration file" in cli("train", tmp_path / "nosuch.yaml").err


def test_progress_and_result_for_programs(cli, config, monkeypatch, tmp_path):
    def train(given, report, **how):
        report(Progress(given.name, "base", 3, 4))
        return tmp_path / "bundle"

    monkeypatch.setattr(prngeo, "train", train, raising=False)
    ran = cli("train", config, "--progress", "json")
    step, result = [json.loads(line) for line in ran.err.splitlines()]
    assert (step["event"], step["stage"], step["done"], step["total"]) == ("progress", "base", 3, 4)
    assert result == {"event": "result", "model": str(tmp_path / "bundle")}


@pytest.fixture
def finished(monkeypatch, tmp_path, tiny_model):
    """A training that ends with a report and figures of test areas."""
    bundle = open_bundle(tiny_model)
    figures = {"scenes": 2, "megapixels": 4.5, "base_iou": 0.512, "refined_iou": 0.534, "blocks": 1}
    test = AreaCard(source="mine", target="roads", **figures, base_relaxed_f1=0.711, refined_relaxed_f1=0.733)
    model = write_bundle(tmp_path / "model", bundle.card.model_copy(update={"tests": [test]}), bundle.tensors()).path

    def train(given, report, **how):
        (given.work / given.name).mkdir(parents=True)
        (given.work / given.name / "report.html").write_text("")
        return model

    monkeypatch.setattr(prngeo, "train", train, raising=False)
    return model


def test_it_ends_with_the_figures_of_the_test_areas_and_the_place_of_the_report(cli, config, finished, tmp_path):
    ran = cli("train", config, f"work={tmp_path / 'runs'}")
    assert ran.code == 0
    iou, relaxed = [line.split() for line in ran.out.splitlines() if "mine" in line]
    assert iou == ["roads", "mine", "2", "4.5", "0.512", "0.534", "+0.022"]
    assert relaxed == ["roads", "mine", "0.711", "0.733", "+0.022"]
    assert "relaxed F1" in ran.out
    assert str(tmp_path / "runs/mine/report.html") in ran.err


def test_programs_are_told_where_the_report_is(cli, config, finished, tmp_path):
    ran = cli("train", config, f"work={tmp_path / 'runs'}", "--progress", "json")
    told = json.loads(ran.err.splitlines()[-1])
    assert told == {
        "event": "result",
        "model": str(finished),
        "report": str((tmp_path / "runs/mine/report.html").resolve()),
    }
