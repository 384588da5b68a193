"""What torch and ONNX Runtime cost on this CPU: to be ready for the first tile, a tile, a refiner window.

    python tests/benchmarks/runtime_speed.py [--model MODEL] [--repeats N]

Each runtime works in a process of its own. The best CPU time counts, which other programs on the machine hardly
change. A ratio is torch's time in float32 divided by the runtime's: above 1 the runtime is faster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prngeo.export import export_model

KINDS = ("torch float32", "torch bfloat16", "onnxruntime")
PARTS = ("start", "tile", "window")


def measure(kind: str, model: str, repeats: int) -> dict[str, float]:
    """CPU seconds of each part in this process, which has imported neither runtime yet."""
    began = time.process_time()
    from prngeo.models.bundle import open_bundle

    bundle = open_bundle(model)
    if kind == "onnxruntime":
        from prngeo.models.onnx_runtime import OnnxRuntime

        networks = OnnxRuntime(bundle)
    else:
        from prngeo.models.devices import Compute
        from prngeo.models.runtime import Runtime

        networks = Runtime(bundle, Compute("cpu", kind.split()[1]))
    seconds = {"start": time.process_time() - began}
    card, rng = bundle.card, np.random.default_rng(0)
    image = rng.random((1, len(card.bands), card.tile, card.tile), np.float32)
    valid = np.ones((1, card.tile, card.tile), bool)
    seconds["tile"] = best(lambda: networks.segment(image, valid), repeats)
    if card.refiner is not None and any(target.refine for target in card.targets.values()):
        window, small = card.refiner.window, card.refiner.window // card.refiner.reduction
        logits = rng.normal(0, 3, (len(card.targets), window, window)).astype(np.float32)
        picture = rng.random((len(card.bands), small, small), np.float32)
        share = np.ones((small, small), np.float32)
        seconds["window"] = best(lambda: networks.refine(logits, picture, share), repeats)
    return seconds


def best(call: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds of a call, after one that warms up."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken)


def main() -> None:
    """Export the model, measure each runtime, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="prngeo-rgb")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(measure(arguments.kind, arguments.model, arguments.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        exported = export_model(arguments.model, "onnx", Path(folder) / "onnx").files[0].parent
        seconds = {}
        for kind in KINDS:
            model = str(exported) if kind == "onnxruntime" else arguments.model
            command = [sys.executable, __file__, "--kind", kind, "--model", model, "--repeats", str(arguments.repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[kind] = json.loads(done.stdout)
    print(f"{'':16}" + "".join(f"{part + ' s':>10}{'ratio':>8}" for part in PARTS))
    for kind, found in seconds.items():
        cells = (
            f"{found[part]:10.3f}{seconds[KINDS[0]][part] / found[part]:8.2f}" if part in found else f"{'':18}"
            for part in PARTS
        )
        print(f"{kind:16}" + "".join(cells))


if __name__ == "__main__":
    main()
