"""A run that was started through a pipe ends cleanly when the pipe is closed."""

import json
import subprocess
import sys

import pytest

from prngeo.cli.stop import VARIABLE
from tests.cli.conftest import ENVIRONMENT
from tests.conftest import write_scene


def start(arguments, **environment):
    command = [sys.executable, "-m", "prngeo", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=ENVIRONMENT | environment, **pipes)


@pytest.mark.slow
def test_the_end_of_input_stops_a_run_and_leaves_nothing(tiny_model, tmp_path):
    scene = write_scene(tmp_path / "large.tif", 1500, 1500)
    out = tmp_path / "out"
    arguments = ("predict", scene, "-o", out, "-m", tiny_model, "--progress", "json")
    with start(arguments, **{VARIABLE: "1"}) as process:
        note, first = (json.loads(process.stderr.readline()) for _ in range(2))
        assert (note["event"], first["event"], first["done"]) == ("note", "progress", 1)
        process.stdin.close()
        *_, last = process.stderr
        assert process.wait(timeout=60) == 130
    assert last.startswith("prngeo: cancelled.")
    assert not out.exists()


def test_a_run_that_does_not_heed_it_ends_too_and_leaves_nothing(tmp_path):
    program = """
import sys, time
from pathlib import Path
from prngeo.cli import stop
from prngeo.files import staging
stop.PATIENCE = 1
stop.stop_at_end_of_input()
with staging(Path(sys.argv[1]), "scene", resume=True) as hidden:
    (hidden / "finished").mkdir()
    (hidden / "finished" / "note.json").touch()
    print("begun", flush=True)
    time.sleep(300)
"""
    command, pipes = (
        [sys.executable, "-c", program, tmp_path / "new"],
        {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
    )
    with subprocess.Popen(command, env=ENVIRONMENT | {VARIABLE: "1"}, **pipes) as process:
        assert process.stdout.readline().strip() == b"begun"
        process.stdin.close()
        assert process.wait(timeout=60) == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("environment", [{}, {VARIABLE: "1"}])
def test_a_run_ends_by_itself_while_its_input_stays_open(environment):
    with start(["--version"], **environment) as process:
        assert process.wait(timeout=60) == 0
        assert process.stdout.read().startswith("prngeo ")
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_without_the_variable_a_closed_input_means_nothing(tiny_model, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 96, 130)
    with start(["predict", scene, "-o", tmp_path / "out", "-m", tiny_model]) as process:
        process.stdin.close()
        process.stderr.read()
        assert process.wait(timeout=60) == 0
