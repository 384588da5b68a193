"""What a prediction returns and records beside its outputs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prngeo.inference.outputs import Kind


@dataclass(frozen=True)
class TargetSummary:
    """One target of a scene.

    Attributes:
        area_m2: area of the mask's polygons in m2 (pixels without a known pixel size).
        polygons: their number.
        valid_pixels: pixels of the scene that hold data, inside the area of interest.
        mask_pixels: pixels of the mask.
        changed_pixels: pixels that PRN changed.
        threshold: probability from which a pixel belongs to the mask.
        refined: True if PRN was used.
        length_m: length of the centerlines in metres (pixels without a known pixel size); None but for roads.
    """

    area_m2: float
    polygons: int
    valid_pixels: int
    mask_pixels: int
    changed_pixels: int
    threshold: float
    refined: bool
    length_m: float | None = None


@dataclass(frozen=True)
class PredictResult:
    """Paths and figures of one predicted scene.

    Attributes:
        scene: as given.
        folder: of the outputs.
        rasters: target -> kind (probability, mask, correction) -> path.
        vectors: vector files.
        project: scene.qgz, which opens in QGIS.
        record: scene.json.
        targets: target -> summary.
        seconds: wall-clock time.
        megapixels_per_second: scene pixels (in millions) a second.
        peak_memory: largest resident memory of the process, and of that of the networks, so far in bytes; with Dask,
            of the one process or worker that took most.
        warnings: what a user should know of the scene.
    """

    scene: str
    folder: Path
    rasters: dict[str, dict[Kind, Path]]
    vectors: list[Path]
    project: Path
    record: Path
    targets: dict[str, TargetSummary]
    seconds: float
    megapixels_per_second: float
    peak_memory: int
    warnings: list[str]


@dataclass(frozen=True)
class Peaks:
    """The largest memory that was used so far.

    Attributes:
        memory: resident, bytes.
        gpu: that torch held on an NVIDIA GPU, bytes; 0 if none was used.
    """

    memory: int
    gpu: int


def largest(peaks: Iterable[Peaks]) -> Peaks:
    """The largest of each kind, such as of several processes."""
    every = list(peaks)
    return Peaks(max(one.memory for one in every), max(one.gpu for one in every))


def own_peaks() -> Peaks:
    """Of this process."""
    return Peaks(peak_memory(), peak_gpu_memory())


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    import psutil

    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if on_windows is not None:
        return int(on_windows)
    import resource
    import sys

    with suppress(
        OSError, StopIteration
    ):  # what getrusage tells on Linux may be that of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu_memory() -> int:
    """Largest memory that torch held on an NVIDIA GPU so far, in bytes; 0 if none was used."""
    import sys

    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_reserved()) if torch is not None and torch.cuda.is_initialized() else 0
