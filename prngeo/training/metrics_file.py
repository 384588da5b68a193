"""The figures of a training for programs: metrics.json. Keys keep their meaning; null is undefined."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prngeo import __version__
from prngeo.evaluation.bootstrap import RESAMPLES
from prngeo.evaluation.metrics import METRICS
from prngeo.evaluation.results import plain
from prngeo.training.count import BASE, BLOCK, PRN, RELAX, TUNED
from prngeo.training.evaluate import AreaResult
from prngeo.training.facts import ROLES, TrainingFacts, notes

UNITS = {
    "iou": "0..1, as all metrics",
    "pixels": "scene pixels; of areas of the split with their unlabelled parts and gaps",
    "threshold": "probability, 0..1",
    "temperature": "probability = sigmoid(logit / temperature)",
    "smallest_distance_m": "metres from training areas to those of the role, by source",
    "timings": "seconds",
    "tolerance_m": "metres, of relaxed metrics",
    "block_px": "side of a bootstrap block in scene pixels",
}
PREDICTIONS = {
    BASE: "base network, threshold 0.5",
    TUNED: "base network, the single threshold that is best on the validation areas",
    PRN: "base network and PRN, its threshold from the validation areas; also where its gate is off",
}


def as_json(facts: TrainingFacts) -> dict[str, Any]:
    """All figures of a training."""
    card = facts.bundle.card
    measured = {name for result in facts.results for one in result.predictions.values() for name in one.metrics}
    return {
        "prngeo": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": card.name, "version": card.version, "weights_sha256": card.weights_sha256},
        "seed": facts.config.seed,
        "notes": notes(facts),
        "tolerance_m": RELAX,
        "block_px": BLOCK,
        "interval": f"95 %, percentile bootstrap over blocks, {RESAMPLES} draws, seed 0, the same ones for differences",
        "definitions": {name: metric.definition for name, metric in METRICS.items() if name in measured},
        "units": UNITS,
        "predictions": PREDICTIONS,
        "targets": {name: target.model_dump(mode="json") for name, target in card.targets.items()},
        "tests": [_result(result) for result in facts.results],
        "split": {source: _source(facts, source) for source in facts.sources},
        "training": {
            "base": {name: plain(course) for name, course in facts.base_log.items()},
            "refiner": {name: plain(course) for name, course in facts.refiner_log.items()},
        },
        "compute": dict(facts.compute),
        "timings": {stage: round(seconds, 2) for stage, seconds in facts.timings.items()},
        "versions": dict(facts.versions),
        "config": facts.config.model_dump(mode="json"),
    }


def _result(result: AreaResult) -> dict[str, Any]:
    content: dict[str, Any] = plain(result)
    for prediction in content["predictions"].values():
        if prediction["curves"] is None:
            del prediction["curves"]
    return content


def _source(facts: TrainingFacts, source: str) -> dict[str, Any]:
    own = [region for region in facts.regions if region.source == source]
    told = facts.split.get(source, {})
    distances = told.get("smallest_distance_m", {})
    return {
        "license": facts.license(source),
        "gap_m": told.get("gap_m"),
        "smallest_distance_m": {role: distances.get(role) for role in ("test", "validation")},
        "regions": {
            role: {
                "regions": sum(region.role == role for region in own),
                "scenes": len({region.scene for region in own if region.role == role}),
                "pixels": sum(region.shape[0] * region.shape[1] for region in own if region.role == role),
            }
            for role in ROLES
        },
        **{
            kind: [
                {"scene": Path(scene).name, "reason": reason}
                for name, scene, reason in facts.dropped(kind)
                if name == source
            ]
            for kind in ("skipped", "left_out")
        },
    }
