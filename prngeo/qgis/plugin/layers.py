"""Adding results to the map with the styles that come with them."""

from __future__ import annotations

import os
import zipfile
from xml.etree import ElementTree

from qgis.core import QgsProcessingContext, QgsProcessingLayerPostProcessorInterface

RANK = "prngeo/rank"
_alive = []  # QGIS does not keep post-processors that are written in Python


class Result:
    """A layer to add: what QGIS opens, its name in the legend, and whether it is drawn at once."""

    def __init__(self, source, name, shown=True):
        self.source = source
        self.name = name
        self.shown = shown


class Styled(QgsProcessingLayerPostProcessorInterface):
    """Gives an added layer its own style and its place in a group of the legend."""

    def __init__(self, group, rank, shown):
        super().__init__()
        self.group = group
        self.rank = rank
        self.shown = shown

    def postProcessLayer(self, layer, context, feedback):
        """Called by QGIS once the layer is in the project."""
        layer.loadDefaultStyle()
        layer.triggerRepaint()
        root = context.project().layerTreeRoot()
        node = root.findLayer(layer.id())
        if node is None or not self.group:  # newer versions place it themselves, later
            return
        group = root.findGroup(self.group) or root.insertGroup(0, self.group)
        moved = node.clone()
        moved.setCustomProperty(RANK, self.rank)
        moved.setItemVisibilityChecked(self.shown)
        moved.setExpanded(False)
        place = sum(int(child.customProperty(RANK, 0)) < self.rank for child in group.children())
        group.insertChildNode(place, moved)
        node.parent().removeChildNode(node)


def add(results, context, group=""):
    """Have layers added, from top to bottom, when the algorithm ends; returns their sources."""
    for rank, result in enumerate(results):
        details = QgsProcessingContext.LayerDetails(result.name, context.project(), result.name)
        details.forceName = True
        details.groupName = group
        details.layerSortKey = -rank
        style(details, group, rank, result.shown)
        context.addLayerToLoadOnCompletion(result.source, details)
    return [result.source for result in results]


def style(details, group="", rank=0, shown=True):
    """Have a layer that will be added styled."""
    styled = Styled(group, rank, shown)
    _alive.append(styled)
    details.setPostProcessor(styled)


def of_project(path):
    """The grouped layers of a project that prngeo wrote: its outputs, without the scene beneath."""
    with zipfile.ZipFile(path) as file:
        root = ElementTree.fromstring(file.read(file.namelist()[0]))
    folder = os.path.dirname(os.path.abspath(path))
    results = []
    for node in root.findall("layer-tree-group/layer-tree-group/layer-tree-layer"):
        name, _, sublayer = node.get("source").partition("|")
        source = os.path.normpath(os.path.join(folder, name)) + ("|" + sublayer if sublayer else "")
        results.append(Result(source, node.get("name"), node.get("checked") == "Qt::Checked"))
    return results
