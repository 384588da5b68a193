"""A window of QGIS shows a project: scene, roads and buildings in their colors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio

import prngeo
from prngeo import PredictOptions
from prngeo.qgis.styles import target_color
from prngeo.synth.write import write_town
from tests.qgis.real import PATIENCE, environment, skip_if_missing

SIZE = 400


@pytest.mark.qgis
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_window_renders_the_scene_with_roads_and_buildings_over_it(tmp_path: Path, tiny_model: Path) -> None:
    skip_if_missing()
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed: there is no screen to draw on")
    town = write_town(tmp_path / "town.tif", size=256, seed=3)
    project = prngeo.predict(town.scene, tmp_path / "out", PredictOptions(model=tiny_model, threshold=0.1)).project
    picture = tmp_path / "picture.png"
    variables = environment(tmp_path)
    del variables["QT_QPA_PLATFORM"]
    command = ["xvfb-run", "-a", "qgis.bin", "--nologo", "--noversioncheck", "--project", project]
    command += ["--snapshot", picture, "--width", str(SIZE), "--height", str(SIZE)]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=variables, timeout=PATIENCE)
    assert picture.exists(), ran.stdout + ran.stderr
    with rasterio.open(picture) as file:
        colors = np.moveaxis(file.read([1, 2, 3]), 0, -1).reshape(-1, 3)
    assert len(colors) == SIZE * SIZE
    assert (colors == 255).all(axis=1).mean() < 0.3, "little is empty"
    assert len(np.unique(colors, axis=0)) > 1000, "the scene is beneath"
    for target in ("roads", "buildings"):
        wanted = np.array(target_color(target)[:3])
        assert (np.abs(colors - wanted.astype(int)).max(axis=1) < 16).sum() > 20, f"outlines of {target}"
