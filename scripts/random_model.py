"""M3 with random weights at real sizes, for benchmarks: nothing is downloaded, and nothing passes through the CPU."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.model.checkpoint import LoadedModel
from m3video.model.m3 import M3VideoConfig, M3VideoForConditionalGeneration

CONTEXT = 4096
"""Of both checkpoints; the plain path is also run beyond it, which random weights do not mind."""

# CLIP ViT-L/14 at 336 and Vicuna-7B, the sizes in the configs of liuhaotian/llava-v1.5-7b and llava-v1.6-vicuna-7b.
VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VICUNA = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32064,
}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
NEXT = {
    "image_aspect_ratio": "anyres", "use_image_newline": True,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}  # fmt: skip
SHAPES: dict[str, tuple[dict[str, int], dict[str, int], dict[str, Any]]] = {
    "llava-1.5-7b": (VISION, VICUNA, {}),
    "llava-next-7b": (VISION, VICUNA, NEXT),
    "tiny": (SMALL, {**SMALL, "num_key_value_heads": 2, "vocab_size": 1000}, NEXT),
}


class HashedWords:
    """A tokenizer without a vocabulary: every word and every mark is one id; no answer ever ends by itself."""

    bos_id: int | None = 1
    pad_id = 0

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = self.eos_id = vocab_size

    def encode(self, text: str) -> list[int]:
        return [3 + zlib.crc32(word.encode()) % (self.vocab_size // 2) for word in re.findall(r"\w+|[^\w ]", text)]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    def unknown_words(self, text: str) -> list[str]:
        return []


def random_model(shape: str, *, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The model with random weights, drawn where they will lie: nothing of it passes through the CPU."""
    vision, text, more = SHAPES[shape]
    config = M3VideoConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, dtype=dtype, **vision),
        text_config=LlamaConfig(max_position_embeddings=16384, dtype=dtype, **text),
        image_token_index=text["vocab_size"] - 1, max_context=CONTEXT, dtype=dtype, **more,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        with torch.device(device):
            model = M3VideoForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {(device.type, dtype)}
    return LoadedModel(model, HashedWords(text["vocab_size"]), shape, Path(), CONTEXT)
