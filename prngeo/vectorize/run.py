"""From a mask or probability raster to a vector file or database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd

from prngeo.errors import UsageError
from prngeo.files import refuse_existing, refuse_inputs
from prngeo.progress import Progress, Report, silent
from prngeo.qgis.styles import line_style, polygon_style, style_path
from prngeo.vectorize.centerlines import centerlines
from prngeo.vectorize.polygons import PolygonOptions, polygon_batches
from prngeo.vectorize.postgis import is_database, refuse_tables, shown, write_tables
from prngeo.vectorize.write import format_of, named_paths, style_paths, whole, write_files

ROADS, CENTERLINES = "roads", "road_centerlines"


@dataclass(frozen=True)
class VectorizeOptions(PolygonOptions):
    """Options of `prngeo vectorize`; the defaults are the command's, and those of polygons mean what they do there.

    Attributes:
        min_area: smallest polygon in m2 (without CRS and `pixel_size`: pixels).
        target: what the objects are; names the layer and chooses its style. `roads` gives `road_centerlines` too.
        probability: raster on the mask's grid for the attribute `probability`.
        overwrite: replace an existing output.
    """

    min_area: float = 4.0
    target: str = "buildings"
    probability: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.target or set(self.target) & set("/\\\"'"):
            raise UsageError(f"--target names a layer, such as buildings; got {self.target!r}.")


@dataclass(frozen=True)
class VectorizeResult:
    """What was written.

    Attributes:
        output: file or connection string (without its password).
        layers: name and contents of each layer.
        seconds: wall-clock time.
    """

    output: str
    layers: dict[str, gpd.GeoDataFrame]
    seconds: float


def vectorize_raster(
    raster: str | Path,
    output: str | Path | None = None,
    options: VectorizeOptions | None = None,
    report: Report = silent,
) -> VectorizeResult:
    """Turn a mask or probability raster of any tool into vectors.

    Args:
        raster: its first band is the mask (0/1, 0/255, a class map with `value`) or the probability (with
            `threshold`, or written by prngeo).
        output: a file whose suffix tells the format (.gpkg, .parquet, .fgb, .geojson), or a database
            (postgresql://...) in which the layers become tables; a GeoPackage beside the raster if None (in the
            current folder for a remote one).
        options: see VectorizeOptions.
        report: is told of every step.

    Returns:
        The layers that were written.

    Raises:
        UsageError: an argument, an option or the raster does not suit; nothing was written.
        PrngeoError: the run failed; nothing is left behind.
    """
    started = time.monotonic()
    options = options or VectorizeOptions()
    place = _beside(Path(raster)) if output is None else output
    name, names = Path(raster).name, [options.target, *([CENTERLINES] if options.target == ROADS else [])]
    if is_database(place):
        refuse_tables(str(place), names, options.overwrite)
    else:
        paths = named_paths(place, names)
        refuse_inputs(paths, [raster, *([options.probability] if options.probability else [])])
        refuse_existing([*paths, *style_paths(_styled(paths, raster), format_of(place))], options.overwrite)
        if not Path(place).parent.is_dir():
            raise UsageError(f"-o {place}: the folder {Path(place).parent} does not exist; create it first.")
    report(Progress(name, "vectorize", 0, len(names) + 1))
    layers = {options.target: whole(polygon_batches(raster, options.probability, None, options))}
    if options.target == ROADS:
        report(Progress(name, "vectorize", 1, len(names) + 1))
        layers[CENTERLINES] = _centerlines(raster, options)
    report(Progress(name, "vectorize", len(names), len(names) + 1))
    if is_database(place):
        write_tables(layers, str(place))
    else:
        styles = {name: (line_style if name == CENTERLINES else polygon_style)(options.target) for name in layers}
        if format_of(place) != "gpkg":
            styled = _styled(paths, raster)
            styles = {name: styles[name] for name, path in zip(layers, paths, strict=True) if path in styled}
        write_files(layers, paths, format_of(place), styles)
    report(Progress(name, "vectorize", len(names) + 1, len(names) + 1))
    said = shown(str(place)) if is_database(place) else str(place)
    return VectorizeResult(said, layers, time.monotonic() - started)


def _beside(raster: Path) -> Path:
    return (raster.parent if raster.exists() else Path()) / f"{raster.stem}.gpkg"


def _styled(paths: list[Path], raster: str | Path) -> list[Path]:
    """The files that get a style beside them: not one whose style would replace that of the raster."""
    return [path for path in paths if style_path(path).absolute() != style_path(raster).absolute()]


def _centerlines(raster: str | Path, options: VectorizeOptions) -> gpd.GeoDataFrame:
    return centerlines(
        raster,
        options.probability,
        value=options.value,
        threshold=options.threshold,
        pixel_size=options.pixel_size,
    )
