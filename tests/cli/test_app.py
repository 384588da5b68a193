"""Exit codes, messages, and what must not be imported."""

import errno
import json
import os
import subprocess
import sys
import types

import pytest

from prngeo import __version__
from prngeo.errors import PrngeoError, UsageError
from tests.cli.conftest import ENVIRONMENT

HEAVY = (
    "torch",
    "rasterio",
    "geopandas",
    "matplotlib",
    "scipy",
    "skimage",
    "pydantic",
    "numpy",
    "segmentation_models_pytorch",
    "torchgeo",
)


def _imported(process, arguments):
    """Exit code of a command in a fresh interpreter, and which heavy packages it imported."""
    done = process(
        "import json, sys\n"
        "from prngeo.cli.app import run\n"
        f"code = run({[str(argument) for argument in arguments]!r})\n"
        f"sys.stdout.write('\\n' + json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    code, imported = json.loads(done.stdout.splitlines()[-1])
    return code, imported


@pytest.mark.parametrize(
    "verb",
    [
        *([], ["predict"], ["vectorize"], ["check"], ["evaluate"], ["diagnose"]),
        *(["models"], ["models", "show"], ["doctor"], ["train"], ["export"], ["synth"]),
        *(["qgis"], ["qgis", "project"], ["qgis", "install"], ["qgis", "doctor"], ["qgis", "package"]),
        *(["refine"], ["refine", "fit"], ["refine", "apply"]),
    ],
)
def test_help_imports_nothing_heavy(in_process_of_its_own, verb):
    code, imported = _imported(in_process_of_its_own, [*verb, "--help"])
    assert code == 0
    # Newer releases of Typer import pydantic themselves to read the options of a verb.
    assert set(imported) <= ({"pydantic"} if verb else set())


def test_help_of_every_verb_fits_into_80_columns(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    verbs = ("predict", "vectorize", "check", "evaluate", "diagnose", "models", "qgis", "doctor", "train", "synth")
    for verb in (*verbs, "export", "refine", "refine fit", "refine apply"):
        shown = cli(*verb.split(), "--help")
        assert shown.code == 0
        assert max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "nosuch.tif"],
        ["predict", "a.tif", "--bands", "x"],
        ["predict", "a.tif", "--threshold", "2"],
        ["predict", "a.tif", "--tile", "100"],
        ["predict", "a.tif", "--max-memory", "lots"],
        ["predict", "nosuch*.tif"],
        ["check", "nosuch.tif"],
        ["models", "show", "nosuch"],
        ["refine", "fit", "--scores", "nosuch*.tif", "--labels", "a.gpkg", "-o", "my.prn"],
        ["refine", "fit", "--scores", "a.tif", "--labels", "a.gpkg", "-o", "my.prn", "--window", "100"],
        ["refine", "apply", "--scores", "nosuch.tif", "-m", "nosuch.prn"],
        ["train", "nosuch.yaml"],
        ["export", "nosuch", "--to", "onnx"],
        ["export", "prngeo-rgb", "--to", "geodeep", "-o", "nosuffix"],
    ],
)
def test_wrong_calls_are_refused_without_torch(in_process_of_its_own, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, imported = _imported(in_process_of_its_own, arguments)
    assert code == 2
    assert "torch" not in imported


def test_a_missing_scene_is_refused_without_torch(in_process_of_its_own, tiny_model):
    code, imported = _imported(in_process_of_its_own, ["predict", "nosuch.tif", "-m", tiny_model])
    assert code == 2
    assert "torch" not in imported


@pytest.mark.slow
def test_check_and_models_work_without_torch(in_process_of_its_own, tiny_model, scene):
    for arguments in (["check", scene, "-m", tiny_model], ["models"], ["models", "show", tiny_model]):
        code, imported = _imported(in_process_of_its_own, arguments)
        assert code == 0
        assert "torch" not in imported


def test_version(cli):
    assert cli("--version").out == f"prngeo {__version__}\n"


def test_unknown_verb_and_option_are_wrong_calls(cli):
    assert cli("predicted").code == 2
    assert cli("predict", "--sharpen").code == 2
    assert cli("predict", "a.tif", "--device", "gpu").code == 2


def _fail_with(monkeypatch, error):
    def inspect_system():
        raise error

    module = types.ModuleType("prngeo.inspection.system")
    module.inspect_system = inspect_system
    monkeypatch.setitem(sys.modules, "prngeo.inspection.system", module)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PrngeoError("it broke."), 1, "prngeo: it broke.\n"),
        (UsageError("change it."), 2, "prngeo: change it.\n"),
        (KeyboardInterrupt(), 130, "prngeo: interrupted; what was finished is kept"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "prngeo: the disk is full."),
        (MemoryError(), 1, "prngeo: the memory is used up. Give --max-memory"),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "prngeo: this is a bug in prngeo (ZeroDivisionError: division by zero)",
        ),
    ],
)
def test_errors_become_one_paragraph_and_an_exit_code(cli, monkeypatch, error, code, message):
    _fail_with(monkeypatch, error)
    ran = cli("doctor")
    assert ran.code == code
    assert ran.err.startswith(message)
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(cli, monkeypatch, arguments):
    _fail_with(monkeypatch, PrngeoError("it broke."))
    ran = cli(*arguments)
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert ran.err.endswith("prngeo: it broke.\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_pipe_is_silent(tiny_model):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "prngeo", "models", "show", str(tiny_model)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT)
    os.close(writing)
    assert done.stderr == ""
