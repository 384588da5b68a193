"""Fitting finds a planted regional bias, and leaves the identity where there is none to learn from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prngeo.errors import PrngeoError
from prngeo.refine.branches import PaperCorrection
from prngeo.refine.fit import PASSES, STEPS, FitOptions, LogitMap, fit_refiner
from prngeo.refine.network import FastRefiner

SIZE = 128


def planted(seed, shift):
    """Logits right but for a shift wherever the image is bright (its left or right half)."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.uniform(size=(SIZE // 8, SIZE // 8)) < 0.4, np.ones((8, 8))).astype(np.uint8)
    bright = np.zeros((SIZE, SIZE), np.float32)
    bright[:, : SIZE // 2] = 1
    if seed % 2:
        bright = 1 - bright
    logits = (truth * 4.0 - 2.0) + rng.normal(0, 0.5, truth.shape) + shift * bright
    small = bright.reshape(SIZE // 4, 4, SIZE // 4, 4).mean((1, 3))
    return LogitMap(
        source="planted",
        logits=logits[None].astype(np.float16),
        image=small[None].astype(np.float16),
        valid=np.ones_like(small, np.float16),
        labels=truth[None],
    )


def iou(logits, labels):
    mask, truth = logits > 0, labels == 1
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize("weight", [None, 0.5])
def test_fit_corrects_a_regional_bias_on_a_map_it_has_not_seen(weight):
    """With ground truth alone, and with pseudo-labels beside it."""
    torch.manual_seed(0)
    refiner = FastRefiner(1, 1, width=8)
    options = FitOptions(window=SIZE, patch=32, pseudo_weight=weight, steps=60, batch=4, learning_rate=1e-2)
    fit_refiner(refiner, [planted(seed, 3.0) for seed in range(6)], options, torch.device("cpu"))
    unseen = planted(101, 3.0)
    with torch.inference_mode():
        correction = refiner(
            *(
                torch.from_numpy(part.astype(np.float32))[None]
                for part in (unseen.logits, unseen.image, unseen.valid[None])
            )
        )
    base = unseen.logits.astype(np.float32)
    assert iou(base, unseen.labels) < 0.75
    assert iou(base + correction[0].numpy(), unseen.labels) > 0.9


@pytest.mark.parametrize(
    ("refiner", "given", "used"),
    [
        (FastRefiner(1, 1, width=2), None, 0.0),
        (FastRefiner(1, 1, width=2), 0.3, 0.3),
        (PaperCorrection(1, 32), None, 0.7),
        (PaperCorrection(1, 32), 0.0, 0.0),
    ],
)
def test_pseudo_labels_weigh_as_told_or_as_the_variant_was_published_or_measured(monkeypatch, refiner, given, used):
    seen = []

    def loss(self, batch, weight):
        seen.append(weight)
        return sum(parameter.sum() for parameter in self.parameters()) * 0.0

    monkeypatch.setattr(type(refiner), "loss", loss)
    options = FitOptions(window=64, patch=32, pseudo_weight=given, steps=2)
    fit_refiner(refiner, [planted(0, 3.0)], options, torch.device("cpu"))
    assert seen == [used, used]


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_any_number_of_steps_will_do(steps):
    done = []
    options = FitOptions(window=64, patch=32, steps=steps)
    fit_refiner(FastRefiner(1, 1, width=2), [planted(0, 3.0)], options, torch.device("cpu"), done.append)
    assert done == list(range(1, steps + 1))


def test_no_step_is_spent_on_windows_without_labels(monkeypatch):
    labels = np.full((1, 1024, 1024), 255, np.uint8)
    labels[:, : 3 * SIZE, : 3 * SIZE] = np.tile(planted(0, 3.0).labels, (1, 3, 3))
    large = LogitMap(
        source="planted",
        logits=np.zeros((1, 1024, 1024), np.float16),
        image=np.zeros((1, 256, 256), np.float16),
        valid=np.ones((256, 256), np.float16),
        labels=labels,
    )
    seen = []
    monkeypatch.setattr(
        FastRefiner,
        "loss",
        lambda self, batch, _: seen.append(batch.known.mean()) or batch.logits.mean() * self.head.bias.sum(),
    )
    options = FitOptions(window=256, patch=128, steps=10, batch=1)
    fit_refiner(FastRefiner(1, 1, width=2), [large], options, torch.device("cpu"))
    assert len(seen) == 10
    assert sum(share > 0 for share in seen) >= 9  # 9 places of 49 hold labels: one draw of five finds them


def test_the_loss_is_told_now_and_then():
    told = []
    options = FitOptions(window=64, patch=32, steps=25)
    fit_refiner(
        FastRefiner(1, 1, width=2),
        [planted(0, 3.0)],
        options,
        torch.device("cpu"),
        on_loss=lambda *row: told.append(row),
    )
    assert [step for step, _ in told] == [20, 25]
    assert all(0 < loss < 10 for _, loss in told)


@pytest.mark.parametrize("most", [1, 0])
def test_out_of_memory_halves_the_batch_once(monkeypatch, most):
    """If halves are too large, too, it is an error."""
    options = FitOptions(window=128, patch=32, steps=3, batch=2, pseudo_weight=0.0)
    maps, device, sizes = [planted(0, 3.0)], torch.device("cpu"), []
    original = FastRefiner.loss

    def limited(self, batch, weight):
        sizes.append(len(batch.logits))
        if len(batch.logits) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return original(self, batch, weight)

    monkeypatch.setattr(FastRefiner, "loss", limited)
    if most:
        fit_refiner(FastRefiner(1, 1, width=2), maps, options, device)
        assert sizes == [2, 1, 1, 1, 1, 1, 1]
        return
    with pytest.raises(PrngeoError, match=r"refiner\.batch"):
        fit_refiner(FastRefiner(1, 1, width=2), maps, options, device)
    assert sizes == [2, 1]


@given(sides=st.lists(st.integers(8, 40), min_size=1, max_size=5), batch=st.integers(1, 4), known=st.floats(0.3, 1))
def test_steps_go_by_the_labels(sides, batch, known):
    """Every labelled pixel is drawn about PASSES times, but no more steps are taken than STEPS."""
    maps = []
    for number, side in enumerate(sides):
        shape = 4 * side, 4 * side
        labels = np.where(np.random.default_rng(number).uniform(size=(1, *shape)) < known, 0, 255).astype(np.uint8)
        small = np.zeros((side, side), np.float16)
        maps.append(LogitMap("s", np.zeros((1, *shape), np.float16), small[None], small, labels))
    window = 64
    steps = FitOptions(window=window, batch=batch).steps_for(maps)
    drawn = batch * np.mean([min(window, 4 * side) ** 2 for side in sides])
    passes = steps * drawn / sum((4 * side) ** 2 for side in sides)
    assert 1 <= steps <= STEPS
    assert steps == STEPS or PASSES <= passes < PASSES + drawn
    assert FitOptions(window=window, batch=batch, steps=7).steps_for(maps) == 7


def test_the_steps_of_sparse_labels_go_by_what_is_labelled():
    def sparse(side):
        labels = np.full((1, 1024, 1024), 255, np.uint8)
        labels[:, :side, :side] = 0
        small = np.zeros((256, 256), np.float16)
        return LogitMap("s", np.zeros((1, 1024, 1024), np.float16), small[None], small, labels)

    steps = [FitOptions(window=256).steps_for([sparse(side)]) for side in (64, 128, 512, 1024)]
    assert steps == [19, 75, 480, 480]
