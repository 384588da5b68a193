"""Which targets PRN corrects, as the gate decided, and how that is told."""

from __future__ import annotations

from prngeo.models.card import Card


def enabled(card: Card) -> list[bool]:
    """For each target, whether PRN corrects it."""
    return [target.refine for target in card.targets.values()]


def gate_note(card: Card) -> str:
    """What a user should know of it, in a sentence or two."""
    on = [name for name, target in card.targets.items() if target.refine]
    off = [name for name, target in card.targets.items() if target.gate is not None and not target.refine]
    parts = []
    if on:
        parts.append(f"PRN is on for {' and '.join(on)}.")
    if off:
        parts.append(f"PRN is off for {' and '.join(off)}, disabled by its gate: only the base network works there.")
    return " ".join(parts) or "The model has no PRN."
