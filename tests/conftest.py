"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from prngeo.export import ExportResult

# Examples are drawn slowly where other programs take the processor: that is no property of the code.
settings.register_profile("prngeo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prngeo")

# Small networks: threads of several test runs beside each other only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


EXPORTED = {"exported", "half", "tile_model"}
"""Fixtures that export a model, which takes seconds: what uses them is slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if EXPORTED.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a fast random network; PRN is enabled for roads and disabled for buildings."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """That model exported for ONNX Runtime, in float32."""
    from prngeo.export import export_model

    return export_model(tiny_model, "onnx", tmp_path_factory.mktemp("export") / "onnx")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless browser, for tests marked `in_browser`."""
    from tests.browser import start

    driver = start()
    yield driver
    driver.quit()


def make_tiny_model(folder: Path, *, refiner_scale: float = 0.05, window: int = 256, tile: int = 128) -> Path:
    import torch

    from prngeo.models.bundle import write_bundle
    from prngeo.models.card import Calibration, Card, Gate, NetworkCard, RefinerCard, TargetCard
    from prngeo.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter
    from prngeo.refine.network import FastRefiner

    torch.manual_seed(1)
    network = Segmenter("linknet", "tu-mobilenetv3_small_050", 2)
    with torch.no_grad():
        for parameter in network.network.segmentation_head.parameters():
            parameter.mul_(30)
    refiner = FastRefiner(2, 3, width=4)
    torch.nn.init.normal_(refiner.head.weight, std=refiner_scale)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"refiner.{k}": v for k, v in refiner.state_dict().items()}
    targets = {
        name: TargetCard(
            base=Calibration(),
            refined=Calibration(temperature=1.3, threshold=0.48),
            gate=Gate(enabled=name == "roads", base_iou=0.5, refined_iou=0.6, joint_oracle_iou=0.7, pixels=9),
        )
        for name in ("roads", "buildings")
    }
    card = Card(
        name="tiny",
        version="0",
        license="Apache-2.0",
        targets=targets,
        gsd=(0.25, 1.25),
        tile=tile,
        overlap=32,
        network=NetworkCard(
            architecture="linknet",
            encoder="tu-mobilenetv3_small_050",
            mean=list(IMAGENET_MEAN),
            std=list(IMAGENET_STD),
        ),
        refiner=RefinerCard(window=window, overlap=64, width=4),
    )
    return write_bundle(folder, card, tensors).path


def write_scene(
    path: Path,
    height: int = 300,
    width: int = 420,
    *,
    count: int = 3,
    dtype: str = "uint8",
    gsd: float = 0.5,
    crs: str | None = "EPSG:32631",
    seed: int = 0,
    nodata: float | None = None,
    holes: list[tuple[slice, slice]] | None = None,
) -> Path:
    """A smooth random scene; `holes` become nodata (value 0 unless told)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (count, height // 16 + 2, width // 16 + 2))
    rows, cols = np.arange(height) // 16, np.arange(width) // 16
    values = coarse[:, rows][:, :, cols] * 0.8 + rng.uniform(0, 0.2, (count, height, width))
    top = {"uint8": 255, "uint16": 4000, "int16": 3000, "float32": 1.0}[dtype]
    image = (values * (top - 1) + (0 if dtype == "float32" else 1)).astype(dtype)
    for hole in holes or []:
        image[:, hole[0], hole[1]] = 0 if nodata is None else nodata
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": dtype,
        "nodata": nodata,
    }
    if crs is not None:
        profile |= {"crs": crs, "transform": Affine(gsd, 0, 500_000, 0, -gsd, 5_000_000)}
    if height >= 16 and width >= 16:
        profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(image)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real imagery, named by PRNGEO_DATA; tests that need it skip without."""
    folder = os.environ.get("PRNGEO_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PRNGEO_DATA does not name a folder of real imagery")
    return Path(folder)
