"""The embedded model on real scenes that it never saw: it runs, lies on the grid, and finds what is there.

IoU is printed (pytest -m data -s); the floors only catch a broken path, the figures themselves are on the model's card.
"""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

import prngeo
from prngeo import PredictOptions, UsageError

pytestmark = [
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def predict(scene: Path, folder: Path, target: str, **options: object) -> prngeo.PredictResult:
    result = prngeo.predict(scene, folder, PredictOptions(targets=(target,), **options))
    kinds = result.rasters[target]
    with rasterio.open(scene) as source:
        valid_pixels = 0
        for kind, path in kinds.items():
            with rasterio.open(path) as file:
                assert file.shape == source.shape
                assert file.crs == source.crs
                assert file.transform == source.transform
                if kind == "mask":
                    valid = file.read(1) != 255
                    np.testing.assert_array_equal(valid, source.dataset_mask() > 0)
                    valid_pixels = int(valid.sum())
            assert cog_validate(path)[0]
        assert result.targets[target].valid_pixels == valid_pixels
    layer = geopandas.read_file(result.vectors[0], layer=target)
    assert len(layer) == result.targets[target].polygons
    assert layer.is_valid.all()
    assert not list(folder.glob(".*"))
    assert json.loads(result.record.read_text())["input"]["sha256"]
    return result


def iou(result: prngeo.PredictResult, target: str, truth: np.ndarray) -> float:
    with rasterio.open(result.rasters[target]["mask"]) as file:
        mask = file.read(1)
    known = (mask != 255) & (truth != 255)
    found, true = (mask == 1) & known, (truth == 1) & known
    value = float((found & true).sum() / (found | true).sum())
    print(f"\n{Path(result.scene).name} {target}: IoU {value:.4f} over {known.sum() / 1e6:.1f} Mpx")
    return value


def test_banepa_buildings(real_data: Path, tmp_path: Path) -> None:
    scene = real_data / "banepa/scene.tif"
    result = predict(scene, tmp_path, "buildings")
    with rasterio.open(scene) as source:
        shapes = geopandas.read_file(real_data / "banepa/buildings_osm.geojson").to_crs(source.crs).geometry
        truth = rasterize(shapes, out_shape=source.shape, transform=source.transform, dtype="uint8")
    assert iou(result, "buildings", truth) > 0.3


def test_accra_buildings(real_data: Path, tmp_path: Path) -> None:
    part = Window(0, 0, 3000, 1800)
    with rasterio.open(real_data / "accra/scene.tif") as source:
        profile = source.profile | {"width": part.width, "height": part.height, "photometric": "rgb", "compress": "lzw"}
        with rasterio.open(tmp_path / "accra.tif", "w", **profile) as scene:
            scene.write(source.read(window=part))
            scene.write_mask(source.dataset_mask(window=part))
    with rasterio.open(real_data / "accra/buildings_mask.tif") as file:
        truth = file.read(1, window=part)
    assert iou(predict(tmp_path / "accra.tif", tmp_path, "buildings"), "buildings", truth) > 0.4


@pytest.mark.parametrize("tile", ["23579125_15", "25229185_15"])
def test_massachusetts_roads(real_data: Path, tmp_path: Path, tile: str) -> None:
    result = predict(real_data / f"massachusetts/roads/images/{tile}.tif", tmp_path, "roads")
    with rasterio.open(real_data / f"massachusetts/roads/masks/{tile}.tif") as file:
        assert iou(result, "roads", file.read(1)) > 0.25


def test_dubai_without_coordinate_system_asks_for_gsd_and_then_works(real_data: Path, tmp_path: Path) -> None:
    scene = real_data / "dubai/images/tile7_image_part_003.jpg"
    with pytest.raises(UsageError, match="--gsd METRES"):
        predict(scene, tmp_path, "roads")
    assert not list(tmp_path.iterdir())
    result = predict(scene, tmp_path, "roads", gsd=1.0)
    with rasterio.open(real_data / "dubai/road/tile7_image_part_003.png") as file:
        assert iou(result, "roads", (file.read(1) > 0).astype(np.uint8)) > 0.15
