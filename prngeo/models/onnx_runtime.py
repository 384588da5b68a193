"""An exported model made ready to compute with ONNX Runtime on a CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prngeo.errors import PrngeoError, UsageError
from prngeo.models.bundle import BASE_GRAPH, REFINER_GRAPH, Bundle
from prngeo.models.logits import FLIPS, to_half

if TYPE_CHECKING:
    from types import ModuleType


class OnnxRuntime:
    """Runs an exported model by the two calls of prngeo.models.runtime.Runtime.

    Every tile is a call of its own, so a result cannot depend on the batch it came in.

    Args:
        bundle: a folder that `prngeo export --to onnx` wrote.
        device: auto or cpu.
        tta: average the logits of the four flips of every tile (test-time augmentation).

    Raises:
        UsageError: another device is asked for; ONNX Runtime is not installed.
        PrngeoError: a graph cannot be loaded.
    """

    batch = 1

    def __init__(self, bundle: Bundle, device: str = "auto", tta: bool = False) -> None:
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"--device {device}: {bundle.path} is an exported model, which ONNX Runtime runs on the CPU. Leave "
                "--device out, or give -m the model it was exported from."
            )
        bundle.check_files()
        self.card = bundle.card
        self.tta = tta
        self._base = load_graph(bundle.path / BASE_GRAPH)
        self._refiner = load_graph(bundle.path / REFINER_GRAPH) if REFINER_GRAPH in bundle.files else None

    def segment(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float16]:
        """Base logits of tiles, (N, targets, S, S); S is the card's tile, arguments are those of Runtime.segment."""
        mask = valid[:, None].astype(np.float32)
        tiles = ((image[n : n + 1], mask[n : n + 1]) for n in range(len(image)))
        return np.concatenate([to_half(self._flips(*tile)) for tile in tiles])

    def refine(
        self, logits: NDArray[np.float32], image: NDArray[np.float32], valid: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        """The correction of one refiner window, (targets, W, W); arguments are those of Runtime.refine."""
        assert self._refiner is not None, "the model has no refiner"
        feed = {"logits": logits[None], "image": image[None], "valid": valid[None, None]}
        return to_half(self._refiner.run(["correction"], feed)[0][0])

    def facts(self) -> dict[str, str | int]:
        """What computes, for the record of a run."""
        return {
            "runtime": "onnxruntime",
            "version": import_onnxruntime().__version__,
            "device": "cpu",
            "precision": "float32",
        }

    def _flips(self, image: NDArray[np.float32], valid: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = self._logits(image, valid)
        if not self.tta:
            return logits
        for axes in FLIPS:
            logits = logits + np.flip(self._logits(np.flip(image, axes), np.flip(valid, axes)), axes)
        return logits / np.float32(4)

    def _logits(self, image: NDArray[np.float32], valid: NDArray[np.float32]) -> NDArray[np.float32]:
        feed = {"image": np.ascontiguousarray(image), "valid": np.ascontiguousarray(valid)}
        logits: NDArray[np.float32] = self._base.run(["logits"], feed)[0]
        return logits


def load_graph(graph: Any) -> Any:
    """An InferenceSession of a graph on the CPU.

    Args:
        graph: path of an ONNX file, or its bytes.

    Raises:
        UsageError: ONNX Runtime is not installed.
        PrngeoError: ONNX Runtime does not take the graph.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class of their own
        reason = " ".join(str(error).split())
        raise PrngeoError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the graph: {reason[:300]}. Install a newer one, or "
            "export the model again."
        ) from error


def import_onnxruntime() -> ModuleType:
    """The package, or what to do without it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_onnx(error) from error
    module: ModuleType = onnxruntime
    return module


def missing_onnx(error: ImportError) -> UsageError:
    """What a user without the extra [onnx] is told."""
    return UsageError(f"ONNX models need the package {error.name}: run `pip install 'prngeo[onnx]'`.")
