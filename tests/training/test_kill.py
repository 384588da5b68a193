"""A training that is killed and continued ends as one that was not, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import prngeo
from tests.cli.conftest import ENVIRONMENT

CONFIG = """
name: {name}
targets: [roads]
network: {{architecture: unet, encoder: tu-lcnet_050, weights: none}}
base: {{steps: 8, batch: 2, crop: 64, validate_every: 2}}
refiner: {{window: 256, overlap: 64, patch: 32, width: 4, steps: 2}}
tile: 64
overlap: 16
gsd: [0.5, 1.0]
towns: {{train: 2, refine: 1, validation: 1, test: 1, size: 128, seed: 0}}
"""


def start(tmp_path, name, *options):
    path = tmp_path / f"{name}.yaml"
    path.write_text(CONFIG.format(name=name))
    command = [sys.executable, "-m", "prngeo", "train", str(path), *options, "--progress", "json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes)


def finish(process):
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_a_killed_run_continues_to_the_same_model(tmp_path):
    finish(start(tmp_path, "whole"))
    process = start(tmp_path, "cut")
    for line in process.stderr:
        if '"stage": "base"' in line and json.loads(line)["done"] == 5:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait(60)
    process.stderr.close()
    process.stdout.close()
    assert (tmp_path / "runs" / "cut" / "base.pt").exists()
    assert not (tmp_path / "runs" / "cut" / "bundle").exists()

    refused = start(tmp_path, "cut")
    _, told = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "--resume" in told
    assert "--overwrite" in told

    told = finish(start(tmp_path, "cut", "--resume"))
    first = next(json.loads(line) for line in told.splitlines() if '"stage": "base"' in line)
    assert 3 <= first["done"] <= 6, "what the checkpoint holds is not done again"
    whole, cut = (prngeo.open_bundle(tmp_path / "runs" / name / "bundle") for name in ("whole", "cut"))
    assert cut.card.weights_sha256 == whole.card.weights_sha256
    assert cut.card.model_copy(update={"name": "whole"}) == whole.card
    curves = [(tmp_path / "runs" / name / "logs" / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="stops with SIGTERM")
def test_a_stopped_run_on_several_devices_leaves_no_process(tmp_path):
    import psutil

    process = start(tmp_path, "stopped", "base.devices=2", "base.steps=100000", "device=cpu")
    children = []
    for line in process.stderr:
        if '"stage": "base"' in line:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            break
    assert len(children) >= 2
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    deadline = time.monotonic() + 30
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.2)
