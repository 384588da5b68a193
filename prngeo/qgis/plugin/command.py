"""Finding and running the `prngeo` command: its progress, its log, its errors, and an end when the user cancels."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from queue import Empty, Queue

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import QgsProcessingException

SETTING = "PRNGEO_COMMAND"
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA")
"""Variables that QGIS sets for its own Python, GDAL and PROJ; those of the command are others."""
GRACE = 60
"""Seconds a cancelled command has to clean up."""
SECONDS = 30
"""For the command to list its models."""
PLACE = "Settings > Options > Processing > Providers > prngeo"


Failed = QgsProcessingException


def find():
    """Path of the command: that of the settings, else the one on the search path.

    Raises:
        Failed: there is none.
    """
    chosen = (ProcessingConfig.getSetting(SETTING) or "").strip()
    found = shutil.which(chosen or "prngeo")
    if found is None:
        where = f"there is no command {chosen}" if chosen else "the command prngeo is not on the search path"
        raise Failed(
            f"prngeo is not ready: {where}. Install it outside of QGIS (pip install prngeo), then run `prngeo qgis "
            f"install`, or set its path under {PLACE}. `prngeo qgis doctor` says what is missing."
        )
    return found


def environment():
    """Variables of the command: those of QGIS without its Python, GDAL and PROJ."""
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    kept.update(PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1", NO_COLOR="1")
    return kept


def models():
    """The embedded models as `prngeo models --json` lists them; none if the command does not answer."""
    try:
        return _models(find())
    except (Failed, OSError, ValueError, subprocess.SubprocessError):
        return []


@functools.lru_cache(maxsize=4)
def _models(command):
    asked = [command, "models", "--json"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    ran = subprocess.run(asked, env=environment(), creationflags=_hidden(), timeout=SECONDS, check=True, **pipes)
    return json.loads(ran.stdout.decode("utf-8"))


class Finished:
    """What a command left: the events of its results, and its standard output."""

    def __init__(self):
        self.results = []
        self.output = []


def run(arguments, feedback, parts, accepted=(0,), folder=None):
    """Run the command until it ends or the user cancels.

    Args:
        arguments: without the command.
        feedback: gets progress, log and warnings; asked whether to stop.
        parts: share of each stage, by its name, in the order of the stages.
        accepted: exit codes that are no errors.
        folder: in which it runs.

    Returns:
        Finished, or None if the user cancelled.

    Raises:
        Failed: the command was not found or told an error.
    """
    command = [find()] + [str(argument) for argument in arguments]
    feedback.pushCommandInfo(" ".join(map(shlex.quote, command)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        variables = dict(environment(), PRNGEO_STOP_AT_EOF="1")
        process = subprocess.Popen(command, env=variables, cwd=folder, creationflags=_hidden(), **pipes)
    except OSError as error:
        raise Failed(f"{command[0]} could not be started ({error}); `prngeo qgis doctor` says why.") from error
    finished, errors, told = Finished(), [], []
    for name, line in _lines(process, feedback):
        if name == "output":
            finished.output.append(line)
        else:
            told = told[-4:] + [line.strip("│╭╰╮╯─ ")]
            _tell(line, feedback, parts, finished, errors)
    code = process.wait()
    if feedback.isCanceled():
        feedback.pushInfo("Cancelled.")
        return None
    if code not in accepted:
        raise Failed(" ".join(errors or [f"prngeo ended with code {code}:", *filter(None, told)]))
    return finished


def _lines(process, feedback):
    """(stream, line) as they come; asks the process to stop, by closing its input, when the user cancels."""
    lines = Queue()
    streams = {"output": process.stdout, "log": process.stderr}
    for name, stream in streams.items():
        threading.Thread(target=_pump, args=(name, stream, lines), daemon=True).start()
    deadline = None
    while streams:
        if feedback.isCanceled() and deadline is None:
            feedback.pushInfo("Stopping; what is unfinished is removed.")
            process.stdin.close()
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            process.kill()
        try:
            name, line = lines.get(timeout=0.1)
        except Empty:
            continue
        if line is None:
            del streams[name]
        else:
            yield name, line
    if deadline is None:
        process.stdin.close()


def _pump(name, stream, lines):
    with stream:
        for line in stream:
            lines.put((name, line.decode("utf-8", "replace").rstrip()))
    lines.put((name, None))


def _tell(line, feedback, parts, finished, errors):
    """Pass one line of the log on."""
    event = _event(line)
    if event is None:
        if line.startswith("prngeo: "):
            errors.append(line[len("prngeo: ") :])  # QGIS shows it when the algorithm fails
        elif line.startswith("warning: "):
            feedback.pushWarning(line[len("warning: ") :])
        elif line:
            feedback.pushInfo(line)
    elif event["event"] == "result":
        finished.results.append(event)
        for warning in event.get("warnings", []):
            feedback.pushWarning(warning)
    elif event["event"] == "note":
        feedback.pushInfo(event["note"])
    elif event["event"] == "progress" and event.get("total"):
        stage = event["stage"]
        if event["done"] == 0 or stage not in parts:
            feedback.setProgressText(stage)
        if stage in parts:
            before = sum(share for name, share in list(parts.items())[: list(parts).index(stage)])
            done = before + parts[stage] * event["done"] / event["total"]
            feedback.setProgress(100 * done / sum(parts.values()))


def _event(line):
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _hidden():
    """No console window on Windows."""
    return getattr(subprocess, "CREATE_NO_WINDOW", 0)
