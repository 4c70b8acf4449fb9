"""Machines with less memory than this one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from m3video.model import encoding

Limit = Callable[[pytest.MonkeyPatch, int], None]
"""Leaves room for so much of something."""


def limit_batch(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The vision tower has room for so many frames."""
    whole = encoding.normalise

    def normalise(squares: torch.Tensor) -> torch.Tensor:
        if len(squares) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")
        return whole(squares)

    monkeypatch.setattr(encoding, "normalise", normalise)
