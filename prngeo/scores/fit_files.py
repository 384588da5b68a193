"""`prngeo refine fit`: from files of scores and labels to a bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from prngeo.errors import UsageError
from prngeo.files import publish, refuse_existing, scratch_folder, staging
from prngeo.models.bundle import CARD, WEIGHTS, PrnBundle, open_any, write_prn
from prngeo.models.card import ScoreValues
from prngeo.progress import Report, silent
from prngeo.raster.layer import split_layer
from prngeo.raster.sources import guess_target
from prngeo.raster.values import Values
from prngeo.scores.classes import Classes, choose_classes
from prngeo.scores.labels import Labelled, LabelOptions, labelled
from prngeo.scores.match import Named, named, overlap, refuse_alike, same_grid
from prngeo.scores.rasters import ScoreRaster, open_scores, with_images
from prngeo.scores.settings import Settings

DIFFERENT_GSD = 1.25
"""Ratio of two GSDs beyond which scenes are called different."""


@dataclass(frozen=True)
class FitRequest:
    """Options of `prngeo refine fit`; the defaults are the command's.

    Attributes:
        images: patterns of images on the pixels of the scores; the refiner reads none if empty.
        values: what the numbers of the scores mean.
        classes: names of the bands and their values on class maps, such as `roads=1,buildings=2`.
        labels: how labels are read.
        license: of the bundle, as a line of text.
        overwrite: replace an existing bundle.
        settings: of the fit.
    """

    images: tuple[str, ...] = ()
    values: Values = "auto"
    classes: str | None = None
    labels: LabelOptions = field(default_factory=LabelOptions)
    license: str = ""
    overwrite: bool = False
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.values not in ("auto", *get_args(ScoreValues)):
            raise UsageError(f"--values is one of auto, {', '.join(get_args(ScoreValues))}, got {self.values!r}.")
        width = self.labels.line_width
        if width is not None and not 0 < width <= 100:
            raise UsageError(f"--line-width is a length in metres, more than 0 and at most 100; got {width:g}.")


@dataclass(frozen=True)
class FitResult:
    """A fitted bundle.

    Attributes:
        bundle: as written.
        warnings: what a user should know of how the input was understood.
        seconds: wall-clock time.
    """

    bundle: PrnBundle
    warnings: list[str]
    seconds: float


def fit_files(
    scores: Sequence[str],
    labels: Sequence[str],
    output: str | Path,
    request: FitRequest | None = None,
    report: Report = silent,
) -> FitResult:
    """Fit a refiner on score rasters of any segmenter, which was not trained on their scenes.

    Args:
        scores: files or patterns: one band a class, probabilities or logits.
        labels: files or patterns: masks, class maps or vector layers.
        output: folder of the bundle.
        request: see FitRequest.
        report: is told of every step.

    Raises:
        UsageError: an input or option does not suit; nothing was written.
        PrngeoError: a file could not be read or written.
    """
    started = time.monotonic()
    request, folder = request or FitRequest(), Path(output)
    _refuse(folder, request.overwrite)
    # What is held out and drawn goes by number: the same files give the same refiner in any order.
    files, named_labels = (sorted(named(part), key=lambda file: file.path) for part in (scores, labels))
    with ExitStack() as stack:
        rasters = stack.enter_context(open_scores([file.path for file in files], request.values))
        classes = _classes(rasters, request, [*files, *named_labels])
        keys = [file.key for file in files]
        scenes = stack.enter_context(labelled(rasters, keys, named_labels, classes, request.labels))
        used = [scene.scores for scene in scenes]
        bands = 0
        if request.images:
            chosen = [keys[rasters.index(raster)] for raster in used]
            paths = match_images(used, chosen, named(request.images), "--images", lone=len(files) == 1)
            bands = stack.enter_context(with_images(used, paths, None))
        warnings = [*_warnings(rasters, scenes, classes, request)]

        from prngeo.scores.learn import Subject, learn

        gsds = [raster.gsd for raster in used if raster.gsd is not None]
        subject = Subject(
            folder.resolve().stem,
            classes.names,
            classes.values if len(classes.names) > 1 else (),
            bands,
            _values(rasters),
            (min(gsds), max(gsds)) if gsds else None,
            request.license,
        )
        hidden = stack.enter_context(staging(folder, folder.resolve().stem))
        with scratch_folder(hidden) as scratch:
            card, tensors = learn(scenes, subject, request.settings, scratch, report)
        if card.left:
            warnings.append(
                f"Learned from {card.pieces} pieces of the scenes, drawn by --seed; {card.left} more were left out. "
                "Fewer scenes would do as well."
            )
        written = write_prn(hidden, card, tensors)
        publish(hidden, folder, [WEIGHTS, CARD])
    return FitResult(PrnBundle(folder, written.card), warnings, time.monotonic() - started)


def _refuse(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; give a folder, such as my.prn.")
    refuse_existing([folder / CARD, folder / WEIGHTS], overwrite)
    if (folder / CARD).exists() and not isinstance(open_any(folder), PrnBundle):
        raise UsageError(
            f"-o {folder} holds a model, which is not overwritten by a refiner. Choose another folder with -o."
        )


def _values(rasters: Sequence[ScoreRaster]) -> ScoreValues:
    """What numbers mean that carry no scale of their own."""
    found = [raster.meaning.values for raster in rasters]
    return next((values for values in ("logit", "byte", "percent") if values in found), "unit")  # type: ignore[return-value]


def _classes(rasters: Sequence[ScoreRaster], request: FitRequest, files: Sequence[Named]) -> Classes:
    first = rasters[0]
    guess = first.target or guess_target([split_layer(file.path)[0] for file in files])
    classes = choose_classes(request.classes, first.descriptions, guess)
    if request.labels.class_field is not None and request.classes is None and len(classes.names) == 1:
        raise UsageError(
            "--class-field needs to know which class the scores are of: name it with --classes, as in roads."
        )
    return classes


def match_images(
    scores: Sequence[ScoreRaster], keys: Sequence[str], images: Sequence[Named], option: str, lone: bool
) -> list[str]:
    """The image of each raster of scores: of the same key, else on the same ground.

    Args:
        scores: the rasters.
        keys: of each.
        images: to choose from.
        option: how messages call them.
        lone: there are no other scores than these, so a single image belongs to them.

    Raises:
        UsageError: one has none.
    """
    from prngeo.raster.geogrid import GeoGrid
    from prngeo.raster.sources import opened_bands

    grids = {}
    for image in images:
        with opened_bands(image.path, f"{option} {image.path}") as dataset:
            grids[image] = GeoGrid(dataset.height, dataset.width, dataset.transform, dataset.crs)
    refuse_alike([(image.path, image.key) for image, grid in grids.items() if grid.crs is None])
    found = []
    for raster, key in zip(scores, keys, strict=True):
        own = [image for image in images if image.key == key]
        own = own or [image for image in images if overlap(grids[image], raster.grid)]
        own = own or [image for image in images if lone and len(images) == 1]
        if not own:
            raise UsageError(
                f"{raster.path} has no image among those of {option} ({images[0].path}{', ...' * (len(images) > 1)}). "
                "Name both alike, as in scores/a.tif and images/a.tif."
            )
        own.sort(key=lambda image: not same_grid(grids[image], raster.grid))
        found.append(own[0].path)
    return found


def _warnings(
    rasters: Sequence[ScoreRaster], scenes: Sequence[Labelled], classes: Classes, request: FitRequest
) -> Iterator[str]:
    first = rasters[0]
    if first.meaning.guessed:
        yield f"{first.what} was read as {first.meaning.told}; --values says otherwise."
    told = [text for scene in scenes for text in scene.labels.warnings]
    if told:
        yield told[0] + f" So it is with {len(told) - 1} more." * (len(told) > 1)
    left = [raster.path for raster in rasters if all(scene.scores is not raster for scene in scenes)]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        yield f"{left[0]}{more} left out: no label belongs there."
    if len(classes.names) > 1 and request.classes is None:
        pairs = ", ".join(f"{name}={value}" for name, value in zip(classes.names, classes.values, strict=True))
        yield f"The bands were taken for --classes {pairs}."
    gsds = [scene.scores.gsd for scene in scenes if scene.scores.gsd is not None]
    if gsds and max(gsds) > DIFFERENT_GSD * min(gsds):
        yield (
            f"The scenes have pixels of {min(gsds):.3g} to {max(gsds):.3g} m: a refiner sees pixels, not metres. "
            "Better resample them to one size, for example with `gdalwarp -tr`."
        )
