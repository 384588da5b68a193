from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prngeo.errors import PrngeoError
from prngeo.models import runtime as runtimes
from prngeo.models.bundle import open_bundle, write_bundle
from prngeo.models.card import RefinerCard
from prngeo.models.devices import Compute, choose_compute, limit_gpu
from prngeo.models.logits import LOGIT_RANGE, to_half
from prngeo.models.runtime import Runtime
from prngeo.refine.branches import PaperCorrection

FLOAT32 = Compute("cpu", "float32")
BFLOAT16 = Compute("cpu", "bfloat16")


def tiles(count, size=64, seed=0):
    rng = np.random.default_rng(seed)
    valid = rng.random((count, size, size)) < 0.9
    return rng.random((count, 3, size, size), np.float32) * valid[:, None], valid


@pytest.fixture(scope="module", params=[FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def runtime(request, bundle):
    return Runtime(bundle, request.param)


def test_logits_are_float16_a_tile_and_target(runtime):
    image, valid = tiles(3)
    logits = runtime.segment(image, valid)
    assert logits.dtype == np.float16
    assert logits.shape == (3, 2, 64, 64)
    assert len(np.unique(logits)) > 1000
    assert np.isfinite(logits).all()


@pytest.fixture(params=[1, 2])
def threads(request):
    """This many threads for a test, and as many as before for the tests after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_result_does_not_depend_on_the_batch(runtime):
    image, valid = tiles(4)
    whole = runtime.segment(image, valid)
    order = np.array([2, 0, 3, 1])
    assert runtime.segment(image[order], valid[order]).tobytes() == whole[order].tobytes()
    for start, stop in ((0, 1), (1, 4)):
        part = runtime.segment(image[start:stop], valid[start:stop])
        assert part.tobytes() == whole[start:stop].tobytes()


@pytest.mark.slow
def test_result_of_the_embedded_model_does_not_depend_on_the_threads_where_they_wait_without_work(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    runtime = Runtime(open_bundle(), FLOAT32)
    image, valid = tiles(1, 512)
    side, small = (runtime.card.refiner.window // step for step in (1, runtime.card.refiner.reduction))
    rng = np.random.default_rng(0)
    window = (
        rng.normal(0, 3, (2, side, side)).astype(np.float32),
        *(rng.random((*bands, small, small), np.float32) for bands in ((3,), ())),
    )
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            found.append((runtime.segment(image, valid).tobytes(), runtime.refine(*window).tobytes()))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_on_a_cpu_every_tile_is_a_call_of_its_own(bundle):
    """There a kernel may be chosen by the size of the batch."""
    sizes = []
    runtime = Runtime(bundle, FLOAT32, batch=8)
    runtime._network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    runtime.segment(*tiles(3))
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_a_batch_filled_up_with_empty_tiles_gives_every_tile_its_own(bundle, batch):
    """How a GPU is fed; here on the CPU, where only the order can be told."""
    image, valid = tiles(5)
    expected = Runtime(bundle, FLOAT32).segment(image, valid)
    other = Runtime(bundle, FLOAT32)
    other.batch = batch
    found = other.segment(image, valid)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=5e-3, rtol=5e-3)


def test_refinement_repeats_bitwise_and_is_not_zero(runtime):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 128, 128)).astype(np.float32)
    image, valid = rng.random((3, 32, 32), np.float32), np.ones((32, 32), np.float32)
    first = runtime.refine(logits, image, valid)
    assert first.dtype == np.float16
    assert first.shape == (2, 128, 128)
    assert first.any()
    assert runtime.refine(logits, image, valid).tobytes() == first.tobytes()


def test_precisions_agree_roughly(bundle):
    image, valid = tiles(2)
    a, b = (Runtime(bundle, kind).segment(image, valid).astype(float) for kind in (FLOAT32, BFLOAT16))
    assert np.abs(a - b).max() < 0.1 * a.std() + 0.1
    assert np.abs(a - b).max() > 0


def test_flips_are_averaged_in_place(bundle):
    """The mean over four flips commutes with a flip; and it differs from one look."""
    image, valid = tiles(1)
    tta = Runtime(bundle, FLOAT32, tta=True)
    plain = tta.segment(image, valid).astype(float)
    for axis in (1, 2):
        turned = tta.segment(np.flip(image, axis + 1).copy(), np.flip(valid, axis).copy())
        np.testing.assert_allclose(np.flip(turned, axis + 1).astype(float), plain, atol=2e-3, rtol=2e-3)
    one = Runtime(bundle, FLOAT32).segment(image, valid).astype(float)
    assert np.abs(one - plain).max() > 0.01


def test_weights_that_do_not_fit_the_card_are_an_error(tmp_path, make_card, tensors):
    fewer = {name: tensor for name, tensor in tensors.items() if name != "refiner.head.bias"}
    with pytest.raises(PrngeoError, match=r"do not fit the network on its card.*head\.bias"):
        Runtime(write_bundle(tmp_path / "a", make_card(), fewer), FLOAT32)
    wider = make_card(refiner={"window": 128, "overlap": 32, "width": 8})
    with pytest.raises(PrngeoError, match="do not fit"):
        Runtime(write_bundle(tmp_path / "b", wider, tensors), FLOAT32)


def test_a_bundle_without_refiner_runs(tmp_path, make_card, tensors):
    card = make_card(refiner=None, targets={"roads": {}, "buildings": {}})
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("network.")}
    image, valid = tiles(1)
    assert Runtime(write_bundle(tmp_path / "a", card, own), FLOAT32).segment(image, valid).shape == (1, 2, 64, 64)


@pytest.fixture(params=["numpy", "torch"])
def at_rest(request):
    """What either runtime does with logits, from an array to an array."""
    return to_half if request.param == "numpy" else lambda logits: runtimes._to_half(torch.from_numpy(logits))


def test_logits_are_clipped_at_rest(at_rest):
    found = at_rest(np.float32([-1e9, -3.0, 0.0, 1e9]))
    np.testing.assert_array_equal(found, np.float16([-LOGIT_RANGE, -3, 0, LOGIT_RANGE]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_overflows_is_an_error_not_background(at_rest, value):
    with pytest.raises(PrngeoError, match="not numbers"):
        at_rest(np.float32([0.0, value]))


def test_torch_rounds_as_numpy_does():
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 1 << 32, 1_000_000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([anything[np.isfinite(anything)], rng.normal(0, 4, 1_000_000).astype(np.float32)])
    assert runtimes._to_half(torch.from_numpy(values)).tobytes() == to_half(values).tobytes()


def test_the_best_device_is_usable():
    compute = choose_compute("auto")
    assert (torch.zeros(2, device=compute.device) + 1).sum() == 2
    assert choose_compute("cpu").device == "cpu"


@pytest.mark.slow
def test_a_bundle_may_hold_the_published_refiner(tmp_path, make_card, tensors):
    """Its correction comes back from disk as the network gives it, but for weights of half precision."""
    card = make_card(refiner=RefinerCard(variant="paper", window=128, overlap=32, patch=32))
    torch.manual_seed(0)
    refiner = PaperCorrection(2, patch=32).eval()
    named = {name: tensor for name, tensor in tensors.items() if name.startswith("network.")}
    named |= {f"refiner.{name}": tensor for name, tensor in refiner.state_dict().items()}
    runtime = Runtime(write_bundle(tmp_path / "paper", card, named), FLOAT32)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 128, 128)).astype(np.float32)
    image, valid = np.zeros((3, 32, 32), np.float32), np.ones((32, 32), np.float32)
    found = runtime.refine(logits, image, valid)
    with torch.inference_mode():
        expected = refiner(*(torch.from_numpy(part)[None] for part in (logits, image, valid[None])))[0].numpy()
    assert found.shape == (2, 128, 128)
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=0.02)


@pytest.mark.parametrize(("budget", "share"), [(4 << 30, 0.25), (64 << 30, 1.0)])
def test_a_budget_is_told_to_torch_as_a_share_of_the_gpu(monkeypatch, budget, share):
    """Without a GPU; what torch makes of it is not tried here."""
    told = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=16 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    limit_gpu(budget)
    assert told == [share]
