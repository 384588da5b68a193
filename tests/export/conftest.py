"""The small model in other forms, each made once; making a graph takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from prngeo.export import ExportResult, export_model


@pytest.fixture(scope="session")
def half(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """For ONNX Runtime, with weights in float16."""
    return export_model(tiny_model, "onnx", tmp_path_factory.mktemp("export") / "half", "fp16")


@pytest.fixture(scope="session")
def tile_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """For GeoDeep and Deepness."""
    return export_model(tiny_model, "geodeep", tmp_path_factory.mktemp("export") / "tiny.onnx")
