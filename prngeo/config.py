"""The YAML files in configs/: what a training run reads, checked before anything starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from prngeo.config_errors import explain
from prngeo.errors import UsageError
from prngeo.yaml_file import read_mapping, read_value

Role = Literal["train", "refine", "validation", "test"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _name(value: str) -> str:
    if value.strip() in ("", ".", "..") or set(value) & set("/\\\0"):
        raise ValueError(f"must be a name that can be a part of a file's name, got {value!r}")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""Files or folders are called after it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Area(_Section):
    """A rectangle of a scene's pixels with a role of its own; end rows and columns are not included."""

    role: Literal["refine", "validation", "test"]
    rows: tuple[int, int]
    cols: tuple[int, int]


def _width(value: object) -> float | Literal["osm"]:
    """One message where a union of types would give one for each."""
    if value == "osm":
        return "osm"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"must be metres (a number above 0) or osm, got {value!r}")
    return float(value)


class Labels(_Section):
    """The truth of one target: masks by a pattern, or a layer (`file.gpkg|layername=roads`).

    Lines are drawn as wide as `width` says: metres, or `osm` for the tags of OpenStreetMap (width, else lanes, else the
    class of highway). `width_field` names an attribute that holds metres, of lines that have one; `width` serves the
    others. `where` chooses features, in OGR's SQL. `values` tells what the numbers of masks mean: objects are all but 0
    (`mask`), or probabilities in 0..1, 0..100 or 0..255 (`unit`, `percent`, `byte`) of at least a half.
    """

    path: str
    width: Annotated[float | Literal["osm"], PlainValidator(_width)] | None = None
    width_field: str | None = None
    where: str | None = None
    values: Literal["auto", "mask", "unit", "percent", "byte"] = "auto"


def _as_labels(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Source(_Section):
    """One data set: scenes, what labels them, and which of them are held out.

    Scenes and masks belong together by file stem, else by place. A target that a source does not label is ignored
    there, and so is everything outside the polygons of `aoi`. `bands` are those of the files, from 1, in the order of
    the model's. The patterns in `refine`, `validation`, `test` are shell patterns on the stem of an image's file name;
    what matches none of them is for training. A source without any of these and without areas is split by blocks if
    the run has a `split`.
    """

    name: Name
    images: str
    labels: Annotated[dict[str, Annotated[Labels, BeforeValidator(_as_labels)]], Field(min_length=1)]
    aoi: str | None = None
    license: str = "not stated"
    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    gsd: Positive | None = None
    weight: Positive = 1.0
    refine: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    areas: list[Area] = []
    gap: Annotated[float, Field(ge=0, description="metres left out around held-out scenes and areas")] = 60.0


Share = Annotated[float, Field(ge=0, lt=1)]


class Split(_Section):
    """Roles by spatial blocks with a gap, for sources that do not name what is held out.

    Shares are those of the labelled pixels. `block` (side of a block) and `gap` are metres; if None, blocks are made as
    the scenes allow, and the gap is a tile and the base network's receptive field. With `refine: 0` PRN is cross-fitted
    on the training blocks.
    """

    test: Share = 0.2
    validation: Share = 0.15
    refine: Share = 0.0
    block: Positive | None = None
    gap: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Split:
        if self.test + self.validation + self.refine > 0.8:
            raise ValueError("test, validation and refine together leave less than 0.2 for training")
        return self


Count = Annotated[int, Field(ge=0)]


class Towns(_Section):
    """Synthetic towns: `count` a role, from consecutive seeds, at GSDs spread over the model's range."""

    train: Count = 0
    refine: Count = 0
    validation: Count = 0
    test: Count = 0
    size: Annotated[int, Field(ge=16)] = 1024
    seed: Count = 0
    weight: Positive = 1.0


class Network(_Section):
    """The base network, by names of segmentation-models-pytorch and torchgeo, and what it starts from.

    Of torchgeo there are `farseg`, whose encoder is a ResNet such as `resnet18`, and `fcn`, whose encoder is `none`.
    `weights`: `none`, `imagenet-lite0`, a file (.safetensors, or .pt/.pth of plain tensors), a model's name or folder
    (fine-tuning: its whole network, and of its last layer the channels of targets with the same names), or a name of
    torchgeo's such as `ResNet18_Weights.SENTINEL2_RGB_MOCO`. Relative paths count from `root`.
    """

    architecture: str = "unet"
    encoder: str = "tu-tf_efficientnet_lite0"
    weights: str = "imagenet-lite0"


class Augmentation(_Section):
    """Changes of training crops.

    `flips`: mirrored and turned by quarters; `angle`: turned by up to so many degrees; `scale`: seen at so many times
    the native GSD, within the model's range; `radiometry`: strength of changes of gamma, contrast, color, haze, blur
    and noise, 0 for none.
    """

    flips: bool = True
    angle: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: tuple[Positive, Positive] = (0.6, 2.5)
    radiometry: Annotated[float, Field(ge=0, le=2)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Augmentation:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [smallest, largest], got {list(self.scale)}")
        return self


class BaseTraining(_Section):
    """Optimization of the base network; sizes in pixels of the model grid.

    `balance` is the share of crops that are drawn around a pixel of a target. Every `validate_every` steps the network
    is judged on the validation areas; the best one is kept, and after `patience` times without a better one training
    stops (0: never). `devices` of them work together, each on its part of the batch. Where memory runs out, batches are
    computed in two halves from then on.
    """

    steps: Annotated[int, Field(ge=1)] = 4000
    batch: Annotated[int, Field(ge=1)] = 8
    crop: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    decay_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    average: Annotated[float, Field(ge=0, lt=1, description="decay of the weights' moving average")] = 0.995
    loss: Literal["bce+jaccard", "bce+dice", "focal", "tversky"] = "bce+jaccard"
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmentation: Augmentation = Augmentation()
    validate_every: Annotated[int, Field(ge=1)] = 200
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    devices: Annotated[int, Field(ge=1)] = 1


class RefinerTraining(_Section):
    """The PRN refiner and its optimization; see prngeo.refine.fit.

    With `folds` the training scenes serve it, too: each is mapped by a network that was trained on the other folds.
    With 0, it sees the scenes and areas of role `refine` alone, which the base network was not trained on. None is 0 if
    there are any, else 2.
    """

    folds: Annotated[int, Field(ge=0, le=20)] | None = None
    variant: Literal["fast", "paper"] = "fast"
    window: Annotated[int, Field(ge=256, multiple_of=64)] = 1024
    overlap: Annotated[int, Field(ge=0)] = 256
    reduction: Literal[2, 4] = 4
    width: Annotated[
        int,
        Field(ge=4, description="channels at its finest level; 8 takes half the time of 16, for a light base network"),
    ] = 16
    patch: Annotated[int, Field(ge=16, description="side of a pseudo-label patch in pixels")] = 128
    use_image: bool = True
    detail: Annotated[bool, Field(description="correct every pixel by itself, too")] = True
    statistics: bool = False
    pseudo: Literal["joint", "per_patch"] = "joint"
    pseudo_weight: Annotated[
        float | None,
        Field(ge=0, le=1, description="share of pseudo-labels in the loss; null: 0 for fast, 0.7 for paper"),
    ] = None
    steps: Annotated[int | None, Field(ge=1, description="null goes by the labels, at most 800")] = None
    batch: Annotated[int, Field(ge=1)] = 2
    learning_rate: Positive = 1e-3

    @model_validator(mode="after")
    def _consistent(self) -> RefinerTraining:
        if self.folds == 1:
            raise ValueError("folds must be 0 (no cross-fitting) or at least 2")
        if self.variant == "paper" and (self.patch % 8 or self.window % self.patch):
            raise ValueError("variant paper needs a patch that is a multiple of 8 and divides the window")
        if self.variant == "paper" and self.overlap % self.patch:
            raise ValueError(
                f"variant paper needs an overlap that is a multiple of the patch, so that patches lie on one grid; got "
                f"{self.overlap} and {self.patch}"
            )
        return self


class TrainConfig(_Section):
    """A whole training run.

    `bands` names what the model sees, in order. `base` of the section names is the base network, `refiner` PRN.
    """

    name: Name
    version: str = "1"
    description: str = ""
    license: str = "Apache-2.0"
    root: Path = Path(".")
    work: Path = Path("runs")
    out: Path | None = None
    seed: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    targets: Annotated[list[Name], Field(min_length=1)]
    bands: Annotated[list[str], Field(min_length=1)] = ["red", "green", "blue"]
    gsd: tuple[Positive, Positive] = (0.25, 1.25)
    tile: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    overlap: Annotated[int, Field(ge=0)] = 128
    network: Network = Network()
    base: BaseTraining = BaseTraining()
    refiner: RefinerTraining = RefinerTraining()
    sources: list[Source] = []
    split: Split | None = None
    towns: Towns = Towns()

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        for source in self.sources:
            unknown = set(source.labels) - set(self.targets)
            if unknown:
                raise ValueError(f"source {source.name} labels {sorted(unknown)}, which are not in targets")
            if source.bands is not None and len(source.bands) != len(self.bands):
                raise ValueError(
                    f"source {source.name} has {len(source.bands)} bands, the model {len(self.bands)}: {self.bands}"
                )
        for key, own in (("targets", self.targets), ("bands", self.bands)):
            if len(set(own)) < len(own):
                raise ValueError(f"{key} must be names that differ, got {own}")
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
        path: a YAML file. Its `root` counts from its folder.
        overrides: `key=value` pairs laid over the file; a dotted key reaches into sections and lists
            (`base.steps=200`, `sources.0.gsd=0.3`) and the value is read as YAML. A `root` given here counts from
            the current folder.

    Raises:
        UsageError: the file is missing or not YAML, a key is unknown, a value is out of range.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"No such configuration file: {file}.")
    content = read_mapping(file)
    root = content.get("root", ".")
    if isinstance(root, str):
        content["root"] = str(file.parent / root)
    for override in overrides or []:
        _apply(content, override)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        told = explain(error, TrainConfig)
        raise UsageError(f"{file} does not describe a training run. {told}{'.' * (told[-1] != '?')}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UsageError(f"Overrides are written key=value (for example base.steps=200), got {override!r}.")
    *sections, last = key.split(".")
    place: Any = content
    for number, section in enumerate(sections):
        place = _entry(place, section, key)
        if not isinstance(place, (dict, list)):
            raise UsageError(
                f"{key}: {'.'.join(sections[: number + 1])} is {place!r}, not a section of the configuration."
            )
    try:
        found = read_value(value)
    except ValueError as error:
        raise UsageError(f"{key}: {value!r} is not a YAML value.") from error
    if isinstance(place, list):
        _entry(place, last, key)
        place[int(last)] = found
    else:
        place[last] = found


def _entry(place: dict[str, Any] | list[Any], name: str, key: str) -> Any:
    """What stands in a section or list under a name or number; a new section if there is none."""
    if isinstance(place, dict):
        return place.setdefault(name, {})
    if not name.isdecimal() or int(name) >= len(place):
        raise UsageError(f"{key}: {name!r} is no number of an entry of that list; it holds {len(place)}, from 0.")
    return place[int(name)]
