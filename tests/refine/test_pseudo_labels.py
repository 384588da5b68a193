import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prngeo.refine import thresholds
from prngeo.refine.pseudo_labels import SMOOTHING, oracle_counts, pseudo_labels

INF = float("inf")


@st.composite
def maps(draw, largest=7):
    """Small maps with many ties, ignored pixels and patches that the border cuts off."""
    shape = draw(st.integers(1, 2)), draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = draw(st.sampled_from([2, 4, 1000]))
    logits = torch.from_numpy(rng.integers(-levels, levels, shape).astype(np.float32) / 2)
    truth = torch.from_numpy(rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9])))
    known = torch.from_numpy(rng.random(shape) < draw(st.sampled_from([0.2, 0.7, 1.0])))
    return logits, truth, known, draw(st.integers(1, largest))


def patches(logits, truth, known, patch):
    """(logits, truth) of the known pixels of every patch, with the patch's place."""
    n, height, width = logits.shape
    for i, row, col in itertools.product(range(n), range(0, height, patch), range(0, width, patch)):
        place = (i, slice(row, row + patch), slice(col, col + patch))
        keep = known[place]
        yield place, logits[place][keep].numpy(), truth[place][keep].numpy()


def options(logits, truth):
    """(threshold, true positives, union) of every binarization of a patch, the empty one first."""
    found = [(INF, 0, int(truth.sum()))]
    for threshold in sorted(set(logits.tolist()), reverse=True):
        chosen = logits >= threshold
        found.append((threshold, int((chosen & truth).sum()), int((chosen | truth).sum())))
    return found


def counts(labels, truth, known):
    return int((labels & truth & known).sum()), int(((labels | truth) & known).sum())


def pooled(labels, truth, known):
    hits, union = counts(labels, truth, known)
    return hits / max(1, union)


def best_pooled(every):
    """The best pooled IoU over all combinations of thresholds."""
    states = {(0, 0)}
    for found in every:
        states = {(hits + h, union + u) for hits, union in states for _, h, u in found}
    return max(hits / max(1, union) for hits, union in states)


@settings(deadline=None)
@given(maps())
def test_per_patch_is_the_best_threshold_of_every_patch(case):
    labels = pseudo_labels(*case, joint=False)
    for place, logits, truth in patches(*case):
        scores = [(h + SMOOTHING) / (u + SMOOTHING) for _, h, u in options(logits, truth)]
        keep = case[2][place]
        chosen = labels[place][keep].numpy()
        hits, union = int((chosen & truth).sum()), int((chosen | truth).sum())
        assert (hits + SMOOTHING) / (union + SMOOTHING) == pytest.approx(max(scores), rel=1e-6)


@settings(deadline=None, max_examples=200)
@given(maps(largest=5))
def test_joint_is_the_best_of_all_combinations(case):
    _, truth, known, _ = case
    every = [options(logits, truth) for _, logits, truth in patches(*case)]
    assert pooled(pseudo_labels(*case), truth, known) == pytest.approx(best_pooled(every), rel=1e-12)


@settings(deadline=None)
@given(maps(largest=12), st.integers(1, 12))
def test_joint_is_no_worse_than_any_single_threshold_and_than_per_patch(case, patch):
    logits, truth, known, _ = case
    joint = pooled(pseudo_labels(logits, truth, known, patch), truth, known)
    assert joint >= pooled(pseudo_labels(logits, truth, known, patch, joint=False), truth, known)
    for threshold in logits.unique():
        assert joint >= pooled(logits >= threshold, truth, known)


@settings(deadline=None)
@given(maps(), st.booleans())
def test_labels_are_a_threshold_of_each_patch(case, joint):
    """Equal logits fall on the same side, those of ignored pixels too."""
    labels = pseudo_labels(*case, joint=joint)
    assert labels.dtype == torch.bool
    assert labels.shape == case[0].shape
    for place, _, _ in patches(*case):
        values, chosen = case[0][place], labels[place]
        if chosen.any() and not chosen.all():
            assert values[chosen].min() > values[~chosen].max()


@settings(deadline=None)
@given(maps(), st.booleans(), st.sampled_from([float("nan"), -INF, 77.0]))
def test_ignored_pixels_have_no_say(case, joint, junk):
    logits, truth, known, patch = case
    expected = pseudo_labels(*case, joint=joint)
    changed = torch.where(known, logits, torch.tensor(junk))
    found = pseudo_labels(changed, truth ^ ~known, known, patch, joint=joint)
    assert torch.equal(found[known], expected[known])


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("junk", [float("nan"), -INF, 3.0])
def test_an_ignored_patch_predicts_nothing_and_disturbs_no_other(joint, junk):
    logits = torch.full((1, 4, 8), junk)
    truth, known = torch.ones(1, 4, 8, dtype=torch.bool), torch.zeros(1, 4, 8, dtype=torch.bool)
    known[..., 4:] = True
    truth[:, 2:, 4:] = False
    logits[..., 4:] = torch.where(truth[..., 4:], 1.0, -1.0)
    labels = pseudo_labels(logits, truth, known, 4, joint=joint)
    assert not labels[..., :4].any()
    assert torch.equal(labels[..., 4:], truth[..., 4:])


@pytest.mark.parametrize("joint", [True, False])
def test_without_positives_nothing_is_predicted(joint):
    logits = torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(2, 20, 30, dtype=torch.bool)
    assert not pseudo_labels(logits, nothing, ~nothing, 8, joint=joint).any()
    assert not pseudo_labels(logits, nothing, nothing, 8, joint=joint).any()


def test_a_missed_object_makes_per_patch_predict_junk_and_joint_nothing():
    """The reason for `joint`: the patch's own IoU rewards any hit, the pooled one does not."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 1, (1, 16, 32)).astype(np.float32))
    truth = torch.zeros(1, 16, 32, dtype=torch.bool)
    truth[:, :, :10] = True
    logits[:, :, :10] += 10
    truth[0, 2:6, 18:28] = True
    known = torch.ones_like(truth)
    own, joint = (pseudo_labels(logits, truth, known, 16, joint=kind) for kind in (False, True))
    assert own[:, :, 16:].sum() > 60
    assert joint[:, :, 16:].sum() < 20
    assert pooled(joint, truth, known) > pooled(own, truth, known)


def test_large_patches_reach_the_optimum_exactly():
    rng = np.random.default_rng(5)
    truth = torch.from_numpy(rng.random((1, 512, 1024)) < 0.3)
    logits = torch.from_numpy(rng.normal(0, 2, truth.shape).astype(np.float32)) + truth * 2.5
    known = torch.ones_like(truth)
    reached = pooled(pseudo_labels(logits, truth, known, 512), truth, known)
    halves = []
    for place, values, positive in patches(logits, truth, known, 512):
        order = np.argsort(-values, kind="stable")
        hits = np.append(0, positive[order].cumsum())
        union = np.arange(len(hits)) + positive.sum() - hits
        halves.append((place, hits, union))
    optimum = reached
    for _ in range(50):  # Dinkelbach from above what was reached can only find what is better
        best = [(h - optimum * u).argmax() for _, h, u in halves]
        value = sum(h[b] for (_, h, _), b in zip(halves, best, strict=True)) / sum(
            u[b] for (_, _, u), b in zip(halves, best, strict=True)
        )
        optimum = max(optimum, value)
    assert reached == optimum


def spread(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """Logits that a histogram between a sample's least and largest divides badly."""
    if kind == "one bin":  # two pixels take the whole range, if the sample holds them
        values = rng.normal(0, 1, shape)
        values[:, ::7, ::5] = 1e30
        values[:, 1::7, ::5] = -1e30
    elif kind == "neighbors":  # numbers that no smaller difference parts
        values = (np.float32(1).view(np.int32) + rng.integers(0, 40, shape, dtype=np.int32)).view(np.float32)
    elif kind == "huge":
        values = rng.choice([-1, 1], shape) * np.exp(rng.uniform(-100, 88, shape))
    elif kind == "infinite":
        values = rng.choice([-np.inf, np.inf, -3.4e38, 3.4e38, 1e-45, 0.0, -0.0, 1.0], shape)
    elif kind == "constant":
        values = np.full(shape, -4.0)
    else:
        values = rng.normal(0, 3, shape).astype(np.float16)
    return torch.from_numpy(values.astype(np.float32))


KINDS = ["one bin", "neighbors", "huge", "infinite", "constant", "float16"]


@pytest.mark.parametrize("at_once", [1, 1 << 18])
@pytest.mark.parametrize("kind", KINDS)
def test_no_spread_of_logits_hides_the_best_threshold(kind, at_once, monkeypatch):
    """Whatever the bins hold, and however many rows of patches are counted at once; patches of many sizes."""
    monkeypatch.setattr(thresholds, "AT_ONCE", at_once)
    rng = np.random.default_rng(KINDS.index(kind))
    for patch in (2, 7, 20):
        logits = spread(kind, (1, 20, 26), rng)
        truth = torch.from_numpy(rng.random(logits.shape) < 0.2) | ((logits > 0.7) & (logits < 1e20))
        known = torch.from_numpy(rng.random(logits.shape) < 0.9)
        own = pseudo_labels(logits, truth, known, patch, joint=False)
        together = pseudo_labels(logits, truth, known, patch)
        ratio = counts(together, truth, known)
        gained = 0
        for place, values, positive in patches(logits, truth, known, patch):
            found = options(values, positive)
            best = max((h + SMOOTHING) / (u + SMOOTHING) for _, h, u in found)
            hits, union = counts(own[place], truth[place], known[place])
            assert (hits + SMOOTHING) / (union + SMOOTHING) == best
            gained += max(h * ratio[1] - u * ratio[0] for _, h, u in found)
        assert gained == 0  # no combination has a larger ratio (Dinkelbach)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_give_the_labels_that_arrays_give(kind, joint, monkeypatch):
    """A GPU works on tensors, the CPU on arrays; here the tensors are on the CPU."""
    rng = np.random.default_rng(KINDS.index(kind))
    logits = spread(kind, (2, 20, 26), rng)
    truth = torch.from_numpy(rng.random(logits.shape) < 0.2) | (logits > 0.7)
    known = torch.from_numpy(rng.random(logits.shape) < 0.9)
    logits[~known] = torch.nan
    cases = [(logits, truth, known, patch, joint) for patch in (1, 7, 20)]
    arrays = [pseudo_labels(*case) for case in cases]
    monkeypatch.setattr(thresholds, "plain", lambda tensor: tensor)
    for case, expected in zip(cases, arrays, strict=True):
        assert expected.any()
        assert torch.equal(pseudo_labels(*case), expected)


@settings(deadline=None)
@given(maps(), st.booleans())
def test_of_equally_good_thresholds_the_highest_counts(case, joint):
    """So that labels do not depend on how the logits were counted."""
    logits, truth, known, _ = case
    labels = pseudo_labels(*case, joint=joint)
    ratio = counts(labels, truth, known) if joint else None
    for place, values, positive in patches(*case):
        found = options(values, positive)
        if ratio:
            scores = [h * max(1, ratio[1]) - u * ratio[0] for _, h, u in found]
        else:
            scores = [(h + SMOOTHING) / (u + SMOOTHING) for _, h, u in found]
        threshold = found[scores.index(max(scores))][0]
        assert torch.equal(labels[place], logits[place] >= threshold)


@pytest.mark.parametrize("joint", [True, False])
def test_zeros_of_both_signs_are_equal(joint):
    logits = torch.tensor([[[0.0, -0.0, -1.0, 1.0]]])
    truth = torch.tensor([[[False, True, False, True]]])
    labels = pseudo_labels(logits, truth, torch.ones_like(truth), 4, joint=joint)
    assert labels.tolist() == [[[True, True, False, True]]]


def test_only_few_logits_are_sorted(monkeypatch):
    """What the histogram is for: of a map like a model's, some percent remain."""
    sorted_logits = []
    plainly = thresholds._sorted
    monkeypatch.setattr(
        thresholds, "_sorted", lambda values, *more: (sorted_logits.append(len(values)), plainly(values, *more))[1]
    )
    rng = np.random.default_rng(0)
    truth = np.kron(rng.random((1, 16, 16)) < 0.2, np.ones((1, 16, 16))) > 0
    logits = torch.from_numpy((4 * truth - 2 + rng.normal(0, 1.5, truth.shape)).astype(np.float32))
    for joint in (True, False):
        pseudo_labels(logits, torch.from_numpy(truth), torch.ones_like(logits, dtype=torch.bool), 64, joint=joint)
    assert max(sorted_logits) < 0.1 * logits.numel()


def test_the_oracle_counts_what_the_jointly_best_thresholds_hit():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20, 12)).astype(np.float32)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), (20, 12))
    known = labels != 255
    best = pseudo_labels(*(torch.from_numpy(part)[None] for part in (logits, labels == 1, known)), 8)[0].numpy() & known
    assert oracle_counts(logits, labels, 8) == ((best & (labels == 1)).sum(), (best | (labels == 1)).sum())


def test_logits_with_a_gradient_are_taken_as_they_are():
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    truth, known = logits > 0.3, torch.ones(1, 8, 8, dtype=torch.bool)
    assert torch.equal(
        pseudo_labels(logits.clone().requires_grad_(), truth, known, 4), pseudo_labels(logits, truth, known, 4)
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "patch", "message"),
    [
        ((1, 8, 8), torch.int64, 4, "truth and known are bool, got torch.int64"),
        ((1, 8, 9), torch.bool, 4, "one shape"),
        ((1, 8, 8), torch.bool, 0, "patch is at least 1"),
    ],
)
def test_what_does_not_suit_is_refused(shape, dtype, patch, message):
    with pytest.raises(ValueError, match=message):
        pseudo_labels(torch.zeros(1, 8, 8), torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=torch.bool), patch)


def test_no_map_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        pseudo_labels(torch.zeros(0, 8, 8), *torch.zeros(2, 0, 8, 8, dtype=torch.bool), 4)
