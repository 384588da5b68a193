import shutil
import sys

import pytest

from prngeo.errors import UsageError
from prngeo.export import export_model


@pytest.fixture
def copied(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "tiny")


@pytest.mark.parametrize("to", ["onnx", "geodeep", "deepness", "stac"])
def test_an_unknown_model_is_an_error(to, tmp_path):
    with pytest.raises(UsageError, match="No such model: nosuch"):
        export_model("nosuch", to, tmp_path / "out.onnx")
    assert not any(tmp_path.iterdir())


def test_an_unknown_target_is_an_error(copied):
    with pytest.raises(UsageError, match="--to is one of onnx, geodeep, deepness, stac, got 'torchscript'"):
        export_model(copied, "torchscript")


@pytest.mark.parametrize(("to", "name"), [("onnx", "base.onnx"), ("onnx", "card.json"), ("stac", "item.json")])
def test_existing_files_are_kept_unless_told(copied, tmp_path, to, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("precious")
    with pytest.raises(UsageError, match=f"{name} already exists.*--overwrite"):
        export_model(copied, to, out)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "precious"


def test_an_existing_tile_model_is_kept_unless_told(copied, tmp_path):
    (tmp_path / "a.onnx").write_text("precious")
    with pytest.raises(UsageError, match=r"a\.onnx already exists.*--overwrite"):
        export_model(copied, "deepness", tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_text() == "precious"


@pytest.mark.parametrize("to", ["onnx", "stac"])
def test_a_model_is_never_written_over(copied, to):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(UsageError, match="would replace the input"):
        export_model(copied, to, copied, overwrite=True)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_overwrite_replaces_and_leaves_nothing_else(copied, tmp_path):
    out = tmp_path / "out"
    first = export_model(copied, "stac", out)
    (out / "item.json").write_text("old")
    assert export_model(copied, "stac", out, overwrite=True) == first
    assert (out / "item.json").read_text().startswith("{")
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "item.json", "weights.safetensors"]


def test_a_path_that_does_not_suit_is_an_error(copied, tmp_path):
    (tmp_path / "file").write_text("")
    for to in ("onnx", "stac"):
        with pytest.raises(UsageError, match=f"is a file; --to {to} writes a folder"):
            export_model(copied, to, tmp_path / "file")
    with pytest.raises(UsageError, match=r"writes one file that ends in \.onnx, got -o .*model\.bin"):
        export_model(copied, "geodeep", tmp_path / "model.bin")


def test_a_precision_for_files_that_are_copied_is_an_error(copied, tmp_path):
    with pytest.raises(UsageError, match="--precision belongs to graphs"):
        export_model(copied, "stac", tmp_path / "out", "fp16")


def test_damaged_weights_are_an_error(copied, tmp_path):
    (copied / "weights.safetensors").write_bytes(b"x")
    for to in ("stac", "onnx"):
        with pytest.raises(UsageError, match="SHA-256 differs"):
            export_model(copied, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
@pytest.mark.parametrize("to", ["onnx", "geodeep"])
def test_without_the_extra_a_user_is_told_what_to_install(copied, tmp_path, monkeypatch, package, to):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"need the package {package}: run `pip install 'prngeo\[onnx\]'`"):
        export_model(copied, to, tmp_path / "out" / "model.onnx")
    assert not (tmp_path / "out").exists()


def test_names_come_from_the_model_if_none_is_given(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [path.parent.name for path in export_model(copied, "stac").files] == ["tiny-stac"] * 3
