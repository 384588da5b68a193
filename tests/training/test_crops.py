import numpy as np
import pytest
import torch

from prngeo.config import Augmentation
from prngeo.errors import UsageError
from prngeo.tiling.grid import Window
from prngeo.training import crops
from prngeo.training.augment import flip, generators
from prngeo.training.crops import CropSampler
from prngeo.training.positives import Positives
from prngeo.training.regions import IGNORE, CachedRegion, Region

SCALE = Augmentation().scale


def region(image, labels=None, *, source="a", gsd=(0.5, 0.5), forbidden=(), valid=255):
    """A cached region of an (H, W, 3) image; labels default to where red is bright."""
    height, width = image.shape[:2]
    if labels is None:
        labels = (image[..., 0] > 127).astype(np.uint8)
    about = Region(
        key=source, source=source, role="train", gsd=gsd, shape=(height, width), targets=("roads",),
        scene="s", window=Window(0, 0, height, width), forbidden=tuple(forbidden),
    )  # fmt: skip
    mask = np.broadcast_to(np.asarray(valid, np.uint8), (height, width))[..., None]
    return CachedRegion(about, np.concatenate([image, mask], -1).astype(np.uint8), labels.reshape(height, width, -1))


def flat(height, width, value=100):
    return np.full((height, width, 3), value, np.uint8)


def blobs(height, width, seed=0):
    """Bright and dark squares of 16 pixels."""
    coarse = np.random.default_rng(seed).random((-(-height // 16), -(-width // 16))) < 0.4
    bright = np.kron(coarse, np.ones((16, 16), bool))[:height, :width]
    return np.repeat(np.where(bright, 255, 0).astype(np.uint8)[..., None], 3, -1)


def sampler(*regions, weights=None, size=64, gsd_range=(0.25, 1.25), seed=0, **more):
    names = {item.region.source for item in regions}
    return CropSampler(regions, weights or dict.fromkeys(names, 1.0), size, gsd_range, seed, **more)


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("image", "valid", "labels"))


def test_a_batch_is_a_function_of_seed_and_step():
    item = region(blobs(200, 300))
    first = sampler(item)
    batches = {step: first.batch(step, range(3)) for step in (0, 1, 2)}
    again = sampler(item)
    for step in (2, 0, 1):
        assert same(again.batch(step, range(3)), batches[step])
    assert not same(batches[0], batches[1])
    assert not same(sampler(item, seed=1).batch(0, range(3)), batches[0])


def test_shapes_and_values():
    batch = sampler(region(blobs(200, 300))).batch(0, range(5))
    assert (batch.image.shape, batch.valid.shape, batch.labels.shape) == (
        (5, 3, 64, 64),
        (5, 1, 64, 64),
        (5, 1, 64, 64),
    )
    assert (batch.image.dtype, batch.valid.dtype, batch.labels.dtype) == (torch.float32, torch.float32, torch.uint8)
    assert batch.image.min() >= 0
    assert batch.image.max() <= 1
    assert set(batch.valid.unique().tolist()) <= {0.0, 1.0}
    assert set(batch.labels.unique().tolist()) <= {0, 1, IGNORE}


def test_labels_stay_on_the_image_through_scale_and_flips():
    source = sampler(region(blobs(400, 300)), gsd_range=(0.3, 1.0))
    turned = 0
    for step in range(12):
        batch = flip(source.batch(step, range(4)), generators(0, step, range(4)))
        red, truth = batch.image[:, :1], batch.labels
        clear = (red - 0.5).abs() > 0.35
        assert clear.float().mean() > 0.3
        wrong = (red > 0.5) != (truth == 1)
        assert (wrong & clear).float().mean() < 0.01
        turned += ((red > 0.5).flip(-1) != (truth == 1)).float().mean() > 0.1
    assert turned == 12, "the pattern would not tell a flip"


def test_a_crop_does_not_depend_on_the_others_of_its_step():
    source = sampler(region(blobs(200, 300)), balance=0.5)
    whole, part = source.batch(3, range(6)), source.batch(3, range(6)[1::2])
    assert torch.equal(part.image, whole.image[1::2])
    assert torch.equal(part.labels, whole.labels[1::2])


def speck(height, width, *places, value=1):
    labels = np.zeros((height, width), np.uint8)
    for row, col in places:
        labels[row, col] = value
    return labels


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_is_the_share_of_crops_with_a_positive_pixel(balance):
    """Three pixels of 16 million: by chance no crop holds one."""
    item = region(flat(4000, 4000), speck(4000, 4000, (5, 3990), (2001, 1999), (3333, 70)))
    source = sampler(item, gsd_range=(0.5, 0.5), scale=(1, 1), balance=balance)
    batch = torch.cat([source.batch(step, range(40)).labels for step in range(3)])
    assert (batch == 1).any(-1).any(-1).float().mean() == pytest.approx(balance, abs=0.12)
    if balance:
        middle = batch[:, :, 31:33, 31:33].amax((1, 2, 3)) == 1
        assert middle.any(), "in the middle, where no border keeps it off"


def test_every_positive_pixel_and_every_target_has_its_turn():
    labels = np.zeros((300, 300, 2), np.uint8)
    labels[100, 100, 0] = labels[200, 250, 0] = labels[10, 10, 1] = 1
    item = region(flat(300, 300))
    item = CachedRegion(item.region, item.image, labels)
    source = sampler(item, gsd_range=(0.5, 0.5), scale=(1, 1), balance=1.0)
    batch = source.batch(0, range(80)).labels == 1
    share = batch.any(-1).any(-1).float().mean(0)
    assert share.tolist() == pytest.approx([0.5, 0.5], abs=0.2)


def test_balance_keeps_off_held_out_areas_and_needs_no_positives():
    labels = speck(400, 400, (50, 50), (300, 300))
    item = region(flat(400, 400), labels, forbidden=[Window(200, 200, 200, 200)])
    source = sampler(item, gsd_range=(0.5, 0.5), scale=(1, 1), balance=1.0)
    counts = (source.batch(0, range(30)).labels == 1).sum((1, 2, 3))
    assert (counts == 1).all(), "the one that is allowed"
    empty = sampler(region(flat(100, 100), np.zeros((100, 100), np.uint8)), balance=1.0)
    assert not (empty.batch(0, range(4)).labels == 1).any()


def test_labels_are_read_once_for_the_index():
    reads = []

    class Counting(np.ndarray):
        def __getitem__(self, key):
            reads.append(key)
            return np.asarray(super().__getitem__(key))

    labels = np.random.default_rng(0).integers(0, 2, (200, 330, 2)).astype(np.uint8)
    positives = Positives(labels.view(Counting))
    assert len(reads) == 4, "a row of blocks each"
    assert positives.pixels.tolist() == (labels == 1).sum((0, 1)).tolist()
    rng = np.random.default_rng(1)
    assert all(labels[(*positives.draw(1, rng), 1)] == 1 for _ in range(50))


@pytest.mark.parametrize("free", [72, 100])
def test_forbidden_windows_are_never_touched(free):
    """Little room beside them: most draws fail."""
    image, labels = flat(400, 400, 0), np.zeros((400, 400), np.uint8)
    held_out = [Window(0, free, 400, 400 - free), Window(200, 0, 200, 400)]
    for window in held_out:
        place = window.within(Window(0, 0, 400, 400))
        image[place], labels[place] = 255, 1
    source = sampler(region(image, labels, forbidden=held_out), gsd_range=(0.5, 0.55))
    for step in range(40):
        batch = source.batch(step, range(2))
        assert batch.image.max() == 0
        assert not (batch.labels == 1).any()
        assert batch.valid.all()


def test_labels_belong_to_their_crop_when_most_draws_are_refused():
    image = blobs(300, 300)
    held_out = [Window(0, 100, 300, 200), Window(120, 0, 180, 300)]
    source = sampler(region(image, forbidden=held_out), gsd_range=(0.5, 0.7))
    for step in range(30):
        batch = source.batch(step, range(2))
        red = batch.image[:, :1]
        clear = (red - 0.5).abs() > 0.35
        assert (((red > 0.5) != (batch.labels == 1)) & clear).float().mean() < 0.01


def test_no_room_at_all_is_an_error():
    item = region(flat(100, 100), forbidden=[Window(-50, -50, 200, 200)])
    with pytest.raises(UsageError, match="held-out areas"):
        sampler(item).batch(0, range(1))


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(UsageError, match="nothing to train on"):
        CropSampler([], {}, 64, (0.25, 1.25), 0)


def test_crops_without_labels_are_drawn_again():
    labels = np.full((300, 300), IGNORE, np.uint8)
    labels[:, :150] = 0
    source = sampler(region(flat(300, 300), labels), gsd_range=(0.5, 0.5))
    for step in range(30):
        assert (source.batch(step, range(1)).labels != IGNORE).float().mean() >= 0.24


def test_a_scene_without_any_label_is_given_up_soon(monkeypatch):
    source = sampler(region(flat(100, 100), np.full((100, 100), IGNORE, np.uint8)))
    draws, anywhere = [], source._anywhere
    monkeypatch.setattr(source, "_anywhere", lambda rng: draws.append(1) or anywhere(rng))
    assert (source.batch(0, range(2)).labels == IGNORE).all()
    assert len(draws) == 2 * (crops.PATIENCE + 1)


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (20, 300)])
def test_small_scenes_are_padded_as_ignored(shape):
    source = sampler(region(flat(*shape, 200)), gsd_range=(0.5, 0.5))
    for step in range(5):
        batch = source.batch(step, range(2))
        missing = batch.valid == 0
        assert missing.any()
        assert (batch.labels[missing] == IGNORE).all()
        assert not batch.image[missing.expand_as(batch.image)].any()
        if shape[0] > 1:
            assert batch.valid.sum() == 2 * shape[0] * min(64, shape[1])


def test_no_data_is_ignored_whatever_its_label():
    valid = np.full((200, 200), 255)
    valid[:, 100:] = 0
    batch = sampler(region(flat(200, 200), np.ones((200, 200), np.uint8), valid=valid)).batch(0, range(8))
    missing = batch.valid == 0
    assert missing.any()
    assert (batch.labels[missing] == IGNORE).all()
    assert (batch.labels[~missing] == 1).all()
    assert not batch.image[missing.expand_as(batch.image)].any()


@pytest.mark.parametrize("native", [(0.05, 0.05), (0.3, 0.3), (1.0, 1.0), (1.2, 0.6), (3.0, 3.0), (10.0, 10.0)])
def test_scales_stay_in_the_range_and_near_the_native_one(native):
    """A scene far coarser than the range is enlarged as little as allowed."""
    low, high = 0.25, 1.25
    item = region(flat(2000, 2000), gsd=native)
    source = sampler(item, size=256)
    center = float(np.sqrt(native[0] * native[1]))
    found = []
    for seed in range(100):
        _, window = source._anywhere(np.random.default_rng(seed))
        gsd = window.width * native[0] / 256, window.height * native[1] / 256
        assert gsd[0] == pytest.approx(gsd[1], rel=0.03), "square pixels on the model grid"
        found.append(gsd[0])
    assert min(found) >= max(low, SCALE[0] * center) * 0.97
    assert max(found) <= max(high, SCALE[0] * center) * 1.03
    if high / center > 1 and center > low:
        assert max(found) / min(found) > 1.4
        assert min(found) < center < max(found)


def test_sources_are_drawn_by_weight_not_by_area():
    small, large = region(flat(100, 100, 0)), region(flat(900, 900, 255), source="b")
    source = sampler(small, large, weights={"a": 3.0, "b": 1.0}, size=32)
    bright = torch.cat([source.batch(step, range(20)).image.amax((1, 2, 3)) > 0.5 for step in range(20)])
    assert bright.float().mean() == pytest.approx(0.25, abs=0.07)


def test_scenes_of_a_source_are_drawn_by_area():
    small, large = region(flat(100, 100, 0)), region(flat(100, 300, 255))
    source = sampler(small, large, size=32)
    bright = torch.cat([source.batch(step, range(20)).image.amax((1, 2, 3)) > 0.5 for step in range(20)])
    assert bright.float().mean() == pytest.approx(0.75, abs=0.07)


def test_a_fixed_scale_is_the_scenes_own():
    item = region(flat(300, 300))
    source = sampler(item, scale=(1, 1))
    assert {source._anywhere(np.random.default_rng(seed))[1].shape for seed in range(20)} == {(64, 64)}


def test_cut_beyond_the_array_is_filled():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    cut = crops.cut(array, Window(-1, 2, 5, 4), 9)[..., 0]
    np.testing.assert_array_equal(cut, [[9] * 4, [2, 3, 9, 9], [6, 7, 9, 9], [10, 11, 9, 9], [9] * 4])
