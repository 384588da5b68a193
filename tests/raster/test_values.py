"""What the numbers of a raster mean, and what is said where they mean nothing."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from prngeo.errors import UsageError
from prngeo.raster.validity import ValidityRule
from prngeo.raster.values import check_values, find_meaning


@pytest.fixture
def meaning(tmp_path):
    def find(values, wanted="auto", scale=None, **options):
        path = tmp_path / "raster.tif"
        profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
        with rasterio.open(
            path, "w", driver="GTiff", crs="EPSG:32630", transform=Affine.scale(2, -2), **profile, **options
        ) as file:
            file.write(values, 1)
            if scale is not None:
                file.scales = (scale,)
        with rasterio.open(path) as file:
            return find_meaning(
                "raster.tif", "PREDICTION raster.tif", file, ValidityRule.of(file, (1,)), wanted, "--values"
            )

    return find


def ramp(low, high, dtype):
    return np.linspace(low, high, 4000).astype(dtype).reshape(40, 100)


@pytest.mark.parametrize(
    ("values", "kind", "top"),
    [
        (ramp(0, 1.4, "uint8"), "mask", 1),
        (ramp(0, 1, "uint8") * 255, "mask", 255),
        (ramp(0, 1.4, "uint8").astype("float32"), "mask", 1),
        (ramp(0, 1, "float32"), "probability", 1),
        (ramp(0, 100, "uint8"), "probability", 100),
        (ramp(0, 255, "uint8"), "probability", 255),
        (ramp(0, 100, "int16"), "probability", 100),
    ],
)
def test_common_scales_are_recognized(meaning, values, kind, top):
    found = meaning(values)
    assert found.kind == kind
    if kind == "probability":
        np.testing.assert_allclose(found.probability(np.array([0, top / 2, top])), [0, 0.5, 1])


def test_a_band_that_carries_its_scale_is_a_probability(meaning):
    for wanted in ("auto", "unit", "byte", "percent"):
        found = meaning(ramp(0, 250, "uint8"), wanted, scale=0.004, nodata=255)
    np.testing.assert_allclose(found.probability(np.array([0, 125, 250])), [0, 0.5, 1])


def test_a_probability_mostly_of_zeros_and_ones_is_told_by_its_values_elsewhere(meaning):
    values = np.zeros((900, 900), np.uint8)
    values[450, 450] = 90  # no sample meets it
    found = meaning(values)
    assert found.kind == "mask"
    with pytest.raises(UsageError, match="holds values from 0 to 90.*--values"):
        check_values("PREDICTION raster.tif", values, found)
    values[450, 450] = 255
    with pytest.raises(UsageError, match="0, 1 and 255"):
        check_values("PREDICTION raster.tif", values, found)


def test_what_is_told_counts(meaning):
    assert meaning(ramp(0, 9, "uint8"), "mask").kind == "mask"
    assert meaning(ramp(0, 9, "uint8"), "percent").probability(np.array([5])) == pytest.approx(0.05)
    logit = meaning(ramp(-9, 9, "float32"), "logit")
    np.testing.assert_allclose(logit.probability(np.array([-np.log(3), 0, np.log(3)])), [0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("values", "wanted", "message"),
    [
        (ramp(-9, 9, "float32"), "auto", "from -9 to 9.*neither a mask nor a probability.*--values"),
        (ramp(0, 3000, "uint16"), "auto", "from 0 to 3000, which is no probability.*gdal_edit.py -scale 0.0001"),
        (ramp(0, 9, "uint8"), "auto", "class numbers.*gdal_calc"),
        (ramp(0, 250, "uint8"), "unit", "read as a probability in 0..1, but holds values from 0 to 250"),
        (ramp(0, 250, "uint8"), "percent", "read as a probability in 0..100"),
    ],
)
def test_values_that_fit_nothing_are_refused(meaning, values, wanted, message):
    with pytest.raises(UsageError, match=message):
        meaning(values, wanted)


def test_255_beside_0_and_1_is_nodata_only_if_the_file_says_so(meaning):
    values = ramp(0, 1.4, "uint8")
    values[0, :50] = 255
    with pytest.raises(UsageError, match="0, 1 and 255.*-a_nodata 255.*--values mask"):
        meaning(values)
    assert meaning(values, nodata=255).kind == "mask"
