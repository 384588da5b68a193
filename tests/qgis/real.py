"""Real QGIS in processes of its own, each with a fresh profile."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PYTHON = "/usr/bin/python3"
PATIENCE = 1200
"""Seconds after which a process hangs, on a machine with much else to do."""
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA")


@functools.cache
def missing() -> bool:
    if not Path(PYTHON).exists() or shutil.which("qgis_process.bin") is None:
        return True
    return subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode != 0


def skip_if_missing() -> None:
    if missing():
        pytest.skip(f"QGIS is not installed: {PYTHON} cannot import qgis.core, or there is no qgis_process.bin")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """That of a process which keeps all that QGIS writes of its own in a folder."""
    for name in ("config", "runtime"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    return kept | {
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(folder / "config"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
        **more,
    }


def run_in_qgis(folder: Path, script: str, argument: object, **more: str) -> dict[str, Any]:
    """What a script prints, as JSON after SHOWN, with the argument as JSON."""
    command = [PYTHON, "-c", script, json.dumps(argument)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(folder, **more), timeout=PATIENCE)
    assert run.returncode == 0, run.stdout + run.stderr
    return dict(json.loads(run.stdout.split("SHOWN")[1]))
