import subprocess
import sys
import weakref

import numpy as np
import pytest

from prngeo.errors import PrngeoError
from prngeo.raster.store import TileStore

KIB = 1024


def tile(seed, kib=2):
    return np.random.default_rng(seed).normal(0, 5, kib * KIB // 2).astype(np.float16)


def in_scratch(folder):
    return len(list(folder.iterdir()))


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_the_same_arrays_come_back(tmp_path, budget):
    store = TileStore(budget, tmp_path)
    kept = {}
    for i in range(5):
        kept[i] = (
            tile(i).reshape(2, -1),
            tile(-i - 1 + 100).reshape(4, 4, -1),
            np.float16([np.nan, -0.0, 6e-8]),
        )
        store.put(i, kept[i], 1)
    assert in_scratch(tmp_path) == (5 if budget == 0 else 0)
    for i in reversed(range(5)):
        got = store.get(i)
        assert len(got) == 3
        for a, b in zip(got, kept[i], strict=True):
            assert a.dtype == np.float16
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes()


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    store = TileStore(0, tmp_path)
    store.put(0, tuple(np.float16([i]) for i in range(25)), 1)
    assert [int(a[0]) for a in store.get(0)] == list(range(25))


@pytest.mark.parametrize("budget", [-1, 0])
def test_nothing_can_be_kept_too(tmp_path, budget):
    store = TileStore(budget, tmp_path)
    store.put("empty", (), 1)
    assert store.get("empty") == ()
    store.release("empty")
    assert in_scratch(tmp_path) == 0


def test_memory_is_used_up_to_the_budget_and_again_when_free(tmp_path):
    store = TileStore(6 * KIB, tmp_path)
    for i in range(5):
        store.put(i, (tile(i),), 1)
    assert in_scratch(tmp_path) == 2, "exactly three of 2 KiB fit into 6"
    store.release(0)
    store.put(5, (tile(5),), 1)
    assert in_scratch(tmp_path) == 2
    store.release(4)
    assert in_scratch(tmp_path) == 1
    store.put(6, (tile(6),), 1)
    assert in_scratch(tmp_path) == 2, "what lay in scratch gave no memory back"


def test_last_release_leaves_nothing(tmp_path):
    store = TileStore(3 * KIB, tmp_path)
    for i in range(4):
        store.put(i, (tile(i),), uses=i + 1)
    for i in range(4):
        for _ in range(i):
            store.release(i)
            assert i in store
            store.get(i)
        store.release(i)
        assert i not in store
        with pytest.raises(KeyError):
            store.get(i)
    assert len(store) == 0
    assert in_scratch(tmp_path) == 0
    store.put("again", (tile(0, 3),), 1)
    assert in_scratch(tmp_path) == 0, "the whole budget is free again"


def test_what_waits_to_be_written_is_there_and_counts_once(tmp_path):
    waiting = []
    store = TileStore(2 * KIB, tmp_path, waiting.append)
    for i in range(4):
        store.put(i, (tile(i),), 1)
    assert (len(waiting), in_scratch(tmp_path)) == (3, 0)
    for i in range(4):
        np.testing.assert_array_equal(store.get(i)[0], tile(i))
    store.release(1)  # before it is written
    for write in waiting:
        write()
    assert in_scratch(tmp_path) == 2
    for i in (0, 2, 3):
        np.testing.assert_array_equal(store.get(i)[0], tile(i))
        store.release(i)
    assert (len(store), in_scratch(tmp_path)) == (0, 0)
    for i in (5, 6):
        store.put(i, (tile(i),), 1)
    assert len(waiting) == 4, "the whole budget is free again, and no more"


def test_a_kept_view_does_not_keep_the_batch_it_was_cut_from(tmp_path):
    batch = np.ones((8, 100), np.float16)
    store = TileStore(1 << 20, tmp_path)
    store.put(0, (batch[3],), 1)
    batch[:] = 0
    assert store.get(0)[0].all()
    batch = np.ones((8, 100), np.float16)
    kept = weakref.ref(batch)
    store.put(1, (batch[3],), 1)
    del batch
    assert kept() is None


def test_scratch_that_disappears_is_an_error_that_says_so(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    store = TileStore(0, folder)
    store.put(0, (tile(0),), 1)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(PrngeoError, match="scratch folder cannot be read back"):
        store.get(0)
    folder.rmdir()
    with pytest.raises(PrngeoError, match="--scratch"):
        store.put(1, (tile(1),), 1)


def test_a_damaged_scratch_file_is_an_error(tmp_path):
    store = TileStore(0, tmp_path)
    store.put(0, (tile(0),), 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(PrngeoError, match="read back"):
        store.get(0)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_full_disk_is_an_error_and_leaves_no_half_file(tmp_path):
    program = f"""
import resource, numpy as np
from pathlib import Path
from prngeo.errors import PrngeoError
from prngeo.raster.store import TileStore
store = TileStore(0, Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.put(0, (np.zeros(1_000_000, np.float16),), 1)
except PrngeoError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--max-memory" in run.stdout
    assert in_scratch(tmp_path) == 0
