"""The published network: against a second one written as a list of steps, and the properties its parts promise."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from torch.nn import functional as F

from prngeo.refine import paper
from prngeo.refine.paper import PaperRefiner, load_by_position, refined_logit


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = PaperRefiner(16).eval()
    for module in made.modules():  # batch norms that do something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return made


class Steps:
    """The network as the paper's description reads, taking its tensors one after the other."""

    def __init__(self, state):
        self.tensors = iter(tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked"))

    def take(self, count):
        return [next(self.tensors) for _ in range(count)]

    def convolution(self):
        """3x3, batch norm, ReLU."""
        weight, bias, *norm = self.take(6)
        return lambda x: F.relu(self.norm(F.conv2d(x, weight, bias, padding=1), norm))

    def norm(self, x, tensors):
        gain, shift, mean, variance = (tensor[:, None, None] for tensor in tensors)
        return (x - mean) / torch.sqrt(variance + 1e-5) * gain + shift

    def level(self):
        first, second, (weight, bias) = self.convolution(), self.convolution(), self.take(2)

        def recurrent(f, x):
            y = f(x)
            y = f(x + y)
            return f(x + y)

        def run(x):
            x = F.conv2d(x, weight, bias)
            return x + recurrent(second, recurrent(first, x))

        return run

    def pyramid(self):
        weights, (weight, bias) = self.take(4), self.take(2)

        def run(x):
            parts = []
            for side, branch in zip((1, 2, 4, 8), weights, strict=True):
                small = F.conv2d(F.adaptive_avg_pool2d(x, side), branch)
                parts.append(F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False))
            return F.relu(F.conv2d(torch.cat([*parts, x], 1), weight, bias))

        return run

    def decoder(self):
        def gate_part():
            weight, bias, *norm = self.take(6)
            return lambda x: self.norm(F.conv2d(x, weight, bias), norm)

        levels = [(self.convolution(), self.level(), gate_part(), gate_part(), gate_part()) for _ in range(3)]

        def run(x, skips):
            for (enlarge, level, gating, on_skip, psi), skip in zip(levels, skips, strict=True):
                x = enlarge(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
                weight = torch.sigmoid(psi(F.relu(gating(x) + on_skip(skip))))
                x = level(torch.cat([skip * weight, x], 1))
            return x

        return run

    def run(self, x, patch):
        """Patch by patch in a loop."""
        skips = []
        for number in range(4):
            x = self.level()(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        deepest = self.pyramid()(skips.pop())
        whole_decoder, local_decoder = self.decoder(), self.decoder()
        heads = [self.take(2), self.take(2)]
        skips = skips[::-1]
        whole = F.conv2d(whole_decoder(deepest, skips), *heads[0], padding=1)
        local = torch.zeros_like(whole)
        for row in range(0, whole.shape[2], patch):
            for col in range(0, whole.shape[3], patch):
                pieces = [self.crop(part, row, col, patch, whole) for part in (deepest, *skips)]
                decoded = F.conv2d(local_decoder(pieces[0], pieces[1:]), *heads[1], padding=1)
                local[:, :, row : row + patch, col : col + patch] = decoded
        return whole, local

    @staticmethod
    def crop(part, row, col, patch, whole):
        scale = whole.shape[2] // part.shape[2]
        row, col, side = row // scale, col // scale, patch // scale
        return part[:, :, row : row + side, col : col + side]


def test_it_has_the_published_size():
    assert sum(parameter.numel() for parameter in PaperRefiner().parameters()) == 3_887_156


def test_outputs_are_those_of_the_description_followed_step_by_step(network):
    x = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        found, expected = network(x), Steps(network.state_dict()).run(x, 16)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


def test_the_pyramid_sees_every_pixel_but_the_local_decoder_only_its_patch(network):
    x = torch.rand(1, 1, 32, 32)
    changed = x.clone()
    changed[..., 24:, 24:] = 0
    with torch.no_grad():
        assert not torch.equal(network(x)[0][..., 0, 0], network(changed)[0][..., 0, 0])
        skips = [torch.rand(1, channels, side, side) for channels, side in ((32, 32), (64, 16), (128, 8))]
        deepest = torch.rand(1, 256, 4, 4)
        decode = paper
        whole = [decode._cut(part, 2, 2) for part in (deepest, *skips)]
        out = decode._decode(network.local_decoder, whole[0], whole[1:])
        other = [part.clone() for part in whole]
        for part in other:
            part[3] = 0
        again = decode._decode(network.local_decoder, other[0], other[1:])
    torch.testing.assert_close(out[:3], again[:3])
    assert not torch.equal(out[3], again[3])


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 40), (64, 33)])
def test_any_size_goes_in_and_comes_out(network, shape):
    with torch.no_grad():
        for found in network(torch.rand(2, 1, *shape)):
            assert found.shape == (2, 1, *shape)
            assert torch.isfinite(found).all()


@pytest.mark.parametrize("patch", [8, 24, 64, 256])
def test_any_patch_of_a_multiple_of_eight(patch):
    with torch.no_grad():
        found = PaperRefiner(patch).eval()(torch.rand(1, 1, 48, 48))
    assert all(part.shape == (1, 1, 48, 48) for part in found)


@pytest.mark.parametrize("patch", [0, 4, 12, -8])
def test_other_patches_are_refused(patch):
    with pytest.raises(ValueError, match="multiple of 8"):
        PaperRefiner(patch)


def test_maps_of_a_batch_do_not_mix(network):
    x = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        together = network(x)
        alone = [network(x[i : i + 1]) for i in range(3)]
    for branch in (0, 1):
        torch.testing.assert_close(together[branch], torch.cat([one[branch] for one in alone]), atol=1e-5, rtol=1e-4)


def test_weights_load_by_position_whatever_their_names(network):
    state = {f"module.{number}": tensor.clone() for number, tensor in enumerate(network.state_dict().values())}
    plain = {name: tensor for name, tensor in state.items() if tensor.dtype.is_floating_point}
    other = PaperRefiner(16).eval()
    load_by_position(other, plain)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for mine, theirs in zip(network(x), other(x), strict=True):
            assert torch.equal(mine, theirs)


def test_weights_that_do_not_fit_change_nothing(network):
    other = PaperRefiner(16)
    before = copy.deepcopy(other.state_dict())
    state = dict(network.state_dict())
    with pytest.raises(ValueError, match="tensors, the state"):
        load_by_position(other, dict(list(state.items())[:-1]))
    with pytest.raises(ValueError, match="no tensor at 'state'.*give the state_dict in it"):
        load_by_position(other, {"state": state, "epoch": 3})
    state["local_head.weight"] = torch.zeros(1, 32, 1, 1)
    with pytest.raises(ValueError, match=r"local_head.weight has shape \(1, 32, 3, 3\)"):
        load_by_position(other, state)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_refined_logit_is_positive_where_the_papers_rule_sets_the_mask(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    whole, local = torch.randn(2, height, width, generator=generator)
    above, both = (whole > 0).numpy(), ((whole > 0) & (local > 0)).numpy()
    expected = above | binary_dilation(both, iterations=1, structure=torch.ones(3, 3).numpy())
    assert ((refined_logit(whole, local) > 0).numpy() == expected).all()
