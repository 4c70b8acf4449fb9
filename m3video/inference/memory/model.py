"""Estimate the memory an answer needs, and find the largest token budget that fits. Numbers in, numbers out.

Runtime and weights are always in memory. On top of them comes one of two phases: the vision tower on its largest batch,
beside the grids that are done; or the decoder's prefill of the whole prompt, beside grids and KV cache. The larger
phase is the peak. Attention scores are never materialized (sdpa); logits exist only for the last position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from m3video.model.size import GRID_MEMORY_BYTES, ModelSize
from m3video.types import FULL_SCALE
from m3video.utils.units import GIB, MIB

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZE = ("none", "int8", "int4")

INT4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""nf4 with double quantization: a byte for each block of 64 weights, a float32 for each 256 of those bytes."""

LIBRARIES_BYTES = 397 * MIB
"""Python with torch, transformers and the decoders imported, before any model is loaded."""

FRAME_GROUP = 16
"""Frames that are decoded, encoded and pooled before the next ones, each waiting as the tower's small square."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Where the model runs.

    Attributes:
        memory: bytes that may be used.
        on_gpu: the memory is a GPU's; decoded frames then wait on the host, which is not counted.
        dtype: number format of weights and activations, a key of `DTYPE_BYTES`.
        quantize: number format of the decoder's linear layers, one of `QUANTIZE`.
        correction: bytes by which a measured peak exceeded the estimate (negative: was below it); 0 without one.
    """

    memory: int
    on_gpu: bool = False
    dtype: str = "bfloat16"
    quantize: str = "none"
    correction: int = 0

    @property
    def item(self) -> int:
        """Bytes of one activation."""
        return DTYPE_BYTES[self.dtype]

    @property
    def runtime(self) -> int:
        """Bytes in use without any weight: a CUDA context, or Python with its libraries on the host.

        On the host a first question adds 30 MiB (tokenizer, buffers of the libraries), and 36 MiB with 16-bit numbers,
        whose kernels are compiled.
        """
        if self.on_gpu:
            return 512 * MIB
        return LIBRARIES_BYTES + (30 if self.item == 4 else 36) * MIB

    @property
    def margin(self) -> int:
        """Bytes always left free: for a GPU allocator's fragmentation, or the video decoder and others on the host."""
        return max(GIB if self.on_gpu else GIB // 2, int(0.08 * self.memory))


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a question.

    Attributes:
        frames: frames in the prompt, each stored as a 24x24 grid.
        visual: visual tokens of all frames.
        text: all other positions: template, times, the question, room for the answer.
        vision_batch: frames in one run of the tower.
        streams: prompts in one run of the decoder.
    """

    frames: int
    visual: int
    text: int
    vision_batch: int
    streams: int = 1

    @property
    def positions(self) -> int:
        """Positions of one prompt with its answer."""
        return self.visual + self.text


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by purpose; the `vision` and `answer` phases never overlap."""

    runtime: int
    weights: int
    vision: int
    answer: int
    correction: int = 0

    @property
    def total(self) -> int:
        return self.runtime + self.weights + max(self.vision, self.answer) + self.correction


def weight_bytes(size: ModelSize, device: DeviceSpec) -> int:
    """Return the bytes of the weights. Tower, projector, embeddings and output layer are never quantized."""
    rest = (size.params - size.linear_params) * device.item
    if device.quantize == "int8":
        return rest + size.linear_params + size.linear_rows * device.item
    if device.quantize == "int4":
        return rest + math.ceil(size.linear_params * INT4_BITS / 8)
    return rest + size.linear_params * device.item


def kv_bytes_per_token(size: ModelSize, device: DeviceSpec) -> int:
    """Return the bytes of one position's keys and values in all layers; grouped-query attention has fewer heads."""
    return 2 * size.layers * size.kv_heads * size.head_dim * device.item


def grid_bytes(size: ModelSize, device: DeviceSpec) -> int:
    """Return the bytes of one frame's projected 24x24 grid."""
    return FULL_SCALE * size.width * device.item


def tower_bytes(size: ModelSize, device: DeviceSpec, frames: int) -> int:
    """Return the bytes of tower and projector on one batch: pixels, and the tower's peak or what the projector adds.

    CLIP's peak is the MLP of its last layer, beside the states kept; a convolutional tower's is an early block.
    """
    peak = frames * max(size.tower_peak, size.tower_kept + size.projector_peak) * device.item
    # On the host the pixels come as float32 and stay beside their copy in another format.
    floats = device.item if device.on_gpu else 4 + (0 if device.item == 4 else device.item)
    return frames * pixels(size) * floats + peak


def pixels(size: ModelSize) -> int:
    """Return the values in one input of the vision tower."""
    return 3 * size.picture_side**2


def square_bytes(size: ModelSize) -> int:
    """Return the bytes of one decoded frame waiting for the vision tower: RGB on the host."""
    return pixels(size)


def prepared_bytes(size: ModelSize) -> int:
    """Return the bytes of preparing one frame of a batch: its PIL square (4 bytes a pixel), an array (3 bytes), and
    three float32 arrays."""
    return 7 * size.picture_side**2 + 3 * 4 * pixels(size)


def cached_grid_bytes(size: ModelSize, device: DeviceSpec, frames: int) -> int:
    """Return the bytes of grids cached for other plans; none on a GPU, whose grids are copied to the host."""
    if device.on_gpu:
        return 0
    group = min(frames, FRAME_GROUP)
    return min(frames * grid_bytes(size, device), GRID_MEMORY_BYTES + group * grid_bytes(size, device))


def vision_bytes(size: ModelSize, device: DeviceSpec, shape: Shape) -> int:
    """Return the peak of the vision phase: tokens and grids of earlier frames, then a group of frames, batch by batch.

    At the end of a group its grids are concatenated.
    """
    grid, batch = grid_bytes(size, device), min(shape.vision_batch, shape.frames)
    group = min(max(1, FRAME_GROUP // shape.vision_batch) * shape.vision_batch, shape.frames)
    work = tower_bytes(size, device, batch)
    if not device.on_gpu:
        work = max(work, batch * prepared_bytes(size))
    earlier = shape.visual * size.width * device.item + cached_grid_bytes(size, device, shape.frames - group)
    pictures = 0 if device.on_gpu else group * square_bytes(size)
    return earlier + pictures + max((group - batch) * grid + work, 2 * group * grid)


def prefill_bytes(size: ModelSize, device: DeviceSpec, shape: Shape) -> int:
    """Return the peak of one prompt's prefill besides the KV cache.

    The widest moment is the MLP (three arrays [L, inner]); four arrays [L, width] stand beside it: the prompt, a
    layer's input, its state after attention, and that state normalized. Then the visual tokens, the angles of the
    rotary embedding, one logit row with its float32 copy, and an unpacked layer where weights are quantized.
    """
    positions = shape.positions
    states = (4 * positions + shape.visual) * size.width * device.item
    mlp = 3 * positions * size.inner * device.item
    angles = 2 * positions * size.head_dim * device.item
    logits = size.vocab * (device.item + 4)
    unpacked = 0 if device.quantize == "none" else size.largest_linear * device.item
    return states + mlp + angles + logits + unpacked


def answer_bytes(size: ModelSize, device: DeviceSpec, shape: Shape) -> int:
    """Return the peak of the answering phase: for each prompt its cached grids, its prefill and its KV cache."""
    one = prefill_bytes(size, device, shape) + shape.positions * kv_bytes_per_token(size, device)
    return shape.streams * (one + cached_grid_bytes(size, device, shape.frames))


def with_evidence(size: ModelSize, device: DeviceSpec, shape: Shape) -> MemoryEstimate:
    """Estimate the peak of a question whose answer is tested: the prompt is read again into a second KV cache."""
    found = estimate_memory(size, device, shape)
    return replace(found, answer=found.answer + shape.positions * kv_bytes_per_token(size, device))


def estimate_memory(size: ModelSize, device: DeviceSpec, shape: Shape) -> MemoryEstimate:
    """Estimate the peak memory of a question of this shape."""
    return MemoryEstimate(
        device.runtime,
        weight_bytes(size, device),
        vision_bytes(size, device, shape),
        answer_bytes(size, device, shape),
        device.correction,
    )


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """What to fit in the memory; the number of visual tokens is the result.

    Attributes:
        frames: most frames.
        most_visual: the most visual tokens that are wanted, or that so many frames can use.
        vision_batch: frames in one run of the tower.
        text: frames -> positions besides the visual tokens.
    """

    frames: int
    most_visual: int
    vision_batch: int
    text: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The largest question that fits.

    Attributes:
        shape: its size; `shape.visual` is the budget, `shape.streams` how many such prompts fit at once.
        estimate: the memory of one such question.
        binds: what keeps the budget from being larger: "memory", "context" or "request".
        by_memory: the budget that memory alone would allow.
    """

    shape: Shape
    estimate: MemoryEstimate
    binds: str
    by_memory: int


def largest_fit(size: ModelSize, device: DeviceSpec, request: MemoryRequest) -> MemoryFit | None:
    """Find the largest budget that fits: as requested, else with smaller vision batches, else with fewer frames.

    Returns:
        None where one frame at one token does not fit in the memory or in the model's context.
    """
    frames, batch = request.frames, min(request.vision_batch, request.frames)
    while True:
        found = _largest_visual(size, device, replace(request, frames=frames, vision_batch=batch))
        if found is not None or (frames, batch) == (1, 1):
            return found
        if batch > 1:
            batch //= 2
        else:
            frames //= 2


def _largest_visual(size: ModelSize, device: DeviceSpec, request: MemoryRequest) -> MemoryFit | None:
    """Find the largest budget with just these frames and this batch, at least one token a frame."""
    text = request.text(request.frames)
    shape = Shape(request.frames, request.frames, text, request.vision_batch)
    by_context = size.context - text
    room = device.memory - device.margin
    if by_context < request.frames or estimate_memory(size, device, shape).total > room:
        return None
    by_memory = _largest(
        lambda visual: estimate_memory(size, device, replace(shape, visual=visual)).total <= room, request.frames
    )
    visual = max(request.frames, min(by_memory, by_context, request.most_visual))
    shape = replace(shape, visual=visual)
    streams = _largest(lambda count: estimate_memory(size, device, replace(shape, streams=count)).total <= room, 1)
    binds = "memory" if visual == by_memory else "context" if visual == by_context else "request"
    return MemoryFit(replace(shape, streams=streams), estimate_memory(size, device, shape), binds, by_memory)


def _largest(fits: Callable[[int], bool], low: int) -> int:
    """Return the largest number for which monotonic `fits` holds, given that it does for `low`; at most about 2**40."""
    high = low
    while fits(high) and high < 2**40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
