"""`prngeo predict`: what goes in, what is said, what is left."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

import prngeo
from prngeo.cli.predict import predict as command
from prngeo.cli.summary import result_lines
from prngeo.inference import PredictOptions
from prngeo.inference.options import parse_memory
from prngeo.inference.result import PredictResult, TargetSummary
from tests.cli.conftest import ENVIRONMENT
from tests.conftest import write_scene


def test_defaults_are_those_of_the_library():
    ours = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    options = PredictOptions()
    assert parse_memory(ours.pop("max_memory")) == options.max_memory
    assert ours.pop("target") is None
    assert options.targets == ()
    for name in ("context", "scenes", "output", "progress", "mosaic", "name"):
        ours.pop(name)
    assert ours == {name: getattr(options, name) for name in ours}


def test_every_option_reaches_the_library(cli, monkeypatch, tmp_path):
    seen = []

    def predict(scene, output, options, report):
        seen.append((scene, output, options))
        raise prngeo.UsageError("enough.")

    monkeypatch.setattr(prngeo, "predict", predict, raising=False)
    aoi = tmp_path / "aoi.geojson"
    aoi.write_text("{}")
    arguments = (
        f"-o out -m other --target roads --target buildings --no-refine --device cpu --bands 3,2,1 --gsd 0.4 "
        f"--grid model --aoi {aoi} --threshold 0.3 --tile 256 --overlap 64 --max-memory 2GB --scratch {tmp_path} "
        "--tta --overwrite --format geojson --min-area 7 --simplify 0.5 "
        "--min-hole 3 --regularize --split 0.2 --dask tcp://host:8786"
    )
    ran = cli("predict", "a.tif", *arguments.split())
    assert (ran.code, ran.err) == (2, "prngeo: enough.\n")
    ((scene, output, options),) = seen
    assert (scene, str(output)) == ("a.tif", "out")
    assert options == PredictOptions(
        model="other",
        targets=("roads", "buildings"),
        refine=False,
        device="cpu",
        bands=(3, 2, 1),
        gsd=0.4,
        grid="model",
        aoi=aoi,
        threshold=0.3,
        tile=256,
        overlap=64,
        max_memory=2 << 30,
        scratch=tmp_path,
        tta=True,
        overwrite=True,
        format="geojson",
        min_area=7,
        simplify=0.5,
        min_hole=3,
        regularize=True,
        split=0.2,
        dask="tcp://host:8786",
        apart=True,
    )


@pytest.mark.slow
def test_a_prediction_writes_its_outputs_and_a_summary(cli, scene, tiny_model, tmp_path):
    out = tmp_path / "out"
    ran = cli("predict", scene, "-o", out, "-m", tiny_model, "--tile", 64, "--overlap", 0)
    assert ran.code == 0
    assert ran.out == ""
    told, *lines = ran.err.splitlines()
    assert re.fullmatch(r"scene: Takes up to \d\.\d\dGB of memory until there are rasters\.", told)
    assert lines[0].startswith(f"{scene}: ")
    assert "Mpx/s, peak memory" in lines[0]
    assert lines[1].startswith("  roads      ")
    assert "PRN changed" in lines[1]
    assert lines[2].startswith("  buildings  ")
    assert "base network alone" in lines[2]
    assert lines[3] == f"  outputs in {out}"
    assert (out / "scene.gpkg").exists()
    again = cli("predict", scene, "-o", out, "-m", tiny_model)
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.slow
def test_a_failed_scene_does_not_stop_the_others_and_json_tells_each_step(cli, scene, tiny_model, tmp_path):
    out = tmp_path / "out"
    arguments = ("-o", out, "-m", tiny_model, "--progress", "json", "--target", "roads", "--tile", 64, "--overlap", 0)
    ran = cli("predict", tmp_path / "nosuch.tif", scene, *arguments)
    assert ran.code == 2
    first, *rest = ran.err.splitlines()
    assert first == f"prngeo: No such file: {tmp_path / 'nosuch.tif'}"
    events = [json.loads(line) for line in rest]
    assert [event["event"] for event in events] == ["note", *["progress"] * (len(events) - 2), "result"]
    assert "of memory" in events[0]["note"]
    assert [event["stage"] for event in events[1:-1]] == sorted(
        (event["stage"] for event in events[1:-1]), key=["segment", "finish", "vectorize"].index
    )
    assert events[-1]["rasters"]["roads"]["mask"] == str(out / "scene_roads_mask.tif")


def test_a_bug_in_one_scene_does_not_stop_the_others(cli, monkeypatch):
    seen = []

    def predict(scene, output, options, report):
        seen.append(scene)
        raise ZeroDivisionError if scene == "a.tif" else prngeo.UsageError("no.")

    monkeypatch.setattr(prngeo, "predict", predict, raising=False)
    ran = cli("predict", "a.tif", "b.tif")
    assert ran.code == 2
    assert seen == ["a.tif", "b.tif"]
    assert "bug in prngeo (ZeroDivisionError)" in ran.err
    *_, done, first, second = ran.err.splitlines()
    assert done == "0 of 2 scenes done. Failed:"
    assert first.startswith("  a.tif: this is a bug in prngeo (ZeroDivisionError)")
    assert second == "  b.tif: no."


@pytest.mark.slow
def test_scenes_that_fail_in_the_middle_are_named_at_the_end_with_the_reason(cli, tiny_model, tmp_path):
    scenes = [write_scene(tmp_path / f"{name}.tif", 96, 100) for name in "abcd"]
    scenes[1].write_bytes(scenes[1].read_bytes()[:9000])
    odd = write_scene(tmp_path / "odd.tif", 64, 64, crs=None)
    out, gone = tmp_path / "out", tmp_path / "gone.tif"
    arguments = ("-o", out, "-m", tiny_model, "--no-refine", "--target", "buildings", "--tile", 64, "--overlap", 0)
    ran = cli("predict", *scenes[:3], odd, gone, scenes[3], *arguments)
    assert ran.code == 2
    assert sorted(path.name for path in out.glob("*.gpkg")) == ["a.gpkg", "c.gpkg", "d.gpkg"]
    assert not list(out.glob(".*"))
    end = ran.err.splitlines()[-4:]
    assert end[0] == "3 of 6 scenes done. Failed:"
    assert end[1].startswith(f"  {scenes[1]}: {scenes[1]}: rows 0-")
    assert end[2].startswith(f"  {odd}: The ground sample distance of {odd} is unknown")
    assert end[3] == f"  {gone}: No such file: {gone}"


def test_of_many_scenes_those_that_the_same_command_finished_before_are_left_out(cli, tiny_model, tmp_path):
    scenes = [write_scene(tmp_path / f"{name}.tif", 96, 100, seed=number) for number, name in enumerate("abc")]
    out = tmp_path / "out"
    arguments = ("-o", out, "-m", tiny_model, "--no-refine", "--target", "buildings", "--tile", 64, "--overlap", 0)
    assert cli("predict", *scenes[:2], *arguments).code == 0
    first = (out / "a.gpkg").stat().st_mtime_ns
    again = cli("predict", *scenes, *arguments)
    assert again.code == 0
    assert again.err.splitlines()[-1] == "3 of 3 scenes done, 2 of them before."
    assert "a: Takes up to" not in again.err
    assert (out / "a.gpkg").stat().st_mtime_ns == first
    events = [json.loads(line) for line in cli("predict", *scenes, *arguments, "--progress", "json").err.splitlines()]
    assert [event["scene"] for event in events if event.get("note") == "It was finished before."] == ["a", "b", "c"]
    write_scene(scenes[0], 96, 100, seed=7)
    (out / "b_buildings_mask.tif").unlink()
    changed = cli("predict", *scenes, *arguments)
    assert changed.code == 2
    assert changed.err.splitlines()[-3] == "1 of 3 scenes done, 1 of them before. Failed:"
    assert changed.err.count("already exist") == 4
    other = cli("predict", *scenes, *arguments, "--threshold", 0.3)
    assert other.err.splitlines()[-4] == "0 of 3 scenes done. Failed:"
    assert cli("predict", *scenes, *arguments, "--overwrite").err.splitlines()[-1] == "3 of 3 scenes done."


def test_mosaic_and_its_name_reach_the_library(cli, monkeypatch):
    seen = []

    def predict_mosaic(scenes, output, options, report, name):
        seen.append((scenes, str(output), name))
        raise prngeo.UsageError("enough.")

    monkeypatch.setattr(prngeo, "predict_mosaic", predict_mosaic, raising=False)
    assert cli("predict", "x/a.tif", "y/a.tif", "--mosaic", "-o", "out").code == 2
    assert cli("predict", "a.tif", "--mosaic", "--name", "town", "-o", "out").code == 2
    assert seen == [(["x/a.tif", "y/a.tif"], "out", "mosaic"), (["a.tif"], "out", "town")]
    ran = cli("predict", "a.tif", "--name", "town")
    assert (ran.code, ran.err) == (2, "prngeo: --name names a mosaic; pass --mosaic too, or leave it out.\n")


def _bad_input(kind, folder, scene):
    """Arguments of a call that cannot run, and a word of its message."""
    path = folder / "bad.tif"
    if kind == "missing file":
        return [path], "No such file"
    if kind == "not a raster":
        path.write_text("roads and buildings")
        return [path], "cannot be read as a raster"
    if kind == "truncated":
        path.write_bytes(scene.read_bytes()[:4000])
        return [path], "bad.tif"
    if kind == "no valid pixel":
        write_scene(path, 64, 64, nodata=0, holes=[(slice(None), slice(None))])
        return [path], "no valid pixel"
    if kind == "no GSD":
        write_scene(path, 64, 64, crs=None)
        return [path], "--gsd"
    if kind == "wrong bands":
        return [scene, "--bands", "1,2,7"], "has no band 7"
    if kind == "unknown target":
        return [scene, "--target", "rivers"], "rivers"
    if kind == "little memory":
        return [scene, "--max-memory", "100MB"], "--max-memory"
    if kind == "unreadable area":
        aoi = folder / "aoi.geojson"
        aoi.write_text("{}")
        return [scene, "--aoi", aoi], "--aoi"
    aoi = folder / "far.geojson"
    aoi.write_text(json.dumps(shapely.geometry.mapping(shapely.box(100, 10, 101, 11))))
    return [scene, "--aoi", aoi], "does not touch the scene"


@pytest.mark.parametrize(
    "kind",
    [
        "missing file",
        "not a raster",
        "truncated",
        "no valid pixel",
        "no GSD",
        "wrong bands",
        "unknown target",
        "little memory",
        "unreadable area",
        "far area",
    ],
)
@pytest.mark.slow
def test_bad_input_is_told_in_one_paragraph_and_leaves_nothing(cli, kind, scene, tiny_model, tmp_path):
    out = tmp_path / "out"
    arguments, message = _bad_input(kind, tmp_path, scene)
    ran = cli("predict", *arguments, "-o", out, "-m", tiny_model)
    assert ran.code in (1, 2)
    told = [line for line in ran.err.splitlines() if "Takes up to" not in line]  # a note before the run began
    assert told[0].startswith("prngeo: ")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert "bug in prngeo" not in ran.err
    assert not out.exists()


def test_an_unknown_model_is_told(cli, scene):
    ran = cli("predict", scene, "-m", "nosuch")
    assert ran.code == 2
    assert ran.err.startswith("prngeo: No such model: nosuch.")


def test_an_output_folder_that_cannot_be_is_told(cli, scene, tiny_model, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "sub"):
        ran = cli("predict", scene, "-m", tiny_model, "-o", folder)
        assert ran.code == 2
        assert str(folder) in ran.err
        assert "bug in prngeo" not in ran.err


@pytest.mark.parametrize("when", ["at once", "after a chunk"])
@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_continue(cli, tiny_model, tmp_path, when):
    scene = write_scene(tmp_path / "large.tif", 1100, 1100)
    out, hidden = tmp_path / "out", tmp_path / "out" / ".large.prngeo"
    # With this little memory chunks are small.
    options = ("-o", out, "-m", tiny_model, "--target", "buildings", "--max-memory", "1440MB")
    command = [sys.executable, "-m", "prngeo", "predict", scene, *options, "--progress", "json"]
    process = subprocess.Popen(
        [str(part) for part in command],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background may ignore it
    )
    assert process.stderr is not None
    lines, stopped = [], False
    for line in process.stderr:
        lines.append(line)
        if not stopped and (len(lines) == 3 if when == "at once" else any(hidden.glob("finished/chunks/*.json"))):
            os.kill(process.pid, signal.SIGINT)
            stopped = True
    assert process.wait(timeout=30) == 130
    if when == "at once":
        assert lines[-1] == "prngeo: interrupted. Nothing was finished, and nothing is left behind.\n"
        assert not out.exists()
        return
    told = re.fullmatch(
        r"prngeo: interrupted\. (\d+ of \d+ chunks are done) and kept in .*: run the same command to continue\.\n",
        lines[-1],
    )
    assert told
    assert [path.name for path in out.iterdir()] == [hidden.name]
    again = cli("predict", scene, *options)
    assert again.code == 0
    assert f"\nlarge: Resuming: {told[1]}.\n" in again.err
    assert not hidden.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.slow
def test_the_command_continues_after_a_kill_with_the_same_pixels_and_rows(cli, tiny_model, tmp_path, chunks):
    scene = write_scene(tmp_path / "large.tif", 1100, 1100)
    options = ("-m", tiny_model, "--max-memory", "1440MB")
    assert cli("predict", scene, "-o", tmp_path / "whole", *options).code == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "prngeo", "predict", scene, "-o", out, *options]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        while len(list(out.glob(".large.prngeo/finished/chunks/*.json"))) < chunks and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert {path.name for path in out.iterdir()} == {".large.prngeo"}
    again = cli("predict", scene, "-o", out, *options)
    assert again.code == 0
    assert re.search(r"\nlarge: Resuming: [1-4] of 4 chunks are done\.\n", again.err)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for path in (tmp_path / "whole").glob("*.tif"):
        with rasterio.open(path) as expected, rasterio.open(out / path.name) as found:
            np.testing.assert_array_equal(found.read(), expected.read())
    layers = pyogrio.list_layers(out / "large.gpkg")[:, 0]
    assert {"roads", "buildings", "road_centerlines"} <= set(layers)
    for layer in layers:
        expected, found = (pyogrio.read_dataframe(tmp_path / of / "large.gpkg", layer=layer) for of in ("whole", "out"))
        assert expected.equals(found)


def test_the_summary_shows_warnings_and_fitting_units(tmp_path):
    target = TargetSummary(2_345_678.0, 1, 100, 50, 25, 0.5, True, 12_345.0)
    result = PredictResult(
        "a.tif",
        tmp_path,
        {},
        [],
        tmp_path / "a.qgz",
        tmp_path / "a.json",
        {"roads": target},
        61.0,
        1.5,
        3 << 30,
        ["it is dark."],
    )
    assert result_lines(result) == [
        "warning: it is dark.",
        "a.tif: 61 s, 1.5 Mpx/s, peak memory 3.00 GB",
        "  roads  2.35 km2 in 1 polygon, 12.3 km of centerlines, threshold 0.5, PRN changed 25.00% of the pixels",
        f"  outputs in {tmp_path.resolve()}",
    ]


def test_outputs_lie_on_the_grid_of_the_scene(cli, scene, tiny_model, tmp_path):
    ran = cli("predict", scene, "-o", tmp_path, "-m", tiny_model, "--no-refine", "--target", "buildings", "--overwrite")
    assert ran.code == 0
    with rasterio.open(scene) as given, rasterio.open(tmp_path / "scene_buildings_mask.tif") as mask:
        assert (mask.transform, mask.shape, mask.crs) == (given.transform, given.shape, given.crs)
        assert set(np.unique(mask.read(1))) <= {0, 1}
    assert not (tmp_path / "scene_buildings_correction.tif").exists()


def test_outputs_beside_a_scene_are_not_taken_for_scenes(tmp_path):
    from prngeo.cli.scenes import expand

    for name in ("a.tif", "a_roads_mask.tif", "a_buildings_probability.tif", "b_roads_mask.tif", "c_roads_mask.tif"):
        (tmp_path / name).touch()
    (tmp_path / "c.json").touch()  # the record of a mosaic
    assert [Path(path).name for path in expand([str(tmp_path / "*.tif")])] == ["a.tif", "b_roads_mask.tif"]
