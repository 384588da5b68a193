"""What is told of a run is the run's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np


def test_peak_memory_is_not_that_of_the_process_that_started_this_one() -> None:
    held = np.ones(50_000_000)  # 400 MB
    script = "from prngeo.inference.result import peak_memory; print(peak_memory())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 1e6 < int(ran.stdout) < held.nbytes
