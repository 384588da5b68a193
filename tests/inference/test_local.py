"""Reading ahead and writing behind: what overlaps is proven by events, not by time."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest

from prngeo.inference.local import ahead, behind
from prngeo.inference.mosaic import Mosaic
from prngeo.raster.store import TileStore
from prngeo.tiling.grid import Grid, Window
from tests.inference.test_mosaic import OVERLAP, SHAPE, TILE, Fake, Image, card, chunked, run, scene

PATIENCE = 30
"""Seconds after which an event is taken not to come."""


def test_what_is_read_ahead_comes_in_order_from_another_thread():
    threads = set()

    def read(item):
        threads.add(threading.get_ident())
        return item * 2

    with ahead(read, range(20), depth=3) as results:
        assert list(results) == list(range(0, 40, 2))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("steps", [range(0), range(4, 5), range(2, 9)])
def test_what_several_threads_make_ahead_comes_once_and_in_order(threads, steps):
    with ahead(lambda step: step, steps, threads, threads) as results:
        assert list(results) == list(steps)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_reading_is_never_farther_ahead_than_told(depth):
    started, used = [], 0

    def read(item):
        started.append(item)
        assert item <= used + depth + 1
        return item

    with ahead(read, range(30), depth=depth) as results:
        for item in results:
            used = item
    assert started == list(range(30))


def test_the_next_items_are_read_while_one_is_in_use():
    read_on = {number: threading.Event() for number in range(4)}

    def read(item):
        read_on[item].set()
        return item

    with ahead(read, range(4), depth=2) as results:
        assert next(results) == 0
        assert read_on[1].wait(PATIENCE)
        assert read_on[2].wait(PATIENCE), "nobody asked for them yet"


def test_nothing_is_read_after_the_end():
    going, reads = threading.Event(), []

    def read(item):
        reads.append(item)
        if item == 1:
            going.wait(PATIENCE)

    with pytest.raises(KeyError), ahead(read, range(9), depth=2) as results:
        next(results)
        going.set()
        raise KeyError
    count = len(reads)
    assert count <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    assert len(reads) == count


def test_a_failed_read_comes_out_in_its_place():
    def read(item):
        if item == 2:
            raise OSError("truncated")
        return item

    with ahead(read, range(5)) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(OSError, match="truncated"):
            next(results)


def test_work_is_done_in_order_behind_the_caller():
    first, order = threading.Event(), []

    def work(number):
        if number == 0:
            assert first.wait(PATIENCE)
        order.append((number, threading.get_ident()))

    with behind(depth=1) as later:
        later(lambda: work(0))
        later(lambda: work(1))
        assert not order, "the caller goes on while work waits"
        first.set()
        later(lambda: work(2))
    assert [number for number, _ in order] == [0, 1, 2]
    assert {thread for _, thread in order} != {threading.get_ident()}


def test_no_more_work_waits_than_told():
    gate, handed = threading.Semaphore(0), []

    def caller():
        with behind(depth=1) as later:
            for number in range(4):
                later(gate.acquire)
                handed.append(number)

    thread = threading.Thread(target=caller)
    thread.start()
    for allowed in (2, 3, 4):
        while len(handed) < allowed:
            thread.join(0.01)
        thread.join(0.1)
        assert len(handed) == allowed, "one in work and one that waits"
        gate.release()
    gate.release(4)
    thread.join(PATIENCE)
    assert len(handed) == 4


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_failed_work_ends_the_run_and_nothing_is_done_after_it(failing):
    done = []

    def work(number):
        if number == failing:
            raise OSError("disk full")
        done.append(number)

    with pytest.raises(OSError, match="disk full"), behind() as later:
        for number in range(4):
            later(lambda number=number: work(number))
    assert done == list(range(failing))


def test_work_handed_over_is_done_even_if_the_caller_fails():
    done = []
    with pytest.raises(KeyboardInterrupt), behind() as later:
        later(lambda: done.append(1))
        later(lambda: done.append(2))
        raise KeyboardInterrupt
    assert done == [1, 2]


class Slow(Image):
    """Reads a tile only when it is allowed to."""

    def __init__(self, pixels):
        super().__init__(pixels)
        self.read_tiles = threading.Semaphore(0)

    def read(self, window):
        result = super().read(window)
        self.read_tiles.release()
        return result


class Waiting(Fake):
    """A network that goes on with a tile only once the reader is already done with the next two."""

    def __init__(self, image, tiles):
        super().__init__()
        self.image, self.left = image, tiles

    def segment(self, image, valid):
        self.left -= 1
        if self.left >= 2:
            for _ in range(3 if self.tiles == 0 else 1):
                assert self.image.read_tiles.acquire(timeout=PATIENCE), "the reader waits for the network"
        return super().segment(image, valid)


def local(image, networks, requests, folder, finish=lambda window, logits: None, budget=1 << 30):
    """The local pipeline over a mosaic."""
    with ExitStack() as stack:
        mosaic = Mosaic(
            image, image.mask.shape, networks, card(), (True, True),
            TileStore(budget, folder, stack.enter_context(behind())), requests, tile=TILE, overlap=OVERLAP,
        )  # fmt: skip
        stack.enter_context(mosaic.reading_ahead())
        later = stack.enter_context(behind())
        for window in requests:
            mosaic.compute(window)
            later(lambda window=window: finish(window, mosaic.read(window)))
    return mosaic


def test_tiles_of_the_next_chunk_are_read_while_the_network_is_at_work(tmp_path):
    """Chunks as large as a tile: a reader that stopped at their ends would never satisfy the network."""
    requests = chunked(SHAPE, 48)
    image = Slow(scene(SHAPE))
    tiles = len(Grid(*SHAPE, TILE, OVERLAP))
    networks = Waiting(image, tiles)
    mosaic = local(image, networks, requests, tmp_path)
    assert mosaic.tiles == networks.tiles == tiles
    assert set(image.reads.values()) == {1}


def test_the_network_goes_on_while_a_chunk_is_written(tmp_path):
    """The first chunk is written only after the network has begun with the third."""
    requests = chunked(SHAPE, 48)
    going_on = threading.Event()

    class Announcing(Fake):
        def segment(self, image, valid):
            if self.tiles > 6:
                going_on.set()
            return super().segment(image, valid)

    def finish(window, _):
        if window == requests[0]:
            assert going_on.wait(PATIENCE), "the network waits for the writer"

    networks = Announcing()
    local(Image(scene(SHAPE)), networks, requests, tmp_path, finish)


def test_the_network_goes_on_while_tiles_are_written_to_scratch(tmp_path, monkeypatch):
    """The first tile is written only after the network has begun with the third."""
    going_on = threading.Event()
    save = np.savez

    class Announcing(Fake):
        def segment(self, image, valid):
            if self.tiles == 2:
                going_on.set()
            return super().segment(image, valid)

    def slow(path, *arrays):
        assert going_on.wait(PATIENCE), "the network waits for the disk"
        save(path, *arrays)

    monkeypatch.setattr(np, "savez", slow)
    local(Image(scene(SHAPE)), Announcing(), chunked(SHAPE, 48), tmp_path, budget=0)
    assert going_on.is_set()


def test_what_prn_needs_of_the_next_window_is_read_from_scratch_while_it_refines_one(tmp_path, monkeypatch):
    """PRN waits with the first window until tiles of the second one are read."""
    read = threading.Semaphore(0)
    load, ours = np.load, threading.get_ident()

    def loaded(path):
        assert threading.get_ident() != ours
        read.release()
        return load(path)

    class Waits(Fake):
        def refine(self, logits, image, valid):
            if self.windows == 0:
                for _ in range(first + 1):
                    assert read.acquire(timeout=PATIENCE), "nothing is read while PRN is at work"
            return super().refine(logits, image, valid)

    tiles, windows = Grid(*SHAPE, TILE, OVERLAP), Grid(*SHAPE, card().refiner.window, card().refiner.overlap)
    first = 2 * len(tiles.touching(windows.window((0, 0))))  # for the logits, and for the image
    monkeypatch.setattr(np, "load", loaded)
    whole = [Window(0, 0, *SHAPE)]
    networks = Waits()
    local(Image(scene(SHAPE)), networks, whole, tmp_path, budget=0)
    assert networks.windows == len(windows) > 1


@pytest.mark.parametrize("budget", [0, 100_000, 1 << 30])
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_change_no_value(tmp_path, budget, batch):
    whole = run(Image(scene(SHAPE)), Fake(), [Window(0, 0, *SHAPE)], tmp_path)
    base, correction = (np.full((2, *SHAPE), np.nan, np.float32) for _ in range(2))
    order = []

    def finish(window, logits):
        at = (slice(None), *window.within(Window(0, 0, *SHAPE)))
        base[at], correction[at] = logits.base, logits.correction
        order.append(window)

    requests, image = chunked(SHAPE, 100), Image(scene(SHAPE))
    local(image, Fake(batch), requests, tmp_path, finish, budget)
    assert order == requests
    assert base.tobytes() == whole[0].tobytes()
    assert correction.tobytes() == whole[1].tobytes()
    assert set(image.reads.values()) == {1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["reader", "network", "writer"])
def test_what_fails_in_a_thread_ends_the_run(tmp_path, failing):
    class Broken(Image):
        def read(self, window):
            if failing == "reader" and window.row > 90:
                raise OSError("reader")
            return super().read(window)

    class Failing(Fake):
        def segment(self, image, valid):
            if failing == "network" and self.tiles > 9:
                raise OSError("network")
            return super().segment(image, valid)

    def finish(window, _):
        if failing == "writer" and window.row > 90:
            raise OSError("writer")

    with pytest.raises(OSError, match=failing):
        local(Broken(scene(SHAPE)), Failing(), chunked(SHAPE, 100), tmp_path, finish)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
