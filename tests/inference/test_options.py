import subprocess
import sys

import pytest

from prngeo.errors import UsageError
from prngeo.inference.options import PredictOptions, parse_bands, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 << 30),
        ("4G", 4 << 30),
        ("4g", 4 << 30),
        ("4GiB", 4 << 30),
        ("800MB", 800 << 20),
        (" 1.5 gb ", 3 << 29),
        ("2TB", 2 << 40),
        ("512K", 512 << 10),
        ("1000000", 1_000_000),
    ],
)
def test_sizes_are_powers_of_1024(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4XB", "four", "4 GB GB", "1e9", "4,5GB", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="--max-memory takes a size such as 4GB"):
        parse_memory(text)


def test_bands():
    assert parse_bands("3,2,1") == (3, 2, 1)
    assert parse_bands("4, 4, 4") == (4, 4, 4)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1;2", "1.0,2,3", "1,2,"])
def test_what_is_no_list_of_bands_is_refused(text):
    with pytest.raises(UsageError, match="--bands takes band numbers such as 3,2,1"):
        parse_bands(text)


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("threshold", 0.0, "--threshold"),
        ("threshold", 1.0, "--threshold"),
        ("threshold", -0.5, "--threshold"),
        ("threshold", float("nan"), "--threshold"),
        ("tile", 32, "--tile"),
        ("tile", 500, "--tile"),
        ("overlap", -4, "--overlap"),
        ("overlap", 30, "--overlap"),
        ("min_area", -1.0, "--min-area"),
        ("min_area", float("inf"), "--min-area"),
        ("simplify", float("nan"), "--simplify"),
        ("min_hole", -1.0, "--min-hole"),
        ("split", 1.0, "--split"),
        ("chunk", 256, "chunk"),
        ("chunk", 1000, "chunk"),
        ("device", "gpu", "--device is one of auto, cpu, cuda, mps"),
        ("grid", "scenes", "--grid is one of scene, model"),
        ("format", "shp", "--format is one of gpkg, geoparquet"),
    ],
)
def test_values_out_of_range_are_errors_that_name_the_option(name, value, option):
    with pytest.raises(UsageError, match=option):
        PredictOptions(**{name: value})


def test_missing_paths_are_errors(tmp_path):
    with pytest.raises(UsageError, match=r"--scratch .*nowhere is not a folder"):
        PredictOptions(scratch=tmp_path / "nowhere")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="--scratch"):
        PredictOptions(scratch=file)
    with pytest.raises(UsageError, match=r"--aoi .*a\.gpkg: no such file"):
        PredictOptions(aoi=tmp_path / "a.gpkg")
    assert PredictOptions(scratch=tmp_path, aoi=file).aoi == file


def test_defaults_and_limits_are_accepted():
    PredictOptions()
    PredictOptions(threshold=0.004, tile=64, overlap=0, min_area=0, simplify=0, chunk=512)


def test_checking_options_imports_nothing_heavy():
    program = (
        "import sys; from prngeo.inference.options import PredictOptions; PredictOptions();"
        "print([m for m in ('torch', 'torchgeo', 'timm', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
