"""Dead ends lie where roads end: square ends are reached, round ones are those of a pen."""

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from prngeo.vectorize.centerlines import centerlines

STEP = 0.5
TRANSFORM = Affine(STEP, 0, 500_000, 0, -STEP, 6_000_000)


def traced(tmp_path, shape):
    """Centerlines of an area in metres from the raster's corner, y down."""
    drawn = shapely.transform(shape, lambda xy: xy / STEP)
    mask = rasterize([drawn], (400, 600), dtype="uint8")
    with rasterio.open(
        tmp_path / "mask.tif", "w", driver="GTiff", height=400, width=600, count=1, dtype="uint8", crs="EPSG:32631",
        transform=TRANSFORM,
    ) as file:  # fmt: skip
        file.write(mask, 1)
    lines = centerlines(tmp_path / "mask.tif", min_length=0).geometry
    return [shapely.transform(line, lambda xy: (xy - [500_000, 6_000_000]) * [1, -1]) for line in lines]


def road(angle, width, cap):
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = np.array([(40.0, 20.0), (40.0, 20.0) + 120 * along])
    return shapely.LineString(ends).buffer(width / 2, cap_style=cap), ends, along


def ordered(line, ends):
    found = shapely.get_coordinates(line)[[0, -1]]
    return found if np.linalg.norm(found[0] - ends[0]) < np.linalg.norm(found[0] - ends[1]) else found[::-1]


@pytest.mark.parametrize("angle", [0, 22.5, 45, 71, 90])
@pytest.mark.parametrize("width", [4, 8, 16])
def test_a_square_end_is_reached(tmp_path, angle, width):
    area, ends, _ = road(angle, width, "flat")
    (line,) = traced(tmp_path, area)
    assert np.linalg.norm(ordered(line, ends) - ends, axis=1).max() < 2
    assert line.hausdorff_distance(shapely.LineString(ends)) < 2


@pytest.mark.parametrize("angle", [0, 22.5, 71])
@pytest.mark.parametrize("width", [4, 8, 16])
def test_a_round_end_is_not_overshot(tmp_path, angle, width):
    """Between where the pen ended and where its ink did, in the middle of the road."""
    area, ends, along = road(angle, width, "round")
    (line,) = traced(tmp_path, area)
    beyond = (ordered(line, ends) - ends) @ along * [-1, 1]
    assert beyond.min() > -2
    assert beyond.max() < width / 2
    assert np.abs((shapely.get_coordinates(line) - ends[0]) @ [-along[1], along[0]]).max() < 1.5


def test_a_road_that_tapers_keeps_its_tip(tmp_path):
    (line,) = traced(tmp_path, shapely.Polygon([(20, 40), (120, 40), (180, 50), (120, 60), (20, 60)]))
    ends = shapely.get_coordinates(line)[[0, -1]]
    tip = ends[np.argmax(ends[:, 0])]
    assert tip == pytest.approx([180, 50], abs=6)


def test_lines_that_leave_the_raster_end_at_its_border(tmp_path):
    (line,) = traced(tmp_path, shapely.box(-10, 60, 400, 70))
    assert sorted(shapely.get_coordinates(line)[[0, -1]][:, 0]) == pytest.approx([0, 300], abs=STEP)


def test_a_short_piece_stays_as_it_is(tmp_path):
    for line in traced(tmp_path, shapely.box(100, 60, 112, 70)):
        assert shapely.box(100, 60, 112, 70).buffer(STEP).covers(line)
