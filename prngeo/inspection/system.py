"""The machine and the installation: versions, devices, room, models."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prngeo import __version__
from prngeo.errors import UsageError

_PACKAGES = (
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "rasterio",
    "pyproj",
    "shapely",
    "geopandas",
    "pyogrio",
    "numpy",
    "safetensors",
)
_NEEDED = ("torch", "segmentation_models_pytorch", "timm", "rasterio", "geopandas", "pyogrio")
_NVIDIA_VENDOR = "0x10de"


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        name: as the system tells it.
        cores: that this process may use.
        bfloat16: True if torch has instructions for it there.
    """

    name: str
    cores: int
    bfloat16: bool


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use; memory in bytes."""

    name: str
    memory: int


@dataclass(frozen=True)
class ModelState:
    """An embedded model; `state` is intact, or says what is wrong."""

    name: str
    version: str
    state: str


@dataclass(frozen=True)
class SystemReport:
    """What `prngeo doctor` tells; sizes in bytes.

    Attributes:
        versions: of prngeo, Python, the system, GDAL and the packages that matter.
        cpu: the processor.
        gpus: those that torch can use.
        nvidia: why an NVIDIA GPU is or is not used.
        device: what `--device auto` takes; empty if torch does not load.
        precision: of the networks there.
        memory_total: of the machine.
        memory_free: what programs can still take.
        disk_free: in the current folder and in the folder for temporary files.
        models: the embedded ones.
        problems: what keeps predictions from running; empty if nothing does.
    """

    versions: dict[str, str]
    cpu: Cpu
    gpus: list[Gpu]
    nvidia: str
    device: str
    precision: str
    memory_total: int
    memory_free: int
    disk_free: dict[str, int]
    models: list[ModelState]
    problems: list[str]


@dataclass(frozen=True)
class NvidiaFacts:
    """What tells why an NVIDIA GPU is or is not used.

    Attributes:
        usable: torch can use one.
        built: this torch was built with CUDA.
        hardware: a GPU of NVIDIA is in the machine.
        driver: its driver is installed.
        hidden: CUDA_VISIBLE_DEVICES hides all GPUs.
        error: what torch said when it was asked for one.
    """

    usable: bool
    built: bool
    hardware: bool
    driver: bool
    hidden: bool
    error: str = ""


def inspect_system() -> SystemReport:
    """Look at everything once; imports torch, which takes seconds."""
    import psutil

    problems = _import_problems()
    memory = psutil.virtual_memory()
    cpu, gpus, nvidia, device, precision = Cpu(_cpu_name(), _cores(), False), list[Gpu](), "unknown", "", ""
    if not any(problem.startswith("torch ") for problem in problems):
        from prngeo.models.devices import choose_compute

        auto = choose_compute("auto")
        cpu = Cpu(cpu.name, cpu.cores, choose_compute("cpu").precision == "bfloat16")
        gpus, nvidia, device, precision = _gpus(), nvidia_reason(_nvidia_facts()), auto.device, auto.precision
    models = _models()
    problems += [f"model {model.name}: {model.state}" for model in models if model.state != "intact"]
    if not models:
        problems.append("no embedded model in this installation; install prngeo again, or give -m a folder")
    return SystemReport(
        versions=versions(),
        cpu=cpu,
        gpus=gpus,
        nvidia=nvidia,
        device=device,
        precision=precision,
        memory_total=memory.total,
        memory_free=memory.available,
        disk_free=_disk_free(),
        models=models,
        problems=problems,
    )


def nvidia_reason(facts: NvidiaFacts) -> str:
    """Why an NVIDIA GPU is or is not used, and what changes that."""
    if facts.usable:
        return "in use by --device auto"
    if facts.hidden:
        return "hidden: the environment variable CUDA_VISIBLE_DEVICES names no GPU; unset it"
    if not facts.hardware and not facts.driver:
        return "none found in this machine"
    if not facts.built:
        return (
            "present but unused: this torch was built without CUDA; install a CUDA build, see "
            "https://pytorch.org/get-started"
        )
    if not facts.driver:
        return "present but unused: its driver is not installed (nvidia-smi does not run)"
    said = f" ({facts.error})" if facts.error else ""
    return f"present but unused: torch cannot start it{said}; update the driver or install a torch that fits it"


def _import_problems() -> list[str]:
    problems = []
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:
            problems.append(f"{name} cannot be imported ({type(error).__name__}: {error}); install it again")
    return problems


def versions() -> dict[str, str]:
    """Versions of prngeo, Python, the system and the packages that matter; loads none of them but rasterio."""
    found = {
        "prngeo": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    try:
        import rasterio

        found["GDAL"] = rasterio.__gdal_version__
    except ImportError:
        found["GDAL"] = "unknown"
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _gpus() -> list[Gpu]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [Gpu(device.name, device.total_memory) for device in found]


def _nvidia_facts() -> NvidiaFacts:
    import torch

    usable, error = torch.cuda.is_available(), ""
    built = bool(torch.backends.cuda.is_built())
    driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    if built and driver and not usable:
        try:
            torch.cuda.init()
        except Exception as reason:
            error = str(reason).partition("\n")[0]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1")
    return NvidiaFacts(usable, built, driver or _nvidia_hardware(), driver, hidden, error)


def _nvidia_hardware() -> bool:
    """True if a PCI display device of NVIDIA is present; Linux alone tells."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith("0x03"):
            return True
    return False


def _disk_free() -> dict[str, int]:
    places = dict.fromkeys((str(Path.cwd()), tempfile.gettempdir()))
    return {place: shutil.disk_usage(place).free for place in places}


def _models() -> list[ModelState]:
    from prngeo.files import file_hash
    from prngeo.models.bundle import WEIGHTS, embedded_models, open_bundle

    states = []
    for name in embedded_models():
        try:
            bundle = open_bundle(name)
        except UsageError as error:
            states.append(ModelState(name, "", str(error)))
            continue
        weights = bundle.path / WEIGHTS
        if not weights.is_file():
            state = f"{weights} is missing"
        elif file_hash(weights) != bundle.card.weights_sha256:
            state = f"{weights} is damaged (SHA-256 differs from the card's)"
        else:
            state = "intact"
        states.append(ModelState(name, bundle.card.version, state))
    return states
