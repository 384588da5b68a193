import json
import subprocess
import sys

import pytest
import torch

from prngeo.errors import PrngeoError, UsageError
from prngeo.files import file_hash
from prngeo.models.bundle import Bundle, embedded_models, open_bundle, write_bundle
from prngeo.models.card import Calibration, Card, TargetCard


@pytest.fixture
def copied(tmp_path, make_card, tensors):
    return write_bundle(tmp_path / "copy", make_card(), tensors).path


def edit(folder, **values):
    card = json.loads((folder / "card.json").read_text()) | values
    (folder / "card.json").write_text(json.dumps(card))


def test_what_is_written_is_read_back(bundle, tensors):
    opened = open_bundle(bundle.path)
    assert opened.card == bundle.card
    assert opened.card.weights_sha256 == file_hash(bundle.path / "weights.safetensors")
    stored = opened.tensors()
    assert stored.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert stored[name].dtype == expected.dtype
        assert torch.equal(stored[name], expected)
    assert sorted(path.name for path in bundle.path.iterdir()) == ["card.json", "weights.safetensors"]


def test_a_bundle_can_be_replaced(copied, make_card, tensors):
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    write_bundle(copied, make_card(version="2"), other)
    opened = open_bundle(copied)
    assert opened.card.version == "2"
    assert torch.equal(opened.tensors()["refiner.head.bias"], other["refiner.head.bias"].half())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 70_000.0])
def test_weights_that_float16_cannot_hold_are_refused(tmp_path, make_card, tensors, value):
    broken = dict(tensors)
    broken["network.x"] = torch.tensor([0.0, value])
    with pytest.raises(PrngeoError, match=r"network\.x"):
        write_bundle(tmp_path / "new", make_card(), broken)
    assert not (tmp_path / "new").exists()


def test_a_refused_bundle_leaves_the_old_one(copied, make_card):
    before = (copied / "card.json").read_bytes(), (copied / "weights.safetensors").read_bytes()
    with pytest.raises(PrngeoError):
        write_bundle(copied, make_card(version="2"), {"network.x": torch.tensor(float("nan"))})
    assert before == ((copied / "card.json").read_bytes(), (copied / "weights.safetensors").read_bytes())


def test_weights_of_another_card_are_refused(copied):
    path = copied / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="SHA-256 differs"):
        open_bundle(copied).tensors()


def test_damaged_weights_are_refused_even_if_the_hash_fits(copied):
    path = copied / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    edit(copied, weights_sha256=file_hash(path))
    with pytest.raises(UsageError, match="cannot be read"):
        open_bundle(copied).tensors()


def test_missing_weights_are_an_error(copied):
    (copied / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no weights\.safetensors"):
        open_bundle(copied).tensors()


@pytest.mark.parametrize("found", [2, 0, "1", None])
def test_another_format_is_refused(copied, found):
    edit(copied, format=found)
    with pytest.raises(UsageError, match=r"bundle format .* this prngeo reads format 1"):
        open_bundle(copied)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[1, 2]", "null", "7"])
def test_a_card_that_is_no_card_is_refused(copied, text):
    (copied / "card.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"card\.json is not"):
        open_bundle(copied)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"surprise": 1}, "surprise"),
        ({"targets": {}}, "targets"),
        ({"gsd": [0.5]}, "gsd"),
        ({"gsd": [1.0, 0.5]}, "smallest, largest"),
        ({"gsd": [0, 0.5]}, "gsd"),
        ({"tile": 100}, "tile"),
        ({"tile": 0}, "tile"),
        ({"overlap": 6}, "overlap"),
        ({"overlap": 300}, "overlap"),
        ({"overlap": -4}, "overlap"),
        ({"bands": ["grey"]}, "mean"),
        ({"targets": {"roads": {"base": {"temperature": 0}}}}, "temperature"),
        ({"targets": {"roads": {"base": {"threshold": 1}}}}, "threshold"),
        ({"refiner": {"window": 100}}, "window"),
        ({"refiner": {"window": 1024, "overlap": 600}}, "overlap"),
        ({"refiner": {"overlap": 30}}, "overlap"),
        ({"refiner": {"reduction": 3}}, "reduction"),
        ({"refiner": {"variant": "large"}}, "variant"),
        ({"refiner": {"variant": "paper", "patch": 96}}, "multiple of the patch"),
        ({"refiner": {"variant": "paper", "patch": 60}}, "patch"),
        ({"refiner": {"variant": "paper", "window": 192, "overlap": 48}}, "overlap must be a multiple of the patch"),
        ({"refiner": None}, "no refiner"),
    ],
)
def test_a_card_that_cannot_work_is_refused_with_the_place(copied, values, place):
    edit(copied, **values)
    with pytest.raises(UsageError, match=f"card.json is not a model card: .*{place}"):
        open_bundle(copied)


def test_a_missing_key_is_named(copied):
    card = json.loads((copied / "card.json").read_text())
    del card["network"]
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match="network: Field required"):
        open_bundle(copied)


@pytest.mark.parametrize("name", ["no-such-model", "", "/", "no/such/folder"])
def test_an_unknown_model_is_an_error(name):
    with pytest.raises(UsageError, match=r"No such model.*prngeo models"):
        open_bundle(name)


def test_every_embedded_model_opens():
    for name in embedded_models():
        bundle = open_bundle(name)
        assert bundle.card.name == name
        assert bundle.tensors()


def test_a_target_uses_prn_only_if_its_gate_let_it():
    gate = {"base_iou": 0.5, "refined_iou": 0.6, "joint_oracle_iou": 0.7, "pixels": 9}
    for enabled in (True, False):
        target = TargetCard.model_validate({"refined": {"threshold": 0.3}, "gate": gate | {"enabled": enabled}})
        assert target.refine == enabled
        assert target.calibration(True) == Calibration(threshold=0.3)
        assert target.calibration(False) == Calibration()
    assert not TargetCard(refined=Calibration()).refine
    assert TargetCard().calibration(True) == Calibration()


def test_cards_are_json_and_back(make_card):
    card = make_card(training={"note": "ä"}, tests=[])
    assert Card.model_validate_json(card.model_dump_json()) == card


def test_opening_a_bundle_imports_no_torch(bundle):
    program = (
        "import sys; from prngeo.models.bundle import open_bundle; open_bundle(sys.argv[1]);"
        "print([m for m in ('torch', 'rasterio', 'numpy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(bundle.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_bundle_is_its_folder_and_card(bundle):
    assert open_bundle(str(bundle.path)) == Bundle(bundle.path, bundle.card)
