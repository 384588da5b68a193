"""The whole of a prediction: from one scene to rasters, polygons and a record."""

from __future__ import annotations

import functools
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import rasterio
from numpy.typing import NDArray

from prngeo import __version__
from prngeo.errors import UsageError
from prngeo.inference.aoi import Aoi
from prngeo.inference.chunks import ChunkResult, Resampling, TargetPlan, chunk_result
from prngeo.inference.memory import MemoryPlan, gdal_cache, plan_memory
from prngeo.inference.mosaic import Mosaic
from prngeo.inference.options import PredictOptions
from prngeo.inference.outputs import (
    KINDS,
    PROBABILITY_SCALE,
    Kind,
    OutputGrid,
    publish,
    raster_name,
    raster_spec,
    refuse_existing,
    staging,
)
from prngeo.inference.result import PredictResult, TargetSummary, peak_memory
from prngeo.inspection.scene import scene_warnings
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.models.card import Card
from prngeo.progress import Progress, Report, silent
from prngeo.qgis.styles import correction_style, mask_style, polygon_style, probability_style, write_sidecar
from prngeo.raster.cog import RasterSpec, RasterWriter, finish_cog
from prngeo.raster.scaling import Scaling
from prngeo.raster.scene import Scene, open_scene
from prngeo.raster.store import TileStore
from prngeo.tiling.grid import Grid, Window
from prngeo.vectorize.polygons import polygonize
from prngeo.vectorize.write import vector_paths, write_layers

if TYPE_CHECKING:
    from prngeo.models.devices import Compute
    from prngeo.models.runtime import Runtime


@dataclass(frozen=True)
class Job:
    """One scene with everything that was decided before the networks are loaded."""

    scene: Scene
    bundle: Bundle
    options: PredictOptions
    folder: Path
    grid: OutputGrid
    resampling: Resampling
    aoi: Aoi | None
    targets: tuple[TargetPlan, ...]
    refine: tuple[bool, ...]
    tile: int
    overlap: int
    memory: MemoryPlan

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.bundle.card

    def chunks(self) -> list[Window]:
        """The chunks to compute, in row-major order; those outside the area of interest are left out."""
        grid = Grid(self.grid.height, self.grid.width, self.memory.chunk)
        windows = (grid.window(index).intersect(grid.extent) for index in grid.indices())
        return [window for window in windows if self.aoi is None or self.aoi.touches(window)]

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool: where outputs hold data."""
        read = self.scene.read_valid if self.options.grid == "scene" else self._model_valid
        valid = read(window)
        return valid & self.aoi.read(window) if self.aoi is not None and valid.any() else valid

    def _model_valid(self, window: Window) -> NDArray[np.bool_]:
        return self.scene.read(window)[1]


def predict(
    scene: str | Path,
    output: str | Path | None = None,
    options: PredictOptions | None = None,
    report: Report = silent,
) -> PredictResult:
    """Segment a scene into georeferenced rasters and polygons.

    Args:
        scene: any raster GDAL opens: path, /vsi name or URL.
        output: folder of the outputs, created if missing; the scene's own folder if None (the current folder for
            a remote scene).
        options: see PredictOptions.
        report: is told of every step.

    Returns:
        Paths and figures.

    Raises:
        UsageError: an argument, an option or the scene does not suit; nothing was written.
        PrngeoError: the run failed; nothing is left behind.
    """
    started = time.monotonic()
    options = options or PredictOptions()
    with rasterio.Env(GDAL_CACHEMAX=gdal_cache(options.max_memory)), prepare(scene, output, options) as job:
        record = job.folder / f"{job.scene.name}.json"
        vectors = vector_paths(job.folder / job.scene.name, options.format, [target.name for target in job.targets])
        rasters = {
            target.name: {kind: job.folder / raster_name(job.scene.name, target.name, kind) for kind in _kinds(options)}
            for target in job.targets
        }
        every = [path for kinds in rasters.values() for path in kinds.values()]
        refuse_existing([*every, *vectors, record], options.overwrite)
        if job.scene.valid_share == 0:
            raise UsageError(
                f"{scene} holds no valid pixel: all of it is nodata, transparent or masked. Check its nodata value "
                "and alpha band with `gdalinfo -stats`."
            )
        warnings = [*_position_warnings(job.scene), *scene_warnings(job.scene, job.card)]
        compute = _compute(options)
        runtime = _runtime(job.bundle, compute, options.tta)
        with staging(job.folder, job.scene.name) as hidden:
            timings, counts = _rasters(job, runtime, hidden, report)
            names, summaries = _vectors(job, hidden, counts, report, timings)
            seconds = time.monotonic() - started
            content = _record(job, compute, timings, summaries, seconds, warnings)
            (hidden / record.name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            publish(hidden, job.folder, [*names, record.name])
    pixels = job.scene.height * job.scene.width / 1e6
    return PredictResult(
        str(scene),
        job.folder,
        rasters,
        vectors,
        record,
        summaries,
        seconds,
        pixels / seconds,
        peak_memory(),
        warnings,
    )


def _kinds(options: PredictOptions) -> tuple[Kind, ...]:
    return KINDS if options.refine else ("probability", "mask")


@contextmanager
def prepare(scene: str | Path, output: str | Path | None, options: PredictOptions) -> Iterator[Job]:
    """Everything that can be checked before torch is imported; the scene is closed at the end.

    Raises:
        UsageError: see `predict`.
    """
    bundle = open_bundle(options.model)
    card = bundle.card
    names = options.targets or tuple(card.targets)
    unknown = [name for name in names if name not in card.targets]
    if unknown:
        raise UsageError(
            f"The model {card.name} has no target {unknown[0]!r}; --target takes {' or '.join(card.targets)}."
        )
    tile = options.tile or card.tile
    overlap = card.overlap if options.overlap is None else options.overlap
    if overlap > tile // 2:
        raise UsageError(f"--overlap {overlap} is more than half of --tile {tile}.")
    with open_scene(
        scene,
        bands=options.bands,
        gsd=options.gsd,
        n_bands=len(card.bands),
        gsd_range=card.gsd,
        gsd_tolerance=card.gsd_tolerance,
        scaling=Scaling(card.scaling.uint8, card.scaling.percentiles),
    ) as opened:
        shape = (opened.model_height, opened.model_width)
        on_scene = options.grid == "scene"
        grid = (
            OutputGrid(opened.height, opened.width, opened.transform, opened.crs)
            if on_scene
            else OutputGrid(*shape, opened.model_transform, opened.crs)
        )
        refine = tuple(options.refine and card.targets[name].refine and name in names for name in card.targets)
        yield Job(
            scene=opened,
            bundle=bundle,
            options=options,
            folder=_folder(scene, output),
            grid=grid,
            resampling=Resampling(opened.factor if on_scene else (1.0, 1.0), shape),
            aoi=Aoi(options.aoi, grid) if options.aoi is not None else None,
            targets=tuple(_target_plan(card, name, refine, options.threshold) for name in names),
            refine=refine,
            tile=tile,
            overlap=overlap,
            memory=plan_memory(options.max_memory, card, shape, tile, overlap, options.chunk),
        )


def _folder(scene: str | Path, output: str | Path | None) -> Path:
    if output is not None:
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"-o {folder} is a file; give a folder.")
        return folder
    local = Path(scene)
    return local.parent if local.exists() else Path()


def _target_plan(card: Card, name: str, refine: tuple[bool, ...], threshold: float | None) -> TargetPlan:
    target = card.targets[name]
    channel = list(card.targets).index(name)
    final, base = target.calibration(refine[channel]), target.base
    if threshold is not None:
        final, base = (part.model_copy(update={"threshold": threshold}) for part in (final, base))
    return TargetPlan(name, channel, final, base)


def _position_warnings(scene: Scene) -> Iterator[str]:
    if scene.crs is None:
        place = "no coordinate system" if scene.georeferenced else "no georeferencing"
        yield f"{scene.name} has {place}: outputs are in its own coordinates."


@functools.lru_cache(maxsize=1)
def _runtime_of(path: Path, digest: str, compute: Compute, tta: bool) -> Runtime:
    from prngeo.models.runtime import Runtime

    return Runtime(open_bundle(path), compute, tta)


def _runtime(bundle: Bundle, compute: Compute, tta: bool) -> Runtime:
    """The networks, kept for the next scene of the same run."""
    return _runtime_of(bundle.path, bundle.card.weights_sha256, compute, tta)


def _compute(options: PredictOptions) -> Compute:
    from prngeo.models.devices import choose_compute

    return choose_compute(options.device)


@dataclass
class _Counts:
    valid: int = 0
    mask: int = 0
    changed: int = 0

    def add(self, result: ChunkResult) -> None:
        self.valid += int(np.count_nonzero(result.mask <= 1))
        self.mask += int(np.count_nonzero(result.mask == 1))
        self.changed += int(np.count_nonzero(result.changed))


def _rasters(job: Job, runtime: Runtime, hidden: Path, report: Report) -> tuple[dict[str, float], dict[str, _Counts]]:
    """Compute all chunks and finish the COGs in the hidden folder."""
    started = time.monotonic()
    name = job.scene.name
    counts = {target.name: _Counts() for target in job.targets}
    chunks = job.chunks()
    specs = _specs(job)
    with ExitStack() as stack:
        parent = hidden if job.options.scratch is None else job.options.scratch
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prngeo-", dir=parent)))
        writers = {key: stack.enter_context(RasterWriter(_part(hidden, *key), spec)) for key, spec in specs.items()}
        seen = 0

        def on_tile(_: bool) -> None:
            nonlocal seen
            seen += 1
            report(Progress(name, "segment", seen, mosaic.tiles))

        mosaic = Mosaic(
            job.scene.reopen(),
            (job.scene.model_height, job.scene.model_width),
            runtime,
            job.card,
            job.refine,
            TileStore(job.memory.store, scratch),
            [job.resampling.request(chunk) for chunk in chunks],
            tile=job.tile,
            overlap=job.overlap,
            on_tile=on_tile,
        )
        for chunk in chunks:
            logits = job.resampling.read(mosaic, chunk)
            valid = job.valid(chunk)
            if not valid.any():
                continue
            for target in job.targets:
                result = chunk_result(logits, valid, target)
                counts[target.name].add(result)
                for kind in (*_kinds(job.options), "changed"):
                    writers[target.name, kind].write(chunk, getattr(result, kind))
    timings = {"segment_and_refine": time.monotonic() - started}
    started = time.monotonic()
    for number, ((target_name, kind), spec) in enumerate(specs.items()):
        report(Progress(name, "finish", number, len(specs)))
        if kind != "changed":
            part = _part(hidden, target_name, kind)
            finish_cog(part, hidden / raster_name(name, target_name, cast(Kind, kind)), spec)
            part.unlink()
    report(Progress(name, "finish", len(specs), len(specs)))
    timings["finish"] = time.monotonic() - started
    return timings, counts


def _specs(job: Job) -> dict[tuple[str, str], RasterSpec]:
    specs = {}
    for target in job.targets:
        tags = {
            "PRNGEO_MODEL": f"{job.card.name} {job.card.version}",
            "PRNGEO_TARGET": target.name,
            "PRNGEO_THRESHOLD": f"{target.final.threshold:g}",
            "PRNGEO_REFINED": str(job.refine[target.channel]),
        }
        for kind in _kinds(job.options):
            specs[target.name, str(kind)] = raster_spec(job.grid, target.name, kind, tags)
        specs[target.name, "changed"] = raster_spec(job.grid, target.name, "mask", tags)
    return specs


def _part(hidden: Path, target: str, kind: str) -> Path:
    return hidden / f"part_{target}_{kind}.tif"


def _vectors(
    job: Job, hidden: Path, counts: dict[str, _Counts], report: Report, timings: dict[str, float]
) -> tuple[list[str], dict[str, TargetSummary]]:
    """Polygons, styles and summaries; returns the names of all finished files."""
    started = time.monotonic()
    scene, options = job.scene, job.options
    layers, summaries, names, styles = {}, {}, [], {}
    pixel_size = None if scene.crs else float(np.sqrt(scene.gsd[0] * scene.gsd[1]))
    if pixel_size is not None and options.grid == "model":
        pixel_size *= float(np.sqrt(scene.factor[0] * scene.factor[1]))
    for number, target in enumerate(job.targets):
        report(Progress(scene.name, "vectorize", number, len(job.targets)))
        for kind in _kinds(options):
            raster = hidden / raster_name(scene.name, target.name, kind)
            names += [raster.name, write_sidecar(raster, _style(kind, target.name)).name]
        frame = polygonize(
            hidden / raster_name(scene.name, target.name, "mask"),
            hidden / raster_name(scene.name, target.name, "probability"),
            _part(hidden, target.name, "changed"),
            min_area=options.min_area,
            simplify=options.simplify,
            pixel_size=pixel_size,
        )
        layers[target.name] = frame
        styles[target.name] = polygon_style(target.name)
        count = counts[target.name]
        summaries[target.name] = TargetSummary(
            area_m2=float(frame["area_m2"].sum()),
            polygons=len(frame),
            valid_pixels=count.valid,
            mask_pixels=count.mask,
            changed_pixels=count.changed,
            threshold=target.final.threshold,
            refined=job.refine[target.channel],
        )
    names += [path.name for path in write_layers(layers, hidden / scene.name, options.format, styles)]
    report(Progress(scene.name, "vectorize", len(job.targets), len(job.targets)))
    timings["vectorize"] = time.monotonic() - started
    return names, summaries


def _style(kind: Kind, target: str) -> str:
    if kind == "mask":
        return mask_style(target)
    return probability_style(target, PROBABILITY_SCALE) if kind == "probability" else correction_style(target)


def _record(
    job: Job,
    compute: Compute,
    timings: dict[str, float],
    summaries: dict[str, TargetSummary],
    seconds: float,
    warnings: list[str],
) -> dict[str, Any]:
    import torch

    scene, options = job.scene, job.options
    return {
        "input": scene.identity(),
        "scene": {
            "height": scene.height,
            "width": scene.width,
            "bands": scene.bands,
            "dtype": scene.dtype,
            "crs": scene.crs.to_string() if scene.crs else None,
            "transform": list(scene.transform)[:6],
            "gsd_m": scene.gsd,
            "gsd_source": scene.gsd_source,
            "model_gsd_m": [g * f for g, f in zip(scene.gsd, scene.factor, strict=True)],
            "stretch": scene.stretch,
        },
        "model": {
            "name": job.card.name,
            "version": job.card.version,
            "weights_sha256": job.card.weights_sha256,
        },
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "tile": job.tile,
        "overlap": job.overlap,
        "compute": asdict(compute),
        "targets": {
            target.name: asdict(summaries[target.name]) | {"temperature": target.final.temperature}
            for target in job.targets
        },
        "warnings": warnings,
        "seconds": round(seconds, 2),
        "timings": {key: round(value, 2) for key, value in timings.items()},
        "peak_memory_bytes": peak_memory(),
        "versions": {
            "prngeo": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "rasterio": rasterio.__version__,
            "gdal": rasterio.__gdal_version__,
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
