"""Does PRN help? Several base networks on real data, against the best single threshold and other ways to threshold.

    python tests/benchmarks/refine_study.py FOLDER_OF_THE_DATA

Every trained network, logit map and result is kept in the working folder: run it again to go on, or with --report to
write the tables of what is there. The core (3 data sets, 2 bases) comes first. Tables and plots go to
examples/refine_study/, whose README.md says what was found; figures there stay where the working folder has nothing of
their data set and base. Needs `pip install -e '.[dev]' pydensecrf2`; without the
latter the dense CRF is left out.
"""

from __future__ import annotations

import argparse
import logging
from itertools import product
from pathlib import Path

import torch
from study import report
from study.bases import BASES, EMBEDDED, BaseLogits, Schedule
from study.cells import ABLATIONS, ROWS, Cells
from study.data import CORE, DATA_SETS, load
from study.planted import KINDS, PLANTED
from study.planted import run as run_planted
from study.shift import COUNTS, METHODS, Shift, banepa, spread

from prngeo.models.bundle import open_bundle
from prngeo.models.devices import choose_compute

CORE_BASES = (EMBEDDED, "deeplab-lite0")
ABLATED = (("massachusetts-roads", "linknet-lite0"),)
SHIFTS = (("massachusetts-roads", "linknet-lite0", "dubai-roads"),)
IN_BANEPA = {
    "the embedded model in Banepa (buildings)": None,
    "deeplab-lite0, accra-buildings to Banepa": ("accra-buildings", "deeplab-lite0"),
}
"""Bases that are applied there, by name of the case; None is the embedded model."""
PARTS = ("cells", "ablations", "shift", "planted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the data")
    parser.add_argument("--work", type=Path, default=Path("runs/refine_study"), help="networks, logits and results")
    parser.add_argument("--out", type=Path, default=Path("examples/refine_study"), help="tables and plots")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--data", nargs="+", default=CORE, choices=DATA_SETS)
    parser.add_argument("--bases", nargs="+", default=CORE_BASES, choices=[EMBEDDED, *BASES])
    parser.add_argument("--rows", nargs="+", default=ROWS, help="methods; 'fast NAME' for an ablation")
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="of a base network's training")
    parser.add_argument("--seconds", type=float, default=120, help="of computing for a method under region shift")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--report", action="store_true", help="compute nothing, write the tables of what is there")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pairs = list(product(options.data, options.bases))
    if not options.report:
        compute_all(options, pairs)
    folders = sorted(path for path in (options.work / "cells").glob("*/*"))
    pairs = list(dict.fromkeys([*pairs, *((path.parent.name, path.name) for path in folders)]))
    results = report.Results(
        report.collect(options.work / "cells", pairs),
        report.shifts(options.work / "shift"),
        report.planted(options.work / "planted"),
    )
    report.write(results.over(report.earlier(options.out)), pairs, options.out)


def compute_all(options: argparse.Namespace, pairs: list[tuple[str, str]]) -> None:
    """Compute what is missing."""
    compute = choose_compute(options.device)
    schedule = Schedule(options.steps)
    roles = {}

    def tiles(name: str) -> dict:
        if name not in roles:
            roles[name] = load(DATA_SETS[name], options.root, options.work)
        return roles[name]

    def logits(data: str, base: str) -> BaseLogits:
        return BaseLogits(DATA_SETS[data], base, tiles(data), options.root, options.work, compute, schedule)

    def cells(data: str, base: str) -> Cells:
        return Cells(logits(data, base), options.work / "cells", torch.device(compute.device))

    if "cells" in options.parts:
        for data, base in pairs:
            one = cells(data, base)
            for row in options.rows:
                one.run(row)
    if "shift" in options.parts:
        town = banepa(options.root) if IN_BANEPA else ()
        cases = [(logits(*base).bundle() if base else open_bundle(), *town, name) for name, base in IN_BANEPA.items()]
        for source, base, target in SHIFTS:
            name = f"{base}, {source} to {target}"
            cases.append((logits(source, base).bundle(), tiles(target)["train"], tiles(target)["test"], name))
        for bundle, labelled, test, name in cases:
            shift = Shift(bundle, spread(labelled), test, options.work / "shift" / name, compute, options.seconds)
            for count, method in product(COUNTS, METHODS):
                shift.run(method, count)
    if "planted" in options.parts:
        for kind, target in product(KINDS, ("buildings", "roads")):
            run_planted(target, kind, PLANTED, options.work, compute)
    if "ablations" in options.parts:
        for data, base in ABLATED:
            one = cells(data, base)
            for change in ABLATIONS:
                one.run(f"fast {change}")


if __name__ == "__main__":
    main()
