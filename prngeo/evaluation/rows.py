"""Figures as text, and the rows of tables that the report and the terminal share."""

from __future__ import annotations

from collections.abc import Sequence

from prngeo.evaluation.metrics import METRICS
from prngeo.evaluation.results import Figure, Judgement

UNDEFINED = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """Three decimals."""
    return UNDEFINED if value is None else f"{value:.3f}"


def difference(value: float | None) -> str:
    """Three decimals with a sign."""
    return UNDEFINED if value is None else f"{value:+.3f}".replace("-", MINUS)


def interval(figure: Figure, signed: bool = False) -> str:
    """The ends of an interval, or nothing."""
    if figure.low is None or figure.high is None:
        return ""
    show = difference if signed else number
    return f"[{show(figure.low)}, {show(figure.high)}]"


def _ends(found: tuple[float, float] | None) -> str:
    return "" if found is None else f" [{number(found[0])}, {number(found[1])}]"


def verdict(name: str, figure: Figure) -> str:
    """Better, worse, or not told apart, by the interval of a difference."""
    if figure.low is None or figure.high is None:
        return ""
    if figure.low <= 0 <= figure.high:
        return "not told apart"
    return "better" if (figure.low > 0) == METRICS[name].more_is_better else "worse"


def object_rows(judged: Sequence[Judgement]) -> list[list[str]]:
    """Label, then one value a prediction."""
    counts = [one.objects for one in judged if one.objects is not None]
    return [
        ["True objects", *(f"{one.true:,}" for one in counts)],
        ["Predicted objects", *(f"{one.predicted:,}" for one in counts)],
        ["Matched at an IoU of 0.5", *(f"{one.matched:,}" for one in counts)],
        ["Mean IoU of matched objects", *(number(one.mean_iou) for one in counts)],
        ["True objects split into pieces (over-segmentation)", *(f"{one.split:,}" for one in counts)],
        ["Predicted objects that join several (under-segmentation)", *(f"{one.merging:,}" for one in counts)],
    ]


def network_rows(judged: Sequence[Judgement], unit: str) -> list[tuple[str, list[str], str]]:
    """Label, one value a prediction, definition."""
    found = [one.network for one in judged if one.network is not None]
    ways = [one.connectivity for one in found]
    rows = [
        (
            "APLS",
            [number(one.apls.score) + _ends(one.apls_interval) for one in found],
            "average path length similarity: how lengths of shortest paths agree, both ways (Van Etten et al. 2018)"
            + ("; paths from a sample of nodes" if any(one.apls.sampled for one in found) else ""),
        ),
        ("APLS, true paths in the prediction", [number(one.apls.truth_to_predicted) for one in found], ""),
        ("APLS, predicted paths in the truth", [number(one.apls.predicted_to_truth) for one in found], ""),
        (
            "TOPO F1",
            [number(one.topo.f1) for one in found],
            f"places within 300 {unit} of the same seeds, matched within 10 {unit} (Biagioni and Eriksson 2012)",
        ),
        ("TOPO precision", [number(one.topo.precision) for one in found], ""),
        ("TOPO recall", [number(one.topo.recall) for one in found], ""),
        (
            "Junction F1",
            [number(one.junctions.f1) for one in found],
            f"crossings of three or more lines, matched one to one within 10 {unit}",
        ),
        ("Junctions, true", [f"{one.junctions.truth:,.0f}" for one in found], ""),
        ("Junctions, predicted", [f"{one.junctions.predicted:,.0f}" for one in found], ""),
        (
            "Completeness",
            [number(one.lengths.recall) for one in found],
            "share of the true length near a predicted line (Heipke et al. 1997)",
        ),
        (
            "Correctness",
            [number(one.lengths.precision) for one in found],
            "share of the predicted length near a true line",
        ),
        ("Quality", [number(one.lengths.quality) for one in found], "matched length in the length of both"),
    ]
    length = "km" if unit == "m" else "1000 px"
    rows += [
        (f"True network, {length}", [f"{one.truth_km:,.2f}" for one in ways], ""),
        (f"Predicted network, {length}", [f"{one.predicted_km:,.2f}" for one in ways], ""),
        ("Connected parts, true", [f"{one.truth_components:,}" for one in ways], ""),
        ("Connected parts, predicted", [f"{one.predicted_components:,}" for one in ways], ""),
        (
            "Paths of the right length",
            [number(one.correct) for one in ways],
            "share of true paths whose length in the prediction is right within 5 % (Wegner et al. 2013)",
        ),
        ("Paths too long", [number(one.too_long) for one in ways], ""),
        ("Paths too short", [number(one.too_short) for one in ways], ""),
        ("Paths missing", [number(one.infeasible) for one in ways], ""),
    ]
    return rows
