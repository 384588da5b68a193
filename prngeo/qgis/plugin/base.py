"""What the algorithms share: parameters of models, scenes and areas, and how their values become options."""

from __future__ import annotations

import os

from qgis.core import (
    QgsFeature,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingUtils,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QIcon

from . import command
from .enums import ADVANCED, POLYGONS

DEFAULT_MODEL = "prngeo-rgb"
DEVICES = ["auto", "cpu", "cuda", "mps"]
ICON = os.path.join(os.path.dirname(__file__), "icon.svg")


class Algorithm(QgsProcessingAlgorithm):
    """An algorithm that runs one verb of the command.

    Attributes:
        VERB: its name in Processing.
        TITLE: shown to people.
        HELP: a paragraph beside the parameters.
        CHOOSES: True if it offers the embedded models.
    """

    VERB = ""
    TITLE = ""
    HELP = ""
    CHOOSES = False

    def __init__(self, listed=False):
        super().__init__()
        self.models = command.models() if listed and self.CHOOSES else []

    def createInstance(self):
        # QGIS asks the first instance for its parameters when it starts: only later ones ask the command for models.
        return type(self)(listed=True)

    def name(self):
        return self.VERB

    def displayName(self):
        return self.TITLE

    def shortHelpString(self):
        return self.HELP

    def icon(self):
        return QIcon(ICON)

    def canExecute(self):
        try:
            command.find()
        except command.Failed as error:
            return False, str(error)
        return True, ""

    def add(self, parameter, advanced=False):
        """Add a parameter, or one that is folded away at first."""
        if advanced:
            parameter.setFlags(parameter.flags() | ADVANCED)
        self.addParameter(parameter)

    def add_scene(self):
        """Scene, bands, model, area and pixel size: what `predict` and `check` take."""
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Scene"))
        names = [model["name"] for model in self.models] or [DEFAULT_MODEL]
        self.add(choice("MODEL", "Model", names, DEFAULT_MODEL if DEFAULT_MODEL in names else names[0]))
        folder = QgsProcessingParameterFile.Behavior.Folder
        self.add(
            QgsProcessingParameterFile("MODEL_FOLDER", "Folder of a trained model, in its place", folder, optional=True)
        )
        self.add(
            QgsProcessingParameterBand(
                "BANDS", "Bands for red, green, blue (by their colors if empty)", None, "INPUT", True, True
            ),
            advanced=True,
        )
        self.add(QgsProcessingParameterFeatureSource("AOI", "Area of interest", [POLYGONS], optional=True))
        self.add(QgsProcessingParameterExtent("EXTENT", "Extent, in place of an area", optional=True))
        self.add(number("GSD", "Meters a pixel (as the scene tells if empty)", 0.001), advanced=True)

    def scene_options(self, parameters, context):
        """Scene and options of what `add_scene` added."""
        options = [self.raster(parameters, "INPUT", context)]
        options += ["-m", self.parameterAsFile(parameters, "MODEL_FOLDER", context) or
                    self.parameterAsEnumString(parameters, "MODEL", context)]  # fmt: skip
        bands = self.parameterAsInts(parameters, "BANDS", context)
        if bands:
            options += ["--bands", ",".join(map(str, bands))]
        area = self._area(parameters, context)
        if area:
            options += ["--aoi", area]
        return options + self.numbers(parameters, context, GSD="--gsd")

    def raster(self, parameters, name, context):
        """Path of a raster layer, or None if none is given."""
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            if parameters.get(name) not in (None, ""):
                raise QgsProcessingException(f"{name}: {parameters[name]} is not a raster that QGIS opens.")
            return None
        if layer.dataProvider().name() != "gdal":
            raise QgsProcessingException(f"{layer.name()} is not a file: save it as a GeoTIFF first.")
        return layer.source().split("|option:")[0]

    def numbers(self, parameters, context, **options):
        """Options of those numbers that are given."""
        given = [(name, option) for name, option in options.items() if parameters.get(name) not in (None, "")]
        values = [(option, self.parameterAsDouble(parameters, name, context)) for name, option in given]
        return [part for option, value in values for part in (option, f"{value:.12g}")]

    def flags_of(self, parameters, context, **options):
        """Options of those switches that are on."""
        return [option for name, option in options.items() if self.parameterAsBoolean(parameters, name, context)]

    def checkParameterValues(self, parameters, context):
        if parameters.get("AOI") and parameters.get("EXTENT"):
            return False, "Give an area of interest or an extent, not both."
        return super().checkParameterValues(parameters, context)

    def _area(self, parameters, context):
        """A file that holds the polygons, of the extent or of the layer's (selected) features."""
        source = self.parameterAsSource(parameters, "AOI", context)
        if source is not None:
            shapes, crs = [feature.geometry() for feature in source.getFeatures()], source.sourceCrs()
        elif parameters.get("EXTENT") not in (None, ""):
            crs = self.parameterAsExtentCrs(parameters, "EXTENT", context)
            shapes = [self.parameterAsExtentGeometry(parameters, "EXTENT", context, crs)]
        else:
            return None
        layer = QgsVectorLayer("MultiPolygon", "area", "memory")
        layer.setCrs(crs)
        features = []
        for shape in shapes:
            feature = QgsFeature()
            shape.convertToMultiType()
            feature.setGeometry(shape)
            features.append(feature)
        layer.dataProvider().addFeatures(features)
        path = QgsProcessingUtils.generateTempFilename("area.gpkg")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        answer = QgsVectorFileWriter.writeAsVectorFormatV3(layer, path, context.transformContext(), options)
        if answer[0] != QgsVectorFileWriter.WriterError.NoError:
            raise QgsProcessingException(f"The area of interest could not be written: {answer[1]}")
        return path


def choice(name, title, options, default=None, several=False, optional=False):
    """A parameter that takes words of a list."""
    return QgsProcessingParameterEnum(
        name, title, options, several, default, optional or default is None, usesStaticStrings=True
    )


def number(name, title, lowest, highest=1e12, default=None):
    """A parameter that takes a number; optional without a default."""
    kind = QgsProcessingParameterNumber.Type.Double
    return QgsProcessingParameterNumber(name, title, kind, default, default is None, lowest, highest)


def switch(name, title, default=False):
    """A parameter that is on or off."""
    return QgsProcessingParameterBoolean(name, title, default)
