import threading
from collections import Counter

import numpy as np
import pytest

from prngeo.inference.chunks import Resampling
from prngeo.inference.mosaic import Mosaic, reduced
from prngeo.models.card import Card, NetworkCard, RefinerCard, TargetCard
from prngeo.raster.store import TileStore
from prngeo.tiling.blend import blend
from prngeo.tiling.grid import Grid, Window

TILE, OVERLAP = 64, 16
REFINER = RefinerCard(window=128, overlap=32, reduction=4)


def card(refiner=REFINER):
    return Card(
        name="fake",
        version="1",
        license="none",
        targets={"roads": TargetCard(), "buildings": TargetCard()},
        gsd=(0.5, 1.0),
        network=NetworkCard(architecture="none", encoder="none", mean=[0.5] * 3, std=[0.2] * 3),
        refiner=refiner,
    )


class Image:
    """An image in memory, with the reader's contract; counts what is read."""

    def __init__(self, pixels, valid=None):
        self.pixels = pixels
        self.mask = np.ones(pixels.shape[1:], bool) if valid is None else valid
        self.reads = Counter()
        self.threads = set()

    def read(self, window):
        self.reads[window] += 1
        self.threads.add(threading.get_ident())
        image, valid = np.zeros((3, *window.shape), np.float32), np.zeros(window.shape, bool)
        extent = Window(0, 0, *self.mask.shape)
        inside = window.intersect(extent)
        if not inside.is_empty:
            here, there = inside.within(window), inside.within(extent)
            valid[here] = self.mask[there]
            image[(slice(None), *here)] = self.pixels[(slice(None), *there)] * self.mask[there]
        return image, valid


class Fake:
    """Networks whose results depend on every pixel of their window, so that no error in placing them is hidden."""

    def __init__(self, batch=1):
        self.batch = batch
        self.tiles = 0
        self.windows = 0
        self.largest = 0

    def segment(self, image, valid):
        assert valid.any((1, 2)).all(), "a tile without a valid pixel reached the network"
        assert image.dtype == np.float32
        assert not image[np.broadcast_to(~valid[:, None], image.shape)].any()
        self.tiles += len(image)
        self.largest = max(self.largest, len(image))
        wide = image.mean((1, 2, 3), dtype=np.float64).astype(np.float32)[:, None, None, None]
        edge = np.linspace(-1, 1, image.shape[-1], dtype=np.float32)
        logits = (image[:, :2] - 0.5) * 8 + wide + edge - edge[:, None] * image[:, 2:]
        return logits.astype(np.float16)

    def refine(self, logits, image, valid):
        assert (valid > 0).any()
        self.windows += 1
        rows = np.linspace(-1, 1, logits.shape[-1], dtype=np.float32)[:, None]
        wide = np.float32((image[1] * valid).mean(dtype=np.float64) + logits.mean(dtype=np.float64))
        coarse = np.repeat(np.repeat(image[0] * valid, 4, 0), 4, 1)
        return (0.3 * logits + rows * wide + coarse).astype(np.float16)


class Identity(Fake):
    """A constant segmenter and an untrained refiner."""

    def segment(self, image, valid):
        super().segment(image, valid)
        return np.full((len(image), 2, *image.shape[2:]), -1.2343, np.float16)

    def refine(self, logits, image, valid):
        super().refine(logits, image, valid)
        return np.zeros(logits.shape, np.float16)


def scene(shape, seed=0):
    return np.random.default_rng(seed).random((3, *shape), np.float32)


def chunked(shape, side):
    grid = Grid(*shape, side)
    return [grid.window(index).intersect(grid.extent) for index in grid.indices()]


def run(image, networks, requests, folder, *, refine=(True, True), budget=1 << 30, model=None):
    """All requests in order, put into one (base, correction); NaN where none was made."""
    shape = image.mask.shape
    store = TileStore(budget, folder)
    seen = []
    mosaic = Mosaic(
        image, shape, networks, model or card(), refine, store, requests,
        tile=TILE, overlap=OVERLAP, on_tile=seen.append,
    )  # fmt: skip
    base, correction = (np.full((2, *shape), np.nan, np.float32) for _ in range(2))
    for window in requests:
        logits = mosaic.read(window)
        at = (slice(None), *window.within(Window(0, 0, *shape)))
        base[at], correction[at] = logits.base, logits.correction
    assert len(seen) == mosaic.tiles
    assert len(store) == 0
    assert not list(folder.iterdir())
    return base, correction


SHAPE = (300, 420)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of one request of everything."""
    requests = [Window(0, 0, *SHAPE)]
    return run(Image(scene(SHAPE)), Fake(), requests, tmp_path_factory.mktemp("scratch"))


@pytest.mark.parametrize("side", [1000, 128, 100, 37])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("budget", [0, 100_000, 1 << 30])
def test_result_does_not_depend_on_chunk_batch_or_budget(tmp_path, whole, side, batch, budget):
    result = run(Image(scene(SHAPE)), Fake(batch), chunked(SHAPE, side), tmp_path, budget=budget)
    for part, expected in zip(result, whole, strict=True):
        assert part.tobytes() == expected.tobytes()


def test_the_fakes_are_sensitive(whole):
    """Otherwise the comparisons above compare nothing."""
    base, correction = whole
    assert np.isfinite(base).all()
    assert np.isfinite(correction).all()
    for part in (base, correction):
        assert len(np.unique(part)) > 10_000
        assert not np.array_equal(part[0], part[1])


def test_tiles_are_blended_by_the_weights_of_their_overlap(whole):
    image = Image(scene(SHAPE))
    tiles = Grid(*SHAPE, TILE, OVERLAP)
    pieces = [
        (tiles.window(i), Fake().segment(*(p[None] for p in image.read(tiles.window(i))))[0]) for i in tiles.indices()
    ]
    np.testing.assert_array_equal(whole[0], blend(pieces, tiles.extent, 2, OVERLAP))


def test_windows_are_blended_by_the_weights_of_their_overlap(tmp_path):
    """Every window says its number: in the middle of an overlap lies their mean."""

    class Numbered(Identity):
        def refine(self, logits, image, valid):
            super().refine(logits, image, valid)
            return np.full(logits.shape, self.windows, np.float16)

    _, correction = run(Image(scene((100, 200))), Numbered(), [Window(0, 0, 100, 200)], tmp_path)
    row = correction[0, 50]
    assert (row[:96] == 1).all()
    assert (row[128:] == 2).all()
    between = row[96:128]
    assert (np.diff(between) > 0).all()
    np.testing.assert_allclose(between + between[::-1], 3, rtol=1e-6)


def test_result_does_not_depend_on_the_order_of_requests(tmp_path, whole):
    result = run(Image(scene(SHAPE)), Fake(3), chunked(SHAPE, 100)[::-1], tmp_path)
    for part, expected in zip(result, whole, strict=True):
        assert part.tobytes() == expected.tobytes()


@pytest.mark.parametrize("side", [1000, 100, 37])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_tile_goes_through_the_network_once(tmp_path, side, batch):
    image, networks = Image(scene(SHAPE)), Fake(batch)
    run(image, networks, chunked(SHAPE, side), tmp_path)
    tiles, windows = Grid(*SHAPE, TILE, OVERLAP), Grid(*SHAPE, REFINER.window, REFINER.overlap)
    assert set(image.reads) == {tiles.window(index) for index in tiles.indices()}
    assert set(image.reads.values()) == {1}
    assert networks.tiles == len(tiles)
    assert networks.windows == len(windows)
    assert networks.largest <= batch
    assert threading.get_ident() not in image.threads


def test_overlapping_and_repeated_requests_cost_no_second_run(tmp_path):
    image, networks = Image(scene(SHAPE)), Fake()
    run(image, networks, [Window(0, 0, 200, 420), Window(50, 0, 250, 300), Window(0, 0, 200, 420)], tmp_path)
    assert set(image.reads.values()) == {1}


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (64, 64), (65, 63), (128, 200), (129, 127)])
@pytest.mark.parametrize("refine", [(True, True), (False, False)])
def test_constant_field_is_constant_to_the_border(tmp_path, shape, refine):
    base, correction = run(Image(scene(shape)), Identity(), chunked(shape, 50), tmp_path, refine=refine)
    assert (base == np.float32(np.float16(-1.2343))).all()
    assert not correction.any()
    assert ((base + correction) == base).all()


def test_constant_correction_is_constant_to_the_border(tmp_path):
    class Shift(Identity):
        def refine(self, logits, image, valid):
            return np.full(logits.shape, 0.7771, np.float16)

    _, correction = run(Image(scene(SHAPE)), Shift(), chunked(SHAPE, 90), tmp_path)
    assert (correction == np.float32(np.float16(0.7771))).all()


@pytest.mark.parametrize("refine", [(True, False), (False, True), (False, False)])
def test_each_target_is_refined_alone(tmp_path, whole, refine):
    networks = Fake()
    base, correction = run(Image(scene(SHAPE)), networks, chunked(SHAPE, 100), tmp_path, refine=refine)
    assert base.tobytes() == whole[0].tobytes()
    for channel, on in enumerate(refine):
        np.testing.assert_array_equal(correction[channel], whole[1][channel] if on else 0)
    assert bool(networks.windows) == any(refine)


def test_a_card_without_refiner_is_not_refined(tmp_path, whole):
    base, correction = run(
        Image(scene(SHAPE)), Fake(), chunked(SHAPE, 100), tmp_path, refine=(False, False), model=card(None)
    )
    assert base.tobytes() == whole[0].tobytes()
    assert not correction.any()


def test_empty_tiles_and_windows_do_not_reach_the_networks(tmp_path):
    valid = np.zeros(SHAPE, bool)
    valid[10:40, 5:50] = True
    networks = Fake(4)
    seen = []
    requests = chunked(SHAPE, 100)
    store = TileStore(0, tmp_path)
    mosaic = Mosaic(
        Image(scene(SHAPE), valid), SHAPE, networks, card(), (True, True), store, requests,
        tile=TILE, overlap=OVERLAP, on_tile=seen.append,
    )  # fmt: skip
    for window in requests:
        logits = mosaic.read(window)
        assert np.isfinite(logits.base).all()
        assert np.isfinite(logits.correction).all()
    assert networks.tiles == sum(seen) == 2
    assert networks.windows == 1
    assert len(seen) == len(Grid(*SHAPE, TILE, OVERLAP))


def test_an_empty_tile_does_not_pull_at_the_blend(tmp_path):
    """Beside nodata a pixel of the model's grid that holds none is still read by bilinear sampling."""
    valid = np.ones((64, 112), bool)
    valid[:, 40:] = False  # the second tile begins at column 48
    base, _ = run(Image(scene((64, 112)), valid), Identity(), [Window(0, 0, 64, 112)], tmp_path)
    assert (base[:, :, :64] == np.float32(np.float16(-1.2343))).all()


def test_a_hole_changes_nothing_beyond_a_tile_and_a_window(tmp_path):
    hole = Window(140, 200, 9, 11)
    valid = np.ones((400, 560), bool)
    valid[hole.within(Window(0, 0, 400, 560))] = False
    requests = chunked((400, 560), 128)
    pixels = scene((400, 560))
    intact = run(Image(pixels), Fake(), requests, tmp_path)
    holed = run(Image(pixels, valid), Fake(), requests, tmp_path)
    for part, other, distance in zip(intact, holed, (TILE, TILE + REFINER.window), strict=True):
        beyond = np.ones((400, 560), bool)
        near = hole.expand(distance).intersect(Window(0, 0, 400, 560))
        beyond[near.within(Window(0, 0, 400, 560))] = False
        assert beyond.any()
        assert (part != other).any(), "the hole has an effect"
        np.testing.assert_array_equal(part[:, beyond], other[:, beyond])


def test_a_subset_of_chunks_gets_the_same_values_and_leaves_nothing(tmp_path, whole):
    requests = [window for number, window in enumerate(chunked(SHAPE, 100)) if number in (2, 3, 7, 14)]
    image, networks = Image(scene(SHAPE)), Fake(2)
    result = run(image, networks, requests, tmp_path, budget=50_000)
    assert networks.tiles < len(Grid(*SHAPE, TILE, OVERLAP))
    assert set(image.reads.values()) == {1}
    for part, expected in zip(result, whole, strict=True):
        inside = np.isfinite(part)
        assert inside.sum() == 2 * sum(window.height * window.width for window in requests)
        np.testing.assert_array_equal(part[inside], expected[inside])


@pytest.mark.parametrize("factor", [(2.5, 2.5), (0.5, 0.75)])
def test_resampled_outputs_do_not_depend_on_the_chunk(tmp_path, factor):
    shape = (120, 140)
    output = (round(shape[0] * factor[1]), round(shape[1] * factor[0]))
    resampling = Resampling(factor, shape)

    def outputs(side):
        chunks = chunked(output, side)
        mosaic = Mosaic(
            Image(scene(shape)), shape, Fake(), card(), (True, True), TileStore(0, tmp_path),
            [resampling.request(chunk) for chunk in chunks], tile=TILE, overlap=OVERLAP,
        )  # fmt: skip
        result = np.full((2, 2, *output), np.nan, np.float32)
        for chunk in chunks:
            logits = resampling.read(mosaic, chunk)
            at = (slice(None), *chunk.within(Window(0, 0, *output)))
            result[0][at], result[1][at] = logits.base, logits.correction
        return result

    whole = outputs(1000)
    assert np.isfinite(whole).all()
    for side in (33, 64):
        np.testing.assert_array_equal(outputs(side), whole)


def test_a_failing_reader_ends_the_run(tmp_path):
    class Broken(Image):
        def read(self, window):
            raise OSError("truncated")

    with pytest.raises(OSError, match="truncated"):
        run(Broken(scene(SHAPE)), Fake(), chunked(SHAPE, 100), tmp_path)


def test_reduced_image_is_the_mean_of_valid_pixels():
    rng = np.random.default_rng(0)
    image, valid = rng.random((3, 64, 64), np.float32), rng.random((64, 64)) < 0.4
    valid[:8] = False
    valid[20:24] = True
    small = reduced(image * valid, valid, 4)
    blocks = np.ma.masked_array(image, np.broadcast_to(~valid, image.shape)).reshape(3, 16, 4, 16, 4)
    np.testing.assert_allclose(small[:3], blocks.mean((2, 4)).filled(0), atol=1e-3)
    np.testing.assert_allclose(small[3], valid.reshape(16, 4, 16, 4).mean((1, 3)), atol=1e-3)
    assert not small[:, :2].any()
    for part in (reduced((image * valid)[:, 4:36, 16:48], valid[4:36, 16:48], 4), ):  # fmt: skip
        np.testing.assert_array_equal(part, small[:, 1:9, 4:12])
