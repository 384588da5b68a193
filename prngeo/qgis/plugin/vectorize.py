"""Processing algorithm Vectorize."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from . import command, layers
from .base import Algorithm, choice, number, switch

CENTERLINES = "road_centerlines"


class Vectorize(Algorithm):
    """`prngeo vectorize`."""

    VERB = "vectorize"
    TITLE = "Vectorize"
    HELP = (
        "Turns the mask (0/1, 0/255, a class of a class map) or probability raster of any tool into polygons. Target "
        "roads gives the network of their centerlines too."
    )

    def initAlgorithm(self, config=None):
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Mask or probability"))
        self.add(QgsProcessingParameterString("TARGET", "What the objects are (roads gives centerlines)", "buildings"))
        self.add(number("THRESHOLD", "Threshold, if it holds probabilities (prngeo's own know theirs)", 0, 1))
        self.add(number("VALUE", "Value of the objects, in class maps", -1e12), advanced=True)
        title = "Probability on the mask's pixels"
        self.add(QgsProcessingParameterRasterLayer("PROBABILITY", title, optional=True), advanced=True)
        self.add(switch("REGULARIZE", "Straight walls and right angles for buildings"))
        self.add(number("SPLIT", "Split objects at dips of the probability of at least", 0, 1), advanced=True)
        self.add(number("MIN_AREA", "Smallest polygon, m2", 0, default=4), advanced=True)
        self.add(number("MIN_HOLE", "Holes smaller than this are filled, m2", 0, default=0), advanced=True)
        self.add(number("SIMPLIFY", "Tolerance of outlines, m (0 keeps pixel edges)", 0, default=0), advanced=True)
        self.add(choice("CONNECTIVITY", "Pixels that join", ["4", "8"], "4"), advanced=True)
        self.add(number("PIXEL_SIZE", "Meters a pixel, for rasters without a CRS", 0.001), advanced=True)
        self.add(QgsProcessingParameterVectorDestination("OUTPUT", "Polygons"))
        self.addOutput(QgsProcessingOutputVectorLayer("CENTERLINES", "Road centerlines"))

    def processAlgorithm(self, parameters, context, feedback):
        path = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        target = self.parameterAsString(parameters, "TARGET", context)
        arguments = ["vectorize", self.raster(parameters, "INPUT", context), "-o", path, "--target", target]
        # A file that exists was confirmed in the dialog.
        arguments += ["--overwrite", "--progress", "json"]
        probability = self.raster(parameters, "PROBABILITY", context)
        arguments += ["--probability", probability] if probability else []
        arguments += self.numbers(
            parameters, context, THRESHOLD="--threshold", VALUE="--value", SPLIT="--split", MIN_AREA="--min-area",
            MIN_HOLE="--min-hole", SIMPLIFY="--simplify", PIXEL_SIZE="--pixel-size",
        )  # fmt: skip
        arguments += self.flags_of(parameters, context, REGULARIZE="--regularize")
        arguments += ["--connectivity", self.parameterAsEnumString(parameters, "CONNECTIVITY", context)]
        finished = command.run(arguments, feedback, {"vectorize": 1})
        if finished is None:
            return {}
        counts = finished.results[-1]["layers"]
        for name, count in counts.items():
            feedback.pushInfo(f"{name}: {count} features")
        results = {"OUTPUT": path}
        loaded = context.willLoadLayerOnCompletion(path)
        if loaded:
            layers.style(context.layerToLoadOnCompletionDetails(path))
        if CENTERLINES in counts:
            lines = f"{path}|layername={CENTERLINES}" if path.lower().endswith(".gpkg") else _beside(path)
            results["CENTERLINES"] = lines
            if loaded:
                layers.add([layers.Result(lines, "Road centerlines")], context)
        return results


def _beside(path):
    stem, _, suffix = path.rpartition(".")
    return f"{stem}_{CENTERLINES}.{suffix}"
