"""A town's files: exact georeferencing, nothing overwritten or half-written by accident."""

import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import typer
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from typer.testing import CliRunner

from prngeo.cli.synth import synth
from prngeo.errors import PrngeoError, UsageError
from prngeo.synth.town import make_town
from prngeo.synth.write import TownFiles, write_town

NAMES = {"town.tif", "town_roads_mask.tif", "town_buildings_mask.tif", "town_truth.gpkg"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TownFiles:
    return write_town(tmp_path_factory.mktemp("town") / "town.tif", size=300, gsd=0.3, seed=6)


def test_exactly_the_four_files_are_left(files: TownFiles) -> None:
    assert {p.name for p in files.scene.parent.iterdir()} == NAMES
    assert {p.name for p in files.paths} == NAMES


def test_scene_is_a_tiled_deflated_rgb_geotiff(files: TownFiles) -> None:
    with rasterio.open(files.scene) as scene:
        assert (scene.count, scene.height, scene.width) == (3, 300, 300)
        assert scene.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert scene.profile["compress"] == "deflate"
        assert scene.profile["tiled"]
        assert scene.crs.to_epsg() == 32631
        assert (scene.transform.c, scene.transform.f) == (500000, 5000000)
        assert scene.nodata is None
        np.testing.assert_array_equal(scene.read(), make_town(300, 0.3, 6).image)


def test_vectors_burned_through_the_files_transform_equal_the_masks(files: TownFiles) -> None:
    for layer, path in (("roads", files.roads_mask), ("buildings", files.buildings_mask)):
        frame = pyogrio.read_dataframe(files.truth, layer=layer)
        with rasterio.open(path) as mask:
            assert mask.nodata == 255
            assert mask.dtypes == ("uint8",)
            assert frame.crs == mask.crs
            burned = rasterize(frame.geometry, out_shape=mask.shape, transform=mask.transform, dtype="uint8")
            np.testing.assert_array_equal(burned, mask.read(1))
            assert burned.any()


def test_truth_is_a_version_1_3_geopackage_with_attributes(files: TownFiles) -> None:
    with sqlite3.connect(files.truth) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] == 10300
    layers = {name for name, _ in pyogrio.list_layers(files.truth)}
    assert layers == {"buildings", "roads", "road_centerlines"}
    assert set(pyogrio.read_info(files.truth, layer="buildings")["fields"]) == {"kind", "area_m2"}
    assert set(pyogrio.read_info(files.truth, layer="road_centerlines")["fields"]) == {"width_m", "surface"}


def test_existing_files_are_named_and_kept_without_overwrite(tmp_path: Path) -> None:
    kept = tmp_path / "town_roads_mask.tif"
    kept.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"town_roads_mask\.tif.*--overwrite"):
        write_town(tmp_path / "town.tif", size=16)
    assert kept.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [kept]
    write_town(tmp_path / "town.tif", size=16, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == NAMES


def test_a_town_without_buildings_or_roads_still_has_every_layer(tmp_path: Path) -> None:
    for seed in range(8):
        files = write_town(tmp_path / "town.tif", size=16, gsd=0.05, seed=seed, overwrite=True)
        assert len(pyogrio.list_layers(files.truth)) == 3


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("prngeo.synth.write.pyogrio.write_dataframe", fail)
    with pytest.raises(PrngeoError, match="No space left"):
        write_town(tmp_path / "town.tif", size=16)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") or p.suffix == ".gpkg"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("town.png", {}, r"\.tif"),
        ("absent/town.tif", {}, "does not exist"),
        ("town.tif", {"crs": "EPSG:4326"}, "--crs"),
        ("town.tif", {"crs": "nonsense"}, "--crs"),
        ("town.tif", {"size": 8}, "--size"),
        ("town.tif", {"gsd": 9.0}, "--gsd"),
    ],
)
def test_wrong_calls_say_what_to_do_and_write_nothing(
    tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_town(tmp_path / name, **{"size": 16, **options})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_command_writes_the_files_and_reports_on_stderr(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(synth)
    result = CliRunner().invoke(app, [str(tmp_path / "town.tif"), "--size", "32", "--gsd", "1", "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    for name in NAMES:
        assert name in result.stderr
        assert (tmp_path / name).is_file()
