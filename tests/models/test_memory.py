"""Out of memory: computed in halves once, then an error that names what to make smaller."""

import logging

import pytest
import torch

from prngeo.errors import PrngeoError
from prngeo.models.memory import Halving, explained, out_of_memory

CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)
WINDOWS = RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried")


def really_out_of_memory():
    """What torch raises here."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def test_the_errors_of_every_allocator_are_known():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        CPU,
        WINDOWS,
        MemoryError(),
        really_out_of_memory(),
    ):
        assert out_of_memory(error)
    for error in (RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), KeyError("x")):
        assert not out_of_memory(error)


def test_from_the_first_failure_on_steps_are_halved(caplog):
    caplog.set_level(logging.WARNING)
    asked, halving = [], Halving(8, "base.batch or base.crop")

    def step(parts):
        asked.append(parts)
        if len(asked) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return parts

    assert [halving(step) for _ in range(3)] == [1, 2, 2]
    assert asked == [1, 1, 2, 2]
    assert "a batch of 8" in caplog.text
    assert "base.batch or base.crop" in caplog.text


@pytest.mark.parametrize("settings", [{"batch": 8, "parts": 2}, {"batch": 1}, {"batch": 8, "may_halve": False}])
def test_what_cannot_be_halved_is_an_error(settings):
    def step(_):
        raise CPU

    with pytest.raises(PrngeoError, match=r"out of memory.*Make base\.batch smaller"):
        Halving(keys="base.batch", **settings)(step)


def test_other_errors_pass():
    def step(_):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        Halving(8, "")(step)
    with pytest.raises(RuntimeError, match="shapes"), explained(""):
        step(0)


def test_memory_that_runs_out_elsewhere_is_explained():
    with pytest.raises(PrngeoError, match=r"Make base\.crop smaller"), explained("base.crop"):
        raise CPU
