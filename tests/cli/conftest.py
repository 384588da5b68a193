"""Running the command line in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import prngeo
from prngeo.cli.app import run
from tests.conftest import write_scene

PACKAGE = Path(prngeo.__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "110", "TERM": "dumb", "PYTHONPATH": str(PACKAGE)}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `prngeo ARGUMENTS` here; arguments are turned into text."""

    def call(*arguments: object) -> Ran:
        code = run([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def in_process_of_its_own() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs Python code in a fresh interpreter."""

    def call(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)

    return call


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A small scene with red, green and blue."""
    return write_scene(tmp_path / "scene.tif", 96, 130)
