import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from prngeo.errors import PrngeoError, UsageError
from prngeo.export import export_model
from prngeo.export.verify import TOLERANCE, verify
from prngeo.models.bundle import open_bundle
from prngeo.models.card import Card
from prngeo.models.runtime import load_networks


def session(result, name):
    return onnxruntime.InferenceSession(str(result.files[0].parent / name), providers=["CPUExecutionProvider"])


def shapes(tensors):
    return {tensor.name: (tensor.type, tensor.shape) for tensor in tensors}


def test_a_folder_holds_two_graphs_and_a_card(exported, tiny_model):
    assert [path.name for path in exported.files] == ["base.onnx", "refiner.onnx", "card.json"]
    assert sorted(path.name for path in exported.files[0].parent.iterdir()) == [
        "base.onnx",
        "card.json",
        "refiner.onnx",
    ]
    own, source = (open_bundle(folder).card for folder in (exported.files[0].parent, tiny_model))
    assert own.graphs.precision == "fp32"
    assert own == Card.model_validate(source.model_dump() | {"graphs": own.graphs.model_dump()})


def test_graphs_have_a_free_batch_and_fixed_sizes(exported):
    base, refiner = session(exported, "base.onnx"), session(exported, "refiner.onnx")
    assert shapes(base.get_inputs()) == {
        "image": ("tensor(float)", ["batch", 3, 128, 128]),
        "valid": ("tensor(float)", ["batch", 1, 128, 128]),
    }
    assert shapes(base.get_outputs()) == {"logits": ("tensor(float)", ["batch", 2, 128, 128])}
    assert shapes(refiner.get_inputs()) == {
        "logits": ("tensor(float)", ["batch", 2, 256, 256]),
        "image": ("tensor(float)", ["batch", 3, 64, 64]),
        "valid": ("tensor(float)", ["batch", 1, 64, 64]),
    }
    assert list(shapes(refiner.get_outputs())) == ["correction", "refined"]


@pytest.mark.parametrize("kind", ["exported", "half"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.slow
def test_onnx_runtime_computes_what_torch_does(request, kind, batch, tiny_model):
    """Raw values in 0..1 go in: the normalization is inside."""
    result = request.getfixturevalue(kind)
    network, refiner = load_networks(open_bundle(tiny_model))
    generator = torch.Generator().manual_seed(batch)
    image = torch.rand(batch, 3, 128, 128, generator=generator)
    valid = (torch.rand(batch, 1, 128, 128, generator=generator) < 0.9).float()
    window = [torch.randn(batch, 2, 256, 256, generator=generator) * 5]
    window += [torch.rand(batch, bands, 64, 64, generator=generator) for bands in (3, 1)]
    with torch.inference_mode():
        expected, correction = network(image, valid).numpy(), refiner(*window).numpy()
    assert expected.std() > 0.5
    found = session(result, "base.onnx").run(["logits"], {"image": image.numpy(), "valid": valid.numpy()})[0]
    assert np.abs(found - expected).max() < TOLERANCE
    feed = dict(zip(("logits", "image", "valid"), (part.numpy() for part in window), strict=True))
    own, refined = session(result, "refiner.onnx").run(["correction", "refined"], feed)
    assert np.abs(own[:, 0] - correction[:, 0]).max() < TOLERANCE
    assert np.abs(correction[:, 0]).max() > 0.01
    np.testing.assert_array_equal(refined[:, 1], feed["logits"][:, 1], "PRN is disabled for buildings")


def test_graphs_tell_nothing_of_the_machine_they_were_made_on(exported):
    for name in ("base.onnx", "refiner.onnx"):
        content = (exported.files[0].parent / name).read_bytes()
        assert b".py" not in content
        assert b"site-packages" not in content


def test_fp16_nearly_halves_the_file_and_keeps_the_values(exported, half):
    for name in ("base.onnx", "refiner.onnx"):
        whole, small = (result.files[0].parent / name for result in (exported, half))
        kinds = [weight.data_type for weight in onnx.load(small).graph.initializer]
        assert kinds.count(onnx.TensorProto.FLOAT16) > 10
        if name == "base.onnx":
            assert small.stat().st_size < 0.75 * whole.stat().st_size
    assert open_bundle(half.files[0].parent).card.graphs.precision == "fp16"


def test_a_user_is_told_how_close_the_graphs_are_and_where_prn_is_off(exported):
    text = "\n".join(exported.notes)
    assert "Verified with ONNX Runtime: base logits within" in text
    assert "PRN is on for roads. PRN is off for buildings" in text


def test_a_graph_that_computes_something_else_is_an_error(exported, tiny_model):
    network, _ = load_networks(open_bundle(tiny_model))
    inputs = {"image": torch.rand(1, 3, 128, 128), "valid": torch.ones(1, 1, 128, 128)}
    graph = (exported.files[0].parent / "base.onnx").read_bytes()
    assert verify(graph, network, inputs, "logits") < TOLERANCE
    with torch.no_grad():
        network.network.segmentation_head[0].bias.add_(0.002)
    with pytest.raises(PrngeoError, match=r"does not compute what torch does: logits differ by up to 0\.00"):
        verify(graph, network, inputs, "logits")


def test_an_exported_model_cannot_be_exported_again(exported, tmp_path):
    folder = exported.files[0].parent
    for to in ("onnx", "geodeep"):
        with pytest.raises(UsageError, match="holds ONNX graphs and no weights"):
            export_model(folder, to, tmp_path / "again.onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_whose_prn_is_off_everywhere_gets_one_graph(tiny_model, tmp_path):
    """And the graph of an earlier export at the same place goes."""
    source = tmp_path / "model"
    source.mkdir()
    card = open_bundle(tiny_model).card.model_dump()
    card["targets"]["roads"]["gate"]["enabled"] = False
    (source / "card.json").write_text(Card.model_validate(card).model_dump_json())
    (source / "weights.safetensors").write_bytes((tiny_model / "weights.safetensors").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    (out / "refiner.onnx").write_text("old")
    (out / "card.json").write_text("old")
    result = export_model(source, "onnx", out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["base.onnx", "card.json"]
    assert open_bundle(out).card.graphs.refiner is None
    assert "PRN is off for roads and buildings" in "\n".join(result.notes)
