"""The figures of an evaluation on the terminal."""

from __future__ import annotations

import typer

from prngeo.cli.tables import console, table
from prngeo.evaluation.metrics import METRICS
from prngeo.evaluation.results import Evaluation, Judgement
from prngeo.evaluation.rows import difference, interval, network_rows, number, object_rows, verdict
from prngeo.evaluation.wording import headroom_sentence


def print_evaluation(result: Evaluation) -> None:
    """Metrics, objects or network, comparison and bias."""
    _print_head(result)
    out = console()
    rows = []
    for name, metric in METRICS.items():
        if name in result.prediction.metrics:
            cells = [metric.label]
            for one in result.predictions:
                cells += [number(one.metrics[name].value), interval(one.metrics[name])]
            if result.comparison is not None:
                figure = result.comparison.differences[name]
                cells += [difference(figure.value), interval(figure, signed=True), verdict(name, figure)]
            rows.append(cells)
    headings = ["", *_names(result, "95 % interval")]
    if result.comparison is not None:
        headings += ["difference", "of the difference", ""]
    out.print(table(headings, rows, right=[heading for heading in headings if heading]))
    if result.prediction.objects is not None:
        names = ["objects", *(one.name for one in result.predictions)]
        out.print(table(names, object_rows(result.predictions), right=names[1:]))
    if result.prediction.network is not None:
        names = ["network", *(one.name for one in result.predictions)]
        found = [[label, *values] for label, values, _ in network_rows(result.predictions, result.unit)]
        out.print(table(names, found, right=names[1:]))
    if result.comparison is not None:
        found_in = result.comparison
        blocks = found_in.better + found_in.worse + found_in.equal
        typer.echo(
            f"IoU is larger than the baseline's in {found_in.better} of {blocks} blocks, smaller in {found_in.worse}."
        )
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


def _names(result: Evaluation, second: str) -> list[str]:
    return [heading for one in result.predictions for heading in (one.name, second)]


def _print_head(result: Evaluation) -> None:
    gsd = " x ".join(f"{value:.3g}" for value in dict.fromkeys(result.gsd))
    typer.echo(
        f"{result.known_pixels:,} pixels of {gsd} {result.unit} compared, {result.true_share:.1%} of them "
        f"{result.target or 'objects'}; {result.blocks} blocks of {result.block} pixels."
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
