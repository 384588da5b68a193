"""What holds for a whole prediction, with a small random network on real files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

import prngeo
from prngeo import PredictOptions, UsageError
from prngeo.progress import Progress
from tests.conftest import write_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def options(tiny_model: Path) -> PredictOptions:
    return PredictOptions(model=tiny_model, device="cpu", min_area=0)


def pixels(result: prngeo.PredictResult) -> dict[tuple[str, str], np.ndarray]:
    read = {}
    for target, kinds in result.rasters.items():
        for kind, path in kinds.items():
            with rasterio.open(path) as file:
                read[target, kind] = file.read(1)
    return read


def same(one: prngeo.PredictResult, other: prngeo.PredictResult) -> None:
    first, second = pixels(one), pixels(other)
    assert first.keys() == second.keys()
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key], str(key))
    for layer in one.targets:
        rows, others = (geopandas.read_file(result.vectors[0], layer=layer) for result in (one, other))
        assert rows.equals(others)
        assert not rows.empty


@pytest.mark.parametrize("gsd", [0.5, 0.1, 2.0])
@pytest.mark.slow
def test_result_does_not_depend_on_chunk_memory_or_scratch(tmp_path: Path, options: PredictOptions, gsd: float) -> None:
    scene = write_scene(tmp_path / "scene.tif", 700, 1100, gsd=gsd, nodata=0, holes=[(slice(90, 200), slice(300, 420))])
    whole = prngeo.predict(scene, tmp_path / "a", replace(options, chunk=2048))
    assert whole.targets["roads"].changed_pixels > 0
    same(whole, prngeo.predict(scene, tmp_path / "b", replace(options, chunk=512)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    least = replace(options, chunk=512, max_memory=1100 << 20, scratch=scratch)
    same(whole, prngeo.predict(scene, tmp_path / "c", least))
    assert not list(scratch.iterdir())


def test_store_that_holds_nothing_gives_the_same_pixels(
    tmp_path: Path, options: PredictOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prngeo.inference import rasters
    from prngeo.raster.store import TileStore

    scene = write_scene(tmp_path / "scene.tif")
    kept = prngeo.predict(scene, tmp_path / "a", options)
    monkeypatch.setattr(rasters, "TileStore", lambda _, *more: TileStore(0, *more))
    same(kept, prngeo.predict(scene, tmp_path / "b", replace(options, chunk=512)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 53), (512, 512), (513, 511), (1500, 1500)])
@pytest.mark.slow
def test_every_size_comes_back_on_its_own_grid(
    tmp_path: Path, options: PredictOptions, height: int, width: int
) -> None:
    scene = write_scene(tmp_path / "scene.tif", height, width)
    result = prngeo.predict(scene, tmp_path / "out", options)
    for kinds in result.rasters.values():
        for path in kinds.values():
            with rasterio.open(path) as file, rasterio.open(scene) as source:
                assert file.shape == source.shape
                assert file.transform == source.transform
                assert file.crs == source.crs
            valid, errors, _ = cog_validate(path, strict=True)
            assert valid, errors


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_every_band_count_and_type_is_read(tmp_path: Path, options: PredictOptions, dtype: str, count: int) -> None:
    scene = write_scene(tmp_path / "scene.tif", 100, 140, count=count, dtype=dtype)
    if dtype == "float32":
        with rasterio.open(scene, "r+") as file:
            values = file.read()
            values[:, 10:30, 20:50] = np.nan
            file.write(values)
    if count < 3:
        with pytest.raises(UsageError, match="--bands"):
            prngeo.predict(scene, tmp_path / "out", options)
        options = replace(options, bands=(1, 1, count))
    result = prngeo.predict(scene, tmp_path / "out", options)
    mask = pixels(result)["roads", "mask"]
    assert (mask[10:30, 20:50] == 255).all() == (dtype == "float32")
    assert (mask[40:] <= 1).all()


@pytest.mark.slow
def test_mask_is_probability_at_or_above_the_threshold(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    for threshold in (None, 0.3, 0.516):
        result = prngeo.predict(scene, tmp_path / "out", replace(options, threshold=threshold, overwrite=True))
        for target, kinds in result.rasters.items():
            with rasterio.open(kinds["probability"]) as file:
                probability = file.read(1) * file.scales[0]
            read = pixels(result)
            expected = probability >= result.targets[target].threshold
            np.testing.assert_array_equal(read[target, "mask"] == 1, expected)


@pytest.mark.slow
def test_nodata_in_is_nodata_out_and_a_far_pixel_does_not_change(tmp_path: Path, options: PredictOptions) -> None:
    height, width = 300, 900
    hole = (slice(100, 140), slice(60, 100))
    plain = prngeo.predict(write_scene(tmp_path / "plain.tif", height, width, nodata=0), tmp_path / "a", options)
    holed = prngeo.predict(
        write_scene(tmp_path / "holed.tif", height, width, nodata=0, holes=[hole]), tmp_path / "b", options
    )
    before, after = pixels(plain), pixels(holed)
    reach = 128 + 256  # a tile and a refiner window
    for key, values in after.items():
        nodata = -32768 if key[1] == "correction" else 255
        assert (values[hole] == nodata).all()
        assert (np.delete(values, np.s_[60:100], 1) != nodata).all()
        far = slice(100 + reach, None)
        np.testing.assert_array_equal(values[:, far], before[key][:, far])
    assert (after["roads", "probability"] != before["roads", "probability"]).sum() > 40 * 40


def test_constant_scene_gives_a_constant_field_to_the_border(tmp_path: Path, options: PredictOptions) -> None:
    from prngeo.models.runtime import Runtime

    scene = write_scene(tmp_path / "scene.tif", 333, 517)
    original = Runtime.segment
    try:
        Runtime.segment = lambda self, image, valid: np.full((len(image), 2, *valid.shape[1:]), 0.731, np.float16)
        result = prngeo.predict(scene, tmp_path / "out", replace(options, refine=False))
    finally:
        Runtime.segment = original
    for (_, kind), values in pixels(result).items():
        assert len(np.unique(values)) == 1, kind


def test_disabled_gate_and_no_refine_leave_the_base_logits(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    refined = prngeo.predict(scene, tmp_path / "a", options)
    base = prngeo.predict(scene, tmp_path / "b", replace(options, refine=False))
    first, second = pixels(refined), pixels(base)
    assert refined.targets["roads"].refined
    assert not refined.targets["buildings"].refined
    assert (first["roads", "correction"] != 0).any()
    assert (first["buildings", "correction"] == 0).all()
    np.testing.assert_array_equal(first["buildings", "probability"], second["buildings", "probability"])
    assert "correction" not in base.rasters["roads"]


def test_scene_without_georeferencing_asks_for_gsd_and_then_works(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "plain.tif", crs=None)
    with pytest.raises(UsageError, match="--gsd"):
        prngeo.predict(scene, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    result = prngeo.predict(scene, tmp_path / "out", replace(options, gsd=0.5))
    assert result.warnings
    with rasterio.open(result.rasters["roads"]["mask"]) as file:
        assert file.crs is None
        assert file.transform == Affine.identity()
    layer = geopandas.read_file(result.vectors[0], layer="roads")
    assert layer.crs is None or "Undefined" in layer.crs.name
    west, south, east, north = layer.total_bounds
    assert -300 <= south < north <= 0
    assert 0 <= west < east <= 420
    np.testing.assert_allclose(layer.area.sum() * 0.25, result.targets["roads"].area_m2)


def test_model_grid_outputs_lie_over_the_scene(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", gsd=0.1)
    result = prngeo.predict(scene, tmp_path / "out", replace(options, grid="model"))
    with rasterio.open(result.rasters["roads"]["mask"]) as file, rasterio.open(scene) as source:
        np.testing.assert_allclose(file.res, 0.25)
        assert file.bounds.left == source.bounds.left
        assert file.bounds.top == source.bounds.top
        assert 0 <= file.bounds.right - source.bounds.right < 0.25


def test_rotated_scene_keeps_its_transform(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    with rasterio.open(scene, "r+") as file:
        file.transform = turned
    result = prngeo.predict(scene, tmp_path / "out", options)
    with rasterio.open(result.rasters["roads"]["mask"]) as file:
        assert file.transform.almost_equals(turned)
        count = int((file.read(1) == 1).sum())
    layer = geopandas.read_file(result.vectors[0], layer="roads")
    np.testing.assert_allclose(layer.area.sum(), count * 0.25, rtol=1e-6)


def test_aoi_in_another_crs_limits_the_outputs(tmp_path: Path, options: PredictOptions) -> None:
    from shapely.geometry import box

    scene = write_scene(tmp_path / "scene.tif")
    area = geopandas.GeoDataFrame(geometry=[box(500_050, 4_999_900, 500_100, 4_999_950)], crs="EPSG:32631")
    area.to_crs("EPSG:4326").to_file(tmp_path / "aoi.geojson")
    whole = pixels(prngeo.predict(scene, tmp_path / "a", options))
    part = pixels(prngeo.predict(scene, tmp_path / "b", replace(options, aoi=tmp_path / "aoi.geojson")))
    inside = part["roads", "mask"] != 255
    assert inside[100:200, 100:200].mean() > 0.99
    assert inside.sum() <= 101 * 101
    for key, values in part.items():
        np.testing.assert_array_equal(values[inside], whole[key][inside])
    far = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32631")
    far.to_file(tmp_path / "far.gpkg")
    with pytest.raises(UsageError, match="does not touch"):
        prngeo.predict(scene, tmp_path / "c", replace(options, aoi=tmp_path / "far.gpkg"))
    assert not (tmp_path / "c").exists()


def test_record_tells_enough_to_repeat_the_run(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    seen: list[Progress] = []
    result = prngeo.predict(scene, tmp_path / "out", options, seen.append)
    record = json.loads(result.record.read_text())
    assert len(record["input"]["sha256"]) == 64
    assert record["model"]["name"] == "tiny"
    assert record["targets"]["roads"]["polygons"] == result.targets["roads"].polygons
    assert {item.stage for item in seen} == {"segment", "finish", "vectorize"}
    assert all(item.done <= item.total for item in seen)


def test_existing_outputs_are_kept_unless_told(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 64, 64)
    result = prngeo.predict(scene, tmp_path / "out", options)
    before = result.record.read_text()
    with pytest.raises(UsageError, match="--overwrite"):
        prngeo.predict(scene, tmp_path / "out", options)
    assert result.record.read_text() == before
    prngeo.predict(scene, tmp_path / "out", replace(options, overwrite=True))


def test_scene_without_valid_pixels_is_refused(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", nodata=0, holes=[(slice(None), slice(None))])
    with pytest.raises(UsageError, match="no valid pixel"):
        prngeo.predict(scene, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_truncated_file_leaves_nothing(
    tmp_path: Path, options: PredictOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prngeo.raster import retry

    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    scene = write_scene(tmp_path / "scene.tif", 600, 600)
    data = scene.read_bytes()
    scene.write_bytes(data[: len(data) // 2])
    with pytest.raises(prngeo.PrngeoError):
        prngeo.predict(scene, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["geoparquet", "flatgeobuf", "geojson"])
def test_vector_formats_hold_a_layer_a_file(tmp_path: Path, options: PredictOptions, format: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", 128, 128)
    result = prngeo.predict(scene, tmp_path / "out", replace(options, format=format))
    layers = ["roads", "road_centerlines", "buildings"]
    assert [path.stem for path in result.vectors] == [f"scene_{layer}" for layer in layers]
    assert all(path.exists() for path in result.vectors)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_vectors_are_those_of_vectorizing_the_rasters(tmp_path: Path, options: PredictOptions) -> None:
    scene = write_scene(tmp_path / "scene.tif", 200, 300)
    shaped = replace(options, min_area=0.5, min_hole=3.0, regularize=True, split=0.02)
    result = prngeo.predict(scene, tmp_path / "out", shaped)
    for target, straight in (("buildings", True), ("roads", False)):
        more = {"regularize": True, "split": 0.02} if straight else {}
        again = prngeo.polygonize(result.rasters[target]["probability"], min_area=0.5, min_hole=3.0, **more)
        written = geopandas.read_file(result.vectors[0], layer=target)
        assert len(written) == len(again) > 0
        assert written.geometry.geom_equals(again.geometry).all()
        np.testing.assert_allclose(written["probability"], again["probability"])
    content = json.loads(result.record.read_text())
    assert content["options"]["split"] == 0.02


@pytest.mark.slow
def test_roads_come_with_their_centerlines(tmp_path: Path) -> None:
    result = prngeo.predict(EXAMPLES / "town.tif", tmp_path / "out", PredictOptions(device="cpu"))
    roads = result.rasters["roads"]
    lines = prngeo.centerlines(roads["mask"], roads["probability"])
    written = geopandas.read_file(result.vectors[0], layer="road_centerlines")
    assert len(written) == len(lines) > 20
    assert written.geometry.geom_equals(lines.geometry).all()
    assert (written.geom_type == "LineString").all()
    assert result.targets["roads"].length_m == pytest.approx(lines["length_m"].sum())
    assert result.targets["buildings"].length_m is None
    content = json.loads(result.record.read_text())
    assert content["targets"]["roads"]["length_m"] == result.targets["roads"].length_m
