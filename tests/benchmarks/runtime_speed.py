"""What torch and ONNX Runtime cost on this CPU: to be ready for the first tile, a tile, a refiner window.

    python tests/benchmarks/runtime_speed.py [--model MODEL] [--repeats N]

Each runtime works in a process of its own. The best CPU time counts, which other programs on the machine hardly
change. A ratio is torch's time in float32 divided by the runtime's: above 1 the runtime is faster.

Last come the floating-point operations of a tile and a window (a multiplication and an addition are two) and the calls
of torch's operations that compute them in float32: what bounds a GPU, of which this measures no time.
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


def counted(model: str) -> dict[str, tuple[int, int]]:
    """Floating-point operations of a tile and, if there is a refiner, of a window, and the calls that compute them."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    from prngeo.models.bundle import open_bundle
    from prngeo.models.runtime import load_networks

    class Calls(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.number += not func.is_view and func is not torch.ops.aten.empty.memory_format
            return func(*args, **(kwargs or {}))

    bundle = open_bundle(model)
    card, (network, refiner) = bundle.card, load_networks(bundle)
    bands, tile = len(card.bands), card.tile
    parts = {"tile": (network, (torch.rand(1, bands, tile, tile), torch.ones(1, 1, tile, tile)))}
    if refiner is not None and any(target.refine for target in card.targets.values()):
        assert card.refiner is not None
        window, small = card.refiner.window, card.refiner.window // card.refiner.reduction
        logits = torch.randn(1, len(card.targets), window, window)
        parts["window"] = refiner, (logits, torch.rand(1, bands, small, small), torch.ones(1, 1, small, small))
    found = {}
    for part, (module, given) in parts.items():
        with torch.no_grad(), FlopCounterMode(display=False) as flops, Calls() as calls:
            module(*given)
        found[part] = flops.get_total_flops(), calls.number
    return found


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
    for part, (operations, calls) in counted(arguments.model).items():
        print(f"{part}: {operations / 1e9:.2f} GFLOP in {calls} calls")


if __name__ == "__main__":
    main()
