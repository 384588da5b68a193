"""The figures of an evaluation on the terminal."""

from __future__ import annotations

import typer

from prngeo.cli.tables import console, table
from prngeo.evaluation.metrics import METRICS
from prngeo.evaluation.results import Evaluation, Judgement
from prngeo.evaluation.rows import difference, interval, network_rows, number, object_rows, verdict
from prngeo.evaluation.wording import blocks_sentence, counted, headroom_sentence


def print_evaluation(result: Evaluation) -> None:
    """Metrics, objects or network, comparison and bias."""
    _print_head(result)
    out = console()
    headings, rows = _metrics(result)
    out.print(table(headings, rows, right=[heading for heading in headings if heading]))
    if result.prediction.objects is not None:
        names = ["objects", *(one.name for one in result.predictions)]
        out.print(table(names, object_rows(result.predictions), right=names[1:]))
    if result.prediction.network is not None:
        names = ["network", *(one.name for one in result.predictions)]
        found = [[label, *values] for label, values, _ in network_rows(result.predictions, result.unit)]
        out.print(table(names, found, right=names[1:]))
    if result.comparison is not None:
        typer.echo(blocks_sentence(result.comparison))
    _print_bias(result.prediction)
    _print_tail(result)


def print_diagnosis(result: Evaluation) -> None:
    """Headroom by patch size and bias."""
    _print_head(result)
    out = console()
    for one in result.predictions:
        if one.diagnosis is None:
            continue
        headings = ["patch, px", "patches", "best single threshold", "neighbors' threshold", "joint oracle"]
        rows = [
            [str(item.patch), f"{item.patches:,}", number(item.tuned), number(item.neighbors), number(item.joint)]
            for item in one.diagnosis.headroom
        ]
        if rows:
            out.print(table(headings, rows, title=f"IoU of the {one.name}", right=headings))
        _print_bias(one)
    _print_tail(result)


def _metrics(result: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: with a baseline the interval is that of the difference, which is what decides."""
    comparison = result.comparison
    headings = ["", *(one.name for one in result.predictions)]
    headings += ["95 % interval"] if comparison is None else ["difference", "95 % interval", "verdict"]
    rows = []
    for name, metric in METRICS.items():
        if name not in result.prediction.metrics:
            continue
        cells = [metric.label, *(number(one.figure(name).value) for one in result.predictions)]
        if comparison is None:
            rows.append([*cells, interval(result.prediction.figure(name))])
        else:
            figure = comparison.figure(name)
            rows.append([*cells, difference(figure.value), interval(figure, signed=True), verdict(name, figure)])
    return headings, rows


def _print_head(result: Evaluation) -> None:
    gsd = " x ".join(f"{value:.3g}" for value in dict.fromkeys(result.gsd))
    typer.echo(
        f"{result.known_pixels:,} pixels of {gsd} {result.unit} compared, {result.true_share:.1%} of them "
        f"{result.target or 'objects'}; {counted(result.blocks, 'block')} of {result.block} pixels."
    )
    for text in result.warnings:
        typer.echo(f"Note: {text}", err=True)


def _print_bias(one: Judgement) -> None:
    if one.diagnosis is None:
        return
    found = one.diagnosis
    typer.echo(
        f"Bias of the {one.name}: mean probability minus share of objects {found.mean_bias:+.3f}, mean size over "
        f"patches of {found.maps.patch} pixels {number(found.mean_absolute_bias)}. {headroom_sentence(found)}"
    )


def _print_tail(result: Evaluation) -> None:
    if "report" in result.files:
        typer.echo(f"Report: {result.files['report']}", err=True)
