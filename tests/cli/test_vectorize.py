"""`prngeo vectorize`: what goes in, what is said."""

import inspect
import json
from dataclasses import fields

import numpy as np
import pytest
import rasterio
from affine import Affine

import prngeo
from prngeo import VectorizeOptions
from prngeo.cli.vectorize import vectorize as command


@pytest.fixture
def mask(tmp_path):
    values = np.zeros((30, 30), np.uint8)
    values[5:25, 5:25] = 1
    profile = {"driver": "GTiff", "height": 30, "width": 30, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32631", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 5e6)}
    with rasterio.open(tmp_path / "mask.tif", "w", **profile, **place) as file:
        file.write(values, 1)
    return tmp_path / "mask.tif"


def test_defaults_are_those_of_the_library():
    ours = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    for name in ("raster", "output", "progress"):
        ours.pop(name)
    options = VectorizeOptions()
    assert ours == {field.name: getattr(options, field.name) for field in fields(options)}


def test_every_option_reaches_the_library(cli, monkeypatch, tmp_path):
    seen = []

    def vectorize_raster(raster, output, options, report):
        seen.append((raster, output, options))
        raise prngeo.UsageError("enough.")

    monkeypatch.setattr(prngeo, "vectorize_raster", vectorize_raster, raising=False)
    arguments = (
        "-o out.fgb --target roofs --threshold 0.3 --value 2 --probability p.tif --pixel-size 0.2 --connectivity 8 "
        "--min-area 7 --min-hole 3 --simplify 0.5 --regularize --split 0.1 --overwrite"
    )
    ran = cli("vectorize", "a.tif", *arguments.split())
    assert (ran.code, ran.err) == (2, "prngeo: enough.\n")
    ((raster, output, options),) = seen
    assert (raster, output) == ("a.tif", "out.fgb")
    assert all(getattr(options, field.name) != getattr(VectorizeOptions(), field.name) for field in fields(options))
    assert (options.threshold, options.value, options.split, options.connectivity) == (0.3, 2, 0.1, 8)
    assert (options.min_area, options.min_hole, options.simplify, options.pixel_size) == (7, 3, 0.5, 0.2)
    assert (options.target, str(options.probability)) == ("roofs", "p.tif")


def test_a_summary_says_what_was_written(cli, mask, tmp_path):
    ran = cli("vectorize", mask, "-o", tmp_path / "out.gpkg")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith(f"buildings: 100 m2 in 1 polygon\n{tmp_path / 'out.gpkg'}: written in ")


def test_progress_and_result_for_programs(cli, mask, tmp_path):
    ran = cli("vectorize", mask, "-o", tmp_path / "out.gpkg", "--progress", "json")
    *steps, result = [json.loads(line) for line in ran.err.splitlines()]
    assert {step["event"] for step in steps} == {"progress"}
    assert steps[-1]["done"] == steps[-1]["total"]
    assert result["event"] == "result"
    assert result["layers"] == {"buildings": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing.tif", "cannot open the mask missing.tif"),
        ("{mask} -o out.shp", "names no vector format"),
        ("{mask} --connectivity 5", "connectivity must be 4 or 8"),
        ("{mask} --min-area -1", "min_area must be 0 or more"),
        ("{mask} --split 0.1", "needs a probability raster"),
        ("{mask} --probability {mask} --split 2", "between 0 and 1"),
    ],
)
def test_wrong_calls_are_told_in_one_paragraph(cli, mask, arguments, message):
    ran = cli("vectorize", *arguments.format(mask=mask).split())
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not mask.with_suffix(".gpkg").exists()


def test_help_needs_nothing_heavy(in_process_of_its_own):
    ran = in_process_of_its_own(
        "import sys; from prngeo.cli.app import run; run(['vectorize', '--help']);"
        "print([name for name in ('torch', 'geopandas', 'scipy', 'skimage', 'sqlalchemy') if name in sys.modules])"
    )
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "--regularize" in ran.stdout
