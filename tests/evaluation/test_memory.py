"""Memory is that of windows and objects, not of the scene."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.evaluation.conftest import write_raster

SIDE = 2048
RUN = """
import sys
import prngeo
from prngeo import EvaluateOptions
from prngeo.inference.result import peak_memory
result = prngeo.evaluate(sys.argv[1], sys.argv[2], options=EvaluateOptions(target="buildings"))
assert result.prediction.objects.true > 1000
print(peak_memory() / 2**20)
"""


def repeated(path: Path, times: int, scale: float | None) -> Path:
    """A VRT that repeats a raster."""
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"/>'
        f'<DstRect xOff="{col * SIDE}" yOff="{row * SIDE}" xSize="{SIDE}" ySize="{SIDE}"/></SimpleSource>'
        for row in range(times)
        for col in range(times)
    )
    made = path.with_name(f"{path.stem}{times}.vrt")
    made.write_text(
        f'<VRTDataset rasterXSize="{SIDE * times}" rasterYSize="{SIDE * times}"><SRS>EPSG:32630</SRS>'
        '<GeoTransform>500000,0.5,0,6000000,0,-0.5</GeoTransform><VRTRasterBand dataType="Byte" band="1">'
        f"<NoDataValue>255</NoDataValue>{f'<Scale>{scale}</Scale>' if scale else ''}{parts}"
        "</VRTRasterBand></VRTDataset>"
    )
    return made


@pytest.mark.slow
def test_nine_times_the_pixels_take_hardly_more_memory(tmp_path: Path) -> None:
    field = gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), 12, mode="wrap")
    field /= field.std()
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "nodata": 255}
    truth = write_raster(tmp_path / "truth.tif", (field > 1).astype("uint8"), **tiled)
    scores = np.clip(125 + 60 * (field - 1), 0, 250).astype("uint8")
    prediction = write_raster(tmp_path / "scores.tif", scores, **tiled)
    peaks = []
    for times in (2, 6):
        paths = [str(repeated(prediction, times, 0.004)), str(repeated(truth, times, None))]
        run = subprocess.run([sys.executable, "-c", RUN, *paths], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        peaks.append(float(run.stdout))
    # A single array of a byte a pixel would add 134 MB.
    assert peaks[1] < peaks[0] + 120
