"""The plugin, and the provider of its algorithms."""

from __future__ import annotations

import os

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from . import command
from .check import Check
from .predict import Predict
from .refine import Refine
from .train import Train
from .vectorize import Vectorize

ICON = os.path.join(os.path.dirname(__file__), "icon.svg")


class Provider(QgsProcessingProvider):
    """The algorithms and the setting that says where the command is."""

    def id(self):
        return "prngeo"

    def name(self):
        return "prngeo"

    def icon(self):
        return QIcon(ICON)

    def supportedOutputVectorLayerExtensions(self):
        return ["gpkg", "fgb", "geojson", "parquet"]

    def load(self):
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        description = "Path of the prngeo command (empty: the one on the search path)"
        ProcessingConfig.addSetting(Setting(self.name(), command.SETTING, description, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        ProcessingConfig.removeSetting(command.SETTING)

    def loadAlgorithms(self):
        for algorithm in (Predict, Vectorize, Refine, Check, Train):
            self.addAlgorithm(algorithm())


class Plugin:
    """What QGIS loads."""

    def __init__(self):
        self.provider = None

    def initProcessing(self):
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        self.initProcessing()

    def unload(self):
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
