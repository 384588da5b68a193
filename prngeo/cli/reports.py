"""The reports of `check` and `doctor` as tables."""

from __future__ import annotations

from rich.text import Text

from prngeo.cli.tables import console, table
from prngeo.cli.units import duration, size
from prngeo.inspection.check import SECONDS_PER_TILE, CheckReport, Estimate
from prngeo.inspection.system import SystemReport

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def print_check(report: CheckReport) -> None:
    """The comparison of a scene with a model: a table, then what to do about each mismatch."""
    out = console()
    rows = [
        (Text(finding.status, style=_STYLES[finding.status]), finding.name, finding.scene, finding.model)
        for finding in report.findings
    ]
    out.print(table(("", "", "scene has", f"{report.model} takes"), rows, title=report.path))
    for finding in report.findings:
        if finding.advice:
            label = Text(f"{finding.status}, {finding.name}: ", style=_STYLES[finding.status])
            out.print(label.append(finding.advice, style="default not bold"))
    if report.estimate:
        for line in _estimate_lines(report.estimate):
            out.print(Text(line))
    verdict = "It can run." if report.can_run else "It cannot run like this."
    out.print(Text(verdict, style=_STYLES["ok" if report.can_run else "error"]))


def _estimate_lines(estimate: Estimate) -> list[str]:
    lines = [
        f"Estimated memory: {size(estimate.peak_memory)}; scratch folder: at most {size(estimate.scratch)}.",
        f"Tiles: at most {estimate.tiles}.",
    ]
    if estimate.network_seconds:
        fast, slow = map(duration, estimate.network_seconds)
        lines.append(
            f"Estimated time in the network: {fast} (CPU with bfloat16) to {slow} (without), from "
            f"{SECONDS_PER_TILE[0]:g} to {SECONDS_PER_TILE[1]:g} s a tile of 512 px measured on 2 CPU cores; a GPU "
            "takes less, reading and vectorizing come on top."
        )
    else:
        lines.append("Time: no figure was measured for this network and device.")
    return lines


def print_system(report: SystemReport) -> None:
    """Versions, devices, memory, disk and models."""
    out = console()
    out.print(table(("", ""), list(report.versions.items()), title="Versions"))
    rows = [
        ("CPU", f"{report.cpu.name}, {report.cpu.cores} cores, bfloat16: {_yes(report.cpu.bfloat16)}"),
        *(("GPU", f"{gpu.name}, {size(gpu.memory)}") for gpu in report.gpus),
        ("NVIDIA", report.nvidia),
        ("--device auto", f"{report.device}, {report.precision}" if report.device else "unknown"),
        ("memory", f"{size(report.memory_free)} free of {size(report.memory_total)}"),
        *((f"disk {place}", f"{size(free)} free") for place, free in report.disk_free.items()),
    ]
    out.print(table(("", ""), rows, title="Machine"))
    models = [(model.name, model.version, model.state) for model in report.models]
    if models:
        out.print(table(("", "", ""), models, title="Embedded models"))
    for problem in report.problems:
        out.print(Text(f"problem: {problem}", style=_STYLES["error"]))
    if not report.problems:
        out.print(Text("Predictions can run.", style=_STYLES["ok"]))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
