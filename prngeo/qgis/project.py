"""A QGIS project of styled layers, written without QGIS: a zip that holds one XML file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rasterio.crs import CRS

from prngeo.files import whole

PROVIDERS = {"raster": "gdal", "vector": "ogr"}
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of the file inside: the same layers give the same bytes."""
MARGIN = 0.02
"""Share of the extent that is added on each side."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Layer:
    """A layer of a project.

    Attributes:
        source: what QGIS opens: a path relative to the project's folder (`./mask.tif`, `./scene.gpkg|layername=roads`)
            or an absolute one.
        name: in the legend.
        kind: raster or vector.
        crs: its coordinate system; None if it has none.
        style: QML; a project does not look for styles beside or inside the files.
        group: name of its group in the legend; none if empty. Layers of one group follow each other.
        shown: drawn when the project opens.
    """

    source: str
    name: str
    kind: Literal["raster", "vector"]
    crs: CRS | None
    style: str
    group: str = ""
    shown: bool = True

    @property
    def id(self) -> str:
        """The same for the same source; QGIS wants more than ten characters."""
        return f"prngeo_{sha256(self.source.encode()).hexdigest()[:24]}"


def write_project(path: Path, title: str, layers: Sequence[Layer], crs: CRS | None, bounds: Bounds) -> None:
    """Write a project that QGIS 3.22 or newer opens, and that moves with its folder.

    Args:
        path: ends in .qgz.
        title: of the window.
        layers: from top to bottom.
        crs: of the map; None if it has none.
        bounds: what is shown when it opens: left, bottom, right, top in units of the CRS.

    Raises:
        OSError: the file cannot be written.
    """
    document = ElementTree.tostring(_project(title, layers, crs, bounds), encoding="utf-8")
    content = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + document
    with whole(path) as hidden, zipfile.ZipFile(hidden, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{path.stem}.qgs", EPOCH), content, zipfile.ZIP_DEFLATED)


def _project(title: str, layers: Sequence[Layer], crs: CRS | None, bounds: Bounds) -> Element:
    root = Element("qgis", projectname=title, version="3.22.0")
    SubElement(root, "homePath", path="")
    SubElement(root, "title").text = title
    root.append(_reference("projectCrs", crs))
    _tree(root, layers)
    _canvas(root, crs, bounds)
    contents = SubElement(root, "projectlayers")
    for layer in layers:
        contents.append(_layer(layer))
    properties = SubElement(root, "properties")
    _property(properties, "Paths", "Absolute", "bool", "false")
    _property(properties, "SpatialRefSys", "ProjectionsEnabled", "int", str(int(crs is not None)))
    return root


def _property(properties: Element, section: str, key: str, kind: str, value: str) -> None:
    SubElement(SubElement(properties, section), key, type=kind).text = value


def _tree(root: Element, layers: Iterable[Layer]) -> None:
    tree = SubElement(root, "layer-tree-group")
    SubElement(tree, "customproperties")
    for group, members in groupby(layers, key=lambda layer: layer.group):
        parent = _group(tree, group) if group else tree
        for layer in members:
            SubElement(
                parent,
                "layer-tree-layer",
                id=layer.id,
                name=layer.name,
                source=layer.source,
                providerKey=PROVIDERS[layer.kind],
                checked="Qt::Checked" if layer.shown else "Qt::Unchecked",
                expanded="0",
            )


def _group(tree: Element, name: str) -> Element:
    group = SubElement(tree, "layer-tree-group", name=name, checked="Qt::Checked", expanded="1")
    SubElement(group, "customproperties")
    return group


def _canvas(root: Element, crs: CRS | None, bounds: Bounds) -> None:
    canvas = SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    units = "unknown" if crs is None else "degrees" if crs.is_geographic else "meters"
    SubElement(canvas, "units").text = units
    extent = SubElement(canvas, "extent")
    left, bottom, right, top = bounds
    across, up = MARGIN * (right - left), MARGIN * (top - bottom)
    sides = {"xmin": left - across, "ymin": bottom - up, "xmax": right + across, "ymax": top + up}
    for name, value in sides.items():
        SubElement(extent, name).text = repr(value)
    SubElement(canvas, "rotation").text = "0"
    canvas.append(_reference("destinationsrs", crs))


def _layer(layer: Layer) -> Element:
    kind = {"type": layer.kind} | ({"labelsEnabled": "0"} if layer.kind == "vector" else {})
    element = Element("maplayer", kind, autoRefreshEnabled="0", hasScaleBasedVisibilityFlag="0")
    for tag, text in (("id", layer.id), ("datasource", layer.source), ("layername", layer.name)):
        SubElement(element, tag).text = text
    element.append(_reference("srs", layer.crs))
    SubElement(element, "provider", encoding="UTF-8").text = PROVIDERS[layer.kind]
    element.extend(ElementTree.fromstring(layer.style))
    return element


def _reference(tag: str, crs: CRS | None) -> Element:
    """A coordinate system: QGIS takes the authority's code where it knows it, else the WKT."""
    element = Element(tag)
    if crs is not None:
        system = SubElement(element, "spatialrefsys")
        SubElement(system, "wkt").text = crs.to_wkt()
        authority = crs.to_authority()
        SubElement(system, "authid").text = ":".join(authority) if authority else ""
    return element
