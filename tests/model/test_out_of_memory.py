"""Running out of memory, whoever says so."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from m3video.errors import OutOfMemoryError
from m3video.model.out_of_memory import within_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("not enough memory: you tried to allocate 2 bytes"),
        ValueError("Unable to convert output: Unable to allocate 5.17 MiB for an array"),
        RuntimeError("shapes differ"),
        ValueError("no pictures"),
    ],
    ids=str,
)
def test_only_memory_is_turned_into_out_of_memory(error: Exception) -> None:
    is_memory = isinstance(error, MemoryError) or "alloc" in str(error) or "memory" in str(error)
    with pytest.raises(OutOfMemoryError if is_memory else type(error)) as raised, within_memory("x", "y", step="load"):
        raise error
    if is_memory:
        assert isinstance(raised.value, OutOfMemoryError)
        assert raised.value.step == "load"
        assert "x needs more" in str(raised.value)


def test_a_real_allocation_that_is_too_large() -> None:
    with (
        pytest.raises(OutOfMemoryError, match="a petabyte needs"),
        within_memory("a petabyte", "", step="load"),
    ):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(OutOfMemoryError), within_memory("a petabyte", "", step="load"):
        np.empty(2**50, np.uint8)


def test_it_goes_from_process_to_process() -> None:
    assert str(pickle.loads(pickle.dumps(OutOfMemoryError("much", step="load")))) == "much"
