"""Parts of rasters: what is written comes back, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from prngeo.errors import PrngeoError
from prngeo.files import Finished
from prngeo.inference.chunks import PixelCounts
from prngeo.inference.parts import Parts
from prngeo.raster.cog import RasterSpec
from prngeo.tiling.grid import Grid, Window

SHAPE = (600, 1100)
SPECS = {
    "mask": RasterSpec(*SHAPE, Affine(1, 0, 9, 0, -1, 9), CRS.from_epsg(32631), "uint8", 255, "nearest", "m"),
    "step": RasterSpec(*SHAPE, Affine(1, 0, 9, 0, -1, 9), CRS.from_epsg(32631), "int16", -32768, "average", "s", 0.01),
}
GRID = Grid(*SHAPE, 512)
CHUNKS = [GRID.window(index).intersect(GRID.extent) for index in GRID.indices()]
COUNTS = {"roads": PixelCounts(3, 2, 1)}


def values(chunk: Window) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([chunk.row, chunk.col])
    return {"mask": rng.integers(0, 2, chunk.shape, np.uint8), "step": rng.integers(-999, 999, chunk.shape, np.int16)}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    made = Parts(tmp_path, SPECS)
    for chunk in CHUNKS[::-1]:
        made.write(chunk, {} if chunk is CHUNKS[1] else values(chunk), COUNTS)
    return made


@pytest.mark.parametrize("name", SPECS)
def test_a_raster_of_parts_holds_their_pixels_and_nodata_where_there_are_none(parts: Parts, name: str) -> None:
    with rasterio.open(parts.raster(name, CHUNKS)) as file:
        assert (file.shape, file.dtypes, file.crs) == (SHAPE, (SPECS[name].dtype,), SPECS[name].crs)
        assert (file.transform, file.nodata) == (SPECS[name].transform, SPECS[name].nodata)
        read = file.read(1)
    for chunk in CHUNKS:
        expected = SPECS[name].nodata if chunk is CHUNKS[1] else values(chunk)[name]
        assert (read[chunk.within(GRID.extent)] == expected).all()


def test_nothing_is_missing_of_what_was_written(parts: Parts) -> None:
    assert parts.missing(CHUNKS) == ([], [])
    assert parts.counts(CHUNKS[0]) == COUNTS


def test_a_chunk_without_its_note_is_not_finished(parts: Parts, tmp_path: Path) -> None:
    Finished(tmp_path).forget("chunks/0_0")
    assert parts.missing(CHUNKS) == ([CHUNKS[0]], [])


def test_a_part_that_changed_or_went_is_noticed(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "parts" / "mask" / "0_0.tif").write_bytes(b"no")
    (tmp_path / "parts" / "step" / "512_512.tif").unlink()
    lost = [CHUNKS[0], CHUNKS[4]]
    assert parts.missing(CHUNKS) == (lost, lost)
    without = Parts(tmp_path, {"step": SPECS["step"]})
    assert without.missing(CHUNKS) == ([CHUNKS[4]], [CHUNKS[4]]), "parts of a finished raster are not needed"


@pytest.mark.parametrize("calls", [0, 1])
def test_of_a_run_that_was_given_up_nothing_counts_as_finished(tmp_path: Path, calls: int) -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) > calls:
            raise PrngeoError("The run was given up.")

    with pytest.raises(PrngeoError, match="given up"):
        Parts(tmp_path, SPECS, check).write(CHUNKS[0], values(CHUNKS[0]), COUNTS)
    assert Finished(tmp_path).count() == 0
    assert bool(list(tmp_path.rglob("*.tif"))) == bool(calls)


def test_a_folder_that_is_gone_does_not_come_back(tmp_path: Path) -> None:
    for content in (values(CHUNKS[0]), {}):
        with pytest.raises(FileNotFoundError):
            Parts(tmp_path / "gone", SPECS).write(CHUNKS[0], content, COUNTS)
    assert not (tmp_path / "gone").exists()


def test_writing_a_chunk_twice_changes_nothing(parts: Parts, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    parts.write(CHUNKS[0], values(CHUNKS[0]), COUNTS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_parts_of_a_finished_raster_go(parts: Parts, tmp_path: Path) -> None:
    parts.raster("mask", CHUNKS)
    parts.drop("mask")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["step"]
    assert not (tmp_path / "mask.vrt").exists()
