"""`prngeo evaluate` and `prngeo diagnose` on the command line; figures are tested in tests/evaluation."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine


@pytest.fixture
def pair(tmp_path):
    """A probability raster of roads and its truth."""
    true = np.zeros((192, 256), "uint8")
    true[60:70], true[:, 100:110] = 1, 1
    scores = (0.2 + 0.6 * np.roll(true, 3, 0)).astype("float32")
    scores[:, 128:] += 0.15
    paths = []
    for name, values in (("roads_scores.tif", scores), ("roads_truth.tif", true)):
        paths.append(tmp_path / name)
        with rasterio.open(
            paths[-1], "w", driver="GTiff", height=192, width=256, count=1, dtype=values.dtype, crs="EPSG:32630",
            transform=Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000),
        ) as file:  # fmt: skip
            file.write(values, 1)
    return paths


def test_figures_are_printed_and_nothing_is_written(cli, pair, tmp_path):
    before = set(tmp_path.iterdir())
    ran = cli("evaluate", *pair, "--block", 64)
    assert ran.code == 0
    for text in ("IoU", "Relaxed F1", "APLS", "Connected parts", "Bias of the prediction"):
        assert text in ran.out
    assert "0.5 was used" in ran.err
    assert set(tmp_path.iterdir()) == before


def test_options_reach_the_evaluation(cli, pair):
    plain = json.loads(cli("evaluate", *pair, "--json", "--block", 64).out)
    other = json.loads(
        cli("evaluate", *pair, "--json", "--block", 128, "--threshold", 0.9, "--relax", 1, "--boundary", 1,
            "--patch", 64, "--target", "buildings", "--baseline", pair[1]).out
    )  # fmt: skip
    assert (plain["block"], other["block"]) == (64, 128)
    assert (plain["relax"], other["relax"], other["boundary"]) == (3.0, 1.0, 1.0)
    assert (plain["target"], other["target"]) == ("roads", "buildings")
    assert other["predictions"][0]["threshold"] == 0.9
    assert len(other["predictions"]) == 2
    assert other["comparison"]["differences"]["iou"]["value"] < 0
    assert plain["predictions"][0]["network"]["apls"]["score"] > 0.5


def test_a_report_is_written_and_named(cli, pair, tmp_path):
    ran = cli("evaluate", *pair, "-o", tmp_path / "report", "--block", 64)
    assert ran.code == 0
    assert f"Report: {tmp_path / 'report' / 'report.html'}" in ran.err
    again = cli("evaluate", *pair, "-o", tmp_path / "report")
    assert again.code == 2
    assert "--overwrite" in again.err


def test_a_baseline_is_compared(cli, pair):
    assert cli("evaluate", *pair, "--baseline", pair[1], "--block", 64).code == 0  # a mask, which has no curves
    ran = cli("evaluate", *pair, "--baseline", pair[0], "--block", 64)
    assert "difference" in ran.out
    assert "not told apart" in ran.out
    assert "larger than the baseline's in 0 of" in ran.out


def test_diagnosis_names_headroom_by_patch(cli, pair, tmp_path):
    ran = cli("diagnose", *pair, "-o", tmp_path / "report", "--block", 64)
    assert ran.code == 0
    assert "joint oracle" in ran.out
    assert "best single threshold" in ran.out
    assert "Object" not in ran.out
    assert (tmp_path / "report/bias.tif").exists()
    content = json.loads(cli("diagnose", *pair, "--json", "--patch", 64).out)
    assert content["predictions"][0]["diagnosis"]["headroom"][0]["patch"] == 64


def test_progress_as_lines(cli, pair):
    lines = cli("evaluate", *pair, "--progress", "json", "--block", 64).err.splitlines()
    steps = [json.loads(line) for line in lines if line.startswith("{")]
    assert {step["stage"] for step in steps} == {"compare", "network"}
    assert steps[-1]["done"] == steps[-1]["total"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nosuch.tif", "{truth}"], "No such file: nosuch.tif"),
        (["{scores}", "{truth}", "--block", "7"], "--block is a multiple of 64"),
        (["{scores}", "{truth}", "--threshold", "7"], "--threshold is a probability"),
        (["{scores}", "{truth}", "--aoi", "nosuch.gpkg"], "--aoi nosuch.gpkg: no such file"),
        (["{scores}", "{truth}", "--values", "percents"], "percents"),
        (["{truth}", "{truth}", "--scores", "{truth}"], "scores are a raster of probabilities"),
    ],
)
def test_wrong_calls(cli, pair, arguments, text):
    names = {"scores": pair[0], "truth": pair[1]}
    ran = cli("evaluate", *(argument.format(**names) for argument in arguments))
    assert ran.code == 2
    assert text in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_torch_is_not_needed(in_process_of_its_own, pair):
    code = f"""
import sys
from prngeo.cli.app import run
assert run(["evaluate", {str(pair[0])!r}, {str(pair[1])!r}]) == 0
assert not [name for name in ("torch", "matplotlib", "torchgeo") if name in sys.modules]
"""
    ran = in_process_of_its_own(code)
    assert ran.returncode == 0, ran.stderr
