"""Encode frames: preprocessing, vision tower, projector and pooling, one micro-batch after the other.

While the GPU works on one micro-batch, the next one is decoded and preprocessed: no step of the loop waits for the GPU.

Shape legend: N frames, T tokens of all frames, D decoder width, V 256 grey levels.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import is_finite, not_finite_features
from m3video.model.m3.images import normalise
from m3video.model.m3.inputs import Picture
from m3video.model.m3.pooling import VisualTokens, pool
from m3video.model.m3.square import as_square
from m3video.model.out_of_memory import within_memory
from m3video.types import check_scale

_MOST_THREADS = 8
"""Pillow resizes without the interpreter's lock: a 720p frame takes longer on one core than the tower on a GPU."""


@torch.inference_mode()
def encode_pooled(
    loaded: LoadedModel,
    pictures: Iterable[Picture],
    scales: Sequence[int],
    *,
    vision_batch: int = 16,
    on_batch: Callable[[int], object] | None = None,
) -> VisualTokens:
    """Encode frames whose scales are known into the decoder's tokens; 24x24 grids exist for one micro-batch only.

    Args:
        loaded: the model.
        pictures: N RGB uint8 [H, W, 3] arrays, of any sizes. An iterator is consumed as needed: at most
            `vision_batch` pictures are in memory, and it decodes while the GPU works.
        scales: N scales, mixed as the plan says.
        vision_batch: frames in one run of the tower.
        on_batch: called after each batch with the number of frames that are done.

    Returns:
        The packed tokens, equal to `pooling.pack(encode(...), scales)`.

    Raises:
        ValueError: no frame, or the numbers of pictures and scales differ.
        NotFiniteError: a grid holds NaN or infinity.
        OutOfMemoryError: a batch does not fit in the memory.
    """
    offsets = [0, *itertools.accumulate(check_scale(scale) for scale in scales)]
    tokens_TD: Tensor | None = None
    done = 0
    for grids in grid_batches(loaded, pictures, vision_batch=vision_batch):
        if done + len(grids) > len(scales):
            raise ValueError(f"more pictures than the {len(scales)} scales")
        if tokens_TD is None:
            tokens_TD = grids.new_empty(offsets[-1], grids.shape[2])
        for grid in grids:
            # Copied: a view would keep the grids of the whole batch in memory.
            tokens_TD[offsets[done] : offsets[done + 1]] = pool(grid[None], scales[done])[0]
            done += 1
        del grids, grid  # before the tower makes the next ones
        if on_batch is not None:
            on_batch(done)
    if tokens_TD is None or done != len(scales):
        raise ValueError(f"{done} pictures with {len(scales)} scales: one scale for each, and at least one picture")
    return VisualTokens(tokens_TD, tuple(offsets), tuple(scales))


@torch.inference_mode()
def encode(
    loaded: LoadedModel,
    pictures: Iterable[Picture],
    *,
    vision_batch: int = 16,
    on_batch: Callable[[int], object] | None = None,
) -> Tensor:
    """Encode frames into grids that are pooled later; arguments and errors as for `encode_pooled`.

    Returns:
        [N, 576, D] projected grids on the model's device, not pooled.
    """
    grids: list[Tensor] = []
    for batch in grid_batches(loaded, pictures, vision_batch=vision_batch):
        grids.append(batch)
        if on_batch is not None:
            on_batch(sum(map(len, grids)))
    if not grids:
        raise ValueError("no pictures to encode")
    with within_memory(f"the grids of {sum(map(len, grids))} frames", "show fewer frames", step="vision"):
        return torch.cat(grids)


def grid_batches(loaded: LoadedModel, pictures: Iterable[Picture], *, vision_batch: int = 16) -> Iterator[Tensor]:
    """Yield projected grids [up to `vision_batch`, 576, D], not pooled; arguments and errors as for `encode_pooled`."""
    device = loaded.model.device
    batches = _pixel_batches(iter(pictures), vision_batch, loaded)
    running: list[_Running] = []
    while True:
        with within_memory(f"a vision batch of {vision_batch} frames", "use a smaller --vision-batch", step="vision"):
            pixels = next(batches, None)
            if pixels is None:
                break
            grids = _grids(loaded, pixels)
        sure = is_finite(grids).to("cpu", non_blocking=True)
        yield grids
        del grids  # before the tower makes the next ones
        event = None
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
        running.append(_Running(pixels, sure, event))
        # At most two micro-batches are in flight: what is prepared ahead must not fill the memory.
        if event is None or len(running) > 1:
            running.pop(0).finish(loaded)
    for one in running:
        one.finish(loaded)


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """A micro-batch that a GPU may still work on; once `event` has passed, `sure` says whether its grids are finite."""

    pixels: Tensor
    sure: Tensor
    event: torch.cuda.Event | None

    def finish(self, loaded: LoadedModel) -> None:
        """Wait for it; raise NotFiniteError unless its grids are finite."""
        if self.event is not None:
            self.event.synchronize()
        if not self.sure:
            raise not_finite_features(loaded, self.pixels)


@torch.inference_mode()
def _grids(loaded: LoadedModel, pixels: Tensor) -> Tensor:
    return loaded.model.visual_grids(pixels, batch_size=len(pixels))


def _pixel_batches(pictures: Iterator[Picture], size: int, loaded: LoadedModel) -> Iterator[Tensor]:
    """Yield the tower's inputs, [up to `size`, 3, H, W]; one picture is decoded while others are resized."""
    form, device = loaded.config.pictures, loaded.model.device
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads, thread_name_prefix="square") as workers:
        while tasks := [workers.submit(as_square, picture, form) for picture in itertools.islice(pictures, size)]:
            squares = torch.from_numpy(np.stack([task.result() for task in tasks]))
            tasks.clear()
            if device.type == "cuda":
                squares = squares.pin_memory().to(device, non_blocking=True)
            pixels = normalise(squares, form).to(loaded.model.dtype)
            del squares  # before the tower runs
            yield pixels
