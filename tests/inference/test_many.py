"""Scenes that are cut into files: one result without seams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.windows

import prngeo
from prngeo import PredictOptions, UsageError
from prngeo.progress import Progress
from tests.conftest import write_scene


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", min_area=0)


def cut(scene: Path, folder: Path, rows: int, cols: int, grown: int = 0) -> list[Path]:
    """The scene in four files that meet at a pixel, or reach `grown` pixels beyond it."""
    folder.mkdir()
    paths = []
    with rasterio.open(scene) as file:
        for number, (top, left) in enumerate([(0, 0), (0, cols), (rows, 0), (rows, cols)]):
            row, col = max(0, top - grown), max(0, left - grown)
            bottom = file.height if top else rows + grown
            right = file.width if left else cols + grown
            window = rasterio.windows.Window(col, row, right - col, bottom - row)
            place = {"height": window.height, "width": window.width, "transform": file.window_transform(window)}
            paths.append(folder / f"{'dbca'[number]}.tif")
            with rasterio.open(paths[-1], "w", **(file.profile | place)) as part:
                part.write(file.read(window=window))
    return paths


def same(one: prngeo.PredictResult, other: prngeo.PredictResult) -> None:
    assert one.rasters.keys() == other.rasters.keys()
    for target, kinds in one.rasters.items():
        for kind, path in kinds.items():
            with rasterio.open(path) as file, rasterio.open(other.rasters[target][kind]) as second:
                np.testing.assert_array_equal(file.read(1), second.read(1), f"{target} {kind}")
                assert (file.transform, file.crs) == (second.transform, second.crs)
    for layer in ("roads", "buildings", "road_centerlines"):
        rows, others = (geopandas.read_file(result.vectors[0], layer=layer) for result in (one, other))
        assert rows.equals(others)
        assert layer not in one.targets or not rows.empty


@pytest.mark.parametrize("kind", ["uint8", "uint16", "holes", "overlap", "resampled"])
@pytest.mark.slow
def test_a_cut_scene_gives_pixels_and_rows_of_the_whole_in_any_order(
    tmp_path: Path, options: PredictOptions, kind: str
) -> None:
    more = {
        "uint16": {"dtype": "uint16"},
        "holes": {"nodata": 0, "holes": [(slice(90, 240), slice(150, 320))]},
        "resampled": {"gsd": 0.15},
    }.get(kind, {})
    scene = write_scene(tmp_path / "scene.tif", 330, 450, **more)
    whole = prngeo.predict(scene, tmp_path / "whole", options)
    assert whole.targets["roads"].changed_pixels > 0
    parts = cut(scene, tmp_path / "tiles", 150, 210, grown=40 if kind == "overlap" else 0)
    for number, order in enumerate((parts, parts[::-1])):
        joined = prngeo.predict_mosaic(order, tmp_path / f"joined{number}", replace(options, chunk=512))
        same(whole, joined)
    record = json.loads(joined.record.read_text())
    assert [Path(source["path"]).name for source in record["input"]["sources"]] == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert all(len(source["sha256"]) == 64 for source in record["input"]["sources"])
    assert joined.scene == str(tmp_path / "joined1" / "mosaic.vrt")


def test_a_gap_between_scenes_is_nodata_and_a_project_shows_the_mosaic(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 330, 450)
    parts = cut(scene, tmp_path / "tiles", 150, 210)
    result = prngeo.predict_mosaic([parts[0], parts[3]], None, options, name="town")
    assert result.folder == tmp_path / "tiles"
    with rasterio.open(result.rasters["roads"]["mask"]) as file:
        known = file.read(1) != 255
    expected = np.zeros((330, 450), bool)
    expected[:150, :210] = expected[150:, 210:] = True
    np.testing.assert_array_equal(known, expected)
    names = {path.name for path in result.folder.iterdir()}
    assert {"town.vrt", "town.json", "town.qgz", "town.gpkg", "town_roads_mask.tif"} < names
    assert not result.warnings


@pytest.mark.slow
def test_one_scene_is_a_mosaic_too(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    same(prngeo.predict(scene, tmp_path / "a", options), prngeo.predict_mosaic([scene], tmp_path / "b", options))


@pytest.mark.slow
def test_what_fails_leaves_nothing_and_what_was_there(tmp_path: Path, options: PredictOptions) -> None:
    parts = cut(write_scene(tmp_path / "scene.tif"), tmp_path / "tiles", 150, 210)
    out = tmp_path / "deep" / "out"
    parts[3].write_bytes(parts[3].read_bytes()[:40_000])
    with pytest.raises(prngeo.PrngeoError, match=r"mosaic\.vrt: rows .*could not be read: a\.tif: "):
        prngeo.predict_mosaic(parts, out, options)
    assert not out.parent.exists()
    prngeo.predict_mosaic(parts[:3], out, options)
    before = (out / "mosaic.vrt").read_text()
    with pytest.raises(UsageError, match=r"mosaic\.vrt already exists and is another mosaic\. Pass --overwrite"):
        prngeo.predict_mosaic(parts[:2], out, options)
    with pytest.raises(UsageError, match="--overwrite"):
        prngeo.predict_mosaic(parts[:3], out, options)
    with pytest.raises(prngeo.PrngeoError, match=r"could not be read: a\.tif: "):
        prngeo.predict_mosaic(parts, out, replace(options, overwrite=True))
    assert (out / "mosaic.vrt").read_text() == before
    prngeo.predict_mosaic(parts[:2], out, replace(options, overwrite=True))
    assert (out / "mosaic.vrt").read_text() != before


@pytest.mark.slow
def test_an_interrupted_mosaic_continues(tmp_path: Path, options: PredictOptions) -> None:
    parts = cut(write_scene(tmp_path / "scene.tif", 200, 1100), tmp_path / "tiles", 100, 500)
    options = replace(options, chunk=512)

    def report(step: Progress) -> None:
        if step.stage == "finish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="3 of 3 chunks are done"):
        prngeo.predict_mosaic(parts, tmp_path / "out", options, report)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".mosaic.prngeo", "mosaic.vrt"]
    steps: list[Progress] = []
    continued = prngeo.predict_mosaic(parts[::-1], tmp_path / "out", options, steps.append)
    assert [step.note for step in steps if step.note][-1] == "Resuming: 3 of 3 chunks are done."
    same(continued, prngeo.predict_mosaic(parts, tmp_path / "again", options))


def test_no_output_replaces_a_scene_of_the_mosaic(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "mosaic_roads_mask.tif", 64, 64)
    before = scene.read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        prngeo.predict_mosaic([scene], None, replace(options, overwrite=True))
    assert scene.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [scene.name]


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a:b", "a\\b"])
def test_a_name_that_is_no_beginning_of_a_file_name_is_refused(
    tmp_path: Path, options: PredictOptions, name: str
) -> None:
    with pytest.raises(UsageError, match="--name is the beginning of file names"):
        prngeo.predict_mosaic([write_scene(tmp_path / "a.tif", 64, 64)], tmp_path / "out", options, name=name)


def test_scenes_of_several_folders_need_a_place_for_the_outputs(tmp_path: Path, options: PredictOptions) -> None:
    (tmp_path / "b").mkdir()
    scenes = [write_scene(tmp_path / "a.tif", 64, 64), write_scene(tmp_path / "b" / "a.tif", 64, 64)]
    with pytest.raises(UsageError, match="several folders.* -o"):
        prngeo.predict_mosaic(scenes, None, options)
    with pytest.raises(UsageError, match="at least one scene"):
        prngeo.predict_mosaic([], None, options)
