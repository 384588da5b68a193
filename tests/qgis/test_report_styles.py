"""Styles of an evaluation's layers, as real QGIS reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
from shapely import box

from prngeo.qgis.report_styles import BIAS_LIMIT, CLASSES, bias_style, block_style, threshold_style
from prngeo.qgis.styles import write_sidecar
from prngeo.vectorize.write import write_layers
from tests.qgis.real import run_in_qgis, skip_if_missing
from tests.qgis.test_styles import open_in_qgis, raster

GRADUATED = """
import json, sys
from qgis.core import QgsApplication, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
layer = QgsVectorLayer(json.loads(sys.argv[1])["blocks"], "blocks", "ogr")
renderer = layer.renderer()
shown = {
    "type": renderer.type(), "attribute": renderer.classAttribute(),
    "ranges": [[r.lowerValue(), r.upperValue(), r.label(), r.symbol().symbolLayer(0).fillColor().getRgb()]
               for r in renderer.ranges()],
}
del layer, renderer
print("SHOWN" + json.dumps(shown))
sys.stdout.flush()
application.exitQgis()
"""


@pytest.mark.parametrize("style", [bias_style, block_style, threshold_style])
def test_styles_are_well_formed(style: Any) -> None:
    assert ElementTree.fromstring(style()).tag == "qgis"


@pytest.mark.qgis
def test_qgis_colors_blocks_by_their_iou(tmp_path: Path) -> None:
    skip_if_missing()
    frame = gpd.GeoDataFrame({"iou": [0.1, np.nan]}, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)], crs="EPSG:32645")
    (path,) = write_layers({"blocks": frame}, tmp_path / "blocks", "gpkg", {"blocks": block_style()})
    shown = run_in_qgis(tmp_path, GRADUATED, {"blocks": f"{path}|layername=blocks"})
    assert (shown["type"], shown["attribute"]) == ("graduatedSymbol", "iou")
    assert [high for _, high, _, _ in shown["ranges"]] == pytest.approx([high for high, _ in CLASSES])
    assert [tuple(color[:3]) for *_, color in shown["ranges"]] == [color[:3] for _, color in CLASSES]
    assert shown["ranges"][0][2] == "IoU 0 - 0.2"


@pytest.mark.qgis
def test_qgis_shows_bias_in_two_colors_and_nodata_as_nothing(tmp_path: Path) -> None:
    skip_if_missing()
    values = np.array([[-BIAS_LIMIT, 0, BIAS_LIMIT, np.nan]], np.float32)
    path = raster(tmp_path / "bias.tif", values, nodata=float("nan"))
    write_sidecar(path, bias_style())
    shown = open_in_qgis(tmp_path, {"bias": str(path)})["bias"]
    low, middle, high, missing = shown["colors"]
    assert shown["type"] == "singlebandpseudocolor"
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert middle[:3] == [247, 247, 247]
    assert missing[3] == 0
