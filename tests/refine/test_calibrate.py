"""Temperature and threshold against brute force."""

import numpy as np
import pytest

from prngeo.refine.calibrate import LEAST_GAIN, Histogram, Tuned, tune, verdict


def counted(logits, labels):
    histogram = Histogram.empty()
    histogram.add(logits, labels)
    return histogram


def drawn(seed, scale=1.0, shift=0.0, count=20_000):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, count)
    labels = (rng.uniform(size=count) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return (logits * scale + shift).astype(np.float32), labels


def test_temperature_undoes_a_scaling_of_calibrated_logits():
    assert tune({"a": counted(*drawn(0))}).temperature == pytest.approx(1, abs=0.06)
    assert tune({"a": counted(*drawn(0, scale=2.5))}).temperature == pytest.approx(2.5, abs=0.15)


def test_threshold_has_the_best_iou_of_all_levels():
    logits, labels = drawn(1, shift=-1.5)
    tuned = tune({"a": counted(logits, labels)})
    probability = 1 / (1 + np.exp(-logits / tuned.temperature))
    truth = labels == 1

    def iou(threshold):
        mask = probability >= threshold
        return (mask & truth).sum() / (mask | truth).sum()

    best = max(iou(level / 250) for level in range(1, 250))
    assert iou(tuned.threshold) == pytest.approx(best, abs=2e-3)
    assert tuned.iou == pytest.approx(iou(tuned.threshold), abs=2e-3)


def test_ignored_pixels_do_not_count():
    logits, labels = drawn(2)
    labels[::3] = 255
    histogram = counted(logits, labels)
    assert histogram.positive.sum() + histogram.negative.sum() == (labels != 255).sum()


def test_every_source_counts_the_same():
    small, large = counted(*drawn(3, count=2_000)), counted(*drawn(4, shift=2.0, count=200_000))
    both = tune({"small": small, "large": large})
    assert both.iou == pytest.approx(np.mean(list(both.by_source.values())))


def test_a_source_without_positives_is_left_out_and_nothing_but_such_is_an_error():
    logits, labels = drawn(5)
    empty = counted(logits, np.zeros_like(labels))
    assert set(tune({"a": counted(logits, labels), "empty": empty}).by_source) == {"a"}
    with pytest.raises(ValueError, match="positive"):
        tune({"empty": empty})


@pytest.mark.parametrize(("gain", "opened"), [(-0.1, False), (0.0, False), (0.9, False), (1.1, True)])
def test_the_gate_opens_for_a_gain_that_is_more_than_rounding(gain, opened):
    base, refined = (Tuned(1.0, 0.5, iou, {}, 9) for iou in (0.6, 0.6 + gain * LEAST_GAIN))
    assert verdict(base, refined, 0.7, "", by_source=False).gate.enabled is opened
