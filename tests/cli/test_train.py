"""`prngeo train` on the command line; training itself is tested in tests/training."""

import json

import pytest

import prngeo
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
