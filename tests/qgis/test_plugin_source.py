"""The plugin imports QGIS and the standard library only, and is ready for old and new QGIS."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import prngeo
from prngeo.qgis.install import METADATA, SOURCE, plugin_files, read_metadata
from prngeo.qgis.package import REQUIRED

MODULES = sorted(SOURCE.glob("*.py"))
QGIS = {"qgis", "processing"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_imports_qgis_and_the_standard_library_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module))
    tops = {name.partition(".")[0] for name in names}
    assert tops <= QGIS | set(sys.stdlib_module_names)
    assert not any(re.match("PyQt|PySide|sip", name) for name in names), "Qt comes through qgis.PyQt"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_enumerations_are_named_with_their_scope(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # Members of an enumeration begin with a capital; so does its name, which has to stand before them.
    unscoped = re.findall(r"\b(?:Qt|Qgs\w+)\.[A-Z]\w*(?![\w.(])", text)
    assert not [name for name in unscoped if not re.search(r"\.(LayerDetails|SaveVectorOptions)$", name)]


def test_metadata_says_what_the_repository_and_qgis_ask() -> None:
    values = read_metadata(SOURCE / METADATA)
    assert all(values.get(key) for key in REQUIRED)
    assert values["version"] == prngeo.__version__
    assert values["hasProcessingProvider"] == "yes"
    assert (values["qgisMinimumVersion"], values["supportsQt6"]) == ("3.22", "True")
    assert (SOURCE / values["icon"]).is_file()
    assert "prngeo" in values["about"]


def test_the_license_is_that_of_the_project() -> None:
    root = Path(prngeo.__file__).resolve().parent.parent
    assert (SOURCE / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()
    assert Path("LICENSE") in plugin_files()
