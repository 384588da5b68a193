"""Memory of refining is that of windows, not of the scene."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from prngeo.models.card import RefinerCard
from tests.scores.conftest import make_prn

SIDE = 1024
CACHE = os.environ | {"GDAL_CACHEMAX": "16"}  # MB; else it grows until it is full, whatever prngeo does
RUN = """
import sys
from prngeo.inference.result import peak_memory
from prngeo.refine import apply_file
result = apply_file(sys.argv[1], sys.argv[2], sys.argv[3])
assert result.classes["roads"].refined
print(peak_memory() / 2**20)
"""


def stacked(path: Path, times: int) -> str:
    """A VRT that repeats a raster downwards."""
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"/>'
        f'<DstRect xOff="0" yOff="{number * SIDE}" xSize="{SIDE}" ySize="{SIDE}"/></SimpleSource>'
        for number in range(times)
    )
    made = path.with_name(f"{path.stem}{times}.vrt")
    made.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE * times}"><SRS>EPSG:32630</SRS>'
        '<GeoTransform>500000,0.5,0,6000000,0,-0.5</GeoTransform><VRTRasterBand dataType="Byte" band="1">'
        f"<Scale>0.004</Scale>{parts}</VRTRasterBand></VRTDataset>"
    )
    return str(made)


@pytest.mark.slow
def test_many_times_the_rows_take_hardly_more_memory(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 251, (SIDE, SIDE)).astype("uint8")
    place = {"crs": "EPSG:32630", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000)}
    shape = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "tiled": True} | place
    with rasterio.open(tmp_path / "scores.tif", "w", driver="GTiff", **shape) as file:
        file.write(values, 1)
    model = make_prn(tmp_path / "my.prn", refiner=RefinerCard(window=512, overlap=128, width=4, use_image=False))
    peaks = []
    for times in (2, 16):
        command = [sys.executable, "-c", RUN, stacked(tmp_path / "scores.tif", times), str(model), str(tmp_path)]
        run = subprocess.run(command, env=CACHE, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        peaks.append(float(run.stdout))
    # A single array of logits, four bytes a pixel, would add 59 MB.
    assert peaks[1] < peaks[0] + 40, peaks
