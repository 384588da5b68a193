"""The closing summary of a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prngeo.cli.units import area, duration, size

if TYPE_CHECKING:
    from prngeo.inference.result import PredictResult, TargetSummary


def result_lines(result: PredictResult) -> list[str]:
    """The summary for people: figures of the run, one line a target, warnings."""
    lines = [f"warning: {text}" for text in result.warnings]
    lines.append(
        f"{result.scene}: {duration(result.seconds)}, {result.megapixels_per_second:.3g} Mpx/s, "
        f"peak memory {size(result.peak_memory)}"
    )
    width = max(map(len, result.targets), default=0)
    lines += [f"  {name:<{width}}  {_target(target)}" for name, target in result.targets.items()]
    lines.append(f"  outputs in {result.folder.resolve()}")
    return lines


def result_event(result: PredictResult) -> dict[str, Any]:
    """The summary for programs."""
    from dataclasses import asdict

    return {
        "event": "result",
        "scene": result.scene,
        "folder": str(result.folder.resolve()),
        "rasters": {
            target: {kind: str(path) for kind, path in kinds.items()} for target, kinds in result.rasters.items()
        },
        "vectors": [str(path) for path in result.vectors],
        "project": str(result.project),
        "record": str(result.record),
        "targets": {name: asdict(target) for name, target in result.targets.items()},
        "seconds": round(result.seconds, 2),
        "megapixels_per_second": round(result.megapixels_per_second, 3),
        "peak_memory": result.peak_memory,
        "warnings": result.warnings,
    }


def _target(target: TargetSummary) -> str:
    plural = "" if target.polygons == 1 else "s"
    refiner = "base network alone"
    if target.refined:
        share = target.changed_pixels / max(1, target.valid_pixels)
        refiner = f"PRN changed {share:.2%} of the pixels"
    lines = "" if target.length_m is None else f", {target.length_m / 1000:.3g} km of centerlines"
    found = f"{area(target.area_m2)} in {target.polygons} polygon{plural}{lines}"
    return f"{found}, threshold {target.threshold:g}, {refiner}"
