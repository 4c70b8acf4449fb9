"""Running out of memory, on a GPU or on the host, as an error that says what was too large."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from m3video.errors import OutOfMemoryError

# What torch's CPU allocator and oneDNN say when the system gives no more, and transformers, which turns NumPy's
# MemoryError into a ValueError; none of them has a class of its own.
_ON_HOST = re.compile(
    r"DefaultCPUAllocator|not enough memory|allocate memory|out of memory|bad_alloc|Unable to allocate", re.IGNORECASE
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, ValueError)) and _ON_HOST.search(str(error)) is not None


@contextmanager
def within_memory(what: str, way_out: str, *, step: str) -> Iterator[None]:
    """Turn running out of memory into OutOfMemoryError.

    Args:
        what: needed too much.
        way_out: what to do.
        step: "load", "vision" or "answer".
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback's frames hold the very arrays that filled the memory.
        error.with_traceback(None)
        where = "GPU memory" if isinstance(error, torch.cuda.OutOfMemoryError) else "memory"
        raise OutOfMemoryError(f"{what} needs more {where} than there is: {way_out}", step=step) from None
