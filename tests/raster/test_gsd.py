import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod
from rasterio.control import GroundControlPoint

from prngeo.errors import UsageError
from prngeo.raster.scene import open_scene

MODEL = (0.25, 1.25)
BLANK = np.full((3, 37, 53), 9, "uint8")


def opened(path, **options):
    with open_scene(path, **options) as scene:
        return scene


def test_projected_meters(write_raster):
    scene = opened(write_raster(BLANK), gsd_range=MODEL)
    assert scene.gsd == (0.5, 0.5)
    assert scene.gsd_source == "crs"
    assert not scene.resampled
    assert scene.georeferenced


def test_projected_feet(write_raster):
    transform = Affine(1, 0, 700_000, 0, -1, 3_000_000)
    scene = opened(write_raster(BLANK, crs="EPSG:2249", transform=transform), gsd_range=MODEL)
    assert scene.gsd == pytest.approx((0.3048006, 0.3048006), rel=1e-6)


def test_rotated_transform_has_the_length_of_its_columns(write_raster):
    transform = Affine.translation(500_000, 6_000_000) @ Affine.rotation(33) @ Affine.scale(0.4, -0.5)
    assert opened(write_raster(BLANK, transform=transform)).gsd == pytest.approx((0.4, 0.5))


def test_geographic_degrees_are_measured_at_the_scene_center(write_raster):
    step = 4e-6
    transform = Affine(step, 0, 10, 0, -step, 60)
    scene = opened(write_raster(BLANK, crs="EPSG:4326", transform=transform), gsd_range=MODEL)
    latitude = 60 - step * 37 / 2
    x = Geod(ellps="WGS84").inv(10, latitude, 10 + step, latitude)[2]
    y = Geod(ellps="WGS84").inv(10, latitude - step / 2, 10, latitude + step / 2)[2]
    assert scene.gsd == pytest.approx((x, y), rel=1e-6)
    assert scene.gsd[1] / scene.gsd[0] == pytest.approx(2, rel=0.01)
    assert scene.gsd_source == "geographic"


def test_pixels_far_from_square_are_made_square(write_raster):
    transform = Affine(4e-6, 0, 10, 0, -4e-6, 60)
    scene = opened(write_raster(BLANK, crs="EPSG:4326", transform=transform), gsd_range=MODEL)
    assert scene.resampled
    sides = scene.gsd[0] * scene.factor[0], scene.gsd[1] * scene.factor[1]
    assert sides[0] == pytest.approx(sides[1])
    assert MODEL[0] <= sides[0] <= MODEL[1]


def test_web_mercator_meters_are_not_meters_on_the_ground(write_raster):
    transform = Affine(0.6, 0, 1_113_194, 0, -0.6, 8_399_737)  # 10 E, 60 N
    scene = opened(write_raster(BLANK, crs="EPSG:3857", transform=transform))
    assert scene.gsd_source == "geodesic"
    assert scene.gsd == pytest.approx((0.3, 0.3), rel=0.01)


def test_option_overrides_the_file(write_raster):
    scene = opened(write_raster(BLANK), gsd=0.1, gsd_range=MODEL)
    assert scene.gsd == (0.1, 0.1)
    assert scene.gsd_source == "option"
    assert scene.factor == pytest.approx((2.5, 2.5))


@pytest.mark.parametrize("gsd", [0, -1, math.nan, math.inf])
def test_option_must_be_a_length(write_raster, gsd):
    with pytest.raises(UsageError, match="--gsd"):
        opened(write_raster(BLANK), gsd=gsd)


def test_scene_without_crs_asks_for_the_gsd(write_raster):
    path = write_raster(BLANK, crs=None, transform=Affine.identity())
    with pytest.raises(UsageError, match=r"scene.tif is unknown.*no coordinate system.*0\.25 to 1\.25 m.*`--gsd"):
        open_scene(path, gsd_range=MODEL)
    scene = opened(path, gsd=0.5, gsd_range=MODEL)
    assert (scene.crs, scene.georeferenced, scene.resampled) == (None, False, False)
    assert scene.transform.is_identity


def test_gsd_may_stay_unknown_where_no_model_asks(write_raster):
    scene = opened(write_raster(BLANK, crs=None, transform=Affine.identity()))
    assert scene.gsd_source == "unknown"
    assert all(map(math.isnan, scene.gsd))


def test_degrees_beyond_the_pole_are_not_believed(write_raster):
    path = write_raster(BLANK, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 5000))
    with pytest.raises(UsageError, match="coordinates do not fit"):
        open_scene(path, gsd_range=MODEL)


def test_control_points_only_ask_for_a_warp(tmp_path):
    path = tmp_path / "gcp.tif"
    points = [
        GroundControlPoint(row, col, 10 + col / 1e5, 50 - row / 1e5)
        for row, col in ((0, 0), (0, 53), (37, 0), (37, 53))
    ]
    profile = {"driver": "GTiff", "height": 37, "width": 53, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **profile) as file:
        file.write(BLANK)
    with pytest.raises(UsageError, match=r"ground control points.*gdalwarp.*`--gsd METRES`"):
        open_scene(path, gsd_range=MODEL)
    assert not opened(path, gsd=0.5, gsd_range=MODEL).georeferenced


@pytest.mark.parametrize(
    ("gsd", "factor"),
    [(0.5, 1), (0.2, 1), (1.5, 1), (0.1, 2.5), (0.18, 0.25 / 0.18), (2.0, 0.625), (1.6, 1.25 / 1.6)],
)
def test_model_grid_is_the_nearest_end_of_the_range(write_raster, gsd, factor):
    scene = opened(write_raster(BLANK), gsd=gsd, gsd_range=MODEL)
    assert scene.factor == pytest.approx((factor, factor))
    assert scene.resampled == (factor != 1)
    assert (scene.model_height, scene.model_width) == (math.ceil(37 / factor), math.ceil(53 / factor))


def test_model_grid_shares_origin_and_rotation(write_raster):
    transform = Affine.translation(500_000, 6_000_000) @ Affine.rotation(33) @ Affine.scale(0.1, -0.1)
    scene = opened(write_raster(BLANK, transform=transform), gsd_range=MODEL)
    assert scene.model_transform @ (0, 0) == pytest.approx(scene.transform @ (0, 0))
    assert scene.model_transform @ (4, 6) == pytest.approx(scene.transform @ (10, 15))


def test_size_is_not_rounded_up_by_the_last_digit(write_raster):
    scene = opened(write_raster(np.zeros((3, 30, 60), "uint8")), gsd=0.1, gsd_range=(0.3, 0.3))
    assert (scene.model_height, scene.model_width) == (10, 20)


def test_gsd_range_is_checked(write_raster):
    with pytest.raises(ValueError, match="rising"):
        open_scene(write_raster(BLANK), gsd_range=(1, 0.5))
