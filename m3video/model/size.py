"""The numbers that a model's memory depends on. Loads no torch, so that planning needs no model."""

from __future__ import annotations

from dataclasses import dataclass

GRID_MEMORY_BYTES = 1 << 30
"""Most bytes of 24x24 grids that a session keeps on the host: 2,400 frames of the bundled model, 220 of a 7B model at
16 bits."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The numbers of a model that its memory depends on.

    Attributes:
        name: the name or path that the user gave.
        linear_params: weights of the decoder's linear layers, which quantization makes smaller.
        linear_rows: total of their output rows: int8 stores a factor for each.
        largest_linear: weights of the largest of them; one is unpacked at a time.
        other_params: all other weights of the decoder: embeddings, output layer, norms.
        tower_params, projector_params: weights that are never quantized.
        layers, width, inner, heads, kv_heads, head_dim, vocab: of the decoder.
        tower_layers, tower_width, tower_inner, tower_places: of the vision tower; places: patches and class token.
        tower_states: arrays [places, width] in memory at once in its last layer: 4, or more where transformers keeps
            the outputs of all layers.
        tower_copies: arrays [places, inner] in memory at once at the peak of an MLP: 3 for quick_gelu, else 2.
        context: most positions of prompt and answer combined.
        stored_dtype: number format in which the weights are stored.
        newlines: whether a learned token ends every frame (LLaVA-NeXT).
        notes: one line to show the user for each number that was assumed rather than read.
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
        """The number of all weights."""
        return self.linear_params + self.other_params + self.tower_params + self.projector_params
