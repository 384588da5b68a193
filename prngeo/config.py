"""The YAML files in configs/: what a training run reads, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prngeo.errors import UsageError

Role = Literal["train", "refine", "validation", "test"]
Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Area(_Section):
    """A rectangle of a scene's pixels with a role of its own; end rows and columns are not included."""

    role: Literal["refine", "validation", "test"]
    rows: tuple[int, int]
    cols: tuple[int, int]


class Source(_Section):
    """One data set: scenes, the masks that label them, and which of them are held out.

    Scene and mask are matched by file stem. A target that a source does not label is ignored there.
    The patterns in `refine`, `validation`, `test` are shell patterns on the stem of an image's file name; what
    matches none of them is for training.
    """

    name: str
    images: str
    labels: dict[str, str]
    license: str
    gsd: Positive | None = None
    weight: Positive = 1.0
    refine: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    areas: list[Area] = []
    gap: Annotated[float, Field(ge=0, description="metres left out around held-out scenes and areas")] = 60.0


class Towns(_Section):
    """Synthetic towns: `count` a role, from consecutive seeds, at GSDs spread over the model's range."""

    train: int = 0
    refine: int = 0
    validation: int = 0
    test: int = 0
    size: int = 1024
    seed: int = 0
    weight: Positive = 1.0


class Network(_Section):
    """The base network, by segmentation-models-pytorch names."""

    architecture: str = "unet"
    encoder: str = "tu-tf_efficientnet_lite0"
    weights: Literal["imagenet-lite0", "none"] = "imagenet-lite0"


class BaseTraining(_Section):
    """Optimization of the base network; sizes in pixels of the model grid."""

    steps: Annotated[int, Field(ge=1)] = 4000
    batch: Annotated[int, Field(ge=1)] = 8
    crop: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    learning_rate: Positive = 1e-3
    weight_decay: float = 1e-4
    decay_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    average: Annotated[float, Field(ge=0, lt=1, description="decay of the weights' moving average")] = 0.995


class RefinerTraining(_Section):
    """The PRN refiner and its optimization; see prngeo.refine.fit.

    With `folds` the training scenes serve it, too: each is mapped by a network that was trained on the other folds.
    Without, it sees the scenes and areas of role `refine` alone, which the base network was not trained on.
    """

    folds: Annotated[int, Field(ge=0, le=20)] = 0
    variant: Literal["fast", "paper"] = "fast"
    window: Annotated[int, Field(ge=256, multiple_of=64)] = 1024
    overlap: Annotated[int, Field(ge=0)] = 256
    reduction: Literal[2, 4] = 4
    width: Annotated[int, Field(ge=4)] = 16
    patch: Annotated[int, Field(ge=16, description="side of a pseudo-label patch in pixels")] = 128
    use_image: bool = True
    detail: bool = False
    statistics: bool = False
    pseudo: Literal["joint", "per_patch"] = "joint"
    pseudo_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1)] = 400
    batch: Annotated[int, Field(ge=1)] = 2
    learning_rate: Positive = 1e-3

    @model_validator(mode="after")
    def _consistent(self) -> RefinerTraining:
        if self.folds == 1:
            raise ValueError("folds must be 0 (no cross-fitting) or at least 2")
        if self.variant == "paper" and (self.patch % 8 or self.window % self.patch):
            raise ValueError("variant paper needs a patch that is a multiple of 8 and divides the window")
        return self


class TrainConfig(_Section):
    """A whole training run."""

    name: str
    version: str = "1"
    description: str = ""
    license: str = "Apache-2.0"
    root: Path = Path(".")
    work: Path = Path("runs")
    out: Path | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    targets: list[str]
    gsd: tuple[Positive, Positive] = (0.25, 1.25)
    tile: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    overlap: Annotated[int, Field(ge=0)] = 128
    network: Network = Network()
    base: BaseTraining = BaseTraining()
    refiner: RefinerTraining = RefinerTraining()
    sources: list[Source] = []
    towns: Towns = Towns()

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        for source in self.sources:
            unknown = set(source.labels) - set(self.targets)
            if unknown:
                raise ValueError(f"source {source.name} labels {sorted(unknown)}, which are not in targets")
        if self.gsd[0] > self.gsd[1]:
            raise ValueError(f"gsd must be [smallest, largest] in metres, got {list(self.gsd)}")
        if self.overlap > self.tile // 2 or self.refiner.overlap > self.refiner.window // 2:
            raise ValueError("an overlap can be at most half of its tile or window")
        if self.overlap % 4 or self.refiner.overlap % self.refiner.reduction:
            raise ValueError("overlap must be a multiple of 4, refiner.overlap of refiner.reduction")
        names = [source.name for source in self.sources]
        repeated = {name for name in names if names.count(name) > 1 or name == "synthetic"}
        if repeated:
            raise ValueError(
                f"sources need names of their own, and 'synthetic' is that of the towns: {sorted(repeated)}"
            )
        return self


def load_train_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """Read a training configuration.

    Args:
        path: a YAML file.
        overrides: `key=value` pairs laid over the file; a dotted key reaches into sections
            (`base.steps=200`) and the value is read as YAML.

    Raises:
        UsageError: the file is missing or not YAML, a key is unknown, a value is out of range.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"No such configuration file: {file}.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise UsageError(f"{file} does not describe a training run: it holds no `key: value` lines.")
        for override in overrides or []:
            _apply(content, override)
        return TrainConfig.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg']}" for item in error.errors()]
        raise UsageError(f"{file} does not describe a training run. " + "; ".join(lines) + ".") from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UsageError(f"Overrides are written key=value (for example base.steps=200), got {override!r}.")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise UsageError(f"{key}: {section} is not a section of the configuration.")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"{key}: {value!r} is not a YAML value.") from error
