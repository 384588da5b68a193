"""The curves of a training, by Lightning's loggers: metrics.csv, and TensorBoard's files beside it."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = "logs"


class Logs:
    """Rows of figures by step, in `folder/logs`; what an earlier part of the run wrote is kept.

    Args:
        folder: of the run.
        first: steps that are done; rows of later ones are dropped, as the run will write them again.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from lightning.fabric.loggers.csv_logs import CSVLogger
        from lightning.fabric.loggers.logger import Logger
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        kept = _rows(folder / FOLDER / "metrics.csv", first)
        table = CSVLogger(folder, FOLDER, "")
        self._loggers: list[Logger] = [table]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an older file is replaced: its rows follow
            for step, row in kept:
                table.log_metrics({**row}, step)
            table.experiment.save()
        if find_spec("tensorboard"):
            self._loggers.append(TensorBoardLogger(folder, FOLDER, "", purge_step=first + 1 if first else None))
        else:
            logger.info("no TensorBoard logs: pip install 'prngeo[train]' brings them")

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Write a row at once."""
        for log in self._loggers:
            log.log_metrics(dict(row), step)
            log.save()

    def close(self) -> None:
        """Write everything that waits."""
        for log in self._loggers:
            log.finalize("success")


def _rows(path: Path, last: int) -> list[tuple[int, dict[str, float]]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    return [(int(row.pop("step")), row) for row in rows if row["step"] <= last]
