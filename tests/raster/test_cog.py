import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate

from prngeo.errors import PrngeoError
from prngeo.raster.cog import BLOCK, RasterSpec, RasterWriter, encode_part, finish_cog, write_vrt
from prngeo.tiling.grid import Grid, Window

NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000)
ROTATED = NORTH_UP @ Affine.rotation(30)
UTM = CRS.from_epsg(32630)
COLORS = {0: (0, 0, 0, 0), 1: (200, 30, 40, 255), 255: (0, 0, 0, 0)}
SIZES = [(1, 1), (37, 53), (513, 511), (1500, 1500)]


def spec(shape, kind, transform=NORTH_UP, crs=UTM):
    common = (*shape, transform, crs)
    tags = {"PRNGEO_MODEL": "m 1", "PRNGEO_THRESHOLD": "0.5"}
    if kind == "mask":
        return RasterSpec(*common, "uint8", 255, "nearest", "roads: 1", colors=COLORS, tags=tags)
    if kind == "probability":
        return RasterSpec(*common, "uint8", 255, "average", "probability", scale=0.004, tags=tags)
    return RasterSpec(*common, "int16", -32768, "average", "correction", scale=0.01, tags=tags)


def values(shape, kind, seed=0):
    rng = np.random.default_rng(seed)
    low, high = {"mask": (0, 2), "probability": (0, 251), "correction": (-5000, 5000)}[kind]
    return rng.integers(low, high, shape).astype("int16" if kind == "correction" else "uint8")


def make(folder, what, pixels, windows=None):
    """Writes pixels by chunks (or only the given windows) and finishes the file."""
    source, target = folder / "part.tif", folder / "out.tif"
    grid = Grid(*pixels.shape, BLOCK)
    with RasterWriter(source, what) as writer:
        for window in windows or [grid.window(index).intersect(grid.extent) for index in grid.indices()]:
            writer.write(window, pixels[window.within(grid.extent)])
    finish_cog(source, target, what)
    return target


def opened(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("kind", ["mask", "probability", "correction"])
def test_is_a_valid_cog_with_everything_in_it(tmp_path, shape, kind):
    what, pixels = spec(shape, kind), values(shape, kind)
    path = make(tmp_path, what, pixels)
    valid, errors, notes = cog_validate(path, strict=True, quiet=True)
    assert (valid, errors, notes) == (True, [], [])
    with opened(path) as file:
        np.testing.assert_array_equal(file.read(1), pixels)
        assert file.dtypes == (what.dtype,)
        assert file.nodata == what.nodata
        assert file.transform == NORTH_UP
        assert file.crs == UTM
        assert file.scales == (what.scale or 1.0,)
        assert file.offsets == (0.0,)
        assert file.descriptions == (what.description,)
        assert file.tags().items() >= what.tags.items()
        assert file.block_shapes == [(BLOCK, BLOCK)]
        assert bool(file.overviews(1)) == (max(shape) > BLOCK)
        if kind == "mask":
            table = file.colormap(1)
            assert {value: table[value][:3] for value in COLORS} == {v: c[:3] for v, c in COLORS.items()}
            assert table[255][3] == 0, "nodata is transparent; TIFF drops the opacity of other values"


@pytest.mark.parametrize(("transform", "crs"), [(NORTH_UP, UTM), (Affine.identity(), None)])
@pytest.mark.parametrize("kind", ["mask", "probability", "correction"])
def test_parts_give_the_same_bytes_as_one_file(tmp_path, kind, transform, crs):
    what, pixels = spec((1100, 1300), kind, transform, crs), values((1100, 1300), kind)
    grid = Grid(*pixels.shape, BLOCK)
    windows = [grid.window(index).intersect(grid.extent) for index in grid.indices()]
    windows.remove(Window(512, 512, 512, 512))
    whole = make(tmp_path, what, pixels, windows).read_bytes()
    (tmp_path / "parts").mkdir()
    parts = {window: tmp_path / "parts" / f"{number}.tif" for number, window in enumerate(windows)}
    for window, path in parts.items():
        path.write_bytes(encode_part(pixels[window.within(grid.extent)], what.dtype))
    write_vrt(tmp_path / "all.vrt", what, parts)
    finish_cog(tmp_path / "all.vrt", tmp_path / "out.tif", what)
    assert (tmp_path / "out.tif").read_bytes() == whole


@pytest.mark.parametrize(("transform", "crs"), [(ROTATED, UTM), (NORTH_UP, None), (Affine.identity(), None)])
@pytest.mark.parametrize("kind", ["mask", "probability"])
def test_any_georeferencing_survives(tmp_path, transform, crs, kind):
    shape = (513, 511)
    path = make(tmp_path, spec(shape, kind, transform, crs), values(shape, kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        assert cog_validate(path, strict=True, quiet=True)[0]
    with opened(path) as file:
        assert file.transform.almost_equals(transform, 1e-9)
        assert file.crs == crs


@pytest.mark.parametrize("kind", ["mask", "probability", "correction"])
def test_pixels_never_written_are_nodata(tmp_path, kind):
    what, pixels = spec((1500, 1500), kind), values((1500, 1500), kind)
    path = make(tmp_path, what, pixels, [Window(512, 512, 512, 512), Window(1024, 1024, 476, 476)])
    expected = np.full(pixels.shape, what.nodata, what.dtype)
    expected[512:1024, 512:1024] = pixels[512:1024, 512:1024]
    expected[1024:, 1024:] = pixels[1024:, 1024:]
    with opened(path) as file:
        np.testing.assert_array_equal(file.read(1), expected)
        np.testing.assert_array_equal(file.read_masks(1) > 0, expected != what.nodata)
    assert cog_validate(path, strict=True, quiet=True)[0]


def test_nothing_written_at_all_is_all_nodata(tmp_path):
    what = spec((600, 700), "probability")
    path = tmp_path / "part.tif"
    RasterWriter(path, what).close()
    finish_cog(path, tmp_path / "out.tif", what)
    with opened(tmp_path / "out.tif") as file:
        assert (file.read(1) == 255).all()


@pytest.mark.parametrize(("kind", "low", "high"), [("probability", 3, 250), ("correction", -32767, 1200)])
def test_overviews_average_valid_pixels_alone(tmp_path, kind, low, high):
    """Nodata would draw the average beyond the values' range, or toward itself."""
    what = spec((1500, 1500), kind)
    rng = np.random.default_rng(1)
    pixels = np.where(rng.random((1500, 1500)) < 0.5, low, high).astype(what.dtype)
    pixels[rng.random((1500, 1500)) < 0.4] = what.nodata
    pixels[:256, :256] = np.where(rng.random((256, 256)) < 0.5, high, what.nodata)
    pixels[1024:, 1024:] = what.nodata
    path = make(tmp_path, what, pixels)
    with opened(path, overview_level=0) as file:
        seen = file.read(1)
    assert seen.shape == (750, 750)
    valid = seen != what.nodata
    assert seen[valid].min() >= low
    assert seen[valid].max() <= high
    assert not valid[520:, 520:].any()
    assert (seen[:128, :128][valid[:128, :128]] == high).all(), "nodata takes part in the average"
    blocks = np.ma.masked_equal(pixels.reshape(750, 2, 750, 2).astype(float), what.nodata).mean((1, 3))
    np.testing.assert_array_equal(valid, ~np.ma.getmaskarray(blocks))
    assert np.abs(seen - blocks).max() <= 1


def test_mask_overviews_hold_mask_values_alone(tmp_path):
    pixels = values((1500, 1500), "mask")
    pixels[:300] = 255
    with opened(make(tmp_path, spec((1500, 1500), "mask"), pixels), overview_level=1) as file:
        seen = file.read(1)
    assert set(np.unique(seen)) == {0, 1, 255}


def test_windows_across_blocks_in_any_order(tmp_path):
    pixels = values((1100, 900), "probability")
    pixels[200:300] = 255
    windows = [Window(r, c, 300, 250) for r in range(0, 1100, 300) for c in range(0, 900, 250)]
    whole = Window(0, 0, 1100, 900)
    path = make(tmp_path, spec((1100, 900), "probability"), pixels, [w.intersect(whole) for w in windows[::-1]])
    with opened(path) as file:
        np.testing.assert_array_equal(file.read(1), pixels)


def test_unwritable_place_is_an_error_that_names_it(tmp_path):
    what = spec((10, 10), "mask")
    with pytest.raises(PrngeoError, match=r"a\.tif could not be written"):
        RasterWriter(tmp_path / "missing" / "a.tif", what)
    with RasterWriter(tmp_path / "part.tif", what) as writer:
        writer.write(Window(0, 0, 10, 10), values((10, 10), "mask"))
    with pytest.raises(PrngeoError, match=r"b\.tif could not be written"):
        finish_cog(tmp_path / "part.tif", tmp_path / "missing" / "b.tif", what)


FULL_DISK = """
import resource, sys, numpy as np
from pathlib import Path
from affine import Affine
from prngeo.errors import PrngeoError
from prngeo.raster.cog import RasterSpec, RasterWriter, finish_cog
from prngeo.tiling.grid import Window
folder, where = Path(sys.argv[1]), sys.argv[2]
spec = RasterSpec(1500, 1500, Affine(1, 0, 9, 0, -1, 9), None, "uint8", 255, "average", "p", 0.004)
noise = np.random.default_rng(0).integers(0, 251, (1500, 1500)).astype("uint8")
limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
try:
    if where != "finish":
        limit()
    with RasterWriter(folder / "part.tif", spec) as writer:
        for row, height in ((0, 700), (700, 800)) if where == "flush" else ((0, 512), (512, 512), (1024, 476)):
            writer.write(Window(row, 0, height, 1500), noise[row : row + height])
    print("finished writing")
    if where == "finish":
        limit()
    finish_cog(folder / "part.tif", folder / "out.tif", spec)
except PrngeoError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("where", ["write", "flush", "finish"])
def test_full_disk_is_an_error_never_a_hole(tmp_path, where):
    """What GDAL loses in its last flush would read as nodata."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), where]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    *finished, message = run.stdout.splitlines()
    assert finished == (["finished writing"] if where == "finish" else [])
    assert "could not be written" in message
    assert "free space" in message


def test_an_error_inside_is_not_hidden_by_closing(tmp_path):
    def fail():
        with RasterWriter(tmp_path / "a.tif", spec((600, 600), "mask")) as writer:
            writer.write(Window(0, 0, 600, 600), values((600, 600), "mask"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_half_a_file_of_a_killed_run_is_replaced(tmp_path):
    pixels = values((600, 700), "mask")
    path = make(tmp_path, spec(pixels.shape, "mask"), pixels)
    whole = path.read_bytes()
    for name in ("part.tif", "out.tif"):
        (tmp_path / name).write_bytes(whole[:16])
    assert make(tmp_path, spec(pixels.shape, "mask"), pixels).read_bytes() == whole
