"""The numbers that a model's memory depends on. Loads no torch, so that planning needs no model."""

from __future__ import annotations

from dataclasses import dataclass

from m3video.types import FULL_SCALE

GRID_MEMORY_BYTES = 1 << 30
"""Most bytes of 24x24 grids that a session keeps on the host: 2,400 frames of the rendered model, 220 of a 7B model at
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
        projector_width: channels between the projector's two layers.
        layers, width, inner, heads, kv_heads, head_dim, vocab: of the decoder.
        tower_layers, tower_width, tower_inner, tower_places: of the vision tower; places: patches and class token. Of a
            convolutional one: its blocks, the channels of a visual token, 0, and the 576 tokens.
        tower_states: arrays [places, width] in memory at once in its last layer: 4, or more where transformers keeps
            the outputs of all layers.
            A convolutional one keeps 1.
        tower_copies: arrays [places, inner] in memory at once at the peak of an MLP: 3 for quick_gelu, else 2.
        conv_peak: most values that a convolutional tower holds at once for one picture; 0 for CLIP.
        picture_side: pixels of a side of the vision tower's input.
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
    projector_width: int = 0
    conv_peak: int = 0
    picture_side: int = 336
    newlines: bool = False
    notes: tuple[str, ...] = ()

    @property
    def tower_kept(self) -> int:
        """Values of one picture that stay in memory while the tower's last step runs, and then the projector."""
        return self.tower_states * self.tower_places * self.tower_width

    @property
    def tower_peak(self) -> int:
        """Most values of one picture that the tower holds at once, besides its pixels."""
        return self.conv_peak or self.tower_kept + self.tower_copies * self.tower_places * self.tower_inner

    @property
    def projector_peak(self) -> int:
        """Most values of one picture that the projector holds at once: two arrays, before or after its second layer."""
        inner = self.projector_width or self.width
        return FULL_SCALE * (inner + max(inner, self.width))

    @property
    def params(self) -> int:
        """The number of all weights."""
        return self.linear_params + self.other_params + self.tower_params + self.projector_params
