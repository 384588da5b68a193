"""Which targets PRN corrects, as the gate decided, and how that is told."""

from __future__ import annotations

from prngeo.models.card import Card


def enabled(card: Card) -> list[bool]:
    """For each target, whether PRN corrects it."""
    return [target.refine for target in card.targets.values()]


def gate_note(card: Card) -> str:
    """One sentence or two for the user."""
    if card.refiner is None:
        return "The model has no PRN."
    on = [name for name, target in card.targets.items() if target.refine]
    off = [name for name, target in card.targets.items() if not target.refine]
    parts = []
    if on:
        parts.append(f"PRN is on for {' and '.join(on)}.")
    if off:
        parts.append(
            f"PRN is off for {' and '.join(off)}, as its gate did not find a gain on validation data: what the graphs "
            "give there is the base network's."
        )
    return " ".join(parts)
