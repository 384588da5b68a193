"""The cards: everything a bundle says about itself, as JSON beside its weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT: Literal[1] = 1
REFINER: Literal["refiner"] = "refiner"
"""What a `PrnCard` says it is; a model's `Card` says nothing."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(_Part):
    """probability = sigmoid(logit / temperature); the mask is where it reaches the threshold."""

    temperature: Positive = 1.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Gate(_Part):
    """The verdict on PRN for one target: IoU on validation blocks, both at thresholds tuned on them."""

    enabled: bool
    base_iou: float
    refined_iou: float
    joint_oracle_iou: float
    pixels: int
    by_source: dict[str, dict[str, float]] = {}
    note: str = ""


class TargetCard(_Part):
    """What a model knows of one target."""

    base: Calibration = Calibration()
    refined: Calibration | None = None
    gate: Gate | None = None

    @property
    def refine(self) -> bool:
        """True if PRN is used for this target."""
        return self.refined is not None and self.gate is not None and self.gate.enabled

    def calibration(self, refined: bool) -> Calibration:
        """Temperature and threshold of the refined or of the base logits."""
        return self.refined if refined and self.refined is not None else self.base


class NetworkCard(_Part):
    """The base network."""

    architecture: str
    encoder: str
    mean: list[float]
    std: list[Positive]


class RefinerCard(_Part):
    """The PRN refiner and the grid of its windows, in pixels of the model grid.

    `width`, `use_image`, `detail` and `statistics` belong to the fast variant, `patch` (the side of a local patch) to
    the paper's; see prngeo.refine.network and prngeo.refine.paper.
    """

    variant: Literal["fast", "paper"] = "fast"
    window: Annotated[int, Field(ge=64)] = 1024
    overlap: Annotated[int, Field(ge=0)] = 256
    reduction: Literal[1, 2, 4] = 4
    width: Annotated[int, Field(ge=1)] = 16
    use_image: bool = True
    detail: bool = False
    statistics: bool = False
    patch: Annotated[int, Field(ge=8, multiple_of=8)] = 64

    @model_validator(mode="after")
    def _consistent(self) -> RefinerCard:
        if self.window % (16 * self.reduction):
            raise ValueError(f"window must be a multiple of 16 times the reduction, got {self.window}")
        if self.variant == "paper" and self.window % self.patch:
            raise ValueError(f"window must be a multiple of the patch, got {self.window} and {self.patch}")
        if self.variant == "paper" and self.overlap % self.patch:
            raise ValueError(f"overlap must be a multiple of the patch, got {self.overlap} and {self.patch}")
        if self.overlap > self.window // 2 or self.overlap % self.reduction:
            raise ValueError(
                f"overlap must be a multiple of the reduction and at most half the window, got {self.overlap}"
            )
        return self


class GraphsCard(_Part):
    """The ONNX graphs of an exported model, which take the place of its weights: SHA-256 of each file.

    Attributes:
        precision: how their weights are stored.
        base: of the base network's graph.
        refiner: of PRN's graph; None if no target uses PRN.
    """

    precision: Literal["fp32", "fp16"]
    base: str
    refiner: str | None = None


class ScalingCard(_Part):
    """How raster values become 0..1; see prngeo.raster.scaling."""

    uint8: Literal["full", "percentile"] = "full"
    percentiles: tuple[float, float] = (1.0, 99.0)


class DataCard(_Part):
    """One training data set."""

    name: str
    license: str
    targets: list[str]
    scenes: int
    megapixels: float


Interval = tuple[float, float]


class AreaCard(_Part):
    """IoU on a test area that was neither trained nor tuned on, through the same path as `prngeo predict`.

    Relaxed F1 allows 3 m. Intervals are None where there are too few blocks for one.
    """

    source: str
    target: str
    scenes: int
    megapixels: float
    base_iou: float
    refined_iou: float
    blocks: int
    base_interval: Interval | None = None
    refined_interval: Interval | None = None
    gain_interval: Interval | None = None
    base_relaxed_f1: float | None = None
    refined_relaxed_f1: float | None = None


class Card(_Part):
    """A model card. Lengths in pixels are pixels of the model grid, GSD is in metres."""

    format: Literal[1] = FORMAT
    name: str
    version: str
    description: str = ""
    license: str
    bands: list[str] = ["red", "green", "blue"]
    targets: Annotated[dict[str, TargetCard], Field(min_length=1)]
    gsd: tuple[Positive, Positive]
    gsd_tolerance: float = 0.25
    scaling: ScalingCard = ScalingCard()
    band_mean: list[float] = []
    band_std: list[float] = []
    tile: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    overlap: Annotated[int, Field(ge=0, multiple_of=4)] = 128
    network: NetworkCard
    refiner: RefinerCard | None = None
    training: dict[str, Any] = {}
    data: list[DataCard] = []
    tests: list[AreaCard] = []
    weights_sha256: str = ""
    graphs: GraphsCard | None = None
    created: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if self.gsd[0] > self.gsd[1]:
            raise ValueError(f"gsd must be (smallest, largest), got {self.gsd}")
        if self.overlap > self.tile // 2:
            raise ValueError(f"overlap must be at most half of tile {self.tile}, got {self.overlap}")
        if not len(self.bands) == len(self.network.mean) == len(self.network.std):
            raise ValueError(f"network needs one mean and one std for each of the bands {self.bands}")
        if self.refiner is None and any(target.refine for target in self.targets.values()):
            raise ValueError("a target is refined, but there is no refiner")
        return self


ScoreValues = Literal["unit", "percent", "byte", "logit"]
"""What the numbers of scores mean, see prngeo.raster.values."""


class PrnCard(_Part):
    """A refiner of its own, for the scores of any segmenter; lengths in pixels are pixels of the scores.

    Attributes:
        kind: tells it from a model's card.
        name: of the bundle.
        license: as the person who fitted it says; empty if not said.
        targets: classes in the order of the scores' bands, with calibration and gate.
        class_values: value of each class on class maps; empty if there is one class alone.
        values: what the numbers of the scores meant, where they carried no scale of their own.
        image_bands: bands of the image it reads beside the scores; 0 if it reads none.
        gsd: smallest and largest GSD of the scores it was fitted on, in metres; None if nothing told.
        refiner: its network.
        fit: options it was fitted with.
        scenes: number of scenes.
        pixels: labelled pixels it was fitted on; what is held out and the gap around it do not count.
        pieces: number of pieces of the scenes that hold them; 0 if not told.
        left: number of pieces that were left out because there are so many.
        validation: what was held out, in words.
    """

    format: Literal[1] = FORMAT
    kind: Literal["refiner"] = REFINER
    name: str
    license: str = ""
    targets: Annotated[dict[str, TargetCard], Field(min_length=1)]
    class_values: dict[str, Annotated[int, Field(ge=0, le=254)]] = {}
    values: ScoreValues = "unit"
    image_bands: Annotated[int, Field(ge=0)] = 0
    gsd: tuple[Positive, Positive] | None = None
    refiner: RefinerCard
    fit: dict[str, Any] = {}
    scenes: Annotated[int, Field(ge=1)]
    pixels: Annotated[int, Field(ge=0)]
    pieces: Annotated[int, Field(ge=0)] = 0
    left: Annotated[int, Field(ge=0)] = 0
    validation: str = ""
    weights_sha256: str = ""
    created: str = ""

    @property
    def bands(self) -> list[str]:
        """What it reads, in this order: a logit for each class, and the bands of the image."""
        return [*self.targets, *(f"image band {number + 1}" for number in range(self.image_bands))]

    @model_validator(mode="after")
    def _consistent(self) -> PrnCard:
        wrong = [name for name in self.targets if not name or set(name) & set("/\\\0")]
        if wrong:
            raise ValueError(f"a class needs a name that can be a part of a file's name, got {wrong[0]!r}")
        if self.gsd is not None and self.gsd[0] > self.gsd[1]:
            raise ValueError(f"gsd must be (smallest, largest), got {self.gsd}")
        if self.class_values and list(self.class_values) != list(self.targets):
            raise ValueError(f"class_values must name the classes {list(self.targets)}, got {list(self.class_values)}")
        return self
