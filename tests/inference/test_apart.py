"""Networks in a process of their own: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from _thread import interrupt_main
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import psutil
import pytest
from rasterio.io import MemoryFile

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_peak_is_that_of_both_processes(tmp_path: Path, options: PredictOptions, scene: Path) -> None:
    result = prngeo.predict(scene, tmp_path, options)
    (pid,) = networks()
    own = psutil.Process().memory_info().rss
    assert result.peak_memory > own / 2 + psutil.Process(pid).memory_info().rss


def refuse(report: Report) -> None:
    raise UsageError("It has another size.")


def fail(report: Report) -> None:
    raise ValueError("a defect")


def exhaust(report: Report) -> None:
    raise MemoryError


class UnsendableError(Exception):
    """It cannot be pickled."""

    def __init__(self, name: str) -> None:
        super().__init__(f"It belongs to {name}.", lambda: None)


def fail_otherwise(report: Report) -> None:
    raise UnsendableError("a library")


def die(report: Report) -> None:
    os._exit(3)


def be_killed(report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait(report: Report) -> None:
    report(Progress("scene", "segment", note="waiting"))
    time.sleep(600)


@pytest.mark.slow
def test_errors_come_out_as_they_are_and_defects_with_their_traceback() -> None:
    process = apart._Process()
    with pytest.raises(UsageError, match="It has another size"):
        process.call(refuse)
    with pytest.raises(ValueError, match="a defect") as caught:
        process.call(fail)
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(MemoryError):
        process.call(exhaust)
    with pytest.raises(RuntimeError, match=r"UnsendableError: .*It belongs to a library"):
        process.call(fail_otherwise)
    with pytest.raises(PrngeoError, match=r"ended by itself \(exit code 3\).*printed before"):
        process.call(die)
    assert not process.alive
    with pytest.raises(PrngeoError, match=r"ended by itself \(exit code -9\).*--max-memory"):
        apart._Process().call(be_killed)


def test_a_run_that_is_to_end_does_not_wait_for_a_process_that_loads_the_networks() -> None:
    process = apart._Process()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            process.call(wait, report=lambda _: Timer(0.5, interrupt_main).start())
    finally:
        signal.signal(signal.SIGINT, before)
    process.end()
    assert process._process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_every_run_is_in_the_current_folder_of_the_program(
    tmp_path: Path, options: PredictOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, seed in ("monday", 1), ("tuesday", 2):
        (tmp_path / day).mkdir()
        write_scene(tmp_path / day / "scene.tif", seed=seed)
        monkeypatch.chdir(tmp_path / day)
        there = prngeo.predict("scene.tif", "there", options)
        same(prngeo.predict("scene.tif", "here", replace(options, apart=False)), there)


@pytest.mark.slow
def test_threads_have_processes_of_their_own_of_which_one_stays(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(prngeo.predict, scene, tmp_path / name, options) for name in ("one", "two")]
        for run in runs:
            same(here, run.result())
    assert len(networks()) == 1
    same(here, prngeo.predict(scene, tmp_path / "three", options))


def test_what_only_this_process_sees_and_a_process_that_may_have_no_children_are_refused(
    tmp_path: Path, options: PredictOptions, scene: Path
) -> None:
    with MemoryFile(scene.read_bytes()) as file, pytest.raises(UsageError, match="leave `apart` out"):
        prngeo.predict(file.name, tmp_path, options)
    with get_context("spawn").Pool(1) as pool, pytest.raises(UsageError, match="worker of a pool"):
        pool.apply(prngeo.predict, (scene, tmp_path, options))


@pytest.mark.slow
def test_a_fork_does_not_use_the_process_of_its_parent(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    prngeo.predict(scene, tmp_path / "one", options)
    assert apart._process is not None
    assert apart._process.alive
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not apart._process.alive else 1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
@pytest.mark.slow
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


@pytest.mark.slow
def test_the_command_has_no_torch_of_its_own_and_runs_no_other_program_and_no_file_of_the_current_folder(
    tmp_path: Path, tiny_model: Path, scene: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(COMMAND)
    arguments = ["predict", str(scene), "-o", str(tmp_path), "-m", str(tiny_model), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(Path(prngeo.__file__).parents[1])}
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "pickle.py").write_text("raise SystemExit('A file of the current folder was run.')")
    ran = subprocess.run(
        [sys.executable, program, *arguments], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "scene.gpkg").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its next step")
@pytest.mark.slow
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
