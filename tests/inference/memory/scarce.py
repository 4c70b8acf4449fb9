"""Simulated machines with little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from m3video.errors import OutOfMemoryError
from m3video.model import generation
from m3video.model.m3 import encoding
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.picture_format import PictureFormat

Limit = Callable[[pytest.MonkeyPatch, int], None]
"""Limits how much of something fits in the memory."""


def limit_batch(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let the vision tower run out of memory beyond `most` frames."""
    whole = encoding.normalise

    def normalise(squares: torch.Tensor, form: PictureFormat) -> torch.Tensor:
        if len(squares) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")
        return whole(squares, form)

    monkeypatch.setattr(encoding, "normalise", normalise)


def limit_tokens(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let the language model run out of memory beyond `most` positions."""
    whole = generation.prefill

    def prefill(loaded: LoadedModel, embeds: torch.Tensor) -> Any:
        if embeds.shape[1] > most:
            raise OutOfMemoryError("a prompt needs more memory than there is", step="answer")
        return whole(loaded, embeds)

    monkeypatch.setattr(generation, "prefill", prefill)
