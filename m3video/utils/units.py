"""Sizes in bytes as text, and the numbers of a model that its memory depends on."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIB = 2**20
GIB = 2**30

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Parse `"8GiB"`, `"8 GB"` or `"512MiB"` to bytes.

    Raises:
        ValueError: anything else, a number without a unit included.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"size ({text}) must be a number with a unit, e.g. 8GiB, 8GB or 8192MiB, or auto")
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < 1:
        raise ValueError(f"size ({text}) must be more than 0")
    return size


def size_text(size: float) -> str:
    """Format bytes for display: `512 MiB`, `13.2 GiB`."""
    return f"{size / GIB:.1f} GiB" if abs(size) >= GIB else f"{size / MIB:.0f} MiB"


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The numbers that a model's memory depends on, so that estimating it needs no model class.

    Attributes:
        name: the model as the user named it.
        linear_params: weights of the decoder's linear layers, which quantization compresses.
        linear_rows: output rows of all of them; int8 stores a factor for each.
        largest_linear: weights of the largest of them; one is unpacked at a time.
        other_params: all other weights of the decoder: embeddings, output layer, norms.
        tower_params, projector_params: weights that are never quantized.
        layers, width, inner, heads, kv_heads, head_dim, vocab: sizes of the decoder.
        tower_layers, tower_width, tower_inner, tower_places: sizes of the vision tower; places are patches and the
            class token.
        tower_states: arrays [places, width] in memory at once in its last layer: 4, or one per layer where transformers
            stores all outputs.
        tower_copies: arrays [places, inner] in memory at once at its peak: 3 for quick_gelu, else 2.
        context: most positions of prompt and answer together.
        stored_dtype: how the weights are stored.
        newlines: True where a learned token ends every frame (LLaVA-NeXT).
        notes: one line for users for each number that was assumed rather than read.
    """

    name: str
    linear_params: int
    linear_rows: int
    largest_linear: int
    other_params: int
    tower_params: int
    projector_params: int
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tower_layers: int
    tower_width: int
    tower_inner: int
    tower_places: int
    tower_states: int
    tower_copies: int
    context: int
    stored_dtype: str
    newlines: bool = False
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Number of all weights."""
        return self.linear_params + self.other_params + self.tower_params + self.projector_params
