"""Kills predictions with SIGKILL and continues them, in forks of a process that has everything imported.

Run as `python -m tests.inference.killing SCENE MODEL FOLDER KILLS`; prints one line of JSON a case. A case is a run
into a folder of its own that is killed, and continued until it is done.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import geopandas
import rasterio

import prngeo
from prngeo.files import Finished
from prngeo.inference import pipeline, rasters, vectors
from prngeo.inference.engine import load_networks
from prngeo.inference.outputs import layer_names
from prngeo.inference.parts import Parts
from prngeo.inference.resume import PUBLISH
from prngeo.models.bundle import open_bundle
from prngeo.models.runtime import Runtime
from prngeo.vectorize import polygons
from tests.conftest import write_scene

PHASES = ("segment", "refine", "parts", "finish", "vectorize", "geopackage", "publish")
PLACES = (
    (Runtime, "segment"),
    (Runtime, "refine"),
    (Parts, "write"),
    (rasters, "finish_cog"),
    (polygons, "_find"),
    (vectors, "write_layers"),
    (pipeline, "publish"),
)
running = mmap.mmap(-1, len(PHASES))
"""For each phase, whether the child is in it; shared with it."""


def small_scene(path: Path, seed: int = 0) -> Path:
    """Six chunks of 512 px, which are eight tiles of 64 model pixels."""
    return write_scene(path, 520, 1030, gsd=0.05, seed=seed)


def small_model(tiny_model: Path, folder: Path) -> Path:
    """A model with PRN for buildings: centerlines of roads take longer than all else."""
    shutil.copytree(tiny_model, folder)
    card = json.loads((folder / "card.json").read_text())
    card["targets"]["buildings"]["gate"]["enabled"] = True
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def small_options(model: Path) -> prngeo.PredictOptions:
    return prngeo.PredictOptions(
        model=model, targets=("buildings",), device="cpu", tile=64, overlap=16, chunk=512, min_area=0.2
    )


def mark(place: Any, name: str, phase: int, entered: Callable[[int], None]) -> None:
    function = getattr(place, name)

    @wraps(function)
    def marked(*arguments: Any, **options: Any) -> Any:
        running[phase] = 1
        entered(phase)
        try:
            return function(*arguments, **options)
        finally:
            running[phase] = 0

    setattr(place, name, marked)


class Case:
    """One output folder: runs into it are forked, and killed."""

    def __init__(self, scene: Path, model: Path, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.options = small_options(model)
        self.hidden = folder / f".{scene.stem}.prngeo"
        self.log = folder.with_suffix(".log")

    def run(self, delay: float | None = None, phase: int | None = None) -> tuple[bool, list[str], list[str], float]:
        """Run, with a kill after `delay` seconds or on entering a phase.

        Returns:
            Whether it was killed, in which phases it was, the chunks it computed, and the seconds it took.
        """
        self.log.unlink(missing_ok=True)
        running[:] = bytes(len(PHASES))
        started = time.monotonic()
        child = os.fork()
        if not child:
            self._predict(phase, delay or 0.0)
        if delay is not None and phase is None:
            time.sleep(max(0.0, delay - (time.monotonic() - started)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - started
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed"
        hit = [name for name, inside in zip(PHASES, running[:], strict=True) if inside]
        return os.WIFSIGNALED(status), hit, self.log.read_text().split() if self.log.exists() else [], seconds

    def finished(self) -> list[str]:
        return sorted(path.stem for path in self.hidden.glob("finished/chunks/*.json"))

    def digest(self) -> Any:
        return json.loads((self.folder.with_suffix(".json")).read_text())

    def _predict(self, phase: int | None, delay: float) -> None:
        def entered(current: int) -> None:
            if current == phase:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

        for number, (place, name) in enumerate(PLACES):
            mark(place, name, number, entered)
        write = Parts.write

        def logged(parts: Parts, chunk: Any, *rest: Any) -> None:
            with self.log.open("a") as file:
                file.write(f"{chunk.row}_{chunk.col}\n")
            write(parts, chunk, *rest)

        Parts.write = logged  # type: ignore[method-assign]
        try:
            result = prngeo.predict(self.scene, self.folder, self.options)
            self.folder.with_suffix(".json").write_text(json.dumps(content(result)))
            self.folder.with_suffix(".modules").write_text("\n".join(sys.modules))
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)


def content(result: prngeo.PredictResult) -> dict[str, str]:
    """Hashes of all pixels and of all rows in their order."""
    found = {}
    for target, kinds in result.rasters.items():
        for kind, path in kinds.items():
            with rasterio.open(path) as file:
                found[f"{target} {kind}"] = hashlib.sha256(file.read().tobytes()).hexdigest()
    for layer in layer_names(result.targets):
        rows = geopandas.read_file(result.vectors[0], layer=layer)
        text = "\n".join([*rows.to_wkb(hex=True).to_csv().splitlines()])
        found[layer] = f"{len(rows)} {hashlib.sha256(text.encode()).hexdigest()}"
    return found


def killed_case(whole: Case, case: Case, kills: list[tuple[float, int | None]]) -> dict[str, Any]:
    """A run that is killed as often as there are kills, and continued in the end.

    Args:
        whole: the uninterrupted run.
        case: the one to kill.
        kills: seconds from the start of each run, or from the start of a phase.

    Returns:
        The phases of each kill; the chunks that were computed although they were finished; those that no run computed;
        the files with final names that were not those of the uninterrupted run; whether the result is its.
    """
    phases, done, seen, again, torn = [], [], [], [], []
    for delay, phase in [*kills, (None, None)]:
        killed, hit, computed, _ = case.run(delay, phase)
        again += sorted(set(computed) & set(done))
        done = case.finished()
        seen += [*computed, *done]
        if not killed:
            break  # it was done, perhaps sooner than the run that told how long one takes
        phases.append(hit)
        visible = [path for path in case.folder.glob("*") if path.suffix in (".tif", ".gpkg")]
        torn += [path.name for path in visible if path.read_bytes() != (whole.folder / path.name).read_bytes()]
        if visible and not Finished(case.hidden).files(PUBLISH):
            # It was done, and killed on its way out: outputs are whole, what was hidden goes with the next run.
            with suppress(prngeo.UsageError):
                prngeo.predict(case.scene, case.folder, case.options)
            break
    missed = sorted(set(whole.log.read_text().split()) - set(seen))
    left = sorted(path.name for path in case.folder.glob(".*"))
    if killed:
        same = {path.name for path in case.folder.glob("[!.]*")} == set(os.listdir(whole.folder)) and not torn
    else:
        same = case.digest() == whole.digest()
    shutil.rmtree(case.folder)
    return {"phases": phases, "again": again, "missed": missed, "torn": torn, "left": left, "same": same}


def main(scene: Path, model: Path, folder: Path, kills: int) -> None:
    def show(content: dict[str, Any]) -> None:
        print(json.dumps(content), flush=True)

    load_networks(open_bundle(model), prngeo.PredictOptions(model=model, device="cpu"))
    cases = (Case(scene, model, folder / str(number)) for number in itertools.count())
    first = next(cases)
    first.run()
    for module in first.folder.with_suffix(".modules").read_text().split():
        with suppress(ImportError):
            import_module(module)
    whole = next(cases)
    _, _, computed, seconds = whole.run()
    show({"seconds": seconds, "computed": computed, "content": whole.digest()})
    hit: set[str] = set()
    for number in range(kills):
        times = [(seconds * (number + 0.5) / kills, None)]
        if number % 4 == 0:
            times.append((seconds * (kills - number) / kills / 2, None))
        result = killed_case(whole, next(cases), times)
        hit |= {name for phases in result["phases"] for name in phases}
        show(result)
    for phase, name in enumerate(PHASES):
        for delay in (0.0, 0.001, 0.003):
            if name not in hit or name == "publish":
                show(killed_case(whole, next(cases), [(delay, phase)]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
