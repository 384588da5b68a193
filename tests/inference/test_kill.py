"""A run that is killed or interrupted in any phase leaves nothing half-written under a final name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas
import pytest
import rasterio

import prngeo
from prngeo import PredictOptions
from prngeo.progress import Progress
from tests.conftest import write_scene

PROGRAM = """
import os, signal, sys
from pathlib import Path
import prngeo
from prngeo.progress import Progress

scene, folder, model, stage, count = sys.argv[1:]
seen = 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def report(step: Progress) -> None:
    global seen
    seen += step.stage == stage
    if step.stage == stage and seen == int(count):
        die()


if stage == "publish":
    replace = Path.replace

    def replace_and_die(self, target):
        global seen
        if Path(target).parent == Path(folder):
            seen += 1
            if seen == int(count):
                die()
        return replace(self, target)

    Path.replace = replace_and_die

prngeo.predict(scene, folder, prngeo.PredictOptions(model=model, device="cpu", chunk=512), report)
"""

PHASES = [
    ("segment", 1),
    ("segment", 30),
    ("finish", 2),
    ("finish", 5),
    ("vectorize", 1),
    ("vectorize", 3),
    ("publish", 2),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
@pytest.mark.parametrize(("stage", "count"), PHASES)
def test_killed_run_leaves_only_whole_files_and_the_next_run_cleans_up(
    tmp_path: Path, tiny_model: Path, stage: str, count: int
) -> None:
    scene = write_scene(tmp_path / "scene.tif", 500, 700)
    out = tmp_path / "out"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    killed = subprocess.run(
        [sys.executable, str(program), str(scene), str(out), str(tiny_model), stage, str(count)],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    visible = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert bool(visible) == (stage == "publish")
    for path in visible:
        if path.suffix == ".tif":
            with rasterio.open(path) as file:
                file.read()
    result = prngeo.predict(scene, out, PredictOptions(model=tiny_model, device="cpu", overwrite=True))
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert len(geopandas.read_file(result.vectors[0], layer="roads")) == result.targets["roads"].polygons


@pytest.mark.parametrize(("stage", "count"), PHASES[:-1])
def test_interrupted_run_leaves_nothing(tmp_path: Path, tiny_model: Path, stage: str, count: int) -> None:
    scene = write_scene(tmp_path / "scene.tif", 500, 700)
    seen: list[Progress] = []

    def report(step: Progress) -> None:
        seen.append(step)
        if sum(item.stage == stage for item in seen) == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prngeo.predict(scene, tmp_path / "out", PredictOptions(model=tiny_model, device="cpu", chunk=512), report)
    assert not (tmp_path / "out").exists()
