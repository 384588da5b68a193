"""The Processing algorithms in real QGIS, with the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import prngeo
from prngeo.qgis.install import COMMAND, install_plugin
from prngeo.qgis.profiles import find_profiles, write_setting
from prngeo.synth.write import write_town
from tests.qgis.real import PATIENCE, environment, run_in_qgis, skip_if_missing

pytestmark = pytest.mark.qgis

PACKAGE = Path(prngeo.__file__).resolve().parent.parent
START = """
import json, os, sys
sys.path[:0] = ["/usr/share/qgis/python/plugins", os.path.join(os.environ["PROFILE"], "python", "plugins")]
from qgis.core import (
    QgsApplication, QgsProcessingAlgRunnerTask, QgsProcessingContext, QgsProcessingException, QgsProcessingFeedback,
    QgsProject, QgsRasterLayer, QgsSettings, QgsVectorLayer,
)
application = QgsApplication([], True, os.environ["PROFILE"])
application.initQgis()
from processing.core.Processing import Processing
Processing.initialize()
import processing, prngeo_qgis
from processing.core.ProcessingConfig import ProcessingConfig
plugin = prngeo_qgis.classFactory(None)
plugin.initProcessing()
given, shown = json.loads(sys.argv[1]), {}

def seen(layer):
    raster = isinstance(layer, QgsRasterLayer)
    return {
        "valid": layer.isValid(), "type": layer.renderer().type(), "source": layer.source(),
        "count": None if raster else layer.featureCount(), "labels": not raster and layer.labelsEnabled(),
        "color": None if raster else layer.renderer().symbol().color().getRgb()[:3],
    }

def opened(source):
    layer = QgsVectorLayer(source, "a", "ogr") if ".gpkg" in source else QgsRasterLayer(source, "a")
    return seen(layer)
"""
END = """
QgsProject.instance().clear()
print("SHOWN" + json.dumps(shown))
sys.stdout.flush()
plugin.unload()
application.exitQgis()
"""
TRAINING = """
name: tiny
targets: [roads, buildings]
network: {architecture: linknet, encoder: tu-mobilenetv3_small_050, weights: none}
base: {steps: 2, batch: 1, crop: 64}
refiner: {window: 256, overlap: 64, patch: 64, steps: 1, batch: 1}
tile: 128
overlap: 32
towns: {train: 1, refine: 1, validation: 1, size: 128, seed: 0}
"""


@dataclass(frozen=True)
class Place:
    """A fresh QGIS profile with the plugin, and a town."""

    folder: Path
    profile: Path
    town: Path
    model: Path

    def process(self, algorithm: str, **parameters: object) -> dict[str, Any]:
        """What `qgis_process run` answers."""
        values = [f"{name}={value}" for name, value in parameters.items()]
        command = ["qgis_process.bin", "--json", "run", algorithm, "--", *values]
        ran = subprocess.run(command, capture_output=True, text=True, env=self.environment(), timeout=PATIENCE)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return dict(json.loads(ran.stdout))

    def environment(self) -> dict[str, str]:
        # A module of this name would end the command, if the variable came through to it.
        return environment(self.folder, PYTHONPATH=str(self.folder / "foreign"))

    def python(self, script: str, given: object) -> dict[str, Any]:
        """What a script shows, between the start and the end of QGIS."""
        return run_in_qgis(self.folder, START + script + END, given, PROFILE=str(self.profile))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Place:
    skip_if_missing()
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "torch.py").write_text("raise SystemExit('a variable of QGIS reached the command')")
    command = folder / "prngeo command"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PACKAGE)!r})\n"
        "from prngeo.cli.app import run\nsys.exit(run(sys.argv[1:]))\n"
    )
    command.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QGIS_CUSTOM_CONFIG_PATH", environment(folder)["QGIS_CUSTOM_CONFIG_PATH"])
        install_plugin()
        (profile,) = find_profiles()
    write_setting(profile.settings, *COMMAND, str(command))
    town = write_town(folder / "town.tif", size=256, seed=3)
    return Place(folder, profile.folder, Path(town.scene), tiny_model)


@pytest.fixture(scope="module")
def predicted(place: Place) -> dict[str, Any]:
    area = "500010,500060,4999950,4999990 [EPSG:32631]"
    options = {"MODEL_FOLDER": place.model, "EXTENT": area, "THRESHOLD": 0.1, "DEVICE": "cpu"}
    return place.process("prngeo:predict", INPUT=place.town, OUTPUT=place.folder / "predicted", **options)


def test_predict_runs_and_tells_what_it_found(place: Place, predicted: dict[str, Any]) -> None:
    results, record = predicted["results"], json.loads((place.folder / "predicted" / "town.json").read_text())
    assert results["PROJECT"] == str(place.folder / "predicted" / "town.qgz")
    assert record["targets"]["buildings"]["valid_pixels"] == pytest.approx(50 * 40 / 0.3**2, rel=0.02), "the extent"
    log = predicted["log"]["info"]
    assert any(line.startswith(f"buildings: {record['targets']['buildings']['polygons']} polygons") for line in log)
    assert not any(line.startswith("{") for line in log)


def test_vectorize_returns_polygons_and_centerlines(place: Place, vectorized: dict[str, Any]) -> None:
    results = vectorized["results"]
    assert results["OUTPUT"] == str(place.folder / "roads.gpkg")
    assert results["CENTERLINES"] == f"{place.folder / 'roads.gpkg'}|layername=road_centerlines"


@pytest.fixture(scope="module")
def vectorized(place: Place) -> dict[str, Any]:
    mask = place.town.with_name("town_roads_mask.tif")
    return place.process("prngeo:vectorize", INPUT=mask, TARGET="roads", OUTPUT=place.folder / "roads.gpkg")


@pytest.fixture(scope="module")
def refined(place: Place) -> dict[str, Any]:
    from prngeo.cli.app import run

    labels, scores, refiner = (
        place.town.with_name("town_roads_mask.tif"),
        place.folder / "s.tif",
        place.folder / "my.prn",
    )
    with rasterio.open(labels) as file:
        truth, profile = file.read(1), file.profile
    values = 0.3 + 0.4 * truth + np.random.default_rng(0).uniform(-0.3, 0.3, truth.shape)
    with rasterio.open(scores, "w", **profile | {"dtype": "float32", "nodata": None}) as file:
        file.write(values.astype("float32"), 1)
    fit = f"--scores {scores} --labels {labels} -o {refiner} --classes roads --window 128 --patch 32 --steps 2"
    assert run(["refine", "fit", *fit.split(), "--device", "cpu"]) == 0
    options = {"OUTPUT": place.folder / "refined", "DEVICE": "cpu"}
    return place.process("prngeo:refine", INPUT=scores, MODEL=refiner, **options)


def test_refine_writes_styled_rasters(session: dict[str, Any], refined: dict[str, Any]) -> None:
    layers = {Path(source).stem: session["opened"][source] for source in refined["results"]["LAYERS"]}
    assert {name: layer["type"] for name, layer in layers.items()} == {
        "s_roads_mask": "paletted",
        "s_roads_correction": "singlebandpseudocolor",
        "s_roads_probability": "singlebandpseudocolor",
    }


def test_check_says_whether_a_scene_suits(place: Place) -> None:
    answer = place.process("prngeo:check", INPUT=place.town, BANDS="3;2;1", MODEL="prngeo-rgb")
    assert answer["results"]["CAN_RUN"] is True
    assert answer["results"]["TILES"] == 1
    assert answer["results"]["PEAK_MEMORY"] > 1e8
    assert answer["log"]["info"][-1] == "It can run."


def test_train_leaves_a_model(place: Place) -> None:
    config = place.folder / "training" / "tiny.yaml"
    config.parent.mkdir()
    config.write_text(TRAINING)
    out = place.folder / "own model"
    answer = place.process("prngeo:train", CONFIG=config, OVERRIDES="seed=4\nversion='7'", OUTPUT=out, DEVICE="cpu")
    assert answer["results"] == {"OUTPUT": str(out)}
    card = prngeo.open_bundle(out).card
    assert (card.version, card.training["seed"]) == ("7", 4)
    assert (config.parent / "runs" / "tiny").is_dir(), "relative paths count from the configuration"


LOADED = """
ProcessingConfig.setSettingValue("PRNGEO_COMMAND", given["command"])
project = QgsProject.instance()
shown["opened"] = {source: opened(source) for source in given["sources"]}
predict = processing.runAndLoadResults("prngeo:predict", given["predict"])
vectorize = processing.runAndLoadResults("prngeo:vectorize", given["vectorize"])
shown["layers"] = [
    {"name": node.name(), "group": node.parent().name(), "shown": node.itemVisibilityChecked(), **seen(node.layer())}
    for node in project.layerTreeRoot().findLayers()
]

class Cancelling(QgsProcessingFeedback):
    def __init__(self):
        super().__init__(False)
        self.steps, self.log = [], []

    def setProgress(self, value):
        self.steps.append(value)
        self.cancel()

    def pushInfo(self, text):
        self.log.append(text)

feedback = Cancelling()
answer = processing.run("prngeo:predict", dict(given["predict"], OUTPUT=given["cancelled"]), feedback=feedback)
shown["cancelled"] = {"answer": answer, "steps": feedback.steps, "log": feedback.log}

registry = QgsApplication.processingRegistry()
shown["names"] = {each.name(): each.displayName() for each in registry.providerById("prngeo").algorithms()}
predict = registry.createAlgorithmById("prngeo:predict")
shown["models"] = predict.parameterDefinition("MODEL").options()
both = dict(given["predict"], AOI=given["predict"]["INPUT"], EXTENT="0,1,0,1 [EPSG:4326]")
shown["both"] = predict.checkParameterValues(both, QgsProcessingContext())
ProcessingConfig.setSettingValue("PRNGEO_COMMAND", given["predict"]["INPUT"])
shown["without"] = predict.canExecute()
ProcessingConfig.setSettingValue("PRNGEO_COMMAND", "")
os.environ["PATH"] = "/nonexistent"
shown["nowhere"] = predict.canExecute()
del predict
"""


@pytest.fixture(scope="module")
def session(
    place: Place, predicted: dict[str, Any], vectorized: dict[str, Any], refined: dict[str, Any]
) -> dict[str, Any]:
    """What one session of QGIS shows."""
    results = vectorized["results"]
    predict = {"INPUT": str(place.town), "MODEL_FOLDER": str(place.model), "OUTPUT": str(place.folder / "loaded")}
    given = {
        "sources": [
            *predicted["results"]["LAYERS"],
            *refined["results"]["LAYERS"],
            *(results["OUTPUT"], results["CENTERLINES"]),
        ],
        "predict": predict | {"THRESHOLD": 0.1, "DEVICE": "cpu"},
        "vectorize": {
            "INPUT": str(place.town.with_name("town_buildings_mask.tif")),
            "TARGET": "buildings",
            "REGULARIZE": True,
            "OUTPUT": str(place.folder / "roofs.gpkg"),
        },
        "cancelled": str(place.folder / "cancelled"),
        "command": str(place.folder / "prngeo command"),
    }
    return place.python(LOADED, given)


def test_what_qgis_process_left_opens_styled(
    place: Place, session: dict[str, Any], predicted: dict[str, Any], vectorized: dict[str, Any]
) -> None:
    record = json.loads((place.folder / "predicted" / "town.json").read_text())
    layers = {Path(source).name.removeprefix("town"): layer for source, layer in session["opened"].items()}
    assert all(layer["valid"] and not layer["labels"] for layer in layers.values())
    kinds = {"mask": "paletted", "probability": "singlebandpseudocolor", "correction": "singlebandpseudocolor"}
    for target, color in (("roads", [255, 127, 0]), ("buildings", [220, 20, 90])):
        polygons = layers[f".gpkg|layername={target}"]
        assert polygons["count"] == record["targets"][target]["polygons"] > 0
        assert (polygons["type"], polygons["color"]) == ("singleSymbol", color)
        assert all(layers[f"_{target}_{kind}.tif"]["type"] == type for kind, type in kinds.items())
    assert layers[".gpkg|layername=road_centerlines"]["color"] == [255, 127, 0]
    assert (layers["roads.gpkg"]["count"], layers["roads.gpkg"]["color"]) == (1, [255, 127, 0])
    assert layers["roads.gpkg|layername=road_centerlines"]["count"] > 1


def test_results_are_added_with_their_styles_in_order(session: dict[str, Any]) -> None:
    rows = [(layer["group"], layer["name"], layer["shown"], layer["type"]) for layer in session["layers"]]
    assert rows == [
        ("", "Polygons", True, "singleSymbol"),
        ("town", "Road centerlines", True, "singleSymbol"),
        ("town", "Roads polygons", True, "singleSymbol"),
        ("town", "Roads mask", False, "paletted"),
        ("town", "Roads correction", False, "singlebandpseudocolor"),
        ("town", "Roads probability", False, "singlebandpseudocolor"),
        ("town", "Buildings polygons", True, "singleSymbol"),
        ("town", "Buildings mask", False, "paletted"),
        ("town", "Buildings correction", False, "singlebandpseudocolor"),
        ("town", "Buildings probability", False, "singlebandpseudocolor"),
    ]
    colors = {layer["name"]: layer["color"] for layer in session["layers"]}
    assert colors["Polygons"] == colors["Buildings polygons"] == [220, 20, 90]
    assert session["layers"][0]["count"] > 0


def test_cancelling_leaves_nothing(place: Place, session: dict[str, Any]) -> None:
    cancelled = session["cancelled"]
    assert cancelled["answer"] == {}
    assert 0 < cancelled["steps"][0] < 100, "the run was under way"
    assert "Cancelled." in cancelled["log"]
    assert not (place.folder / "cancelled").exists()


def test_parameters_and_missing_commands_are_told(place: Place, session: dict[str, Any]) -> None:
    names = {"predict": "Predict", "vectorize": "Vectorize", "refine": "Refine scores", "check": "Check scene"}
    assert session["names"] == names | {"train": "Train"}
    assert session["models"] == ["prngeo-rgb"], "as `prngeo models --json` lists them"
    assert session["both"] == [False, "Give an area of interest or an extent, not both."]
    ready, message = session["without"]
    assert not ready
    assert f"there is no command {place.town}" in message
    ready, message = session["nowhere"]
    assert not ready
    assert "not on the search path" in message
    assert "`prngeo qgis doctor`" in message
