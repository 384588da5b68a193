"""Networks in a process of their own: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import prngeo
from prngeo import PredictOptions, PrngeoError, UsageError
from prngeo.inference import apart
from prngeo.progress import Progress, Report
from tests.conftest import write_scene
from tests.inference.test_many import same

COMMAND = """
import sys
from prngeo.cli.app import run
code = run(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No process is left to other tests."""
    yield
    if apart._process is not None:
        apart._process.end()


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", min_area=0, chunk=512, max_memory=2 << 30, apart=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chunks by two, stretched."""
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", 1050, 550, dtype="uint16")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scene: Path) -> prngeo.PredictResult:
    """The result of one process."""
    options = PredictOptions(model=tiny_model, device="cpu", min_area=0)
    return prngeo.predict(scene, tmp_path_factory.mktemp("here"), options)


def networks() -> list[int]:
    """The processes of networks that this one has."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_they_give_pixels_and_rows_of_one_process(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    there = prngeo.predict(scene, tmp_path, options)
    same(here, there)
    records = [json.loads(result.record.read_text()) for result in (here, there)]
    for record in records:
        record["compute"].pop("threads")
    assert records[0]["compute"] == records[1]["compute"]
    assert not list(tmp_path.glob(".*"))


def test_one_process_serves_many_small_scenes_and_ends_before_the_vectors_of_a_large_one(
    tmp_path: Path, options: PredictOptions, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[int]]] = []

    def report(step: Progress) -> None:
        seen.append((step.stage, networks()))

    prngeo.predict(scene, tmp_path / "one", options, report)
    (first,) = networks()
    monkeypatch.setattr(apart, "LARGE", 1)
    prngeo.predict(scene, tmp_path / "two", options, report)
    assert {tuple(pids) for stage, pids in seen if stage == "segment"} == {(), (first,)}
    vectors = [pids for stage, pids in seen if stage == "vectorize"]
    assert vectors[0] == [first]
    assert vectors[-1] == []
    assert networks() == []


def test_the_peak_is_that_of_both_processes(tmp_path: Path, options: PredictOptions, scene: Path) -> None:
    result = prngeo.predict(scene, tmp_path, options)
    (pid,) = networks()
    own = psutil.Process().memory_info().rss
    assert result.peak_memory > own / 2 + psutil.Process(pid).memory_info().rss


def refuse(report: Report) -> None:
    raise UsageError("It has another size.")


def fail(report: Report) -> None:
    raise ValueError("a defect")


def die(report: Report) -> None:
    os._exit(3)


def test_errors_come_out_as_they_are_and_defects_with_their_traceback() -> None:
    process = apart._Process()
    with pytest.raises(UsageError, match="It has another size"):
        process.call(refuse)
    with pytest.raises(RuntimeError, match=r"(?s)in fail.*ValueError: a defect"):
        process.call(fail)
    with pytest.raises(PrngeoError, match=r"ended by itself \(exit code 3\).*--max-memory"):
        process.call(die)
    assert not process.alive


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_a_run_whose_process_dies_or_that_is_interrupted_keeps_its_chunks(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult, how: int | None
) -> None:
    out = tmp_path / "there"

    def report(step: Progress) -> None:
        if step.stage == "segment" and list(out.glob(".scene.prngeo/finished/chunks/*.json")):
            if how is None:
                raise KeyboardInterrupt
            for pid in networks():
                os.kill(pid, how)

    ends = KeyboardInterrupt if how is None else PrngeoError
    with pytest.raises(ends, match=r"of 6 chunks are done and kept"):
        prngeo.predict(scene, out, options, report)
    assert networks() == []
    steps: list[Progress] = []
    there = prngeo.predict(scene, out, replace(options, apart=False), steps.append)
    assert any(step.note.startswith("Resuming: ") for step in steps)
    same(here, there)


def test_the_command_has_no_torch_of_its_own_also_in_a_program_without_a_guard(
    tmp_path: Path, tiny_model: Path, scene: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(COMMAND)
    arguments = ["predict", str(scene), "-o", str(tmp_path), "-m", str(tiny_model), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(Path(prngeo.__file__).parents[1])}
    ran = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "scene.gpkg").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its next step")
def test_a_killed_command_takes_its_process_with_it(tmp_path: Path, tiny_model: Path, scene: Path) -> None:
    arguments = ["predict", str(scene), "-o", str(tmp_path), "-m", str(tiny_model), "--device", "cpu"]
    with subprocess.Popen([sys.executable, "-m", "prngeo", *arguments], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        children: list[psutil.Process] = []
        while not children and run.poll() is None:
            children = [c for c in psutil.Process(run.pid).children() if c.memory_info().rss > 200 << 20]
            time.sleep(0.02)
        run.kill()
    assert children
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
