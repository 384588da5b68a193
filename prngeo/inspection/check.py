"""What a model expects against what a scene has, without loading the networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.inference.job import Job, open_for_model, prepare
from prngeo.inference.mosaic import count_uses
from prngeo.inference.options import PredictOptions
from prngeo.inference.warnings import COARSE, is_coarse, sample_statistics, scene_warnings
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.models.card import Card
from prngeo.raster.bands import choose_bands
from prngeo.raster.gsd import check_gsd
from prngeo.raster.scene import Scene
from prngeo.raster.source import open_dataset
from prngeo.tiling.grid import Grid

Status = Literal["ok", "warning", "error"]

MEASURED_NETWORK = ("unet", "tu-tf_efficientnet_lite0")
SECONDS_PER_TILE = (0.1, 0.2)
"""Of that network for 512 x 512 pixels on 2 CPU cores: bfloat16 where the CPU has it, and float32."""

_GSD_SOURCES = {
    "crs": "from its coordinate system",
    "geodesic": "measured on the ellipsoid, as its projection distorts lengths",
    "geographic": "from degrees at its latitude",
    "option": "from --gsd",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Finding:
    """One thing that a model expects of a scene.

    Attributes:
        name: what is compared.
        scene: what the scene has.
        model: what the model expects or what will be done.
        status: ok, warning (it runs, with worse results or without georeferencing) or error (it cannot run).
        advice: what mends it; empty if nothing needs to be.
    """

    name: str
    scene: str
    model: str
    status: Status = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        tiles: at most so many go through the network; those without a valid pixel do not.
        peak_memory: bytes.
        scratch: at most so many bytes in the scratch folder.
        network_seconds: (bfloat16, float32) on 2 CPU cores, all tiles; None where this was not measured.
    """

    tiles: int
    peak_memory: int
    scratch: int
    network_seconds: tuple[float, float] | None


@dataclass(frozen=True)
class CheckReport:
    """The whole comparison.

    Attributes:
        path: the scene as given.
        model: name and version.
        findings: in the order they are met in a run.
        estimate: None if it cannot run.
    """

    path: str
    model: str
    findings: list[Finding]
    estimate: Estimate | None

    @property
    def can_run(self) -> bool:
        """True if `prngeo predict` with the same options would start."""
        return all(finding.status != "error" for finding in self.findings)


def check_scene(path: str | Path, options: PredictOptions | None = None) -> CheckReport:
    """Compare a scene with a model.

    Args:
        path: any raster GDAL opens.
        options: those of the run to come.

    Returns:
        Every mismatch at once, also those that would stop a run.

    Raises:
        UsageError: no such file, not a raster, no such model, or an option that suits no scene.
        PrngeoError: the file cannot be read.
    """
    options = options or PredictOptions()
    bundle = open_bundle(options.model)
    if options.gsd is not None:
        check_gsd(options.gsd)
    findings = []
    with open_dataset(str(path)) as dataset:
        findings.append(_size(dataset))
        bands = _bands(dataset, bundle.card, options)
        findings.append(bands)
    estimate = None
    if bands.status != "error":
        problem = _gsd_problem(str(path), bundle.card, options)
        with _open_anyway(str(path), bundle.card, options, problem) as scene:
            findings += [problem or _gsd(scene, bundle.card), _crs(scene), *_values(scene, bundle.card)]
    if all(finding.status != "error" for finding in findings):
        found, estimate = _plan(path, options)
        findings += found
    return CheckReport(str(path), _title(bundle), findings, estimate)


def _title(bundle: Bundle) -> str:
    return f"{bundle.card.name} {bundle.card.version}"


def _size(dataset: DatasetReader) -> Finding:
    pixels = dataset.width * dataset.height
    return Finding(
        "size",
        f"{dataset.width} x {dataset.height} pixels, {pixels / 1e6:.3g} Mpx, {dataset.driver}",
        "any size",
    )


def _bands(dataset: DatasetReader, card: Card, options: PredictOptions) -> Finding:
    rows = zip(dataset.indexes, dataset.dtypes, dataset.colorinterp, strict=True)
    listed = [f"{number} {meaning.name} {dtype}" for number, dtype, meaning in rows]
    has = ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    expected = ", ".join(card.bands)
    try:
        chosen = choose_bands(dataset, options.bands, len(card.bands))
    except UsageError as error:
        return Finding("bands", has, expected, "error", str(error))
    used = ", ".join(f"{name} from band {band}" for name, band in zip(card.bands, chosen, strict=True))
    marked = [dataset.colorinterp[band - 1].name for band in chosen]
    if options.bands is None and marked != card.bands:
        advice = "The file does not say which bands these are; if that is wrong, name them with --bands."
        return Finding("bands", has, used, "warning", advice)
    return Finding("bands", has, used)


def _gsd_problem(path: str, card: Card, options: PredictOptions) -> Finding | None:
    try:
        open_for_model(path, card, options).close()
    except UsageError as error:
        return Finding("GSD", "unknown", f"{card.gsd[0]:g} to {card.gsd[1]:g} m", "error", str(error))
    return None


def _open_anyway(path: str, card: Card, options: PredictOptions, problem: Finding | None) -> Scene:
    """The scene as a run would open it; where its GSD stops that, with one that needs no resampling."""
    return open_for_model(path, card, dataclasses.replace(options, gsd=card.gsd[0]) if problem else options)


def _gsd(scene: Scene, card: Card) -> Finding:
    x, y = scene.gsd
    shown = f"{x:.3g} m" if abs(x / y - 1) < 0.01 else f"{x:.3g} x {y:.3g} m"
    has = f"{shown}, {_GSD_SOURCES[scene.gsd_source]}"
    expected = f"{card.gsd[0]:g} to {card.gsd[1]:g} m"
    if not scene.resampled:
        return Finding("GSD", has, expected + ", used as is")
    own = x * scene.factor[0]
    done = f"{expected}; resampled on the fly to {own:.3g} m, {scene.model_width} x {scene.model_height} pixels"
    if is_coarse(scene, card):
        return Finding("GSD", has, done, "warning", COARSE)
    return Finding("GSD", has, done)


def _crs(scene: Scene) -> Finding:
    if scene.crs is not None:
        transform = scene.transform
        turned = ", rotated" if abs(transform.b) + abs(transform.d) > 1e-9 * abs(transform.a) else ""
        return Finding("CRS", scene.crs.to_string().split("[")[0] + turned, "any")
    if scene.georeferenced:
        return Finding(
            "CRS",
            "a transform without a coordinate system",
            "any",
            "warning",
            "Outputs will have none either; `gdal_edit.py -a_srs EPSG:CODE` defines it.",
        )
    return Finding("CRS", "none", "any", "warning", "Outputs are in pixel coordinates, vectors with y = -row.")


def _values(scene: Scene, card: Card) -> Iterator[Finding]:
    share = scene.valid_share
    if share == 0:
        advice = "No pixel holds data: check nodata value and alpha band with `gdalinfo -stats`."
        yield Finding("nodata", "100 %", "some valid pixels", "error", advice)
        return
    how = "no way to mark it" if scene.always_valid else f"about {1 - share:.1%}"
    yield Finding("nodata", how, "nodata stays nodata")
    stretch = scene.stretch
    if scene.scaling.is_fixed(scene.dtype):
        done = "0 to 255 become 0 to 1"
    else:
        low, high = card.scaling.percentiles
        ranges = ", ".join(f"{a:.4g}-{b:.4g}" for a, b in stretch)
        done = f"percentiles {low:g} and {high:g} of each band become 0 and 1: {ranges}"
    yield Finding("values", scene.dtype, done)
    statistics = sample_statistics(scene)
    if statistics is None or not card.band_mean:
        return
    has = _bands_text(card, statistics.mean, statistics.std)
    usual = _bands_text(card, card.band_mean, card.band_std)
    warnings = scene_warnings(scene, card, statistics)
    yield Finding("statistics", has, usual, "warning" if warnings else "ok", " ".join(warnings))


def _bands_text(card: Card, means: Iterable[float], stds: Iterable[float]) -> str:
    bands = zip(card.bands, means, stds, strict=True)
    return ", ".join(f"{name} {mean:.2f} ± {std:.2f}" for name, mean, std in bands)


def _plan(path: str | Path, options: PredictOptions) -> tuple[list[Finding], Estimate | None]:
    """Memory and tiles as a run would plan them."""
    try:
        with prepare(path, None, options) as job:
            tiles = count_tiles(job)
            return [], Estimate(tiles, job.memory.peak, job.memory.scratch, _seconds(job, tiles))
    except UsageError as error:
        return [Finding("options", "", "", "error", str(error))], None


def count_tiles(job: Job) -> int:
    """Tiles that the chunks of a job need, and the refiner's windows around them."""
    shape = job.scene.model_height, job.scene.model_width
    tiles = Grid(*shape, job.tile, job.overlap)
    refiner = job.card.refiner if any(job.refine) else None
    windows = Grid(*shape, refiner.window, refiner.overlap) if refiner else None
    uses = count_uses(tiles, windows, map(job.resampling.request, job.chunks()))
    return sum(kind == "tile" for kind, _ in uses)


def _seconds(job: Job, tiles: int) -> tuple[float, float] | None:
    network = job.card.network
    if (network.architecture, network.encoder) != MEASURED_NETWORK or job.options.device not in (
        "auto",
        "cpu",
    ):
        return None
    work = tiles * (job.tile / 512) ** 2 * (4 if job.options.tta else 1)
    return SECONDS_PER_TILE[0] * work, SECONDS_PER_TILE[1] * work
