"""`prngeo predict` with a model that was exported for ONNX Runtime."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio

import prngeo
from prngeo.errors import PrngeoError, UsageError
from prngeo.inference import engine
from prngeo.models import devices
from prngeo.models.onnx_runtime import load_graph
from tests.conftest import write_scene


@pytest.fixture
def folder(exported):
    return exported.files[0].parent


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene.tif", nodata=0, holes=[(slice(100, 150), slice(200, 260))])


@pytest.fixture
def float32(monkeypatch):
    """torch computes in float32 even where the CPU has bfloat16."""
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: False)
    engine._runtime_of.cache_clear()
    yield
    engine._runtime_of.cache_clear()


def pixels(result):
    for target, kinds in result.rasters.items():
        for kind, path in kinds.items():
            with rasterio.open(path) as file:
                yield (target, kind), file.read(1).astype(int)


@pytest.mark.parametrize("tta", [False, True])
def test_it_equals_torch_within_a_quantization_step(folder, tiny_model, scene, tmp_path, float32, tta):
    options = prngeo.PredictOptions(model=tiny_model, device="cpu", tta=tta)
    torch = dict(pixels(prngeo.predict(scene, tmp_path / "torch", options)))
    onnx = dict(pixels(prngeo.predict(scene, tmp_path / "onnx", replace(options, model=folder))))
    assert torch.keys() == onnx.keys()
    for target in ("roads", "buildings"):
        stored = torch[target, "probability"]
        assert np.ptp(stored[stored < 255]) > 50
        assert np.abs(stored - onnx[target, "probability"]).max() <= 1
        np.testing.assert_array_equal(stored == 255, onnx[target, "probability"] == 255)
        assert np.abs(torch[target, "correction"] - onnx[target, "correction"]).max() <= 1
    valid = torch["roads", "mask"] < 255
    assert np.ptp(torch["roads", "correction"][valid]) > 2, "PRN is at work"
    assert not torch["buildings", "correction"][valid].any(), "PRN is disabled"


def test_it_does_not_import_torch(folder, scene, tmp_path):
    program = (
        "import sys; from prngeo.cli.app import run; code = run(sys.argv[1:]);"
        "print([code, *(m for m in ('torch', 'timm', 'segmentation_models_pytorch', 'onnx') if m in sys.modules)])"
    )
    command = [sys.executable, "-c", program, "predict", str(scene), "-m", str(folder), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0]"
    record = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert record["compute"] == {"runtime": "onnxruntime", "device": "cpu", "precision": "float32"}
    assert "torch" not in record["versions"]
    assert record["versions"]["onnxruntime"]


def test_the_record_of_torch_names_torch(tiny_model, scene, tmp_path):
    result = prngeo.predict(scene, tmp_path / "out", prngeo.PredictOptions(model=tiny_model, device="cpu"))
    record = json.loads(result.record.read_text())
    assert record["compute"]["runtime"] == "torch"
    assert record["compute"]["threads"] >= 1
    assert record["versions"]["torch"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "--device cuda: .* ONNX Runtime runs on the CPU"),
        ({"tile": 256}, "--tile 256: .* exported for tiles of 128 px"),
    ],
)
def test_what_an_exported_model_cannot_do_is_refused(folder, scene, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        prngeo.predict(scene, tmp_path / "out", prngeo.PredictOptions(model=folder, **options))
    assert not (tmp_path / "out").exists()


def test_another_overlap_is_taken(folder, scene, tmp_path):
    options = prngeo.PredictOptions(model=folder, overlap=0, targets=("buildings",))
    assert prngeo.predict(scene, tmp_path / "out", options).targets["buildings"].valid_pixels


@pytest.mark.parametrize("name", ["base.onnx", "refiner.onnx"])
def test_a_damaged_or_missing_graph_is_refused(folder, scene, tmp_path, name):
    copied = shutil.copytree(folder, tmp_path / "model")
    options = prngeo.PredictOptions(model=copied)
    (copied / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=f"{name} is not the file its card was written for"):
        prngeo.predict(scene, tmp_path / "out", options)
    (copied / name).unlink()
    with pytest.raises(UsageError, match=f"has no {name}"):
        prngeo.predict(scene, tmp_path / "out", options)


def test_without_onnx_runtime_a_user_is_told_what_to_install(folder, scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine._runtime_of.cache_clear()
    with pytest.raises(UsageError, match=r"need the package onnxruntime: run `pip install 'prngeo\[onnx\]'`"):
        prngeo.predict(scene, tmp_path / "out", prngeo.PredictOptions(model=folder))


def test_a_file_that_is_no_graph_is_an_error(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(PrngeoError, match="cannot load the graph"):
        load_graph(path)
