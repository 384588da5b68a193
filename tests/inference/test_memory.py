import pytest

from prngeo.errors import UsageError
from prngeo.inference.memory import CHUNKS, gdal_cache, plan_memory
from prngeo.models.card import Card, NetworkCard, RefinerCard, TargetCard

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


@pytest.mark.parametrize("budget", [1200 * MIB, 2 * GIB, 4 * GIB, 16 * GIB, 64 * GIB])
@pytest.mark.parametrize("side", [1, 4096, 40_000, 200_000])
def test_estimated_peak_stays_within_the_budget(budget, side):
    plan = plan_memory(budget, card(), (side, side), 512, 128)
    assert plan.peak <= budget
    assert plan.chunk in CHUNKS
    assert plan.store >= 0
    assert plan.scratch >= 0
    assert 0 < gdal_cache(budget) <= 256 * MIB


def test_more_memory_never_means_smaller_chunks_or_more_scratch():
    plans = [plan_memory(int(g * GIB), card(), (40_000, 40_000), 512, 128) for g in (1.3, 1.6, 2, 4, 8, 32)]
    assert [p.chunk for p in plans] == sorted(p.chunk for p in plans)
    assert [p.scratch for p in plans] == sorted((p.scratch for p in plans), reverse=True)
    assert len({p.chunk for p in plans}) > 1
    assert plans[0].scratch > 0 == plans[-1].scratch


def test_scratch_grows_with_the_width_of_the_scene_not_its_height():
    wide = plan_memory(2 * GIB, card(), (40_000, 80_000), 512, 128)
    plain = plan_memory(2 * GIB, card(), (40_000, 40_000), 512, 128)
    tall = plan_memory(2 * GIB, card(), (80_000, 40_000), 512, 128)
    assert tall.scratch == plain.scratch < wide.scratch


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
