"""Runs that are killed in every phase: nothing half-written is visible, nothing finished is lost or made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.killing import PHASES, small_model, small_scene

KILLS = 50
CASES = 64
"""More than kills: where the machine gets faster meanwhile, some runs are done before theirs."""
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks with SIGKILL")
def test_a_run_continues_after_a_kill_at_any_moment(tmp_path: Path, tiny_model: Path) -> None:
    scene, model = small_scene(tmp_path / "scene.tif"), small_model(tiny_model, tmp_path / "model")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "tests.inference.killing", scene, model, tmp_path / "out", CASES]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    whole, *cases = map(json.loads, ran.stdout.splitlines())
    assert len(whole["computed"]) == len(set(whole["computed"])) == 6
    assert sum(len(case["phases"]) for case in cases) >= KILLS
    assert {name for case in cases for phases in case["phases"] for name in phases} == set(PHASES)
    for case in cases:
        assert case["same"], "pixels or rows differ from those of the uninterrupted run"
        assert not case["again"], "finished chunks were computed again"
        assert not case["missed"]
        assert not case["torn"], "a file with a final name was not whole"
        assert not case["left"]
