"""Models for other programs and without torch: ONNX, GeoDeep and Deepness, STAC."""

from prngeo.export.run import ExportResult, export_model

__all__ = ["ExportResult", "export_model"]
