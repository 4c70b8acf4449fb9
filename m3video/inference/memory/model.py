"""How much memory an answer takes, and which token budget fits in a given one. Numbers in, numbers out.

Three things are held at once: the runtime and the weights; then, one after the other, the vision tower on its largest
batch beside the grids that are done, or the decoder reading the whole prompt beside grids and KV cache. The larger of
those two phases is the peak. Attention scores are never held (sdpa), logits only for the last position.
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

PIXELS = 3 * 336 * 336
"""Numbers of one picture as the tower takes it."""

SQUARE_BYTES = PIXELS
"""One shown frame as it waits for the tower: RGB bytes on the host."""

FRAME_GROUP = 16
"""Frames that are decoded, encoded and pooled before the next ones, each waiting as the tower's small square."""

PREPARED_BYTES = 7 * 336 * 336 + 3 * 4 * PIXELS
"""What preparing one picture of a batch holds: its PIL square (4 bytes a pixel), an array (3), and three of floats."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Where the model runs.

    Attributes:
        memory: bytes that may be used.
        on_gpu: the memory is a GPU's; pictures then wait elsewhere.
        dtype: number format of weights and activations, a key of `DTYPE_BYTES`.
        quantize: one of `QUANTIZE`, how the decoder's linear layers are held.
        correction: bytes by which a measured peak was above (below: negative) the prediction; 0 without one.
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
        """Before any weight: a CUDA context; on the host Python with its libraries, and what a first question brings.

        That is 30 MiB (tokenizer, buffers of the libraries), and 36 with 16-bit numbers, whose kernels are compiled.
        """
        if self.on_gpu:
            return 512 * MIB
        return LIBRARIES_BYTES + (30 if self.item == 4 else 36) * MIB

    @property
    def margin(self) -> int:
        """Never planned with. On a GPU for the allocator's fragments, on the host for the video decoder and others."""
        return max(GIB if self.on_gpu else GIB // 2, int(0.08 * self.memory))


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a question is.

    Attributes:
        frames: shown, each held as a 24x24 grid.
        visual: visual tokens together.
        text: all other positions: words, times, the question, room for the answer.
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
        """Of one prompt with its answer."""
        return self.visual + self.text


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by what they are for; `vision` and `answer` never stand at once."""

    runtime: int
    weights: int
    vision: int
    answer: int
    correction: int = 0

    @property
    def total(self) -> int:
        return self.runtime + self.weights + max(self.vision, self.answer) + self.correction


def weight_bytes(size: ModelSize, place: DeviceSpec) -> int:
    """The weights as they are held. Tower, projector, embeddings and output layer are never quantized."""
    rest = (size.params - size.linear_params) * place.item
    if place.quantize == "int8":
        return rest + size.linear_params + size.linear_rows * place.item
    if place.quantize == "int4":
        return rest + math.ceil(size.linear_params * INT4_BITS / 8)
    return rest + size.linear_params * place.item


def kv_bytes_per_token(size: ModelSize, place: DeviceSpec) -> int:
    """Keys and values of one position in all layers; with grouped queries there are fewer heads of them."""
    return 2 * size.layers * size.kv_heads * size.head_dim * place.item


def grid_bytes(size: ModelSize, place: DeviceSpec) -> int:
    """One frame's 24x24 grid after the projector."""
    return FULL_SCALE * size.width * place.item


def tower_bytes(size: ModelSize, place: DeviceSpec, frames: int) -> int:
    """The vision tower and projector on one batch: its pixels, the states that are kept, and the MLP or the grids."""
    state = frames * size.tower_places * size.tower_width * place.item
    mlp = size.tower_copies * frames * size.tower_places * size.tower_inner * place.item
    grids = frames * grid_bytes(size, place)
    # On the host the pixels come as float32 and stay beside their copy in another format.
    floats = place.item if place.on_gpu else 4 + (0 if place.item == 4 else place.item)
    return frames * PIXELS * floats + size.tower_states * state + max(mlp, 2 * grids)


def kept_bytes(size: ModelSize, place: DeviceSpec, frames: int) -> int:
    """Grids of frames that are kept for other plans; a GPU's are copied to the host."""
    if place.on_gpu:
        return 0
    group = min(frames, FRAME_GROUP)
    return min(frames * grid_bytes(size, place), GRID_MEMORY_BYTES + group * grid_bytes(size, place))


def vision_bytes(size: ModelSize, place: DeviceSpec, shape: Shape) -> int:
    """The vision phase: pooled tokens and kept grids of earlier frames, then a group of frames, batch by batch.

    At the end of a group its grids are copied together.
    """
    grid, batch = grid_bytes(size, place), min(shape.vision_batch, shape.frames)
    group = min(max(1, FRAME_GROUP // shape.vision_batch) * shape.vision_batch, shape.frames)
    work = tower_bytes(size, place, batch)
    if not place.on_gpu:
        work = max(work, batch * PREPARED_BYTES)
    held = shape.visual * size.width * place.item + kept_bytes(size, place, shape.frames - group)
    pictures = 0 if place.on_gpu else group * SQUARE_BYTES
    return held + pictures + max((group - batch) * grid + work, 2 * group * grid)


def prefill_bytes(size: ModelSize, place: DeviceSpec, shape: Shape) -> int:
    """What the decoder holds besides the KV cache while it reads one prompt.

    The widest moment is the MLP (three arrays [L, inner]); four arrays [L, width] stand beside it: the prompt, a
    layer's input, its state after attention, and that state normalized. Then the visual tokens, the angles of the
    rotary embedding, one logit row with its float32 copy, and an unpacked layer where weights are quantized.
    """
    positions = shape.positions
    states = (4 * positions + shape.visual) * size.width * place.item
    mlp = 3 * positions * size.inner * place.item
    angles = 2 * positions * size.head_dim * place.item
    logits = size.vocab * (place.item + 4)
    unpacked = 0 if place.quantize == "none" else size.largest_linear * place.item
    return states + mlp + angles + logits + unpacked


def answer_bytes(size: ModelSize, place: DeviceSpec, shape: Shape) -> int:
    """The answering phase: kept grids are still there, then for each prompt its reading and its KV cache."""
    one = prefill_bytes(size, place, shape) + shape.positions * kv_bytes_per_token(size, place)
    return shape.streams * (one + kept_bytes(size, place, shape.frames))


def need(size: ModelSize, place: DeviceSpec, shape: Shape) -> MemoryEstimate:
    """What a question of this shape takes at its peak."""
    return MemoryEstimate(
        place.runtime,
        weight_bytes(size, place),
        vision_bytes(size, place, shape),
        answer_bytes(size, place, shape),
        place.correction,
    )


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """What is asked for; only `visual` is open unless nothing fits.

    Attributes:
        frames: most frames.
        most_visual: no more visual tokens are wanted, or of use.
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
        shape: its numbers; `shape.visual` is the budget, `shape.streams` how many of it fit at once.
        need: what one of it takes.
        binds: what keeps the budget from being larger: "memory", "context" or "wish".
        by_memory: the budget that memory alone would allow.
    """

    shape: Shape
    need: MemoryEstimate
    binds: str
    by_memory: int


def largest_fit(size: ModelSize, place: DeviceSpec, wish: MemoryRequest) -> MemoryFit | None:
    """The largest budget in `place`: first with everything as wished, then smaller vision batches, then fewer frames.

    Returns:
        None where one frame at one token does not fit in the memory or in the model's context.
    """
    frames, batch = wish.frames, min(wish.vision_batch, wish.frames)
    while True:
        found = _largest_visual(size, place, replace(wish, frames=frames, vision_batch=batch))
        if found is not None or (frames, batch) == (1, 1):
            return found
        if batch > 1:
            batch //= 2
        else:
            frames //= 2


def _largest_visual(size: ModelSize, place: DeviceSpec, wish: MemoryRequest) -> MemoryFit | None:
    """With these frames and this batch, each frame at one token at least."""
    text = wish.text(wish.frames)
    shape = Shape(wish.frames, wish.frames, text, wish.vision_batch)
    by_context = size.context - text
    room = place.memory - place.margin
    if by_context < wish.frames or need(size, place, shape).total > room:
        return None
    by_memory = _largest(lambda visual: need(size, place, replace(shape, visual=visual)).total <= room, wish.frames)
    visual = max(wish.frames, min(by_memory, by_context, wish.most_visual))
    shape = replace(shape, visual=visual)
    streams = _largest(lambda count: need(size, place, replace(shape, streams=count)).total <= room, 1)
    binds = "memory" if visual == by_memory else "context" if visual == by_context else "wish"
    return MemoryFit(replace(shape, streams=streams), need(size, place, shape), binds, by_memory)


def _largest(fits: Callable[[int], bool], low: int) -> int:
    """The largest number that fits, where `low` does and larger ones need more; 2**40 where nothing ends it."""
    high = low
    while fits(high) and high < 2**40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
