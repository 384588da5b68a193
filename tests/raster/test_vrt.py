"""Files of one grid as one raster."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from prngeo.errors import UsageError
from prngeo.raster.scene import open_scene
from prngeo.raster.vrt import mosaic_vrt
from prngeo.tiling.grid import Window
from tests.raster.conftest import NORTH_UP

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


@pytest.fixture
def cut(write_raster):
    """Writes windows of an array, each to a file of its own on the array's grid; returns their paths."""

    def write(values, windows, *, mask=None, transform=NORTH_UP, **options):
        paths = []
        for name, (rows, cols) in windows.items():
            place = transform @ Affine.translation(cols.start, rows.start)
            part = None if mask is None else mask[rows, cols]
            paths.append(write_raster(values[:, rows, cols], name, transform=place, mask=part, **options))
        return paths

    return write


@pytest.fixture
def seen(tmp_path):
    """Opens the mosaic of some files and reads all of it."""

    def read(paths, **options):
        vrt = tmp_path / "mosaic.vrt"
        vrt.write_text(mosaic_vrt(paths, tmp_path), encoding="utf-8")
        with open_scene(vrt, **options) as scene:
            return scene.read(Window(0, 0, scene.height, scene.width))

    return read


ABUTTING = {
    "a.tif": (slice(0, 40), slice(0, 70)),
    "b.tif": (slice(0, 40), slice(70, 110)),
    "c.tif": (slice(40, 90), slice(0, 30)),
    "d.tif": (slice(40, 90), slice(30, 110)),
}
KINDS = ["plain", "nodata 0", "nodata -1", "nan", "alpha", "mask"]


def _holed(noise, kind):
    """An array with a hole across the cuts, and how to write it."""
    dtype = {"nodata -1": "int16", "nan": "float32"}.get(kind, "uint8")
    values = noise(4 if kind == "alpha" else 3, 90, 110, dtype)
    hole = np.zeros((90, 110), bool)
    hole[30:55, 60:80] = kind != "plain"
    options = {}
    if kind.startswith("nodata"):
        options["nodata"] = int(kind.split()[1])
        values[:, hole] = options["nodata"]
        values[0, 5:15, 5:15] = max(0, options["nodata"])  # a dark roof: 0 in one band only
    elif kind == "nan":
        values[:, hole] = np.nan
    elif kind == "alpha":
        values[3] = np.where(hole, 0, 255)
        options["colorinterp"] = RGBA
    elif kind == "mask":
        options["mask"] = ~hole
    return values, options


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_cut_into_files_is_read_as_the_whole(cut, seen, noise, kind):
    values, options = _holed(noise, kind)
    (whole,) = cut(values, {"whole.tif": (slice(0, 90), slice(0, 110))}, **options)
    with open_scene(whole) as scene:
        image, valid = scene.read(Window(0, 0, 90, 110))
    assert valid.all() == (kind == "plain")
    paths = cut(values, ABUTTING, **options)
    for order in (paths, paths[::-1]):
        read, known = seen(order)
        np.testing.assert_array_equal(known, valid)
        np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_scene_covers_is_invalid(cut, seen, noise, kind):
    values, options = _holed(noise, kind)
    (whole,) = cut(values, {"whole.tif": (slice(0, 90), slice(0, 110))}, **options)
    with open_scene(whole) as scene:
        image, valid = scene.read(Window(0, 0, 90, 110))
    windows = {name: ABUTTING[name] for name in ("a.tif", "d.tif")}
    covered = np.zeros((90, 110), bool)
    for window in windows.values():
        covered[window] = True
    read, known = seen(cut(values, windows, **options))
    np.testing.assert_array_equal(known, valid & covered)
    np.testing.assert_array_equal(read, np.where(covered, image, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_name_is_on_top_and_its_holes_show_the_others(cut, seen, noise, write_raster, kind):
    values, options = _holed(noise, kind)
    below = np.full_like(values, 77)
    if kind == "alpha":
        below[3] = 255
    full = {"mask": np.ones((90, 110), bool)} if kind == "mask" else {}
    (top,) = cut(values, {"b.tif": (slice(0, 90), slice(0, 110))}, **options)
    under = write_raster(below, "a.tif", **(options | full))
    with open_scene(top) as scene:
        image, valid = scene.read(Window(0, 0, 90, 110))
    for order in ([top, under], [under, top]):
        read, known = seen(order)
        assert known.all()
        if values.dtype == np.uint8:  # other types are stretched over the mosaic
            clear = valid & (values[:3] != 0).all(0)
            np.testing.assert_array_equal(read[:, clear], image[:, clear])
            np.testing.assert_allclose(read[:, ~valid], 77 / 255)


def test_values_are_stretched_over_all_scenes(cut, seen, noise, monkeypatch):
    from prngeo.raster import scaling

    monkeypatch.setattr(scaling, "_DECIMATED_SIDE", 16)
    values = noise(3, 90, 110, "uint16") * np.arange(1, 111, dtype="uint16")
    (whole,) = cut(values, {"whole.tif": (slice(0, 90), slice(0, 110))})
    with open_scene(whole) as scene:
        image, _ = scene.read(Window(0, 0, 90, 110))
    np.testing.assert_array_equal(seen(cut(values, ABUTTING))[0], image)


def test_scenes_in_the_folder_move_with_the_mosaic(cut, noise, tmp_path):
    values = noise(3, 90, 110)
    inside, outside = tmp_path / "a" / "tiles", tmp_path / "b"
    inside.mkdir(parents=True)
    paths = cut(values, ABUTTING)
    near = [str(Path(path).rename(inside / Path(path).name)) for path in paths]
    (tmp_path / "a" / "mosaic.vrt").write_text(mosaic_vrt(near, tmp_path / "a"))
    (tmp_path / "a").rename(outside)
    with rasterio.open(outside / "mosaic.vrt") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert (file.transform, file.crs, file.colorinterp) == (NORTH_UP, "EPSG:32630", RGBA[:3])


def test_place_is_kept_of_turned_and_geographic_grids(cut, noise, tmp_path):
    values = noise(3, 90, 110)
    for number, (crs, transform) in enumerate(
        [
            ("EPSG:4326", Affine(1e-6, 0, 7.123456789, 0, -1e-6, 46.987654321)),
            ("EPSG:32630", Affine.translation(5e5, 6e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)),
            (None, NORTH_UP),
        ]
    ):
        names = {f"{number}{name}": window for name, window in ABUTTING.items()}
        vrt = tmp_path / f"{number}.vrt"
        vrt.write_text(mosaic_vrt(cut(values, names, crs=crs, transform=transform), tmp_path))
        with rasterio.open(vrt) as file:
            np.testing.assert_array_equal(file.read(), values)
            assert file.crs == (None if crs is None else rasterio.CRS.from_user_input(crs))
            assert file.transform.almost_equals(transform, 1e-12)


def test_a_scene_named_twice_comes_once_and_one_is_enough(cut, noise, tmp_path, monkeypatch):
    (path,) = cut(noise(3, 90, 110), {"a.tif": (slice(0, 90), slice(0, 110))})
    monkeypatch.chdir(tmp_path)
    text = mosaic_vrt([path, "a.tif", Path("./a.tif")], tmp_path)
    assert text == mosaic_vrt([path], tmp_path)
    assert len(ElementTree.fromstring(text).findall("VRTRasterBand[1]/ComplexSource")) == 1


def test_a_hundredth_of_a_pixel_is_forgiven(cut, seen, noise, write_raster):
    values = noise(3, 90, 110)
    paths = cut(values, ABUTTING)
    with rasterio.open(paths[1], "r+") as file:
        file.transform = file.transform @ Affine.translation(0.009, -0.009)
    np.testing.assert_array_equal(seen(paths)[0], values.astype("float32") / 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": "EPSG:32631"}, r"d\.tif has EPSG:32631, \S*a\.tif EPSG:32630"),
        ({"crs": None}, r"d\.tif has no coordinate system, \S*a\.tif EPSG:32630"),
        ({"transform": NORTH_UP @ Affine.translation(30.4, 40)}, r"corners that lie 0\.4 pixels off the grid"),
        ({"transform": NORTH_UP @ Affine.scale(1.2)}, r"d\.tif has pixels of 0\.6 x 0\.6, \S*a\.tif pixels of 0\.5 x"),
        ({"nodata": 7}, r"d\.tif has nodata 7, \S*a\.tif nodata none"),
        ({"dtype": "uint16"}, r"d\.tif has values of type uint16, \S*a\.tif values of type uint8"),
        ({"count": 4}, r"d\.tif has 4 bands, \S*a\.tif 3 bands"),
        ({"colorinterp": RGBA[2::-1]}, r"d\.tif has bands blue, green, red, \S*a\.tif bands red, green, blue"),
    ],
)
def test_a_scene_that_differs_is_named_with_what_differs(cut, noise, write_raster, tmp_path, change, message):
    paths = cut(noise(3, 90, 110), {name: ABUTTING[name] for name in ("a.tif", "b.tif", "c.tif")})
    options = {"transform": NORTH_UP @ Affine.translation(30, 40)} | change
    values = noise(options.pop("count", 3), 50, 80, options.pop("dtype", "uint8"))
    odd = write_raster(values, "d.tif", **options)
    with pytest.raises(UsageError, match=rf"1 of 4 scenes do not fit .*{message}"):
        mosaic_vrt([odd, *paths], tmp_path)


def test_pictures_without_a_place_and_palettes_are_refused(noise, write_raster, tmp_path):
    photo = write_raster(noise(3, 30, 30), "photo.jpg", driver="JPEG", crs=None, transform=Affine.identity())
    with pytest.raises(UsageError, match=r"photo\.jpg has no georeferencing, so nothing tells its place"):
        mosaic_vrt([photo], tmp_path)
    palette = write_raster(noise(1, 30, 30), "palette.tif", photometric="palette")
    with rasterio.open(palette, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    with pytest.raises(UsageError, match="is a palette image"):
        mosaic_vrt([palette], tmp_path)


def test_a_hidden_key_is_never_written(tmp_path, noise, write_raster, monkeypatch):
    from prngeo.raster import source

    with rasterio.open(write_raster(noise(3, 30, 30))) as file, pytest.raises(UsageError, match="holds a key") as told:
        source.gdal_name("/vsicurl/https://user:secret@host/a.tif?key=secret", file)
    assert "secret" not in str(told.value)
