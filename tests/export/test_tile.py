import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import prngeo
from prngeo.errors import UsageError
from prngeo.export import export_model
from prngeo.export.tile import model_resolution, tile_side
from prngeo.models.bundle import open_bundle, write_bundle
from prngeo.models.card import Card
from tests.conftest import write_scene

TOWN = Path(__file__).parents[2] / "examples" / "town.tif"


def geodeep(scene, model, output):
    """The mask of the real command, values of its classes."""
    command = [sys.executable, "-m", "geodeep.scripts.main", str(scene), str(model)]
    subprocess.run([*command, "-q", "-t", "mask", "-o", str(output)], check=True, capture_output=True, timeout=300)
    with rasterio.open(output) as file:
        return file.read(1)


@pytest.fixture(scope="module")
def card(tiny_model):
    return open_bundle(tiny_model).card


def test_the_graph_takes_one_image_and_gives_square_class_maps(tile_model):
    session = onnxruntime.InferenceSession(str(tile_model.files[0]), providers=["CPUExecutionProvider"])
    assert [tensor.shape for tensor in session.get_inputs()] == [[1, 3, 128, 128]]
    assert [tensor.shape for tensor in session.get_outputs()] == [[1, 3, 128, 128]]


def test_metadata_is_what_the_tools_read(tile_model, card):
    session = onnxruntime.InferenceSession(str(tile_model.files[0]), providers=["CPUExecutionProvider"])
    meta = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    own = meta.pop("prngeo")
    assert meta == {
        "model_type": "Segmentor",
        "class_names": {"0": "background", "1": "roads", "2": "buildings"},
        "resolution": 37.5,
        "tiles_size": 128,
        "tiles_overlap": 25,
        "seg_thresh": 0.5,
        "seg_small_segment": 0,
    }
    assert own["model"] == "tiny 0"
    assert own["weights_sha256"] == card.weights_sha256
    assert own["thresholds"] == {"roads": 0.48, "buildings": 0.5}


def test_a_user_and_the_file_are_told_what_prn_loses(tile_model):
    session = onnxruntime.InferenceSession(str(tile_model.files[0]), providers=["CPUExecutionProvider"])
    limits = json.loads(session.get_modelmeta().custom_metadata_map["prngeo"])["limits"]
    assert any("PRN sees one tile of 128 px alone" in limit and "windows of 256 px" in limit for limit in limits)
    assert set(limits) <= set(tile_model.notes)
    assert any("probabilities within" in note for note in tile_model.notes)
    assert any("PRN is off for buildings" in note for note in tile_model.notes)


@given(low=st.floats(0.05, 5), spread=st.floats(2, 10), share=st.floats(0, 0.5), scene=st.floats(0.01, 1))
def test_the_resolution_brings_finer_scenes_into_the_range_and_keeps_those_within(low, spread, share, scene):
    """GeoDeep reduces a scene that is finer than the model by a whole number, rounded down."""
    base = make_card(gsd=(low, low * spread), gsd_tolerance=share)
    limit, resolution = low * (1 - share), model_resolution(base) / 100
    for gsd in (scene * limit, limit * (1 + scene)):
        seen = gsd * math.floor(resolution / gsd) if gsd < resolution else gsd
        assert 0.999 * limit <= seen <= 1.001 * max(2 * limit, gsd)


def make_card(**values):
    network = {"architecture": "unet", "encoder": "x", "mean": [0, 0, 0], "std": [1, 1, 1]}
    defaults = {"name": "a", "version": "1", "license": "x", "targets": {"roads": {}}, "gsd": (0.25, 1.25)}
    return Card.model_validate(defaults | {"network": network} | values)


@pytest.mark.parametrize(("tile", "enabled", "side"), [(512, True, 512), (160, True, 192), (160, False, 160)])
def test_a_tile_is_large_enough_for_prn(tile, enabled, side):
    gate = {"enabled": enabled, "base_iou": 0, "refined_iou": 0, "joint_oracle_iou": 0, "pixels": 1}
    targets = {"roads": {"refined": {}, "gate": gate}}
    assert tile_side(make_card(tile=tile, overlap=32, targets=targets, refiner={})) == side


def test_geodeep_runs_the_model_tile_by_tile(tile_model, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 300, 420)
    mask = geodeep(scene, tile_model.files[0], tmp_path / "mask.tif")
    assert mask.shape == (300, 420)
    assert set(np.unique(mask)) == {0, 1, 2}


def test_geodeep_writes_classes_by_their_names(tile_model, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 150, 150)
    command = [sys.executable, "-m", "geodeep.scripts.main", str(scene), str(tile_model.files[0])]
    subprocess.run([*command, "-q", "-o", str(tmp_path / "out")], check=True, capture_output=True, timeout=300)
    features = json.loads((tmp_path / "out.geojson").read_text())["features"]
    assert {feature["properties"]["class"] for feature in features} == {"background", "roads", "buildings"}


@pytest.mark.slow
def test_geodeep_finds_what_prngeo_finds(tmp_path):
    """The embedded model on the example town, where both read one pixel as one."""
    model = export_model("prngeo-rgb", "geodeep", tmp_path / "model.onnx", "fp16").files[0]
    found = geodeep(TOWN, model, tmp_path / "mask.tif")
    result = prngeo.predict(TOWN, tmp_path / "out", prngeo.PredictOptions(device="cpu"))
    masks = {}
    for name in ("roads", "buildings"):
        with rasterio.open(result.rasters[name]["mask"]) as file:
            masks[name] = file.read(1) == 1
    for number, name in ((1, "roads"), (2, "buildings")):
        own, other = masks[name], found == number
        assert own.mean() > 0.05
        assert (own & other).sum() / (own | other).sum() > 0.9, name


def test_a_model_of_other_bands_is_refused(tmp_path):
    card = make_card(bands=["a", "b"], network={"architecture": "unet", "encoder": "x", "mean": [0, 0], "std": [1, 1]})
    write_bundle(tmp_path / "model", card, {})
    with pytest.raises(UsageError, match=r"give a network 3 bands, red, green and blue; a takes 2 \(a, b\)"):
        export_model(tmp_path / "model", "geodeep", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
