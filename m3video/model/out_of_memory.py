"""Running out of memory, on a GPU or on the host, reported as an error that says what was too large."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from m3video.errors import OutOfMemoryError

# The messages of torch's CPU allocator and oneDNN, and of transformers, which turns NumPy's MemoryError into a
# ValueError: none of these errors has a class of its own.
_ON_HOST = re.compile(
    r"DefaultCPUAllocator|not enough memory|allocate memory|out of memory|bad_alloc|Unable to allocate", re.IGNORECASE
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, ValueError)) and _ON_HOST.search(str(error)) is not None


@contextmanager
def within_memory(what: str, way_out: str, *, step: str) -> Iterator[None]:
    """Turn errors that mean out of memory into OutOfMemoryError.

    Args:
        what: what needed too much.
        way_out: what the user can do.
        step: "load", "vision" or "answer".
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback's frames keep the arrays that filled the memory alive.
        error.with_traceback(None)
        where = "GPU memory" if isinstance(error, torch.cuda.OutOfMemoryError) else "memory"
        raise OutOfMemoryError(f"{what} needs more {where} than there is: {way_out}", step=step) from None
