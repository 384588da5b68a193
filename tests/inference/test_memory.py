import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from prngeo.errors import UsageError
from prngeo.inference.local import WRITE_BEHIND
from prngeo.inference.memory import (
    CHUNKS,
    COMMAND,
    estimate,
    gdal_cache,
    gpu_batch,
    plan_memory,
    refuse_full,
    waiting_bytes,
)
from prngeo.inference.mosaic import Mosaic
from prngeo.models.card import Card, GraphsCard, NetworkCard, RefinerCard, TargetCard
from prngeo.raster.store import TileStore
from tests.inference.test_mosaic import Fake, Image, chunked, scene

GIB = 1 << 30
MIB = 1 << 20


def card(refiner=True, targets=2):
    return Card(
        name="m",
        version="1",
        license="none",
        targets={f"t{i}": TargetCard() for i in range(targets)},
        gsd=(0.25, 1.25),
        network=NetworkCard(architecture="unet", encoder="x", mean=[0.5] * 3, std=[0.2] * 3),
        refiner=RefinerCard() if refiner else None,
    )


@pytest.mark.parametrize("budget", [1300 * MIB, 2 * GIB, 4 * GIB, 16 * GIB, 64 * GIB])
@pytest.mark.parametrize("side", [1, 4096, 40_000, 200_000])
def test_estimated_peak_stays_within_the_budget(budget, side):
    plan = plan_memory(budget, card(), (side, side), 512, 128)
    assert plan.peak <= budget
    assert plan.chunk in CHUNKS
    assert plan.store >= 0
    assert plan.scratch >= 0
    assert 0 < gdal_cache(budget) <= 256 * MIB


@pytest.mark.parametrize(
    ("budget", "tile", "batch"), [(4, 512, 8), (2, 512, 5), (1.5, 512, 4), (4, 1024, 2), (4, 4096, 1)]
)
def test_a_batch_on_a_gpu_leaves_half_of_the_budget(budget, tile, batch):
    assert gpu_batch(int(budget * GIB), tile) == batch


def test_more_memory_never_means_smaller_chunks_or_more_scratch():
    budgets = [int(g * GIB) for g in (1.35, 1.6, 2, 4, 8, 32)]
    chosen = [plan_memory(budget, card(), (40_000, 40_000), 512, 128).chunk for budget in budgets]
    assert chosen == sorted(chosen)
    assert len(set(chosen)) > 1
    scratch = [plan_memory(budget, card(), (40_000, 40_000), 512, 128, 512).scratch for budget in budgets]
    assert scratch == sorted(scratch, reverse=True)
    assert scratch[0] > 0 == scratch[-1]


def test_scratch_grows_with_the_width_of_the_scene_not_its_height():
    wide = plan_memory(2 * GIB, card(), (40_000, 80_000), 512, 128)
    plain = plan_memory(2 * GIB, card(), (40_000, 40_000), 512, 128)
    tall = plan_memory(2 * GIB, card(), (80_000, 40_000), 512, 128)
    assert tall.scratch == plain.scratch < wide.scratch


def test_a_scene_coarser_than_the_model_costs_what_its_logits_take():
    """Ten model pixels to a scene pixel: a chunk's logits are a hundred times as large."""
    fine = plan_memory(64 * GIB, card(), (40_000, 40_000), 512, 128, 512)
    coarse = plan_memory(64 * GIB, card(), (40_000, 40_000), 512, 128, 512, 0.1)
    assert coarse.peak - coarse.store > fine.peak - fine.store + GIB
    with pytest.raises(UsageError, match="at least"):
        plan_memory(2 * GIB, card(), (40_000, 40_000), 512, 128, None, 0.1)
    assert plan_memory(2 * GIB, card(), (40_000, 40_000), 512, 128, None, 4.0).peak <= 2 * GIB


def test_an_exported_model_needs_less_as_it_brings_no_torch():
    graphs = GraphsCard(precision="fp32", base="0" * 64)
    exported = card().model_copy(update={"graphs": graphs})
    with pytest.raises(UsageError):
        plan_memory(900 * MIB, card(), (4000, 4000), 512, 128)
    assert plan_memory(900 * MIB, exported, (4000, 4000), 512, 128).peak <= 900 * MIB


def test_the_command_counts_beside_a_process_of_its_networks():
    one, two = (plan_memory(2 * GIB, card(), (4000, 4000), 512, 128, beside=bytes) for bytes in (0, COMMAND))
    assert two.peak - two.store == one.peak - one.store + COMMAND
    with pytest.raises(UsageError, match="at least"):
        plan_memory(one.peak - one.store, card(), (4000, 4000), 512, 128, beside=COMMAND)


class Held(TileStore):
    """Notes the most bytes that it held."""

    def __init__(self, scratch):
        super().__init__(1 << 40, scratch)
        self.most = 0

    def put(self, key, arrays, uses):
        super().put(key, arrays, uses)
        self.most = max(self.most, self._bytes)


@pytest.mark.parametrize("shape", [(60, 70), (300, 900), (900, 300), (512, 1024)])
@pytest.mark.parametrize("side", [64, 200, 512])
@pytest.mark.parametrize("refiner", [None, RefinerCard(window=128, overlap=32, reduction=4)])
def test_never_more_waits_than_the_plan_says(tmp_path, shape, side, refiner):
    """However far behind the networks the blending may be."""
    model = card().model_copy(update={"refiner": refiner})
    requests, store = chunked(shape, side), Held(tmp_path)
    mosaic = Mosaic(
        Image(scene(shape)), shape, Fake(), model, (bool(refiner),) * 2, store, requests, tile=64, overlap=16
    )
    behind = []
    for request in requests:
        mosaic.compute(request)
        behind.append(request)
        if len(behind) > WRITE_BEHIND + 1:
            mosaic.read(behind.pop(0))
    assert 0 < store.most <= waiting_bytes(model, shape, 64, 16, side)
    assert waiting_bytes(model, shape, 64, 16, side) < 4 * store.most


def test_a_full_disk_is_told_before_the_run(tmp_path, monkeypatch):
    plan = plan_memory(int(1.4 * GIB), card(), (40_000, 40_000), 512, 128)
    assert plan.scratch > 0
    refuse_full(plan, tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=plan.scratch - 1))
    with pytest.raises(UsageError, match=r"\d\.\d\dGB of scratch space.*--scratch"):
        refuse_full(plan, tmp_path / "new" / "folder")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=plan.scratch))
    refuse_full(plan, tmp_path)


def test_the_estimate_names_memory_and_scratch():
    small = plan_memory(int(1.4 * GIB), card(), (40_000, 40_000), 512, 128)
    said = estimate(small, Path("fast"))
    assert f"{small.peak / GIB:.2f}GB of memory" in said
    assert f"{small.scratch / GIB:.2f}GB of scratch space in fast" in said
    said = estimate(small, None, each_worker=True)
    assert said.startswith("Each worker takes up to ")
    assert said.endswith("GB of scratch space.")
    assert "scratch" not in estimate(plan_memory(64 * GIB, card(), (4000, 4000), 512, 128), Path("fast"))


@pytest.mark.parametrize("chunk", [512, 1536])
def test_a_fixed_chunk_is_kept(chunk):
    assert plan_memory(4 * GIB, card(), (9000, 9000), 512, 128, chunk).chunk == chunk


@pytest.mark.parametrize("chunk", [None, 512, 65536])
def test_too_small_a_budget_says_how_much_is_needed(chunk):
    with pytest.raises(UsageError, match=r"--max-memory 0\.10GB is too small.*at least \d+\.\d\dGB") as caught:
        plan_memory(GIB // 10, card(), (9000, 9000), 512, 128, chunk)
    least = float(str(caught.value).split("at least ")[1].split("GB")[0])
    assert plan_memory(int(least * GIB), card(), (9000, 9000), 512, 128, chunk).peak <= least * GIB
    with pytest.raises(UsageError):
        plan_memory(int((least - 0.03) * GIB), card(), (9000, 9000), 512, 128, chunk)


def test_refiner_and_targets_cost_memory():
    shape = (20_000, 20_000)
    full = plan_memory(64 * GIB, card(), shape, 512, 128)
    assert plan_memory(64 * GIB, card(refiner=False), shape, 512, 128).peak < full.peak
    assert plan_memory(64 * GIB, card(targets=1), shape, 512, 128).peak < full.peak
    assert plan_memory(64 * GIB, card(), shape, 512, 256).peak > full.peak


@pytest.mark.skipif(sys.platform != "linux", reason="it is about the C library of Linux")
def test_freed_memory_is_used_again_also_in_the_environment_of_dasks_workers():
    script = (
        "import ctypes\n"
        "import numpy\n"
        "from prngeo.inference.memory import keep_freed\n"
        "class Info(ctypes.Structure):\n"
        "    _fields_ = [(str(number), ctypes.c_size_t) for number in range(10)]\n"
        "library = ctypes.CDLL(None)\n"
        "library.mallinfo2.restype = Info\n"
        "def from_the_system():\n"
        "    before = getattr(library.mallinfo2(), '4')\n"
        "    array = numpy.ones(2 << 20)\n"
        "    return getattr(library.mallinfo2(), '4') - before\n"
        "print(from_the_system())\n"
        "keep_freed()\n"
        "print(from_the_system())\n"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    if "mallinfo2" in done.stderr:
        pytest.skip("the C library is another one, or older")
    before, after = map(int, done.stdout.split())
    assert before >= 16 * MIB > 0 == after
