"""One scene with everything that is decided before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from prngeo.errors import UsageError
from prngeo.inference.chunks import Resampling, TargetPlan
from prngeo.inference.memory import COMMAND, WORKER, MemoryPlan, gdal_cache, plan_memory
from prngeo.inference.mosaic import Mosaic, Networks, Source
from prngeo.inference.options import PredictOptions
from prngeo.inference.outputs import KINDS, Kind
from prngeo.models.bundle import Bundle, open_bundle
from prngeo.models.card import Card
from prngeo.raster.aoi import Aoi
from prngeo.raster.geogrid import GeoGrid
from prngeo.raster.scaling import Scaling
from prngeo.raster.scene import Scene, open_scene
from prngeo.raster.source import remote_options
from prngeo.raster.store import TileStore
from prngeo.tiling.grid import Grid, Window

LARGEST_ENLARGEMENT = 10
"""A scene whose pixels are more than this many times too coarse for the model is refused."""


@dataclass(frozen=True)
class Job:
    """One scene with everything that was decided before the networks are loaded."""

    scene: Scene
    bundle: Bundle
    options: PredictOptions
    folder: Path
    grid: GeoGrid
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

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The rasters that are written of each target."""
        return KINDS if self.options.refine else ("probability", "mask")

    def with_chunks(self, side: int) -> Job:
        """The same job with chunks of this side in output pixels.

        Raises:
            UsageError: they do not fit into the memory that the run may use.
        """
        shape = (self.scene.model_height, self.scene.model_width)
        factor, budget, beside = min(self.resampling.factor), self.options.max_memory, _beside(self.options)
        return replace(
            self, memory=plan_memory(budget, self.card, shape, self.tile, self.overlap, side, factor, beside)
        )

    def chunks(self) -> list[Window]:
        """The chunks to compute, in row-major order; those outside the area of interest are left out."""
        grid = Grid(self.grid.height, self.grid.width, self.memory.chunk)
        windows = (grid.window(index).intersect(grid.extent) for index in grid.indices())
        return [window for window in windows if self.aoi is None or self.aoi.touches(window)]

    def mosaic(
        self,
        source: Source,
        networks: Networks,
        store: TileStore,
        windows: Iterable[Window],
        on_tile: Callable[[bool], None] = lambda _: None,
    ) -> Mosaic:
        """The blended logits of the scene, for these windows of the outputs in this order."""
        return Mosaic(
            source,
            (self.scene.model_height, self.scene.model_width),
            networks,
            self.card,
            self.refine,
            store,
            map(self.resampling.request, windows),
            tile=self.tile,
            overlap=self.overlap,
            on_tile=on_tile,
        )

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool: where outputs hold data."""
        read = self.scene.read_valid if self.options.grid == "scene" else self._model_valid
        valid = read(window)
        return valid & self.aoi.read(window) if self.aoi is not None and valid.any() else valid

    def _model_valid(self, window: Window) -> NDArray[np.bool_]:
        return self.scene.read(window)[1]


def gdal_settings(options: PredictOptions) -> dict[str, str | int]:
    """GDAL's settings for a run, as rasterio.Env takes them."""
    return remote_options() | {"GDAL_CACHEMAX": gdal_cache(options.max_memory)}


def open_for_model(scene: str | Path, card: Card, options: PredictOptions) -> Scene:
    """A scene as a model reads it.

    Raises:
        UsageError: see prngeo.raster.scene.open_scene.
    """
    return open_scene(
        scene,
        bands=options.bands,
        gsd=options.gsd,
        n_bands=len(card.bands),
        gsd_range=card.gsd,
        gsd_tolerance=card.gsd_tolerance,
        scaling=Scaling(card.scaling.uint8, card.scaling.percentiles),
    )


@contextmanager
def prepare(scene: str | Path, output: str | Path | None, options: PredictOptions) -> Iterator[Job]:
    """Everything that can be checked before torch is imported; the scene is closed at the end.

    Raises:
        UsageError: see `predict`.
    """
    bundle = open_bundle(options.model)
    card = bundle.card
    names = tuple(dict.fromkeys(options.targets or card.targets))
    unknown = [name for name in names if name not in card.targets]
    if unknown:
        raise UsageError(
            f"The model {card.name} has no target {unknown[0]!r}; --target takes {' or '.join(card.targets)}."
        )
    tile = options.tile or card.tile
    overlap = card.overlap if options.overlap is None else options.overlap
    if overlap > tile // 2:
        raise UsageError(f"--overlap {overlap} is more than half of --tile {tile}.")
    if card.graphs is not None and tile != card.tile:
        raise UsageError(
            f"--tile {tile}: {bundle.path} was exported for tiles of {card.tile} px. Leave --tile out, or give -m the "
            "model it was exported from."
        )
    bundle.check_files()
    with open_for_model(scene, card, options) as opened:
        _refuse_too_coarse(opened, card)
        shape = (opened.model_height, opened.model_width)
        on_scene = options.grid == "scene"
        grid = (
            GeoGrid(opened.height, opened.width, opened.transform, opened.crs)
            if on_scene
            else GeoGrid(*shape, _on_drawing(opened) @ opened.model_transform, opened.crs)
        )
        refine = tuple(options.refine and card.targets[name].refine and name in names for name in card.targets)
        resampling = Resampling(opened.factor if on_scene else (1.0, 1.0), shape)
        yield Job(
            scene=opened,
            bundle=bundle,
            options=options,
            folder=output_folder(scene, output),
            grid=grid,
            resampling=resampling,
            aoi=Aoi(options.aoi, grid) if options.aoi is not None else None,
            targets=tuple(_target_plan(card, name, refine, options.threshold) for name in names),
            refine=refine,
            tile=tile,
            overlap=overlap,
            memory=plan_memory(
                options.max_memory,
                card,
                shape,
                tile,
                overlap,
                options.chunk,
                min(resampling.factor),
                _beside(options),
            ),
        )


def _beside(options: PredictOptions) -> int:
    """Bytes of what a run has beside its networks."""
    return COMMAND if options.beside else WORKER if options.dask else 0


def _on_drawing(scene: Scene) -> Affine:
    """From coordinates of a scene to those in which it is drawn: turned over if it has none but its pixels'."""
    return Affine.identity() if scene.georeferenced else Affine.scale(1, -1)


def output_folder(scene: str | Path, output: str | Path | None) -> Path:
    """The folder of a scene's outputs.

    Raises:
        UsageError: it is a file.
    """
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


def _refuse_too_coarse(scene: Scene, card: Card) -> None:
    if min(scene.factor) < 1 / LARGEST_ENLARGEMENT:
        raise UsageError(
            f"The pixels of {scene.name} are {max(scene.gsd):.3g} m on the ground, more than "
            f"{LARGEST_ENLARGEMENT} times the {card.gsd[1]:g} m that the model takes at most: roads and buildings "
            "cannot be seen. If the length is wrong, pass --gsd METRES."
        )
