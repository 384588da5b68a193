"""Augmentation: a function of crop and generator, for any number of bands; labels stay on their pixels."""

import numpy as np
import pytest
import torch

from prngeo.config import Augmentation
from prngeo.training import augment as augmenting
from prngeo.training.augment import augment, flip, generators, radiometric, turn
from prngeo.training.crops import Batch
from prngeo.training.regions import IGNORE


def crops(count=4, bands=3, size=48, seed=0):
    """Bright squares are positive; the last band repeats the first."""
    rng = np.random.default_rng(seed)
    squares = np.kron(rng.random((count, 1, size // 8, size // 8)) < 0.4, np.ones((1, 1, 8, 8)))
    image = torch.from_numpy(np.repeat(squares, bands, 1).astype(np.float32))
    return Batch(image, torch.ones(count, 1, size, size), torch.from_numpy(squares.astype(np.uint8)))


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("image", "valid", "labels"))


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_crops_are_changed_alone_and_repeatably(bands):
    """The changes of a crop do not depend on the others beside it: parts of a batch may lie on other devices."""
    batch, options = crops(bands=bands), Augmentation(angle=40)
    whole = augment(batch, options, generators(7, 3, range(4)))
    assert whole.image.shape == batch.image.shape
    assert same(augment(batch, options, generators(7, 3, range(4))), whole)
    assert not same(augment(batch, options, generators(7, 4, range(4))), whole)
    part = Batch(batch.image[1::2], batch.valid[1::2], batch.labels[1::2])
    found = augment(part, options, generators(7, 3, range(4)[1::2]))
    assert torch.equal(found.labels, whole.labels[1::2])
    torch.testing.assert_close(found.image, whole.image[1::2])


def test_nothing_asked_is_nothing_done():
    batch = crops()
    assert same(augment(batch, Augmentation(flips=False, radiometry=0), generators(0, 0, range(4))), batch)


def test_each_of_the_eight_ways_occurs_and_labels_follow():
    corner = torch.zeros(64, 1, 8, 8)
    corner[:, :, 0, 1] = 1
    batch = Batch(corner, torch.ones_like(corner), corner.to(torch.uint8))
    found = flip(batch, generators(0, 0, range(64)))
    assert torch.equal(found.image, found.labels.float())
    assert len({int(crop.argmax()) for crop in found.image}) == 8


def test_turned_labels_stay_on_the_image_and_what_comes_from_outside_is_unknown():
    batch = crops(count=8)
    found = turn(batch, 45, generators(0, 0, range(8)))
    known = found.labels != IGNORE
    assert torch.equal(known, found.valid.bool())
    assert 0.6 < known.float().mean() < 0.99
    assert not found.image[~found.valid.bool().expand_as(found.image)].any()
    clear = known & ((found.image[:, :1] - 0.5).abs() > 0.35)
    assert ((found.image[:, :1] > 0.5) != (found.labels == 1))[clear].float().mean() < 0.01
    assert set(found.labels.unique().tolist()) == {0, 1, IGNORE}


def test_a_turn_by_a_quarter_is_exact(monkeypatch):
    class Quarter:
        def uniform(self, low, high):
            return 90.0

    batch = crops(count=1)
    found = turn(batch, 90, [Quarter()])
    turned = [torch.equal(found.labels, torch.rot90(batch.labels, way, (-2, -1))) for way in (1, 3)]
    assert sum(turned) == 1


def test_labels_of_255_stay_ignored_when_turned():
    batch = crops(count=2)
    batch.labels[..., :24] = IGNORE
    assert (turn(batch, 0.0, generators(0, 0, range(2))).labels[..., :24] == IGNORE).all()


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_radiometry_changes_colors_but_not_the_picture_by_its_strength(bands):
    batch = crops(count=8, bands=bands)
    image = 0.2 + 0.6 * batch.image
    bright = batch.labels[:, 0] == 1
    sizes = []
    for strength in (0.25, 1.0):
        found = radiometric(image, strength, generators(0, 0, range(8)))
        assert found.shape == image.shape
        assert found.min() >= 0
        assert found.max() <= 1
        for crop, mask in zip(found, bright, strict=True):
            assert crop[0][mask].mean() > crop[0][~mask].mean() + 0.2
        sizes.append(float((found - image).abs().mean()))
    assert 0 < 2 * sizes[0] < sizes[1]


def test_what_is_invalid_stays_zero():
    batch = crops()
    valid = batch.valid.clone()
    valid[..., :10] = 0
    found = augment(
        Batch(batch.image * valid, valid, batch.labels), Augmentation(flips=False), generators(0, 0, range(4))
    )
    assert not found.image[..., :10].any()


def test_noise_is_new_for_every_crop():
    noise = augmenting._noise(torch.zeros(3, 2, 40, 40), generators(0, 0, range(3)))
    assert not torch.equal(noise[0], noise[1])
    assert noise.std() == pytest.approx(1, abs=0.05)
