"""The embedded models at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from prngeo.models.bundle import WEIGHTS, embedded_models, open_bundle


@dataclass(frozen=True)
class ModelEntry:
    """One embedded model.

    Attributes:
        name: what `-m` takes.
        version: of the model.
        targets: what it finds.
        gsd: smallest and largest GSD in metres.
        license: of its weights.
        size_bytes: of its weights; 0 if they are missing.
    """

    name: str
    version: str
    targets: list[str]
    gsd: tuple[float, float]
    license: str
    size_bytes: int


def list_models() -> list[ModelEntry]:
    """The embedded models by name.

    Raises:
        UsageError: a card is damaged.
    """
    entries = []
    for name in embedded_models():
        bundle = open_bundle(name)
        card, weights = bundle.card, bundle.path / WEIGHTS
        size = weights.stat().st_size if weights.is_file() else 0
        entries.append(ModelEntry(name, card.version, list(card.targets), card.gsd, card.license, size))
    return entries
