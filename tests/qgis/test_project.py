"""Projects open in real QGIS with every layer valid, styled and in its place, wherever their folder goes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rasterio.crs import CRS

import prngeo
from prngeo import PredictOptions, UsageError
from prngeo.inference.project import write_projects
from prngeo.qgis.project import Layer, write_project
from prngeo.qgis.styles import polygon_style
from tests.conftest import write_scene
from tests.qgis.real import run_in_qgis, skip_if_missing

OPEN = """
import json, sys
from qgis.core import QgsApplication, QgsMapLayer, QgsProject, QgsRasterLayer
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
shown = {}
for path in json.loads(sys.argv[1]):
    assert project.read(path), path
    layers = []
    for node in project.layerTreeRoot().findLayers():
        layer = node.layer()
        raster = isinstance(layer, QgsRasterLayer)
        extent = layer.extent()
        layers.append({
            "name": node.name(), "group": node.parent().name(), "shown": node.itemVisibilityChecked(),
            "valid": layer.isValid(), "crs": layer.crs().authid(), "has_crs": layer.crs().isValid(),
            "description": layer.crs().description(), "type": layer.renderer().type(), "source": layer.source(),
            "labels": not raster and layer.labelsEnabled(),
            "extent": [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()],
        })
        del layer
    shown[path] = {
        "title": project.title(), "crs": project.crs().authid(), "has_crs": project.crs().isValid(), "layers": layers,
    }
    project.clear()
print("SHOWN" + json.dumps(shown))
sys.stdout.flush()
application.exitQgis()
"""
LEGEND = [
    ("Roads", "Road centerlines", True, "singleSymbol"),
    ("Roads", "Roads polygons", True, "singleSymbol"),
    ("Roads", "Roads mask", False, "paletted"),
    ("Roads", "Roads correction", False, "singlebandpseudocolor"),
    ("Roads", "Roads probability", False, "singlebandpseudocolor"),
    ("Buildings", "Buildings polygons", True, "singleSymbol"),
    ("Buildings", "Buildings mask", False, "paletted"),
    ("Buildings", "Buildings correction", False, "singlebandpseudocolor"),
    ("Buildings", "Buildings probability", False, "singlebandpseudocolor"),
    ("", "scene", True, "multibandcolor"),
]
SHIFTED = "+proj=tmerc +lat_0=10 +lon_0=7 +k=0.9999 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m"


def predicted(folder: Path, model: Path, out: str = "out", crs: str | None = "EPSG:32631", **options: Any) -> Path:
    """The project of a small scene that lies in the folder, with its outputs in a folder beside it."""
    scene = write_scene(folder / "scene.tif", 96, 130, crs=crs)
    chosen = {"threshold": 0.1} | ({"gsd": 0.5} if crs is None else {}) | options
    return prngeo.predict(scene, folder / out, PredictOptions(model=model, tile=64, overlap=0, **chosen)).project


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Any]:
    """What QGIS shows of projects that were moved before they were opened."""
    skip_if_missing()
    folder = tmp_path_factory.mktemp("projects")
    cases: dict[str, dict[str, Any]] = {
        "inside": {"out": "."},
        "outside": {},
        "no crs": {"crs": None},
        "no crs, model grid": {"crs": None, "gsd": 0.1, "grid": "model"},
        "own crs": {"crs": SHIFTED},
        "geojson": {"format": "geojson"},
        "flatgeobuf": {"format": "flatgeobuf"},
        "one target": {"targets": ("buildings",), "refine": False},
    }
    projects = {}
    for case, options in cases.items():
        (folder / case).mkdir()
        before = predicted(folder / case, tiny_model, **options)
        moved = folder / "moved" / case
        moved.parent.mkdir(exist_ok=True)
        before.parent.rename(moved)
        projects[case] = str(moved / before.name)
    found = run_in_qgis(folder, OPEN, list(projects.values()))
    return {case: found[path] | {"path": path} for case, path in projects.items()}


CASES = ["inside", "outside", "no crs", "no crs, model grid", "own crs", "geojson", "flatgeobuf", "one target"]


@pytest.mark.qgis
@pytest.mark.parametrize("case", CASES)
def test_a_moved_project_opens_with_every_layer_styled_and_grouped(shown: dict[str, Any], case: str) -> None:
    project = shown[case]
    kept = ("Buildings polygons", "Buildings mask", "Buildings probability", "scene")
    legend = [row for row in LEGEND if case != "one target" or row[1] in kept]
    rows = [(layer["group"], layer["name"], layer["shown"], layer["type"]) for layer in project["layers"]]
    assert rows == legend
    assert all(layer["valid"] for layer in project["layers"]), project
    assert not any(layer["labels"] for layer in project["layers"])
    assert project["title"] == "scene"


@pytest.mark.qgis
@pytest.mark.parametrize("case", CASES)
def test_its_layers_lie_on_the_scene_in_its_coordinate_system(shown: dict[str, Any], case: str) -> None:
    project, layers = shown[case], shown[case]["layers"]
    if case.startswith("no crs"):
        assert not any(item["has_crs"] for item in (project, *layers))
    elif case == "own crs":
        assert all(item["has_crs"] for item in (project, *layers))
    else:
        assert project["crs"] == "EPSG:32631"
        vectors = "EPSG:4326" if case == "geojson" else "EPSG:32631"
        assert {layer["crs"] for layer in layers if layer["type"] == "singleSymbol"} == {vectors}
        assert {layer["crs"] for layer in layers if layer["type"] != "singleSymbol"} == {"EPSG:32631"}
    left, bottom, right, top = layers[-1]["extent"]
    assert (right - left, top - bottom) == ((130, 96) if case.startswith("no crs") else (65, 48))
    over = 2.5 if "grid" in case else 0  # the last row of a coarser grid
    for layer in layers:
        if layer["crs"] != "EPSG:4326":
            x0, y0, x1, y1 = layer["extent"]
            assert left <= x0 < x1 <= right, layer
            assert bottom - over <= y0 < y1 <= top, layer


@pytest.mark.qgis
def test_a_scene_inside_moves_with_its_folder_and_one_outside_stays(shown: dict[str, Any]) -> None:
    inside, outside = shown["inside"], shown["outside"]
    assert inside["layers"][-1]["source"] == str(Path(inside["path"]).parent / "scene.tif")
    assert outside["layers"][-1]["source"] == str(Path(outside["path"]).parent.parent.parent / "outside" / "scene.tif")


def contents(project: Path) -> ElementTree.Element:
    with zipfile.ZipFile(project) as file:
        (name,) = file.namelist()
        assert name == f"{project.stem}.qgs"
        return ElementTree.fromstring(file.read(name))


def sources(project: Path) -> list[str]:
    return [str(element.text) for element in contents(project).iter("datasource")]


@pytest.mark.slow
def test_paths_of_outputs_are_relative_and_the_scene_is_in_view(tmp_path: Path, tiny_model: Path) -> None:
    project = predicted(tmp_path, tiny_model)
    *outputs, scene = sources(project)
    assert len(outputs) == 9
    assert all(source.startswith("./scene") for source in outputs)
    assert scene == str(tmp_path / "scene.tif")
    extent = {side.tag: float(side.text or "nan") for side in contents(project).find("mapcanvas/extent") or ()}
    assert extent["xmin"] < 500_000 < 500_065 < extent["xmax"]
    assert extent["ymin"] < 4_999_952 < 5_000_000 < extent["ymax"]


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    layer = Layer("./a & b.gpkg|layername=roads", "Roads <1>", "vector", CRS.from_epsg(32631), polygon_style("roads"))
    write_project(tmp_path / "a.qgz", "a", [layer], CRS.from_epsg(32631), (0, 0, 1, 1))
    before = (tmp_path / "a.qgz").read_bytes()
    write_project(tmp_path / "a.qgz", "a", [layer], CRS.from_epsg(32631), (0, 0, 1, 1))
    assert (tmp_path / "a.qgz").read_bytes() == before
    assert sources(tmp_path / "a.qgz") == [layer.source]
    assert [path.name for path in tmp_path.iterdir()] == ["a.qgz"]


@pytest.mark.slow
def test_a_project_for_existing_outputs_is_that_of_the_run(tmp_path: Path, tiny_model: Path) -> None:
    project = predicted(tmp_path, tiny_model)
    before = project.read_bytes()
    with pytest.raises(UsageError, match=r"scene\.qgz already exists.*--overwrite"):
        write_projects(project.parent)
    project.unlink()
    (result,) = write_projects(project.parent)
    assert (result.path, result.warning) == (project, "")
    assert project.read_bytes() == before
    assert len(write_projects(project.parent, overwrite=True)) == 1


@pytest.mark.slow
def test_outputs_that_are_gone_are_left_out(tmp_path: Path, tiny_model: Path) -> None:
    project = predicted(tmp_path, tiny_model)
    (project.parent / "scene.gpkg").unlink()
    (project.parent / "scene_roads_correction.tif").unlink()
    (result,) = write_projects(project.parent, overwrite=True)
    assert "Roads mask" in result.layers
    assert not {"Roads polygons", "Road centerlines", "Roads correction"} & set(result.layers)


@pytest.mark.slow
def test_a_scene_that_is_gone_is_told_and_can_be_named(tmp_path: Path, tiny_model: Path) -> None:
    project = predicted(tmp_path, tiny_model)
    moved = (tmp_path / "scene.tif").rename(tmp_path / "renamed.tif")
    (result,) = write_projects(project.parent, overwrite=True)
    assert "scene" not in result.layers
    assert f"{tmp_path / 'scene.tif'} is not found by this name alone" in result.warning
    (result,) = write_projects(project.parent, str(moved), overwrite=True)
    assert (result.layers[-1], result.warning) == ("scene", "")
    assert sources(project)[-1] == str(moved)
    shutil.copy(moved, project.parent / "scene.tif")
    (result,) = write_projects(project.parent, overwrite=True)
    assert sources(project)[-1] == "./scene.tif", "one of its name beside the outputs"
    other = write_scene(tmp_path / "other.tif", 40, 40)
    (result,) = write_projects(project.parent, str(other), overwrite=True)
    assert "another size" in result.warning


@pytest.mark.slow
def test_of_several_scenes_the_named_one_gets_the_path(tmp_path: Path, tiny_model: Path) -> None:
    project = predicted(tmp_path, tiny_model)
    for path in list(project.parent.glob("scene*")):
        shutil.copy(path, path.with_name(path.name.replace("scene", "second", 1)))
    assert [result.path.name for result in write_projects(project.parent, overwrite=True)] == [
        "scene.qgz",
        "second.qgz",
    ]
    named = write_projects(project.parent, str(tmp_path / "scene.tif"), overwrite=True)
    assert [result.path.name for result in named] == ["scene.qgz"]
    with pytest.raises(UsageError, match="holds outputs of scene, second, none of --scene"):
        write_projects(project.parent, str(tmp_path / "third.tif"), overwrite=True)


def test_a_folder_without_outputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"input": 1}))
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UsageError, match="holds no outputs of `prngeo predict`"):
        write_projects(tmp_path)


@pytest.mark.slow
def test_the_command_writes_the_project(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prngeo.cli.app import run

    project = predicted(tmp_path, tiny_model)
    assert run(["qgis", "project", str(project.parent)]) == 2
    assert run(["qgis", "project", str(project.parent), "--overwrite"]) == 0
    assert f"{project}: 10 layers" in capsys.readouterr().err
    (tmp_path / "scene.tif").rename(tmp_path / "b.tif")
    assert run(["qgis", "project", str(project.parent), "--overwrite"]) == 0
    assert "warning: the scene is not in the project" in capsys.readouterr().err
    assert run(["qgis", "project", str(project.parent), "--overwrite", "--scene", str(tmp_path / "b.tif")]) == 0
    assert "warning" not in capsys.readouterr().err
