"""What to do when training runs out of memory: compute a step in halves, once, and then say which key to change."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from prngeo.errors import PrngeoError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""Of CUDA and MPS; of torch's CPU allocator on Linux and macOS; of that on Windows."""


def out_of_memory(error: BaseException) -> bool:
    """True if an error says that a device or the computer has no memory left."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
    )


class Halving:
    """Runs steps on a whole batch, and on its two halves from the first time that memory runs out.

    Args:
        batch: items a step.
        keys: what to make smaller, for the error.
        parts: 2 if memory ran out before.
        may_halve: False where a step cannot be repeated.
    """

    def __init__(self, batch: int, keys: str, parts: int = 1, may_halve: bool = True) -> None:
        self.batch = batch
        self.keys = keys
        self.parts = parts
        self.may_halve = may_halve

    def __call__(self, step: Callable[[int], Result]) -> Result:
        """The result of a step.

        Args:
            step: takes the number of parts to compute in; it may be called again after a failure.

        Raises:
            PrngeoError: memory ran out, and the batch was halved before or cannot be.
        """
        try:
            return step(self.parts)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.parts > 1 or self.batch < 2 or not self.may_halve:
                again = " again, although each batch is computed in two halves" if self.parts > 1 else ""
                raise PrngeoError(f"Training ran out of memory{again}. Make {self.keys} smaller.") from error
        # Here the failed step and its tensors are gone, unlike within the except clause.
        self.parts = 2
        logger.warning(
            "out of memory with a batch of %d: from here on each is computed in two halves. If it is slow or fails "
            "again, make %s smaller",
            self.batch,
            self.keys,
        )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self(step)


@contextmanager
def explained(keys: str) -> Iterator[None]:
    """Tell what to make smaller where memory runs out and a step cannot be repeated.

    Raises:
        PrngeoError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise PrngeoError(f"Training ran out of memory. Make {keys} smaller.") from error
