"""Processing algorithm Check scene."""

from __future__ import annotations

import json

from qgis.core import QgsProcessingOutputBoolean, QgsProcessingOutputNumber

from . import command
from .base import Algorithm


class Check(Algorithm):
    """`prngeo check`."""

    VERB = "check"
    TITLE = "Check scene"
    HELP = (
        "Compares a scene with what a model expects and estimates memory and tiles; nothing is written. The log says "
        "what does not fit and what mends it."
    )
    CHOOSES = True

    def initAlgorithm(self, config=None):
        self.add_scene()
        self.addOutput(QgsProcessingOutputBoolean("CAN_RUN", "It can run"))
        self.addOutput(QgsProcessingOutputNumber("TILES", "Tiles"))
        self.addOutput(QgsProcessingOutputNumber("PEAK_MEMORY", "Memory in bytes"))

    def processAlgorithm(self, parameters, context, feedback):
        arguments = ["check", *self.scene_options(parameters, context), "--json"]
        finished = command.run(arguments, feedback, {}, accepted=(0, 1))
        if finished is None:
            return {}
        report = json.loads("\n".join(finished.output))
        for finding in report["findings"]:
            tell = {"ok": feedback.pushInfo, "warning": feedback.pushWarning}.get(
                finding["status"], feedback.reportError
            )
            advice = f" {finding['advice']}" if finding["advice"] else ""
            tell(f"{finding['status']}, {finding['name']}: {finding['scene']}; {finding['model']}.{advice}")
        estimate = report["estimate"] or {}
        feedback.pushInfo("It can run." if report["can_run"] else "It cannot run like this.")
        return {
            "CAN_RUN": report["can_run"],
            "TILES": estimate.get("tiles"),
            "PEAK_MEMORY": estimate.get("peak_memory"),
        }
