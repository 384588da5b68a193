"""Small scenes with planted bias, and a refiner with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import gaussian_filter

from prngeo.models.bundle import write_prn
from prngeo.models.card import Calibration, Gate, PrnCard, RefinerCard, TargetCard
from prngeo.scores.refining import refiner_of
from prngeo.scores.settings import Settings

UTM = "EPSG:32631"
Write = Callable[..., str]


def planted(seed: int, side: int = 64, bias: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Logits (H, W) float32 and truth (H, W) uint8: blobs; logits too high in the left half, too low in the right."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(side, side)), 3)
    truth = (field > np.quantile(field, 0.8)).astype(np.uint8)
    logits = truth * 2.0 - 1 + rng.normal(size=(side, side)) * 0.1
    left = np.arange(side)[None] < side // 2
    return (logits + np.where(left, bias, -bias)).astype(np.float32), truth


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & (truth == 1)).sum() / (mask | (truth == 1)).sum())


def best_iou(logits: np.ndarray, truth: np.ndarray) -> float:
    """IoU at the best single threshold."""
    cuts = np.linspace(logits.min(), logits.max(), 102)[1:-1]
    return max(iou(logits >= cut, truth) for cut in cuts)


@pytest.fixture
def quick() -> Settings:
    """A fit that is over at once; it need not be good."""
    return Settings(steps=3, window=64, reduction=4)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes (H, W) or (bands, H, W) to a raster under tmp_path; the suffix tells the format."""

    def call(
        values: np.ndarray,
        name: str,
        *,
        crs: str | None = UTM,
        origin: tuple[float, float] = (500_000, 5_000_000),
        gsd: float = 0.5,
        scale: float | None = None,
        **options: object,
    ) -> str:
        bands = values if values.ndim == 3 else values[None]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
        if crs is not None:
            shape |= {"crs": crs, "transform": Affine(gsd, 0, origin[0], 0, -gsd, origin[1])}
        driver = {".png": "PNG", ".tif": "GTiff"}[path.suffix]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", driver=driver, **shape, **options) as file:
                file.write(bands)
                if scale is not None:
                    file.scales = (scale,) * len(bands)
        return str(path)

    return call


def make_prn(folder: Path, classes: int = 1, image_bands: int = 0, enabled: bool = True, **card: object) -> Path:
    """A refiner with random weights."""
    names = ["roads", "buildings", "water"][:classes]
    gate = Gate(enabled=enabled, base_iou=0.5, refined_iou=0.6, joint_oracle_iou=0.7, pixels=9)
    target = TargetCard(base=Calibration(threshold=0.4), refined=Calibration(temperature=1.3, threshold=0.6), gate=gate)
    values: dict[str, object] = {
        "name": folder.stem,
        "targets": dict.fromkeys(names, target),
        "class_values": {name: number for number, name in enumerate(names, 1)} if classes > 1 else {},
        "image_bands": image_bands,
        "refiner": RefinerCard(window=64, overlap=16, reduction=4, width=4, use_image=image_bands > 0),
        "scenes": 1,
        "pixels": 9,
    }
    made = PrnCard.model_validate(values | card)
    torch.manual_seed(1)
    refiner = refiner_of(made)
    torch.nn.init.normal_(refiner.head.weight, std=0.3)
    return write_prn(folder, made, {f"refiner.{k}": v for k, v in refiner.state_dict().items()}).path
