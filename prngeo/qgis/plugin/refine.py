"""Processing algorithm Refine scores."""

from __future__ import annotations

import os

from qgis.core import (
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterRasterLayer,
)

from . import command, layers
from .base import DEVICES, Algorithm, choice, switch

KINDS = ("mask", "correction", "probability")
VALUES = ["auto", "unit", "percent", "byte", "logit"]
PARTS = {"refine": 85, "finish": 15}


class Refine(Algorithm):
    """`prngeo refine apply`."""

    VERB = "refine"
    TITLE = "Refine scores"
    HELP = (
        "Corrects the regional bias of probabilities or logits of any segmenter, with a refiner that `prngeo refine "
        "fit` made: refined probability, mask and correction on the same pixels."
    )

    def initAlgorithm(self, config=None):
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Scores (probabilities or logits)"))
        folder = QgsProcessingParameterFile.Behavior.Folder
        self.add(QgsProcessingParameterFile("MODEL", "Refiner (a folder such as my.prn)", folder))
        title = "Image on the same pixels, for refiners that read one"
        self.add(QgsProcessingParameterRasterLayer("IMAGE", title, optional=True))
        self.add(choice("VALUES", "What the scores mean", VALUES, "auto"), advanced=True)
        self.add(choice("DEVICE", "Device", DEVICES, "auto"), advanced=True)
        self.add(switch("OVERWRITE", "Replace existing outputs"))
        self.add(switch("LOAD", "Add the results to the map", True))
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the outputs"))
        self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Layers"))

    def processAlgorithm(self, parameters, context, feedback):
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        scores = self.raster(parameters, "INPUT", context)
        model = self.parameterAsFile(parameters, "MODEL", context)
        arguments = ["refine", "apply", "--scores", scores, "-m", model, "-o", folder, "--progress", "json"]
        image = self.raster(parameters, "IMAGE", context)
        arguments += ["--image", image] if image else []
        arguments += ["--values", self.parameterAsEnumString(parameters, "VALUES", context)]
        arguments += ["--device", self.parameterAsEnumString(parameters, "DEVICE", context)]
        arguments += self.flags_of(parameters, context, OVERWRITE="--overwrite")
        finished = command.run(arguments, feedback, PARTS)
        if finished is None:
            return {}
        result = finished.results[-1]
        found = [
            layers.Result(os.path.abspath(paths[kind]), f"{name} {kind}".capitalize(), kind == "mask")
            for name, paths in result["rasters"].items()
            for kind in KINDS
            if kind in paths
        ]
        if result.get("class_map"):
            found.append(layers.Result(os.path.abspath(result["class_map"]), "Classes"))
        if self.parameterAsBoolean(parameters, "LOAD", context):
            layers.add(found, context, os.path.splitext(os.path.basename(scores))[0])
        return {"OUTPUT": folder, "LAYERS": [layer.source for layer in found]}
