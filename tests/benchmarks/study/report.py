"""Tables and plots of the study, from the cells that are there; a missing one is shown as missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from study.cells import ABLATIONS, ROWS
from study.scoring import read, summary
from study.shift import COUNTS, METHODS

MISSING = "missing"
LABELS = {
    "base": "base at 0.5",
    "tuned": "best single threshold",
    "sauvola": "local thresholds (Sauvola)",
    "crf": "dense CRF",
    "fast": "**PRN fast**",
    "paper": "**PRN paper**",
    "oracle image": "oracle: a threshold a tile",
    "oracle per_patch": "oracle: per patch of 64 px, each its own IoU",
    "oracle joint": "oracle: per patch of 64 px, jointly",
}
COLUMNS = ("iou", "mean_iou", "f1", "boundary_iou", "relaxed_f1", "calibration_error")


@dataclass(frozen=True)
class Results:
    """What was measured.

    Attributes:
        own_region: by data set and base, then by row.
        shift: by case, then by method and number of tiles.
        planted: one for each kind of bias and target.
    """

    own_region: dict[str, dict]
    shift: dict[str, dict]
    planted: list[dict]

    def over(self, earlier: Results) -> Results:
        """These, and earlier ones of what is not among them: rows of one base are never mixed with those of another."""
        mine = {(row["kind"], row["target"]) for row in self.planted}
        planted = [*self.planted, *(row for row in earlier.planted if (row["kind"], row["target"]) not in mine)]
        return Results(
            {**earlier.own_region, **self.own_region},
            {**earlier.shift, **self.shift},
            sorted(planted, key=lambda row: (row["target"], row["kind"])),
        )


def earlier(folder: Path) -> Results:
    """What was written there before."""
    path = folder / "results.json"
    return Results(**json.loads(path.read_text())) if path.exists() else Results({}, {}, [])


def collect(cells: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, dict]:
    """Figures of every cell, by data set, base and row; what is missing has none."""
    found: dict[str, dict] = {}
    for data, base in pairs:
        folder = cells / data / base
        reference = folder / "tuned.json"
        if not reference.exists():
            continue
        tuned, _ = read(reference)
        rows = {}
        for path in sorted(folder.glob("*.json")):
            counts, notes = read(path)
            rows[path.stem.replace("-", " ", 1) if path.stem.startswith(("oracle", "fast-")) else path.stem] = {
                **summary(counts, tuned), "notes": notes,
            }  # fmt: skip
        found[f"{data} / {base}"] = rows
    return found


def shifts(folder: Path) -> dict[str, dict]:
    """Figures of every result under region shift."""
    found: dict[str, dict] = {}
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        results = {}
        for path in sorted(place.glob("*.json")):
            method, _, count = path.stem.rpartition("-")
            counts, notes = read(path)
            reference = place / f"tuned-{count}.json"
            compared = read(reference)[0] if reference.exists() else counts
            results[f"{_method(method)} {count}"] = {**summary(counts, compared), "notes": notes}
        found[place.name] = results
    return found


def _method(stem: str) -> str:
    return next((name for name in METHODS if name.replace(" ", "-") == stem), stem)


def planted(folder: Path) -> list[dict]:
    """Results of towns with a planted bias."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def markdown(results: Results, pairs: Iterable[tuple[str, str]]) -> str:
    """The tables; pairs of data set and base are shown first, and if nothing is known of them."""
    parts = ["## In the base's own region\n"]
    for name in dict.fromkeys([*(f"{data} / {base}" for data, base in pairs), *results.own_region]):
        data, base = name.split(" / ")
        parts.append(f"### {data}, base {base}\n\n{_table(results.own_region.get(name, {}))}\n")
    parts += ["## Ablations of PRN fast\n", _ablations(results.own_region), "## Under region shift\n"]
    parts += [f"### {name}\n\n{_shift(rows)}\n" for name, rows in results.shift.items()] or [MISSING]
    parts += ["## Towns with a planted bias\n", _planted(results.planted)]
    return "\n".join(parts)


def _table(rows: dict) -> str:
    lines = [
        "| | IoU | mean IoU | F1 | boundary IoU | relaxed F1 | ECE | ms a tile | gain over the best threshold |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in ROWS:
        row = rows.get(name)
        if row is None:
            lines.append(f"| {LABELS[name]} | {MISSING} | | | | | | | |")
            continue
        figures = " | ".join(_number(row.get(column)) for column in COLUMNS)
        time = row["notes"].get("milliseconds")
        gain = "" if name in ("base", "tuned") else _gain(row)
        if row["notes"].get("enabled") is False:
            gain += "; switched off by its gate"
        lines.append(f"| {LABELS[name]} | {figures} | {'' if time is None else f'{time:.0f}'} | {gain} |")
    return "\n".join(lines)


def _ablations(results: dict[str, dict]) -> str:
    names = [name for name, rows in results.items() if any(f"fast {a}" in rows for a in ABLATIONS)]
    if not names:
        return MISSING + "\n"
    lines = ["| change | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for change in ABLATIONS:
        row = f"fast {change}"
        cells = [_gain(results[name][row]) if row in results[name] else MISSING for name in names]
        lines.append(f"| {'none' if change == 'short' else change} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shift(rows: dict) -> str:
    lines = ["| labelled tiles | " + " | ".join(METHODS) + " |", "|---|" + "---|" * len(METHODS)]
    most = rows["base 0"]["notes"]["labelled"] if "base 0" in rows else max(COUNTS)
    for count in (count for count in COUNTS if count <= most):
        cells = []
        for method in METHODS:
            row = rows.get(f"{method} {0 if method == 'base' else count}")
            cells.append(
                MISSING if row is None else f"{row['iou']:.3f}" + (f" ({row['gain']:+.1f})" if row["gain"] else "")
            )
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _planted(towns: list[dict]) -> str:
    lines = ["| bias planted in | target | biased IoU | with PRN | without the bias | won back |", "|---|" + "---|" * 5]
    for row in towns:
        figures = " | ".join(f"{row[name]:.3f}" for name in ("biased", "refined", "unbiased"))
        lines.append(f"| {row['kind']} | {row['target']} | {figures} | {100 * row['share']:.0f} % |")
    return "\n".join(lines if towns else [MISSING]) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.3f}"


def _gain(row: dict) -> str:
    ends = row["gain_interval"]
    return f"{row['gain']:+.2f}" + (f" [{ends[0]:+.2f}, {ends[1]:+.2f}]" if ends else "")


def plots(results: dict[str, dict], shifted: dict[str, dict], folder: Path) -> None:
    """gains.png and shift.png."""
    names = [name for name, rows in results.items() if "fast" in rows]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.55 * len(names)), layout="constrained")
    for offset, (row, color) in enumerate([("fast", "#1f77b4"), ("paper", "#d62728")]):
        for place, name in enumerate(names):
            if row not in results[name]:
                continue
            cell = results[name][row]
            width = np.abs(np.array([cell["gain_interval"]]).T - cell["gain"])
            inside = color if cell["notes"]["enabled"] else "white"
            at = place + 0.2 * (offset - 0.5)
            axes.errorbar(cell["gain"], at, xerr=width, fmt="o", color=color, mfc=inside, capsize=3)
        axes.plot([], [], "o", color=color, label=f"PRN {row}")
    axes.plot([], [], "o", color="grey", mfc="white", label="switched off by its gate")
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("IoU points over the best single threshold, 95 % interval over test tiles")
    axes.legend()
    figure.savefig(folder / "gains.png", dpi=110)
    if not shifted:
        return
    figure, grid = plt.subplots(
        1, len(shifted), figsize=(6 * len(shifted) + 1.5, 3.8), squeeze=False, layout="constrained"
    )
    for axes, (name, rows) in zip(grid[0], shifted.items(), strict=True):
        for number, method in enumerate(METHODS[1:]):
            known = [(c, rows[f"{method} {c}"]["iou"]) for c in COUNTS if f"{method} {c}" in rows]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color=f"C{number}", label=method)
        if "base 0" in rows:
            axes.axhline(rows["base 0"]["iou"], color="grey", ls=":", label="base at 0.5")
        axes.set_xscale("log")
        axes.minorticks_off()
        counts = [count for count in COUNTS if any(f"{method} {count}" in rows for method in METHODS)]
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(xlabel="labelled tiles of the new region", ylabel="IoU")
        axes.set_title(name, fontsize=10)
    shown = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown, loc="outside right upper", fontsize=8)
    figure.savefig(folder / "shift.png", dpi=110)


def write(results: Results, pairs: Iterable[tuple[str, str]], folder: Path) -> None:
    """results.json, tables.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(_rounded(json.dumps(asdict(results), default=float)) + "\n")
    (folder / "tables.md").write_text(markdown(results, pairs))
    plots(results.own_region, results.shift, folder)


def _rounded(content: str) -> str:
    """Numbers to six digits."""

    def short(value: object) -> object:
        if isinstance(value, float):
            return None if np.isnan(value) else float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        return [short(item) for item in value] if isinstance(value, list) else value

    return json.dumps(short(json.loads(content)), indent=1)
