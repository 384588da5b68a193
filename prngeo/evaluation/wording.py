"""What figures mean, in sentences that the report and the terminal share."""

from __future__ import annotations

from prngeo.evaluation.results import Comparison, Diagnosis

LEAST_GAIN = 0.1
"""Points of IoU below which thresholds of neighbors gain nothing to speak of."""


def counted(count: int, thing: str) -> str:
    """1 block, 2 blocks."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def blocks_sentence(found: Comparison) -> str:
    """In how many blocks a prediction is better than the baseline."""
    blocks = counted(found.better + found.worse + found.equal, "block")
    return (
        f"IoU is larger than the baseline's in {found.better} of {blocks} that have one, smaller in {found.worse}, the "
        f"same in {found.equal}."
    )


def headroom_sentence(found: Diagnosis) -> str:
    """What the diagnosis says, in words."""
    if not found.headroom or found.tuned_threshold is None:
        return "The truth holds no object, so no threshold is better than another."
    regional = max(found.headroom, key=lambda one: one.neighbors or 0.0)
    gain = ((regional.neighbors or 0.0) - regional.tuned) * 100
    bound = (regional.joint - regional.tuned) * 100
    start = f"The best single threshold is {found.tuned_threshold:g}, with an IoU of {regional.tuned:.3f}. "
    if gain < LEAST_GAIN:
        return start + (
            "Thresholds taken from neighboring patches gain next to nothing over it, at any patch size: there is no "
            f"regional bias that place alone foretells. The oracle's {bound:.1f} points at {regional.patch} pixels are "
            "an upper bound that a refiner could approach only with what it reads from scores and image."
        )
    return start + (
        f"Thresholds taken from neighboring patches of {regional.patch} pixels gain {gain:.1f} points, the joint "
        f"oracle {bound:.1f}: the first is regional and so within the reach of a refiner such as PRN, the second "
        "an upper bound."
    )
