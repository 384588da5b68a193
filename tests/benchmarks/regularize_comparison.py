"""Compare ways to regularize building outlines on polygons of known shape: rasterized, vectorized, straightened again.

    python tests/benchmarks/regularize_comparison.py buildings.geojson EPSG:32645 0.15 0.3

Every building is rasterized on its own, so that neighbors do not melt together. Needs buildingregulariser from PyPI;
the functions of `geoai-py` are compared where it is installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from prngeo.vectorize.outlines import trace
from prngeo.vectorize.polygons import DEFAULT_TOLERANCE
from prngeo.vectorize.regularize import regularize
from prngeo.vectorize.runs import runs_of

MARGIN = 3


def traced(building: shapely.Polygon, gsd: float) -> tuple[shapely.Polygon | None, Affine]:
    """The largest piece of a rasterized building in pixel coordinates, and the transform to its own."""
    west, south, east, north = building.bounds
    transform = Affine(gsd, 0, np.floor(west / gsd) * gsd - MARGIN * gsd, 0, -gsd, north // gsd * gsd + MARGIN * gsd)
    shape = (int((north - south) / gsd) + 2 * MARGIN + 2, int((east - west) / gsd) + 2 * MARGIN + 2)
    runs = runs_of(rasterize([building], out_shape=shape, transform=transform).astype(bool))
    if not len(runs):
        return None, transform
    pieces = trace(runs, runs.components(4)).geometry()
    return pieces[shapely.area(pieces).argmax()], transform


def placed(polygon: shapely.Polygon, transform: Affine) -> shapely.Polygon:
    matrix = (transform.a, transform.b, transform.d, transform.e, transform.c, transform.f)
    return shapely.affinity.affine_transform(polygon, matrix)


def ours(pixels: list[shapely.Polygon], places: list[Affine], gsd: float) -> list[shapely.Polygon]:
    result = []
    for polygon, transform in zip(pixels, places, strict=True):
        exact = np.array([polygon], object)
        simple = shapely.coverage_simplify(exact, DEFAULT_TOLERANCE)
        regular = regularize(exact, simple, np.zeros(1, np.int32), np.diag([1.0, -1.0]), DEFAULT_TOLERANCE)
        result.append(placed(regular[0], transform))
    return result


def library(frame: gpd.GeoDataFrame, **options: float) -> list[shapely.Polygon | None]:
    from buildingregulariser import regularize_geodataframe

    numbered = frame.assign(number=range(len(frame)))
    found = regularize_geodataframe(numbered, num_cores=1, **options).set_index("number").geometry
    return [found.get(number) for number in range(len(frame))]


def corners(polygon: shapely.Geometry) -> int:
    """Vertices of all rings at which the outline turns by more than a degree."""
    count = 0
    for ring in shapely.get_rings(polygon):
        points = shapely.get_coordinates(ring)[:-1]
        steps = np.roll(points, -1, 0) - points
        steps = steps[np.hypot(*steps.T) > 1e-9]
        angles = np.arctan2(steps[:, 1], steps[:, 0])
        count += int((np.abs(np.angle(np.exp(1j * (angles - np.roll(angles, 1))))) > np.radians(1)).sum())
    return count


def row(name: str, found: list[shapely.Geometry | None], truth: list[shapely.Polygon], seconds: float) -> str:
    lost = sum(one is None or one.is_empty for one in found)
    invalid = sum(one is not None and not one.is_valid for one in found)
    fixed = [shapely.Point() if one is None else shapely.make_valid(one) for one in found]
    common = shapely.area(shapely.intersection(fixed, truth))
    iou = common / (shapely.area(fixed) + shapely.area(truth) - common)
    kept = [(one, other) for one, other in zip(fixed, truth, strict=True) if not one.is_empty]
    apart = np.array([shapely.hausdorff_distance(one, other, densify=0.1) for one, other in kept])
    more = np.array([corners(one) - corners(other) for one, other in kept])
    return (
        f"| {name} | {iou.mean():.4f} | {np.percentile(iou, 5):.3f} | {iou.min():.3f} | {np.mean(more):+.1f} | "
        f"{(more == 0).mean():.0%} | {np.median(apart):.2f} | {np.percentile(apart, 95):.2f} | {lost + invalid} | "
        f"{seconds / len(found) * 1000:.1f} |"
    )


def compare(truth: list[shapely.Polygon], crs: str, gsd: float) -> None:
    kept, pixels, places = [], [], []
    for building in truth:
        outline, transform = traced(building, gsd)
        if outline is not None:
            kept.append(building)
            pixels.append(outline)
            places.append(transform)
    exact = [placed(polygon, transform) for polygon, transform in zip(pixels, places, strict=True)]
    frame = gpd.GeoDataFrame(geometry=exact, crs=crs)
    reach = DEFAULT_TOLERANCE * gsd
    methods: dict[str, Callable[[], list[shapely.Geometry | None]]] = {
        "pixel edges": lambda: list(exact),
        "simplified": lambda: list(shapely.simplify(exact, gsd)),
        "prngeo": lambda: ours(pixels, places, gsd),
        "buildingregulariser, defaults": lambda: library(frame),
        "buildingregulariser, 1 px": lambda: library(frame, parallel_threshold=gsd, simplify_tolerance=gsd),
        "buildingregulariser, as ours": lambda: library(frame, parallel_threshold=reach, simplify_tolerance=reach),
    }
    try:
        from geoai.utils.geometry import adaptive_regularization, hybrid_regularization, regularization

        methods["geoai regularization"] = lambda: list(regularization(frame, simplify_tolerance=gsd).geometry)
        methods["geoai hybrid"] = lambda: list(hybrid_regularization(frame).geometry)
        methods["geoai adaptive"] = lambda: list(adaptive_regularization(frame, simplify_tolerance=gsd).geometry)
    except ImportError:
        print("geoai-py is not installed, left out")
    print(f"\n{len(kept)} buildings at {gsd} m, against the polygons that were rasterized:\n")
    print("| method | IoU | 5th pct. | min | corners | same corners | Hausdorff m | 95th pct. | lost, invalid | ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, method in methods.items():
        started = time.perf_counter()
        found = method()
        print(row(name, found, kept, time.perf_counter() - started), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("buildings")
    parser.add_argument("crs")
    parser.add_argument("gsd", type=float, nargs="+")
    given = parser.parse_args()
    frame = gpd.read_file(given.buildings).to_crs(given.crs).explode(ignore_index=True)
    polygons = [polygon for polygon in frame.geometry if polygon.geom_type == "Polygon" and polygon.is_valid]
    for gsd in given.gsd:
        compare(polygons, given.crs, gsd)


if __name__ == "__main__":
    main()
