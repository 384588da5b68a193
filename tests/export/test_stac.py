"""The item is valid by pystac (JSON schema of the core, MLM extension) and by stac-model, without a network."""

import json
import shutil

import pystac
import pytest
from pystac.extensions.mlm import MLMExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from prngeo.errors import UsageError
from prngeo.export import export_model
from prngeo.export.stac import count_parameters, model_item
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.models.runtime import load_networks


@pytest.fixture(
    scope="module", params=["tiny_model", pytest.param("exported", marks=pytest.mark.slow)], ids=["bundle", "onnx"]
)
def item_path(request, tmp_path_factory):
    source = request.getfixturevalue(request.param)
    folder = source if request.param == "tiny_model" else source.files[0].parent
    return export_model(folder, "stac", tmp_path_factory.mktemp("stac") / "out").files[-1]


@pytest.fixture(scope="module")
def content(item_path):
    return json.loads(item_path.read_text(encoding="utf-8"))


def test_pystac_takes_the_item(content, item_path):
    JsonSchemaSTACValidator().validate_core(content, pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_file(str(item_path))
    assert item.id == "tiny-0"
    model = MLMExtension.ext(item)
    assert model.mlm_name == "tiny"
    assert model.tasks == ["semantic-segmentation"]
    assert [part.name for part in model.input] == ["image", "valid"]
    assert model.input[0].input.shape == [-1, 3, 128, 128]
    assert [part.name for part in model.output[0].classes] == ["roads", "buildings"]


def test_the_validator_is_not_blind(content):
    with pytest.raises(pystac.STACValidationError):
        JsonSchemaSTACValidator().validate_core(content | {"assets": None}, pystac.STACObjectType.ITEM, "1.1.0")


def test_stac_model_takes_the_properties(content):
    schema = pytest.importorskip("stac_model.schema")
    properties = schema.MLModelProperties.model_validate(content["properties"])
    assert properties.name == "tiny"
    assert properties.tasks == {"semantic-segmentation"}
    assert properties.input[0].bands == ["red", "green", "blue"]
    assert properties.input[0].value_scaling[0].maximum == 255
    assert properties.hyperparameters.model_extra["threshold"] == {"roads": 0.48, "buildings": 0.5}
    assert properties.hyperparameters.model_extra["refined"] == {"roads": True, "buildings": False}
    broken = content["properties"] | {"mlm:tasks": ["roads"]}
    with pytest.raises(ValueError, match="mlm:tasks"):
        schema.MLModelProperties.model_validate(broken)


def test_assets_are_the_files_beside_the_item(content, item_path):
    names = {asset["href"] for asset in content["assets"].values()} | {"./item.json"}
    assert names == {f"./{path.name}" for path in item_path.parent.iterdir()}
    models = [asset for asset in content["assets"].values() if "mlm:model" in asset["roles"]]
    assert models
    assert all(asset["mlm:artifact_type"] for asset in models)


def test_the_folder_is_a_model(item_path):
    open_bundle(item_path.parent).check_files()


def test_parameters_are_counted_as_torch_counts_them(tiny_model):
    network, refiner = load_networks(open_bundle(tiny_model))
    expected = sum(tensor.numel() for part in (network, refiner) for tensor in part.parameters())
    assert count_parameters(tiny_model / "weights.safetensors") == expected


@pytest.mark.parametrize(
    ("text", "stored"),
    [("Apache-2.0", "Apache-2.0"), ("CC BY 4.0, see readme", "other"), ("none", "none")],
)
def test_a_license_that_is_no_identifier_is_other(tiny_model, text, stored):
    bundle = open_bundle(tiny_model)
    item = model_item(Bundle(bundle.path, bundle.card.model_copy(update={"license": text})))
    assert item["properties"]["license"] == stored


@pytest.mark.parametrize(
    ("created", "stored"),
    [
        ("", None),
        ("yesterday", None),
        ("2026-11-24", "2026-11-24T00:00:00Z"),
        ("2026-11-24T10:00+02:00", "2026-11-24T08:00:00Z"),
    ],
)
def test_the_date_of_the_card_is_kept_if_it_is_one(tiny_model, created, stored):
    bundle = open_bundle(tiny_model)
    item = model_item(Bundle(bundle.path, bundle.card.model_copy(update={"created": created})))
    assert item["properties"].get("created") == stored


def test_a_missing_file_is_an_error(tiny_model, tmp_path):
    copied = shutil.copytree(tiny_model, tmp_path / "model")
    (copied / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no weights\.safetensors"):
        export_model(copied, "stac", tmp_path / "out")
