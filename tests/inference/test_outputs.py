import pytest
from affine import Affine
from rasterio.crs import CRS

from prngeo.inference.outputs import KINDS, raster_name, raster_spec
from prngeo.raster.geogrid import GeoGrid

GRID = GeoGrid(10, 20, Affine.identity(), CRS.from_epsg(32630))


@pytest.mark.parametrize("kind", KINDS)
def test_specs_keep_nodata_apart_from_the_background(kind):
    spec = raster_spec(GRID, "roads", kind, {"A": "1"})
    assert (spec.height, spec.width, spec.transform, spec.crs) == (10, 20, GRID.transform, GRID.crs)
    assert spec.nodata != 0
    assert (spec.colors is not None) == (kind == "mask")
    assert (spec.overviews == "nearest") == (kind == "mask")
    assert raster_name("scene", "roads", kind) == f"scene_roads_{kind}.tif"
