import pytest

from prngeo.models.bundle import open_bundle
from tests.cli.test_app import _imported


def test_a_model_with_its_item_is_written_without_torch(in_process_of_its_own, tiny_model, tmp_path):
    arguments = ["export", tiny_model, "--to", "stac", "-o", tmp_path / "out"]
    code, imported = _imported(in_process_of_its_own, arguments)
    assert code == 0
    assert "torch" not in imported
    assert (tmp_path / "out" / "item.json").is_file()


@pytest.mark.slow
def test_export_predict_and_show_go_together(cli, tiny_model, scene, tmp_path):
    ran = cli("export", tiny_model, "--to", "onnx", "--precision", "fp16", "-o", tmp_path / "onnx")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert "Verified with ONNX Runtime" in ran.err
    assert "PRN is off for buildings" in ran.err
    assert ran.err.splitlines()[-1] == f"Use it: prngeo predict SCENE -m {tmp_path / 'onnx'}"
    assert open_bundle(tmp_path / "onnx").card.graphs.precision == "fp16"
    assert cli("predict", scene, "-m", tmp_path / "onnx", "-o", tmp_path / "out").code == 0
    shown = cli("models", "show", tmp_path / "onnx").out
    assert "ONNX Runtime, CPU, weights fp16" in shown
    assert "base.onnx" in shown
    assert "missing" not in shown


def test_wrong_calls(cli, tiny_model, tmp_path):
    assert cli("export", tiny_model).code == 2
    assert cli("export", tiny_model, "--to", "tflite").code == 2
    ran = cli("export", tiny_model, "--to", "geodeep", "-o", tmp_path / "model")
    assert ran.code == 2
    assert "ends in .onnx" in ran.err
