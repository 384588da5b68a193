"""Chunks on Dask workers that are processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

import prngeo
from prngeo import PredictOptions, PrngeoError, UsageError
from prngeo.inference.cluster import _absolute, blocks
from prngeo.inference.job import prepare
from prngeo.inference.resume import RUN
from prngeo.inference.worker import ModelPlugin
from prngeo.progress import Progress
from prngeo.tiling.grid import Window
from tests.conftest import write_scene
from tests.inference.test_many import same

WITHOUT = "import importlib.metadata as m; v = m.version; m.version = lambda n: v(n.replace('prngeo', 'no-prngeo')); "
"""Start of a worker's program: prngeo is not installed."""
ELSEWHERE = (
    "import pathlib; e = pathlib.Path.exists; pathlib.Path.exists = lambda p: '.prngeo' not in str(p) and e(p); "
)
"""The folder of the outputs is not there."""
MIXED = """
import os, prngeo.models.runtime as runtime
facts = runtime.Runtime.facts
runtime.Runtime.facts = lambda self: facts(self) | {"precision": os.environ["PRECISION"]}
"""
"""A worker has another precision than the others."""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", min_area=0, chunk=512, max_memory=2 << 30)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chunks by three, stretched."""
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", 1050, 1100, dtype="uint16")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scene: Path) -> prngeo.PredictResult:
    """The result of one process."""
    return prngeo.predict(
        scene, tmp_path_factory.mktemp("here"), PredictOptions(model=tiny_model, device="cpu", min_area=0)
    )


@contextmanager
def cluster(
    folder: Path, *environments: dict[str, str], program: str = ""
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler, and a worker process for each of these environments, whose program begins with this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    base = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    place = f"--nthreads 1 --no-nanny --memory-limit 0 --no-dashboard --local-directory {folder}".split()
    with (folder / "dask.log").open("a") as log:

        def start(command: str, *arguments: str, before: str = "", **more: str) -> subprocess.Popen[bytes]:
            code = f"{before}\nimport sys\nfrom distributed.cli.dask_{command} import main\nsys.exit(main())"
            return subprocess.Popen([sys.executable, "-c", code, *arguments], env=base | more, stdout=log, stderr=log)

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        workers = [start("worker", address, *place, before=program, **more) for more in environments]
    try:
        with Client(address, timeout=300) as client:
            client.wait_for_workers(len(environments), timeout=300)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_blocks_are_squares_of_neighbors_and_enough_for_every_worker() -> None:
    chunks = [Window(512 * row, 512 * col, 512, 512) for row in range(16) for col in range(16)]
    for workers, count in ((1, 4), (2, 4), (3, 16), (8, 16), (9, 64), (32, 64), (33, 256), (1000, 256)):
        found = blocks(chunks, 512, workers)
        assert len(found) == count
        assert sorted((c for block in found for c in block), key=lambda c: (c.row, c.col)) == chunks
        for block in found:
            assert len({c.row for c in block}) == len({c.col for c in block}) == (256 // count) ** 0.5


@pytest.mark.parametrize("apart", [False, True])
def test_a_worker_plans_its_memory_as_the_program_did_that_refuses_small_budgets(
    tmp_path: Path, options: PredictOptions, scene: Path, apart: bool
) -> None:
    options = replace(options, dask="local", apart=apart, max_memory=1300 << 20)
    with prepare(scene, tmp_path, options) as job:
        ours = job.memory
    with prepare(scene, tmp_path, replace(_absolute(options), model=options.model)) as job:
        assert job.memory == ours


@pytest.mark.slow
def test_local_workers_give_pixels_and_rows_of_one_process(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    steps: list[Progress] = []
    there = prngeo.predict(scene, tmp_path / "there", replace(options, dask="local:2"), steps.append)
    same(here, there)
    notes = [step.note for step in steps if step.note]
    assert any(note.startswith("9 chunks in ") and "more tiles" in note for note in notes)
    done = [step.done for step in steps if step.stage == "segment" and not step.note]
    assert done == sorted(done)
    assert done[-1] == 9
    records = [json.loads(result.record.read_text()) for result in (here, there)]
    for record in records:
        record["compute"].pop("threads", None)
    assert records[0]["compute"] == records[1]["compute"]
    assert not list((tmp_path / "there").glob(".*"))


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_nothing_is_computed_twice(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    out = tmp_path / "there"
    written: dict[str, int] = {}
    left = f"{RUN}of-a-killed-program"
    (out / ".scene.prngeo").mkdir(parents=True)
    (out / ".scene.prngeo" / left).touch()
    with cluster(tmp_path, {}, {}) as (address, workers):
        with Client(address) as client:
            client.register_plugin(ModelPlugin(left, {"card.json": b""}))
        assert list(tmp_path.rglob(f"{left}/card.json"))

        def report(step: Progress) -> None:
            if step.stage == "segment" and step.done and not written:
                notes = out.glob(".scene.prngeo/finished/chunks/*.json")
                written.update({note.name: note.stat().st_mtime_ns for note in notes})
                os.kill(workers[0].pid, signal.SIGKILL)
            if step.stage == "finish" and step.done == 0:
                now = {n.name: n.stat().st_mtime_ns for n in out.glob(".scene.prngeo/finished/chunks/*.json")}
                assert len(now) == 9
                assert written.items() <= now.items()

        there = prngeo.predict(scene, out, replace(options, dask=address), report)
        assert workers[0].wait(10) == -signal.SIGKILL
        assert len(list(tmp_path.rglob(f"{left}/card.json"))) < 2, "the worker that lives has forgotten the other run"
    assert 0 < len(written) < 9
    same(here, there)


@pytest.mark.slow
def test_an_interrupted_run_continues_here(
    tmp_path: Path, options: PredictOptions, scene: Path, here: prngeo.PredictResult
) -> None:
    out = tmp_path / "there"

    def report(step: Progress) -> None:
        if step.stage == "segment" and step.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="chunks are done and kept"):
        prngeo.predict(scene, out, replace(options, dask="local:2"), report)
    steps: list[Progress] = []
    there = prngeo.predict(scene, out, options, steps.append)
    assert any(step.note.startswith("Resuming: ") for step in steps)
    same(here, there)


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told_in_seconds(
    tmp_path: Path, options: PredictOptions, scene: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(PrngeoError, match=f"No Dask scheduler answers at {address}") as told:
            prngeo.predict(scene, tmp_path / "out", replace(options, dask=address))
        assert time.monotonic() - started < 60
    assert told.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_without_dask_the_message_says_how_to_install_it(
    tmp_path: Path, options: PredictOptions, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prngeo.inference.cluster", None)
    with pytest.raises(UsageError, match=r"--dask local needs Dask distributed: pip install 'prngeo\[dask\]'"):
        prngeo.predict(scene, tmp_path / "out", replace(options, dask="local"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["somewhere", "local:0", "local:x", "host:8786", ""])
def test_what_is_no_place_for_workers_is_refused(where: str) -> None:
    with pytest.raises(UsageError, match="--dask is the address of a scheduler"):
        PredictOptions(dask=where)


@pytest.mark.slow
def test_workers_that_do_not_suit_are_refused_with_the_reason(
    tmp_path: Path, options: PredictOptions, scene: Path
) -> None:
    for program, environments, message in (
        (WITHOUT, [{}], r"The worker tcp://\S+ has no prngeo, this machine"),
        (ELSEWHERE, [{}], r"The worker tcp://\S+ on \S+ does not see .*out: the outputs have to lie in a folder"),
        (MIXED, [{"PRECISION": "float32"}, {"PRECISION": "bfloat16"}], r"The workers differ: .*precision (float32|bf)"),
    ):
        with (
            cluster(tmp_path, *environments, program=program) as (address, _),
            pytest.raises(UsageError, match=message),
        ):
            prngeo.predict(scene, tmp_path / "out", replace(options, dask=address))
        assert not (tmp_path / "out").exists()
