"""The base network: a torchgeo / segmentation-models-pytorch architecture with one logit channel a target."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from prngeo.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """Normalization and network in one: values in 0..1 in, logits out.

    Args:
        architecture: of segmentation-models-pytorch, e.g. `unet`, or torchgeo's `farseg` or `fcn`.
        encoder: one of its encoders; `tu-NAME` takes a timm network. `farseg` takes a ResNet of torchvision, `fcn` has
            no encoder: `none`.
        targets: number of output channels.
        mean: per-band mean that is subtracted, on the 0..1 scale; its length sets the number of bands.
        std: per-band standard deviation.

    Raises:
        UsageError: the architecture or encoder is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        encoder: str,
        targets: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.network = _build(architecture.lower(), encoder, len(mean), targets)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Logits of every target.

        Args:
            image: (N, bands, H, W) float in 0..1; H and W multiples of 32.
            valid: (N, 1, H, W) float, 1 where the image holds data; elsewhere the network sees the mean.

        Returns:
            (N, targets, H, W) float logits.
        """
        normalized = (image - self.mean) / self.std * valid
        logits: Tensor = self.network(normalized.contiguous(memory_format=torch.channels_last))
        return logits

    @property
    def head(self) -> str:
        """Name of the layer, within `network`, that gives the logits: a convolution with one output a target."""
        layers = self._convolutions()
        heads = [name for name in layers if name.startswith("segmentation_head.")]
        return (heads or layers)[-1]

    @property
    def stem(self) -> str:
        """Name of the layer, within `network`, that reads the bands: its first convolution."""
        return self._convolutions()[0]

    def _convolutions(self) -> list[str]:
        return [name for name, layer in self.network.named_modules() if isinstance(layer, nn.Conv2d)]


FARSEG = ("resnet18", "resnet34", "resnet50", "resnet101")


def _build(architecture: str, encoder: str, bands: int, targets: int) -> nn.Module:
    if architecture not in (known := sorted([*smp.MODEL_ARCHITECTURES_MAPPING, "farseg", "fcn"])):
        raise UsageError(
            f"Architecture {architecture!r} is unknown. {_nearest(architecture, known)} Known are {', '.join(known)}."
        )
    if architecture in ("farseg", "fcn"):
        return _torchgeo(architecture, encoder, bands, targets)
    try:
        network: nn.Module = smp.create_model(
            architecture, encoder, encoder_weights=None, in_channels=bands, classes=targets
        )
    except (KeyError, RuntimeError, ValueError) as error:
        own = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]
        if encoder not in own:  # the libraries' messages list all of them
            raise UsageError(
                f"Encoder {encoder!r} is unknown. {_nearest(encoder, own)} Names are those of "
                "segmentation-models-pytorch; timm encoders are written tu-NAME."
            ) from error
        raise UsageError(
            f"Architecture {architecture!r} with encoder {encoder!r} cannot be built: {' '.join(str(error).split())}."
        ) from error
    return network


def _torchgeo(architecture: str, encoder: str, bands: int, targets: int) -> nn.Module:
    """Networks of torchgeo that give logits of an image of any size; imported only here, as that takes seconds."""
    if architecture == "fcn":
        from torchgeo.models import FCN

        if encoder != "none":
            raise UsageError(f"Architecture 'fcn' has no encoder, got {encoder!r}: set network.encoder to none.")
        return FCN(bands, targets)
    from torchgeo.models import FarSeg

    if encoder not in FARSEG:
        raise UsageError(f"Architecture 'farseg' takes an encoder of {', '.join(FARSEG)}; got {encoder!r}.")
    network = FarSeg(encoder, targets, backbone_pretrained=False)
    if bands != 3:  # it has no argument for them
        network.backbone.conv1 = nn.Conv2d(bands, 64, 7, stride=2, padding=3, bias=False)
    return network


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.6)
    return f"Did you mean {' or '.join(near)}?" if near else ""
