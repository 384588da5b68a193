"""`prngeo refine apply`: from a raster of scores and a bundle to refined probability, mask and correction."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.files import publish, refuse_existing, refuse_inputs, scratch_folder, staging
from prngeo.inference.chunks import ChunkResult, PixelCounts, TargetPlan, chunk_result
from prngeo.inference.options import Device
from prngeo.inference.outputs import KINDS, NODATA, Kind, raster_name, raster_spec, raster_style
from prngeo.models.bundle import PrnBundle, open_prn
from prngeo.models.card import PrnCard, ScoreValues
from prngeo.progress import Progress, Report, silent
from prngeo.qgis.styles import class_colors, class_style, write_sidecar
from prngeo.raster.cog import RasterSpec, RasterWriter, finish_cog
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.values import Values, on_unit_scale
from prngeo.refine.calibrate import LEAST_GAIN
from prngeo.scores.fit_files import DIFFERENT_GSD, match_images
from prngeo.scores.match import named
from prngeo.scores.rasters import ScoreRaster, counted, open_scores, with_images
from prngeo.scores.scene import blocks

REFUSED_GSD = 2.0
"""Ratio of the scene's GSD to the fit's beyond which nothing is refined."""


@dataclass(frozen=True)
class ApplyOptions:
    """Options of `prngeo refine apply`; the defaults are the command's.

    Attributes:
        images: files or patterns of rasters on the pixels of the scores, if the refiner reads them.
        values: what the numbers of the scores mean; as in the fit if None.
        device: auto, cpu, cuda or mps.
        overwrite: replace existing outputs.
    """

    images: tuple[str, ...] = ()
    values: ScoreValues | None = None
    device: Device = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value, kind in (("--values", self.values, ScoreValues), ("--device", self.device, Device)):
            if value is not None and value not in get_args(kind):
                raise UsageError(f"{name} is one of {', '.join(get_args(kind))}, got {value!r}.")


@dataclass(frozen=True)
class ClassSummary:
    """One class of a refined scene.

    Attributes:
        threshold: probability from which a pixel belongs to the mask.
        refined: False where the gate left the scores as they are.
        valid_pixels: pixels with scores.
        mask_pixels: pixels of the mask.
        changed_pixels: pixels of it that differ from the scores at their own best single threshold.
    """

    threshold: float
    refined: bool
    valid_pixels: int
    mask_pixels: int
    changed_pixels: int


@dataclass(frozen=True)
class ApplyResult:
    """Paths and figures of a refined scene.

    Attributes:
        scene: path of the scores.
        folder: of the outputs.
        rasters: class -> kind (probability, mask, correction) -> path.
        class_map: of several classes, the most probable one that reaches its threshold; None if there is one class.
        classes: class -> summary.
        seconds: wall-clock time.
        warnings: what a user should know.
    """

    scene: str
    folder: Path
    rasters: dict[str, dict[Kind, Path]]
    class_map: Path | None
    classes: dict[str, ClassSummary]
    seconds: float
    warnings: list[str]


def apply_file(
    scores: str,
    model: str | Path,
    output: str | Path | None = None,
    options: ApplyOptions | None = None,
    report: Report = silent,
    key: str | None = None,
) -> ApplyResult:
    """Refine a raster of scores, window by window.

    Args:
        scores: raster with one band a class, probabilities or logits, of the segmenter that the refiner was fitted for.
        model: folder of the bundle.
        output: folder of the outputs; that of the scores if None.
        options: see ApplyOptions.
        report: is told of every step.
        key: name by which one of several images belongs to these scores among others; their stem, and no others, if
            None.

    Raises:
        UsageError: an argument, an option or the scores do not suit; nothing was written.
        PrngeoError: the run failed; nothing is left behind.
    """
    started = time.monotonic()
    options = options or ApplyOptions()
    bundle = open_prn(model)
    bundle.check_files()
    card = bundle.card
    wanted: Values = options.values or card.values
    with ExitStack() as stack:
        (raster,) = stack.enter_context(open_scores([scores], wanted))
        if options.values is None and card.values != "unit" and raster.in_unit():
            raise on_unit_scale(raster.what, card.values, "--values")
        warnings = [*_check(raster, card)]
        folder = _folder(scores, output)
        rasters = {
            name: {kind: folder / raster_name(raster.name, name, kind) for kind in KINDS} for name in card.targets
        }
        class_map = folder / f"{raster.name}_classes.tif" if card.class_values else None
        made = [path for kinds in rasters.values() for path in kinds.values()]
        made += [class_map] if class_map is not None else []
        outputs = [path for raster_path in made for path in (raster_path, raster_path.with_suffix(".qml"))]
        refuse_inputs(outputs, [scores, *(image.path for image in named(options.images))])
        refuse_existing(outputs, options.overwrite)
        _give_image(raster, key, card, options, stack)
        hidden = stack.enter_context(staging(folder, raster.name))
        classes = _write(raster, bundle, options.device, hidden, report)
        if not any(summary.valid_pixels for summary in classes.values()):
            raise UsageError(
                f"{raster.what} holds no valid pixel: all of it is nodata. Check it with `gdalinfo -stats`."
            )
        publish(hidden, folder, [path.name for path in outputs])
    return ApplyResult(scores, folder, rasters, class_map, classes, time.monotonic() - started, warnings)


def _folder(scores: str, output: str | Path | None) -> Path:
    folder = Path(output) if output is not None else Path(scores).parent if Path(scores).exists() else Path()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; give a folder.")
    return folder


def _check(raster: ScoreRaster, card: PrnCard) -> Iterator[str]:
    """Refuse scores that do not suit the refiner, and tell what is doubtful."""
    if len(raster.bands) != len(card.targets):
        raise UsageError(
            f"{raster.what} has {counted(len(raster.bands))}, the refiner {card.name} takes {len(card.targets)}: "
            f"{', '.join(card.targets)}, in this order. Choose them, for example with `gdal_translate -b`."
        )
    if raster.gsd is not None and card.gsd is not None:
        low, high = card.gsd
        ratio = max(raster.gsd / high, low / raster.gsd)
        pixels = f"{raster.path} has pixels of {raster.gsd:.3g} m, the refiner was fitted on {low:.3g} m"
        if high > low * 1.01:
            pixels += f" to {high:.3g} m"
        if ratio > REFUSED_GSD:
            raise UsageError(
                f"{pixels}: what it learned does not hold at that scale. Resample the scores, for example with "
                f"`gdalwarp -tr {high:.3g} {high:.3g} -r average`, or fit a refiner on such scenes."
            )
        if ratio > DIFFERENT_GSD:
            yield f"{pixels}: expect less of it."
    if raster.meaning.step >= 1 and not raster.meaning.logit:
        yield f"{raster.what} holds nothing between 0 and 1: a mask tells a refiner little. Give probabilities."
    for name, target in card.targets.items():
        if not target.refine:
            yield (
                f"The gate has disabled the refiner for {name}: on what was held out it did not gain {LEAST_GAIN:g} of "
                f"IoU over the best single threshold, {target.base.threshold:g}, which is applied to the scores as "
                "they are."
            )


def _give_image(raster: ScoreRaster, key: str | None, card: PrnCard, options: ApplyOptions, stack: ExitStack) -> None:
    if not card.image_bands:
        if options.images:
            raise UsageError(f"The refiner {card.name} reads no image; leave --image {options.images[0]} out.")
        return
    if not options.images:
        raise UsageError(f"The refiner {card.name} reads the image beside the scores; give it with --image.")
    (path,) = match_images([raster], [key or raster.name], named(options.images), "--image", lone=key is None)
    stack.enter_context(with_images([raster], [path], card.image_bands))


def _write(
    raster: ScoreRaster, bundle: PrnBundle, device: Device, hidden: Path, report: Report
) -> dict[str, ClassSummary]:
    """Compute all chunks and finish the COGs in the hidden folder."""
    from prngeo.models.devices import choose_compute
    from prngeo.scores.refining import load_networks, score_mosaic, target_plans

    card = bundle.card
    plans = target_plans(card)
    outputs = _outputs(raster.grid, raster.name, card, plans)
    counts = {plan.name: PixelCounts() for plan in plans}
    networks = load_networks(bundle, bundle.tensors(), choose_compute(device))
    chunks = list(blocks(raster.grid.extent))
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(hidden))
        writers = {
            name: stack.enter_context(RasterWriter(_part(hidden, name), spec)) for name, (spec, _) in outputs.items()
        }
        refine = [target.refine for target in card.targets.values()]
        mosaic = score_mosaic(raster, networks, card, refine, chunks, scratch)
        for number, chunk in enumerate(chunks):
            report(Progress(raster.name, "refine", number, len(chunks)))
            logits = mosaic.read(chunk)
            valid = raster.read(chunk)[1]
            if not valid.any():
                continue
            results = [chunk_result(logits, valid, plan) for plan in plans]
            for plan, result in zip(plans, results, strict=True):
                counts[plan.name].add(result)
                for kind in KINDS:
                    writers[raster_name(raster.name, plan.name, kind)].write(chunk, getattr(result, kind))
            if card.class_values:
                writers[f"{raster.name}_classes.tif"].write(chunk, class_map(results, list(card.class_values.values())))
    for number, (name, (spec, style)) in enumerate(outputs.items()):
        report(Progress(raster.name, "finish", number, len(outputs)))
        finish_cog(_part(hidden, name), hidden / name, spec)
        _part(hidden, name).unlink()
        write_sidecar(hidden / name, style)
    report(Progress(raster.name, "finish", len(outputs), len(outputs)))
    return {
        plan.name: ClassSummary(
            plan.final.threshold, card.targets[plan.name].refine, count.valid, count.mask, count.changed
        )
        for plan, count in zip(plans, counts.values(), strict=True)
    }


def class_map(results: Sequence[ChunkResult], values: Sequence[int]) -> NDArray[np.uint8]:
    """The value of the most probable class among those that reach their thresholds, 0 where none does.

    Args:
        results: of every class; of equal probabilities the first counts.
        values: of every class.

    Returns:
        (h, w) uint8, 255 where there are no scores.
    """
    reached = np.stack([np.where(result.mask == 1, result.probability.astype(np.int16), -1) for result in results])
    drawn = np.where(reached.max(0) >= 0, np.array(values, np.uint8)[reached.argmax(0)], np.uint8(0))
    result: NDArray[np.uint8] = np.where(results[0].mask == NODATA, np.uint8(NODATA), drawn)
    return result


def _part(hidden: Path, name: str) -> Path:
    return hidden / f"part_{name}"


def _outputs(
    grid: GeoGrid, scene: str, card: PrnCard, plans: Sequence[TargetPlan]
) -> dict[str, tuple[RasterSpec, str]]:
    """The rasters by their names, with their styles."""
    made = {}
    for plan in plans:
        tags = {
            "PRNGEO_MODEL": card.name,
            "PRNGEO_TARGET": plan.name,
            "PRNGEO_THRESHOLD": f"{plan.final.threshold:g}",
            "PRNGEO_REFINED": str(card.targets[plan.name].refine),
        }
        for kind in KINDS:
            spec = raster_spec(grid, plan.name, kind, tags)
            made[raster_name(scene, plan.name, kind)] = spec, raster_style(kind, plan.name)
    if card.class_values:
        spec = RasterSpec(
            grid.height,
            grid.width,
            grid.transform,
            grid.crs,
            dtype="uint8",
            nodata=NODATA,
            overviews="nearest",
            description=", ".join(f"{name}: {value}" for name, value in card.class_values.items()),
            colors=class_colors(card.class_values),
            tags={"PRNGEO_MODEL": card.name},
        )
        made[f"{scene}_classes.tif"] = spec, class_style(card.class_values)
    return made
