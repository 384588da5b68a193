"""A bundle made ready to compute with torch: base network and refiner behind two calls on arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prngeo.errors import PrngeoError
from prngeo.models.bundle import Bundle, PrnBundle
from prngeo.models.card import RefinerCard
from prngeo.models.devices import Compute
from prngeo.models.logits import FLIPS, LOGIT_RANGE, refuse_non_finite
from prngeo.models.segmenter import Segmenter
from prngeo.refine.branches import PaperCorrection, Refiner
from prngeo.refine.network import FastRefiner


class Runtime:
    """Runs a bundle with torch.

    On a CPU every tile is a call of its own, so a result cannot depend on the batch it came in; on a GPU every call
    has the same batch size, the last one filled up with empty tiles. Where the environment says
    OMP_WAIT_POLICY=passive, one thread rounds as several do.

    Args:
        bundle: the model.
        compute: device and precision.
        tta: average the logits of the four flips of every tile (test-time augmentation).
        batch: tiles a call on a GPU.
    """

    def __init__(self, bundle: Bundle, compute: Compute, tta: bool = False, batch: int = 8) -> None:
        self.card = bundle.card
        self.compute = compute
        self.tta = tta
        self.batch = batch if compute.device != "cpu" else 1
        network, refiner = load_networks(bundle)
        self._network = network.to(compute.device).to(memory_format=torch.channels_last)
        self._refiner = refiner and refiner.to(compute.device).to(memory_format=torch.channels_last)
        if compute.device == "cpu" and os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
            for part in filter(None, (self._network, self._refiner)):
                _round_as_several_threads(part)

    def segment(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float16]:
        """Base logits of tiles.

        Args:
            image: (N, bands, S, S) float32 in 0..1.
            valid: (N, S, S) bool.

        Returns:
            (N, targets, S, S) float16.

        Raises:
            PrngeoError: the device ran out of memory.
        """
        results = []
        for start in range(0, len(image), self.batch):
            tiles = torch.from_numpy(image[start : start + self.batch])
            mask = torch.from_numpy(valid[start : start + self.batch, None].astype(np.float32))
            count = len(tiles)
            if count < self.batch:
                tiles, mask = (torch.cat([t, t.new_zeros(self.batch - count, *t.shape[1:])]) for t in (tiles, mask))
            with _inference(self.compute):
                logits = self._flips(tiles.to(self.compute.device), mask.to(self.compute.device))
                results.append(_to_half(logits[:count]))
        return np.concatenate(results)

    def refine(
        self, logits: NDArray[np.float32], image: NDArray[np.float32], valid: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        """The correction of one refiner window.

        Args:
            logits: (targets, W, W) float32.
            image: (bands, W / reduction, W / reduction) float32 in 0..1.
            valid: (W / reduction, W / reduction) float32 share of valid pixels.

        Returns:
            (targets, W, W) float16: refined minus base logit.
        """
        assert self._refiner is not None, "the bundle has no refiner"
        return correction(self._refiner, self.compute, logits, image, valid)

    def facts(self) -> dict[str, str | int]:
        """What computes, for the record of a run."""
        return {
            "runtime": "torch",
            "version": str(torch.__version__),  # it is an object of torch
            "device": self.compute.device,
            "precision": self.compute.precision,
            "threads": torch.get_num_threads(),
        }

    def _flips(self, tiles: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self._network(tiles, mask).float()
        if not self.tta:
            return logits
        for axes in FLIPS:
            logits = logits + self._network(tiles.flip(axes), mask.flip(axes)).float().flip(axes)
        return logits / 4


def correction(
    refiner: Refiner,
    compute: Compute,
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    valid: NDArray[np.float32],
) -> NDArray[np.float16]:
    """The correction of one window by a refiner on its device; arguments and errors as of `Runtime.refine`."""
    parts = [torch.from_numpy(part)[None].to(compute.device) for part in (logits, image, valid[None])]
    with _inference(compute):
        return _to_half(refiner(*parts)[0])


def _to_half(logits: Tensor) -> NDArray[np.float16]:
    """As prngeo.models.logits.to_half, but on the device, and by torch, which takes a seventh of numpy's time."""
    refuse_non_finite(bool(logits.isfinite().all()))
    half: NDArray[np.float16] = logits.float().clamp(-LOGIT_RANGE, LOGIT_RANGE).half().cpu().numpy()
    return half


def _round_as_several_threads(network: torch.nn.Module) -> None:
    """Let 1 x 1 convolutions have two threads where torch has one.

    With one, oneDNN adds up their channels in another order; with two or more always in the same (measured for all
    layers of the embedded networks, up to 64 threads). On a core that is busy this takes 7 % more time if threads wait
    without work (OMP_WAIT_POLICY=passive), and half as much again if not.
    """
    outside: list[int] = []

    def before(*_: object) -> None:
        outside.append(torch.get_num_threads())
        if outside[-1] == 1:
            torch.set_num_threads(2)

    def after(*_: object) -> None:
        if outside.pop() == 1:
            torch.set_num_threads(1)

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(after, always_call=True)


@contextmanager
def _inference(compute: Compute) -> Iterator[None]:
    try:
        with (
            torch.inference_mode(),
            torch.autocast(compute.device, compute.dtype, enabled=compute.precision != "float32"),
        ):
            yield
    except torch.OutOfMemoryError as error:
        raise PrngeoError(
            "The GPU ran out of memory. Close other programs that use it, choose a smaller --tile, raise --max-memory "
            "if the GPU has more, or run with --device cpu."
        ) from error


def load_networks(bundle: Bundle) -> tuple[Segmenter, Refiner | None]:
    """Base network and refiner with their weights, ready for inference in float32 on the CPU.

    Raises:
        UsageError: the file of the weights is missing or damaged.
        PrngeoError: the weights do not fit the networks on the card.
    """
    tensors = bundle.tensors()
    network = build_segmenter(bundle)
    fill(network, tensors, "network.", bundle)
    if bundle.card.refiner is None:
        return network.eval(), None
    refiner = build_refiner(bundle)
    fill(refiner, tensors, "refiner.", bundle)
    return network.eval(), refiner.eval()


def build_segmenter(bundle: Bundle) -> Segmenter:
    """The base network of a card, with random weights."""
    network = bundle.card.network
    return Segmenter(network.architecture, network.encoder, len(bundle.card.targets), network.mean, network.std)


def build_refiner(bundle: Bundle) -> Refiner:
    """The refiner of a card that has one, untrained."""
    assert bundle.card.refiner is not None, "the bundle has no refiner"
    return make_refiner(bundle.card.refiner, len(bundle.card.targets), len(bundle.card.network.mean))


def make_refiner(card: RefinerCard, targets: int, bands: int) -> Refiner:
    """An untrained refiner; the fast variant is then the identity.

    Args:
        card: its variant and sizes.
        targets: number of logit channels.
        bands: image bands of the model.
    """
    if card.variant == "paper":
        return PaperCorrection(targets, card.patch, card.reduction)
    seen = bands if card.use_image else 0
    return FastRefiner(targets, seen, card.width, card.reduction, card.detail, card.statistics)


def fill(module: torch.nn.Module, tensors: dict[str, Tensor], prefix: str, bundle: Bundle | PrnBundle) -> None:
    """Load the weights of a bundle whose names begin with a prefix.

    Raises:
        PrngeoError: they do not fit.
    """
    own = {
        name.removeprefix(prefix): t.float() if t.is_floating_point() else t
        for name, t in tensors.items()
        if name.startswith(prefix)
    }
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise PrngeoError(f"The weights of {bundle.path} do not fit the network on its card: {reason[:300]}") from error
