"""The numbers that a model's memory depends on. Loads no torch, so that planning needs no model."""

from __future__ import annotations

from dataclasses import dataclass

GRID_MEMORY_BYTES = 1 << 30
"""Most bytes of 24x24 grids that a session keeps on the host: 2,400 frames of the bundled model, 220 of a 7B model at
16 bits."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model's memory depends on; plain numbers, so that planning needs no model class.

    Attributes:
        name: what the user called it.
        linear_params: weights of the decoder's linear layers: what quantization makes small.
        linear_rows: their output rows together: int8 keeps a factor for each.
        largest_linear: weights of the largest of them: one is unpacked at a time.
        other_params: all other weights of the decoder: embeddings, output layer, norms.
        tower_params, projector_params: weights that are never quantized.
        layers, width, inner, heads, kv_heads, head_dim, vocab: of the decoder.
        tower_layers, tower_width, tower_inner, tower_places: of the vision tower; places are patches and the class.
        tower_states: arrays [places, width] alive at once in its last layer: 4, or all layers' where transformers keeps
            the outputs of all.
        tower_copies: arrays [places, inner] alive at once in its widest moment: 3 for quick_gelu, else 2.
        context: most positions of prompt and answer together.
        stored_dtype: how the weights are stored.
        newlines: True where a learned token ends every frame (LLaVA-NeXT).
        notes: one line for people for each thing that was assumed rather than read.
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
        """All weights."""
        return self.linear_params + self.other_params + self.tower_params + self.projector_params
