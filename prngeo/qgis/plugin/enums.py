"""Enumerations under their names before and since QGIS 3.36."""

from qgis.core import Qgis, QgsProcessing, QgsProcessingParameterDefinition

if hasattr(Qgis, "ProcessingSourceType"):
    POLYGONS = Qgis.ProcessingSourceType.VectorPolygon
    ADVANCED = Qgis.ProcessingParameterFlag.Advanced
else:
    POLYGONS = QgsProcessing.SourceType.TypeVectorPolygon
    ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced
