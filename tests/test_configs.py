"""Every example in configs/ runs on tiny scenes laid out as its head says, from configuration to prediction."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from prngeo.cli.app import run
from prngeo.config import load_train_config
from prngeo.models.bundle import open_bundle
from prngeo.synth import Town, make_town

CONFIGS = Path(__file__).parent.parent / "configs"
EXAMPLES = [
    "roads_from_lines",
    "buildings_from_polygons",
    "masks",
    "many_chips",
    "mixed_sources",
    "finetune",
]
UTM = "EPSG:32631"
X, Y = 500_000.0, 5_000_000.0
SIZE = 128
APART = 3000.0
"""Metres between scenes: more than any gap."""

TINY = [
    "device=cpu", "tile=64", "overlap=16",
    "base.steps=2", "base.batch=2", "base.crop=64", "base.validate_every=2",
    "refiner.steps=2", "refiner.batch=1", "refiner.window=256", "refiner.overlap=64", "refiner.patch=64",
]  # fmt: skip
SMALL_NETWORK = ["network.architecture=linknet", "network.encoder=tu-mobilenetv3_small_050", "network.weights=none"]


def write(path: Path, bands: np.ndarray, transform: Affine, crs: str) -> Path:
    """Writes (bands, rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype="uint8",
        crs=crs, transform=transform,
    ) as file:  # fmt: skip
        file.write(bands)
    return path


def towns(count: int, gsd: float = 0.5, size: int = SIZE) -> list[tuple[Town, Affine]]:
    """Towns with their places, far apart from each other."""
    return [(make_town(size, gsd, number), Affine(gsd, 0, X + APART * number, 0, -gsd, Y)) for number in range(count)]


def moved(shapes: list, place: Affine) -> list:
    return [shapely.affinity.translate(shape, place.c, place.f) for shape in shapes]


def images(folder: Path, found: list[tuple[Town, Affine]]) -> Path:
    """Writes 0.tif, 1.tif, ...; the first."""
    for number, (town, place) in enumerate(found):
        write(folder / f"{number}.tif", town.image, place, UTM)
    return folder / "0.tif"


def footprints(found: list[tuple[Town, Affine]]) -> geopandas.GeoDataFrame:
    shapes = [shape for town, place in found for shape in moved([b.geometry for b in town.buildings], place)]
    return geopandas.GeoDataFrame(geometry=shapes, crs=UTM)


def lay_out_roads_from_lines(root: Path) -> Path:
    found = towns(6)
    lines = [line for town, place in found for line in moved([c.geometry for c in town.road_centerlines], place)]
    tags = {
        "highway": ["residential"] * len(lines),
        "width": [None, "5.5"] * (len(lines) // 2) + [None] * (len(lines) % 2),
    }
    geopandas.GeoDataFrame(tags, geometry=lines, crs=UTM).to_file(root / "roads.gpkg")
    areas = [shapely.box(place.c, place.f - 60, place.c + 60, place.f) for _, place in found]
    geopandas.GeoDataFrame(geometry=areas, crs=UTM).to_crs(4326).to_file(root / "labelled.gpkg")
    return images(root / "ortho", found)


def lay_out_buildings_from_polygons(root: Path) -> Path:
    found = towns(6)
    footprints(found).to_crs(4326).to_file(root / "footprints.geojson")
    return images(root / "ortho", found)


def lay_out_masks(root: Path) -> Path:
    found = towns(6)
    for number, (town, place) in enumerate(found):
        for target in ("roads", "buildings"):
            write(root / f"{target}/{number}.tif", town.masks[target][None], place, UTM)
    return images(root / "images", found)


def lay_out_many_chips(root: Path) -> Path:
    """Six places with four chips each, in degrees."""
    gsd, degree = 0.1, 0.1 / 111_320
    for number in range(6):
        town = make_town(2 * SIZE, gsd, number)
        for row in range(2):
            for col in range(2):
                here = np.s_[..., row * SIZE : (row + 1) * SIZE, col * SIZE : (col + 1) * SIZE]
                place = Affine(degree, 0, 32.5 + 0.01 * number + col * SIZE * degree, 0, -degree, -row * SIZE * degree)
                for kind, values in (("masks", town.masks["buildings"][None]), ("images", town.image)):
                    path = write(root / f"{kind}/{number}-{row}-{col}.tif", values[here], place, "EPSG:4326")
    return path


def lay_out_mixed_sources(root: Path) -> Path:
    """Drone scenes lie in one half of the aerial ones of the same number."""
    found = towns(6)
    footprints(found).to_file(root / "footprints.gpkg")
    for number, (town, place) in enumerate(found):
        first = write(root / f"aerial/{number}.tif", town.image, place, UTM)
        fine = np.repeat(np.repeat(town.image[:, :, : SIZE // 2], 5, 1), 5, 2)
        drone = write(root / "drone.tif", fine, place @ Affine.scale(0.2), UTM)
        warp(drone, root / f"drone/{number}.tif", "EPSG:4326")
        drone.unlink()
    return first


def warp(source: Path, target: Path, crs: str) -> None:
    from rasterio.vrt import WarpedVRT

    target.parent.mkdir(exist_ok=True)
    with rasterio.open(source) as file, WarpedVRT(file, crs=crs, nodata=0) as warped:
        profile = warped.profile | {"driver": "GTiff"}
        with rasterio.open(target, "w", **profile) as out:
            out.write(warped.read())


def lay_out_finetune(root: Path) -> Path:
    found = towns(6)
    for number, (town, place) in enumerate(found):
        write(root / f"roads/{number}.tif", town.masks["roads"][None], place, UTM)
    return images(root / "images", found)


def test_every_configuration_is_tried_here():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*EXAMPLES, "embedded", "towns"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_head_says_how_to_run_it(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    head = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert f"# Run: prngeo train configs/{name}.yaml root=FOLDER" in head
    for source in load_train_config(CONFIGS / f"{name}.yaml").sources:
        for path in (source.images, source.aoi or source.images):
            assert any(f"FOLDER/{path.split('*')[0]}" in line for line in head)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_configuration_to_prediction(name, tmp_path, capfd):
    scene = globals()[f"lay_out_{name}"](tmp_path)
    network = [] if name == "finetune" else SMALL_NETWORK
    overrides = [f"root={tmp_path.as_posix()}", f"work={(tmp_path / 'runs').as_posix()}", *TINY, *network]
    assert run(["train", str(CONFIGS / f"{name}.yaml"), *overrides]) == 0, capfd.readouterr().err
    config = load_train_config(CONFIGS / f"{name}.yaml")
    folder = tmp_path / "runs" / config.name / "bundle"
    card = open_bundle(folder).card
    assert list(card.targets) == config.targets
    assert {data.name for data in card.data} == {source.name for source in config.sources}
    assert set(card.tests), "areas were held out for tests"
    assert run(["predict", str(scene), "-m", str(folder), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    for target in config.targets:
        with rasterio.open(tmp_path / "out" / f"{scene.stem}_{target}_mask.tif") as mask, rasterio.open(scene) as image:
            assert (mask.shape, mask.transform, mask.crs) == (image.shape, image.transform, image.crs)
