"""Processing algorithm Train."""

from __future__ import annotations

import json
import os

from qgis.core import (
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
)

from . import command
from .base import DEVICES, Algorithm, choice, switch

PARTS = {"prepare": 5, "base": 40, "folds": 25, "refiner": 20, "test": 10}


class Train(Algorithm):
    """`prngeo train`."""

    VERB = "train"
    TITLE = "Train"
    HELP = (
        "Trains a model as a configuration file (YAML) says. Relative paths in it count from its folder. A training "
        "that was cancelled continues when it is run again with the same settings; a half-written model is never left."
    )

    def initAlgorithm(self, config=None):
        self.add(QgsProcessingParameterFile("CONFIG", "Configuration", fileFilter="YAML (*.yaml *.yml)"))
        title = "Changes to it, one key=value a line"
        self.add(QgsProcessingParameterString("OVERRIDES", title, multiLine=True, optional=True))
        self.add(switch("OVERWRITE", "Start again where a training of this name was begun"))
        self.add(choice("DEVICE", "Device", DEVICES, "auto"), advanced=True)
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the model"))

    def processAlgorithm(self, parameters, context, feedback):
        config = os.path.abspath(self.parameterAsFile(parameters, "CONFIG", context))
        folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        device = self.parameterAsEnumString(parameters, "DEVICE", context)
        lines = self.parameterAsString(parameters, "OVERRIDES", context).splitlines()
        overrides = [line.strip() for line in lines if line.strip()]
        arguments = ["train", config, *overrides, f"device={device}", f"out={json.dumps(folder)}"]
        again = self.flags_of(parameters, context, OVERWRITE="--overwrite") or ["--resume"]
        finished = command.run(
            [*arguments, *again, "--progress", "json"], feedback, PARTS, folder=os.path.dirname(config)
        )
        return {} if finished is None else {"OUTPUT": folder}
