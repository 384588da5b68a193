"""`prngeo models` and `prngeo models show`."""

import json
import shutil

import pytest

from prngeo.models import bundle as bundles
from prngeo.models.bundle import CARD
from prngeo.models.card import AreaCard, Card, DataCard, Gate, TargetCard


@pytest.fixture
def embedded(tiny_model, tmp_path, monkeypatch):
    """A folder of embedded models that holds the tiny one, with a card as a trained model has it."""
    folder = tmp_path / "weights" / "tiny"
    shutil.copytree(tiny_model, folder)
    card = Card.model_validate_json((folder / CARD).read_text())
    gate = Gate(
        enabled=False,
        base_iou=0.5,
        refined_iou=0.49,
        joint_oracle_iou=0.7,
        pixels=9,
        by_source={"accra": {"base": 0.61, "refined": 0.58}},
        note="PRN did not beat it",
    )
    figures = {"base_iou": 0.5, "refined_iou": 0.52, "blocks": 5, "scenes": 2, "megapixels": 4.5}
    intervals = dict.fromkeys(("base_interval", "refined_interval", "gain_interval"), (0.4, 0.6))
    card = card.model_copy(
        update={
            "targets": card.targets | {"buildings": TargetCard(gate=gate)},
            "data": [DataCard(name="accra", license="CC-BY-4.0 [sic]", targets=["buildings"], scenes=1, megapixels=80)],
            "tests": [AreaCard(source="accra", target="buildings", **figures, **intervals)],
        }
    )
    (folder / CARD).write_text(card.model_dump_json())
    monkeypatch.setattr(bundles, "EMBEDDED", folder.parent)
    return folder


def test_the_table_lists_every_embedded_model(cli, embedded):
    ran = cli("models")
    assert ran.code == 0
    for text in ("tiny", "roads, buildings", "0.25 to 1.25 m", "Apache-2.0", "kB"):
        assert text in ran.out


def test_the_list_as_json(cli, embedded):
    (entry,) = json.loads(cli("models", "--json").out)
    assert entry["name"] == "tiny"
    assert entry["targets"] == ["roads", "buildings"]
    assert entry["size_bytes"] > 0


def test_without_models_it_says_so(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "EMBEDDED", tmp_path)
    assert "No embedded models" in cli("models").out


def test_the_card_shows_the_gate_also_where_it_disabled_prn(cli, embedded):
    ran = cli("models", "show", "tiny")
    assert ran.code == 0
    (row,) = [line for line in ran.out.splitlines() if "off, by the gate" in line]
    assert row.split()[0] == "buildings"
    assert row.split()[-4:] == ["0.500", "0.490", "-0.010", "0.700"]
    for text in ("buildings: PRN did not beat it", "0.610", "-0.030", "CC-BY-4.0 [sic]", "+0.020 [+0.400, +0.600]"):
        assert text in ran.out


def test_the_card_tells_bands_and_training(cli, embedded):
    card = Card.model_validate_json((embedded / CARD).read_text())
    base = {"steps": 300, "batch": 8, "crop": 256, "loss": "focal"}
    training = {"base": base, "weights": "imagenet-lite0", "seed": 4}
    (embedded / CARD).write_text(card.model_copy(update={"training": training}).model_dump_json())
    told = " ".join(cli("models", "show", "tiny").out.split())
    assert "bands red, green, blue" in told
    assert "from weights imagenet-lite0, 300 steps of 8 crops of 256 px, loss focal, seed 4" in told
    (embedded / CARD).write_text(card.model_copy(update={"training": {"seed": 4}}).model_dump_json())
    assert "trained seed 4" in " ".join(cli("models", "show", "tiny").out.split())


def test_the_card_as_json_is_the_card(cli, embedded):
    ran = cli("models", "show", embedded, "--json")
    assert Card.model_validate_json(ran.out) == Card.model_validate_json((embedded / CARD).read_text())
