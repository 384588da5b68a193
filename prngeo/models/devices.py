"""Which device runs the networks, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from prngeo.errors import UsageError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Compute:
    """A device with the precision of its matrix work.

    Attributes:
        device: a torch device type.
        precision: float32, bfloat16 or float16; the last two through autocast, on float32 weights.
    """

    device: str
    precision: Literal["float32", "bfloat16", "float16"]

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a torch dtype."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]


def choose_compute(device: DeviceName = "auto", option: str = "--device ") -> Compute:
    """The device asked for, or the best there is, with the fastest precision it has hardware for.

    Args:
        device: which.
        option: what stands before it where the user gave it, for messages.

    Raises:
        UsageError: the device asked for is not usable.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                f"{option}cuda: no usable NVIDIA GPU ({cuda_reason()}). Use {option}auto, or see prngeo doctor."
            )
        return Compute("cuda", "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16")
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError(f"{option}mps: this machine or this torch has no Apple GPU. Use {option}auto.")
        return Compute("mps", "float32")
    return Compute("cpu", "bfloat16" if _cpu_has_bfloat16() else "float32")


def training_dtype(
    device: torch.device, precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
) -> Literal["float32", "bfloat16", "float16"]:
    """The precision of training; `auto` is bfloat16 where the device has it.

    A device without would only emulate it: a CPU many times slower than float32.

    Raises:
        UsageError: float16 is asked of a device that does not train in it.
    """
    if precision == "float16" and device.type != "cuda":
        raise UsageError("base.precision=float16 needs an NVIDIA GPU; use base.precision=auto.")
    if precision != "auto":
        return precision
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    return "bfloat16" if capable or (device.type == "cpu" and _cpu_has_bfloat16()) else "float32"


def training_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where `training_dtype` chooses it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=training_dtype(device) == "bfloat16")


def limit_gpu(budget: int) -> None:
    """From now on, let this process have so many bytes of an NVIDIA GPU at most, beside what its driver takes.

    What would take more raises torch.OutOfMemoryError.
    """
    whole = torch.cuda.get_device_properties("cuda").total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget / whole))


def cuda_reason() -> str:
    """Why torch does or does not use an NVIDIA GPU, in a few words."""
    if torch.cuda.is_available():
        return "in use"
    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA; install a CUDA build from pytorch.org"
    if torch.cuda.device_count() == 0:
        return "torch has CUDA, but no GPU or no working driver was found"
    return "torch has CUDA and sees a GPU, but cannot initialize it; the driver may be too old"


def _cpu_has_bfloat16() -> bool:
    """True where oneDNN has bfloat16 instructions to use (AMX or AVX512-BF16)."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
