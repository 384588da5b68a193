"""Processing algorithm Predict."""

from __future__ import annotations

import os

from qgis.core import (
    QgsProcessingOutputFile,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
)

from . import command, layers
from .base import DEVICES, Algorithm, choice, number, switch

PARTS = {"segment": 85, "finish": 5, "vectorize": 10}


class Predict(Algorithm):
    """`prngeo predict`."""

    VERB = "predict"
    TITLE = "Predict"
    HELP = (
        "Finds roads and buildings in an aerial or drone image: probability, mask and correction rasters, polygons "
        "and road centerlines, and a project with all of them over the scene. Cancelling leaves nothing behind."
    )
    CHOOSES = True

    def initAlgorithm(self, config=None):
        self.add_scene()
        targets = list(dict.fromkeys(target for model in self.models for target in model["targets"]))
        title = "Targets (all if empty)"
        self.add(choice("TARGETS", title, targets or ["roads", "buildings"], several=True))
        self.add(switch("REFINE", "Correct regional bias (PRN)", True))
        self.add(switch("REGULARIZE", "Straight walls and right angles for buildings"))
        self.add(number("THRESHOLD", "Threshold (the model's own if empty)", 0, 1), advanced=True)
        self.add(number("SPLIT", "Split buildings at dips of the probability of at least", 0, 1), advanced=True)
        self.add(number("MIN_AREA", "Smallest polygon, m2", 0, default=4), advanced=True)
        self.add(number("SIMPLIFY", "Tolerance of outlines, m (0 keeps pixel edges)", 0, default=0), advanced=True)
        self.add(switch("TTA", "Average four flips of each tile (four times slower)"), advanced=True)
        self.add(choice("DEVICE", "Device", DEVICES, "auto"), advanced=True)
        self.add(QgsProcessingParameterString("MAX_MEMORY", "Memory it may use", "4GB"), advanced=True)
        self.add(switch("OVERWRITE", "Replace existing outputs"))
        self.add(switch("LOAD", "Add the results to the map", True))
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the outputs"))
        self.addOutput(QgsProcessingOutputFile("PROJECT", "Project"))
        self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Layers"))

    def processAlgorithm(self, parameters, context, feedback):
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        arguments = ["predict", *self.scene_options(parameters, context), "-o", folder, "--progress", "json"]
        for target in filter(None, self.parameterAsEnumStrings(parameters, "TARGETS", context)):
            arguments += ["--target", target]
        if not self.parameterAsBoolean(parameters, "REFINE", context):
            arguments.append("--no-refine")
        arguments += self.flags_of(parameters, context, REGULARIZE="--regularize", TTA="--tta", OVERWRITE="--overwrite")
        arguments += self.numbers(
            parameters, context, THRESHOLD="--threshold", SPLIT="--split", MIN_AREA="--min-area", SIMPLIFY="--simplify"
        )
        arguments += ["--device", self.parameterAsEnumString(parameters, "DEVICE", context)]
        arguments += ["--max-memory", self.parameterAsString(parameters, "MAX_MEMORY", context)]
        finished = command.run(arguments, feedback, PARTS)
        if finished is None:
            return {}
        result = finished.results[-1]
        for target, figures in result["targets"].items():
            feedback.pushInfo(f"{target}: {figures['polygons']} polygons, {figures['area_m2']:.0f} m2")
        found = layers.of_project(result["project"])
        if self.parameterAsBoolean(parameters, "LOAD", context):
            layers.add(found, context, os.path.splitext(os.path.basename(result["project"]))[0])
        return {"OUTPUT": folder, "PROJECT": result["project"], "LAYERS": [layer.source for layer in found]}
