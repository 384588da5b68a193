"""What a run that fails or is interrupted leaves, what it says, and how the next one continues."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import pytest
from shapely.geometry import box

import prngeo
from prngeo import PredictOptions, PrngeoError, UsageError
from prngeo.errors import Cancelled, ReadError
from prngeo.inference import pipeline, rasters, vectors
from prngeo.inference.parts import Parts
from prngeo.progress import Progress
from prngeo.raster import cog, retry
from prngeo.raster.scene import Scene
from prngeo.vectorize import write
from tests.inference.killing import content, small_model, small_options, small_scene

CHUNKS = 6


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return small_scene(tmp_path / "scene.tif")


@pytest.fixture
def options(tiny_model: Path, tmp_path: Path) -> PredictOptions:
    return small_options(small_model(tiny_model, tmp_path / "model"))


class Watched:
    """A run into `out`, with what it told and which chunks it computed."""

    def __init__(self, scene: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene, self.folder, self.hidden = scene, folder, folder / f".{scene.stem}.prngeo"
        self.computed: list[tuple[int, int]] = []
        self.notes: list[str] = []
        write = Parts.write

        def counted(parts: Parts, chunk: Any, *rest: Any) -> None:
            write(parts, chunk, *rest)
            self.computed.append((chunk.row, chunk.col))

        monkeypatch.setattr(Parts, "write", counted)

    def __call__(self, options: PredictOptions) -> prngeo.PredictResult:
        self.computed.clear()
        self.notes.clear()
        return prngeo.predict(self.scene, self.folder, options, self._report)

    def _report(self, step: Progress) -> None:
        self.notes += [step.note] if step.note and not step.note.startswith("Takes up to") else []

    def visible(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("[!.]*"))


@pytest.fixture
def run(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(scene, tmp_path / "out", monkeypatch)


@pytest.fixture
def whole(scene: Path, options: PredictOptions, tmp_path: Path) -> dict[str, str]:
    return content(prngeo.predict(scene, tmp_path / "whole", options))


def raising_at(count: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises in place of its call of this number."""
    calls = 0

    def called(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise error
        return function(*arguments, **options)

    return called


def broken(run: Watched, options: PredictOptions, error: BaseException, chunk: int = 4) -> BaseException:
    """What comes out of a run in which writing this chunk raises an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "write", raising_at(chunk, error, Parts.write))
        with pytest.raises(type(error) if not isinstance(error, OSError) else PrngeoError) as raised:
            run(options)
    return raised.value


def test_an_interrupted_run_continues_where_it_was(
    run: Watched, options: PredictOptions, whole: dict[str, str]
) -> None:
    stopped = broken(run, options, KeyboardInterrupt())
    assert type(stopped) is KeyboardInterrupt
    assert str(stopped) == (
        f"interrupted. 3 of {CHUNKS} chunks are done and kept in {run.hidden}: run the same command to continue."
    )
    assert run.visible() == []
    done = set(run.computed)
    result = run(options)
    assert run.notes == [f"Resuming: 3 of {CHUNKS} chunks are done."]
    assert not done & set(run.computed)
    assert len(run.computed) == CHUNKS - 3
    assert content(result) == whole
    assert not run.hidden.exists()
    assert json.loads(result.record.read_text())["chunks"] == {"side": 512, "total": CHUNKS, "resumed": 3}


def test_a_run_that_had_finished_nothing_leaves_nothing(run: Watched, options: PredictOptions) -> None:
    stopped = broken(run, options, KeyboardInterrupt(), chunk=1)
    assert str(stopped) == "interrupted. Nothing was finished, and nothing is left behind."
    assert not run.folder.exists()


def test_a_cancelled_run_leaves_nothing(run: Watched, options: PredictOptions) -> None:
    assert isinstance(broken(run, options, Cancelled()), Cancelled)
    assert not run.folder.exists()
    broken(run, options, KeyboardInterrupt())
    assert run.hidden.exists()
    assert isinstance(broken(run, options, Cancelled(), chunk=1), Cancelled)
    assert not run.hidden.exists(), "what an earlier run had left goes too"


def test_tiles_and_windows_of_finished_chunks_are_not_computed_again(
    run: Watched, options: PredictOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prngeo.models.runtime import Runtime

    tiles = []
    segment = Runtime.segment
    monkeypatch.setattr(
        Runtime, "segment", lambda self, image, valid: tiles.append(len(image)) or segment(self, image, valid)
    )
    options = replace(options, refine=False)  # a window of PRN is larger than this scene
    broken(run, options, KeyboardInterrupt(), chunk=6)
    assert sum(tiles) == 8, "2 x 4 tiles, each once"
    tiles.clear()
    run(options)
    assert run.computed == [(512, 1024)]
    assert 0 < sum(tiles) < 8


def test_a_damaged_part_is_computed_again(run: Watched, options: PredictOptions, whole: dict[str, str]) -> None:
    broken(run, options, KeyboardInterrupt(), chunk=6)
    part = run.hidden / "parts" / "buildings_mask" / "0_512.tif"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    (run.hidden / "parts" / "buildings_mask" / "512_0.tif").unlink()
    (run.hidden / "finished" / "chunks" / "0_0.json").write_text("{")
    result = run(options)
    assert run.notes == [
        f"Resuming: 2 of {CHUNKS} chunks are done.",
        "2 finished chunks were damaged on the disk; they are computed again.",
    ]
    assert run.computed == [(0, 0), (0, 512), (512, 0), (512, 1024)]
    assert content(result) == whole


@pytest.mark.parametrize(
    ("module", "name", "call", "kept"),
    [
        (rasters, "finish_cog", 3, ["buildings_mask"]),
        (vectors, "write_layers", 1, ["buildings_mask", "buildings_correction"]),
        (pipeline, "write_scene_project", 1, ["buildings_mask", "buildings_correction"]),
    ],
)
def test_finished_rasters_and_layers_are_not_made_again(
    run: Watched,
    options: PredictOptions,
    whole: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    call: int,
    kept: list[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, raising_at(call, PrngeoError("it broke."), getattr(module, name)))
        with pytest.raises(PrngeoError, match=rf"it broke. {CHUNKS} of {CHUNKS} chunks are done and kept"):
            run(options)
    assert run.visible() == []
    before = {raster: (run.hidden / f"scene_{raster}.tif").stat().st_mtime_ns for raster in kept}
    assert not any((run.hidden / "parts" / raster).exists() for raster in kept), "parts go once their raster is there"
    layers = run.hidden / "scene.gpkg"
    made = layers.stat().st_mtime_ns if module is pipeline else 0
    result = run(options)
    assert run.computed == []
    assert {raster: (run.folder / f"scene_{raster}.tif").stat().st_mtime_ns for raster in kept} == before
    assert not made or result.vectors[0].stat().st_mtime_ns == made
    assert content(result) == whole
    assert not run.hidden.exists()


def test_a_damaged_raster_is_made_again(run: Watched, options: PredictOptions, whole: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "write_layers", raising_at(1, PrngeoError("it broke."), vectors.write_layers))
        with pytest.raises(PrngeoError):
            run(options)
    (run.hidden / "scene_buildings_mask.tif").write_bytes(b"no")
    assert content(run(options)) == whole
    assert len(run.computed) == CHUNKS, "its parts had gone"


def test_a_run_that_broke_off_while_moving_its_outputs_is_completed(
    run: Watched, options: PredictOptions, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(hidden: Path, folder: Path, names: list[str]) -> None:
        for name in names[:5]:
            (hidden / name).replace(folder / name)
        raise RuntimeError("as if it were killed")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "publish", half)
        with pytest.raises(RuntimeError):
            run(options)
    assert len(run.visible()) == 5
    assert content(run(options)) == whole
    assert run.computed == []
    assert not run.hidden.exists()


@pytest.mark.parametrize("what", ["threshold", "scene", "model", "area", "chunk"])
def test_what_changed_is_told_and_the_run_starts_afresh(
    run: Watched, options: PredictOptions, tmp_path: Path, what: str
) -> None:
    area = tmp_path / "area.gpkg"
    geopandas.GeoDataFrame(geometry=[box(500_000, 4_999_970, 500_060, 5_000_000)], crs="EPSG:32631").to_file(area)
    options = replace(options, aoi=area)
    broken(run, options, KeyboardInterrupt())
    if what == "threshold":
        options, told = replace(options, threshold=0.25), "--threshold was not given and is 0.25"
    elif what == "scene":
        small_scene(run.scene, seed=1)
        told = "the scene changed"
    elif what == "model":
        model = tmp_path / "other"
        model.mkdir()
        for file in Path(options.model).iterdir():
            (model / file.name).write_bytes(file.read_bytes())
        card = json.loads((model / "card.json").read_text())
        (model / "card.json").write_text(json.dumps(card | {"version": "2"}))
        options, told = replace(options, model=model), "the model changed"
    elif what == "area":
        geopandas.GeoDataFrame(geometry=[box(500_000, 4_999_974.2, 500_060, 5_000_000)], crs="EPSG:32631").to_file(area)
        told = "--aoi changed"
    else:
        options, told = replace(options, chunk=1024, max_memory=3 << 30), ""
    run(options)
    if told:
        assert run.notes == [f"The unfinished run cannot be continued: {told}. Starting afresh."]
        assert len(run.computed) == CHUNKS
    else:
        assert run.notes == [f"Resuming: 3 of {CHUNKS} chunks are done."], "no pixel depends on it"
        assert len(run.computed) == CHUNKS - 3


@pytest.mark.slow
def test_overwrite_starts_afresh_and_its_own_run_continues_without(
    run: Watched, options: PredictOptions, whole: dict[str, str]
) -> None:
    run(replace(options, threshold=0.25))
    stopped = broken(run, replace(options, overwrite=True), KeyboardInterrupt())
    assert "run the same command without --overwrite to continue" in str(stopped)
    with pytest.raises(UsageError, match="--overwrite"):
        run(replace(options, threshold=0.25))
    assert run.hidden.exists()
    assert content(run(options)) == whole
    assert len(run.computed) == CHUNKS - 3
    broken(run, replace(options, overwrite=True), KeyboardInterrupt())
    run(replace(options, overwrite=True))
    assert len(run.computed) == CHUNKS


def test_outputs_of_another_run_are_not_replaced_unasked(run: Watched, options: PredictOptions) -> None:
    broken(run, options, KeyboardInterrupt())
    (run.folder / "scene_buildings_mask.tif").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        run(options)
    assert (run.folder / "scene_buildings_mask.tif").read_text() == "mine"


def test_finished_outputs_that_another_run_is_replacing_do_not_count_as_finished(
    run: Watched, options: PredictOptions
) -> None:
    first = run(options)
    assert pipeline.finished_before(run.scene, run.folder, options)
    assert not pipeline.finished_before(run.scene, run.folder, replace(options, overwrite=True))
    assert not pipeline.finished_before(run.scene, run.folder, replace(options, threshold=0.25))
    going = run.hidden.with_name(f"{run.hidden.name}-removed")
    going.mkdir()
    assert pipeline.finished_before(run.scene, run.folder, options)
    assert not going.exists()
    broken(run, replace(options, threshold=0.25, overwrite=True), KeyboardInterrupt())
    assert not pipeline.finished_before(run.scene, run.folder, options)
    run(replace(options, overwrite=True))
    assert pipeline.finished_before(run.scene, run.folder, options)
    first.rasters["buildings"]["mask"].unlink()
    assert not pipeline.finished_before(run.scene, run.folder, options)


@pytest.mark.parametrize(
    "identity", [{"path": "/vsis3/a.tif"}, {"sha256": "1", "sources": [{"etag": "2"}, {"path": "/vsis3/a.tif"}]}]
)
def test_a_scene_that_tells_no_change_is_not_continued(
    run: Watched, options: PredictOptions, monkeypatch: pytest.MonkeyPatch, identity: dict[str, Any]
) -> None:
    monkeypatch.setattr(Scene, "identity", lambda _: identity)
    stopped = str(broken(run, options, KeyboardInterrupt()))
    assert "but the next run starts afresh: nothing tells whether the scene changed" in stopped
    assert "same command" not in stopped
    run(options)
    assert run.notes[0].startswith("The unfinished run cannot be continued: nothing tells whether the scene changed")
    assert len(run.computed) == CHUNKS


def test_a_window_is_read_again_before_the_run_fails(
    run: Watched, options: PredictOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    options = replace(options, refine=False)  # a window of PRN is larger than this scene
    read = Scene.read
    failing: list[int] = []

    def unsteady(scene: Scene, window: Any) -> Any:
        if (window.row, window.col) == (48, 144) and failing:
            failing.pop()
            raise ReadError(f"rows {window.row}-{window.row_end - 1} could not be read.")
        return read(scene, window)

    monkeypatch.setattr(Scene, "read", unsteady)
    whole = content(run(options))
    failing += [1, 1]
    assert content(run(replace(options, overwrite=True))) == whole
    assert not failing
    failing += [1, 1, 1]
    expected = rf"rows 48-111 could not be read. It was tried 3 times. \d of {CHUNKS} chunks are done and kept"
    with pytest.raises(ReadError, match=expected):
        run(replace(options, overwrite=True))
    done = len(run.computed)
    assert done > 0
    assert content(run(options)) == whole
    assert len(run.computed) == CHUNKS - done


@pytest.mark.parametrize(
    ("module", "name", "call", "told", "done"),
    [
        (Path, "write_bytes", 14, r"The disk of .*out is full: \d+ MB free. Make room.", 3),
        (cog, "_copy", 4, r"scene_buildings_mask.tif could not be written .*No space left.* free space \(\d+ MB\).", 6),
        (write, "_write_ogr", 1, r"cannot write .*scene.gpkg: .*No space left.*has room \(\d+ MB free\).*", 6),
        (pipeline, "write_sidecar", 2, r"The disk of .*out is full: \d+ MB free. Make room.", 6),
    ],
)
def test_a_full_disk_is_told_with_what_is_free_and_how_to_continue(
    run: Watched,
    options: PredictOptions,
    whole: dict[str, str],
    module: Any,
    name: str,
    call: int,
    told: str,
    done: int,
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, raising_at(call, full, getattr(module, name)))
        with pytest.raises(PrngeoError) as raised:
            run(options)
    hint = f"{done} of {CHUNKS} chunks are done and kept in {run.hidden}: run the same command to continue."
    assert re.fullmatch(f"{told} {re.escape(hint)}", str(raised.value))
    assert raised.value.exit_code == 1
    assert run.visible() == []
    assert content(run(options)) == whole
    assert len(run.computed) == CHUNKS - done
