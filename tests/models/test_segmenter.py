import pytest
import torch

from prngeo.errors import UsageError
from prngeo.models.segmenter import Segmenter

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
    wrong = f"Architecture '{architecture}'" if architecture != "unet" else f"Encoder '{encoder}'"
    with pytest.raises(UsageError, match=f"{wrong} is unknown") as caught:
        Segmenter(architecture, encoder, 2)
    assert len(str(caught.value)) < 400, "a message, not a list of all encoders"


@pytest.mark.parametrize(
    ("architecture", "encoder", "near"),
    [("unett", "resnet18", "unet"), ("unet", "resnet81", "resnet18"), ("unet", "tu-lcnet_50", "tu-lcnet_050")],
)
def test_unknown_names_come_with_the_nearest_ones(architecture, encoder, near):
    with pytest.raises(UsageError, match=f"Did you mean .*{near}"):
        Segmenter(architecture, encoder, 1)


@pytest.mark.parametrize(("architecture", "encoder"), [("farseg", "resnet18"), ("fcn", "none")])
@pytest.mark.parametrize("bands", [3, 4])
def test_networks_of_torchgeo(architecture, encoder, bands):
    network = Segmenter(architecture, encoder, 2, [0.5] * bands, [0.2] * bands).eval()
    with torch.no_grad():
        logits = network(torch.rand(1, bands, 64, 64), torch.ones(1, 1, 64, 64))
    assert logits.shape == (1, 2, 64, 64)


@pytest.mark.parametrize(("architecture", "encoder"), [("farseg", "tu-lcnet_050"), ("fcn", "resnet18")])
def test_encoders_that_they_lack_are_refused(architecture, encoder):
    with pytest.raises(UsageError, match="encoder"):
        Segmenter(architecture, encoder, 2)


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("unet", ENCODER), ("linknet", "resnet18"), ("fpn", ENCODER), ("deeplabv3plus", ENCODER), ("segformer", ENCODER),
     ("upernet", ENCODER), ("farseg", "resnet18"), ("fcn", "none")],
)  # fmt: skip
def test_head_and_stem_are_the_layers_of_targets_and_bands(architecture, encoder):
    network = Segmenter(architecture, encoder, 7, [0.5] * 5, [0.2] * 5)
    state = network.network.state_dict()
    assert state[f"{network.head}.weight"].shape[0] == 7
    assert state[f"{network.stem}.weight"].shape[1] == 5
