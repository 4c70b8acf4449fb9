"""Cached 24x24 grids of projected tokens, one for each frame, so that no frame goes through the vision tower twice.

Every scale is pooled from such a grid, so it serves any plan and any question. Shape legend: D decoder width.

The key of a grid is everything that it depends on: the bytes of the video (fingerprint), the frame (pts), the decoder
that made its pixels (backend), the weights of vision tower and projector, their config, number format and device,
this package's code that decodes, prepares and encodes, and the libraries under it. Not part of the key is what changes
last bits at most: the pictures that shared a batch, and the number of threads.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.size import GRID_MEMORY_BYTES
from m3video.utils.cache import DECODERS, Arrays, Cache, Key, code_digest, versions
from m3video.utils.digest import digest_of


class Grids:
    """The grids of one video's frames, in memory and, with a cache, on disk."""

    def __init__(self, cache: Cache | None, key: Key, *, about: dict[str, str], most_bytes: int = GRID_MEMORY_BYTES):
        """Start with nothing in memory.

        Args:
            cache: None to store nothing on disk.
            key: as `grids_key` returns it.
            about: what `cache ls` shows.
            most_bytes: limit in memory; the least recently used grids beyond it are dropped.
        """
        self._cache, self._key, self._about, self._most = cache, key, about, most_bytes
        self._in_memory: OrderedDict[int, Tensor] = OrderedDict()
        self._bytes = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the grids in memory."""
        return self._bytes

    def find(self, pts: int) -> Tensor | None:
        """Return the grid [576, D] of the frame at `pts`, on the CPU; None where it is not cached."""
        grid = self._in_memory.get(pts)
        if grid is not None:
            self._in_memory.move_to_end(pts)
            return grid
        stored = None if self._cache is None else self._cache.load("grids", self._key, str(pts))
        if stored is None:
            return None
        grid = _to_tensor(stored)
        self._add(pts, grid)
        return grid

    def keep(self, pts: int, grid_SD: Tensor) -> None:
        """Store the grid of the frame at `pts`."""
        grid = grid_SD.cpu()
        self._add(pts, grid)
        if self._cache is not None:
            self._cache.save("grids", self._key, str(pts), _to_arrays(grid), about=self._about)

    def _add(self, pts: int, grid: Tensor) -> None:
        self._in_memory[pts] = grid
        self._bytes += grid.nbytes
        while self._bytes > self._most and len(self._in_memory) > 1:
            _, dropped = self._in_memory.popitem(last=False)
            self._bytes -= dropped.nbytes


def grids_key(loaded: LoadedModel, *, fingerprint: str, backend: str) -> Key | None:
    """Return everything that the grids of a video depend on except the pts; None for quantized weights.

    Args:
        loaded: the model.
        fingerprint: of the video's bytes.
        backend: the decoder of its pixels.
    """
    weights = grid_weights(loaded)
    if weights is None:
        return None
    device = loaded.model.device
    return {
        "video": fingerprint,
        "backend": backend,
        "weights": weights,
        "dtype": str(loaded.model.dtype),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "code": code_digest("video/*.py", "model/*.py", "model/m3/*.py", "types/*.py"),
        "libraries": versions(*DECODERS, "torch", "transformers", "numpy", "pillow"),
    }


def grid_weights(loaded: LoadedModel) -> str | None:
    """Return a digest of the weights in memory that make a grid: vision tower, projector, and their config.

    The language model is not part of it: fine-tuned decoders over one tower share their grids. None where weights are
    quantized, so that they are no plain tensors.
    """
    parts: tuple[nn.Module, ...] = (loaded.model.model.vision_tower, loaded.model.model.multi_modal_projector)
    tensors = [(name, tensor) for part in parts for name, tensor in part.state_dict().items()]
    if any(type(tensor) is not Tensor for _, tensor in tensors):
        return None
    return digest_of(_grid_numbers(loaded.config, tensors), size=16)


def _grid_numbers(config: Any, tensors: Sequence[tuple[str, Tensor]]) -> Iterator[bytes | memoryview]:
    facts = [
        config.vision_config.to_dict(),
        config.vision_feature_layer,
        config.vision_feature_select_strategy,
        config.projector_hidden_act,
        config._attn_implementation,
    ]
    yield json.dumps(facts, sort_keys=True, default=str).encode()
    for name, tensor in tensors:
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _to_arrays(grid: Tensor) -> Arrays:
    """Convert a grid to arrays; NumPy has no bfloat16, so its bits are stored as 16-bit integers."""
    if grid.dtype == torch.bfloat16:
        return {"bfloat16": grid.contiguous().view(torch.int16).numpy()}
    return {"grid": grid.numpy()}


def _to_tensor(arrays: Arrays) -> Tensor:
    if "bfloat16" in arrays:
        return torch.from_numpy(arrays["bfloat16"].copy()).view(torch.bfloat16)
    return torch.from_numpy(arrays["grid"].copy())
