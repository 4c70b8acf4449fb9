"""M3 with random weights at real sizes, for benchmarks: what it says is noise, what it holds and takes is true."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.model.m3.checkpoint import LoadedModel, restore_buffers
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.utils.system import return_freed_memory

CONTEXT = 4096
"""Of both checkpoints; the plain path is also run beyond it, which random weights do not mind."""

MOST_POSITIONS = 16384

# CLIP ViT-L/14 at 336 and Vicuna-7B, the sizes in the configs of liuhaotian/llava-v1.5-7b and llava-v1.6-vicuna-7b.
VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VICUNA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
}
HALF_BILLION = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 12,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 32064,
}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
NEXT = {
    "image_aspect_ratio": "anyres",
    "use_image_newline": True,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}
SHAPES: dict[str, tuple[dict[str, int], dict[str, int], dict[str, Any]]] = {
    "llava-1.5-7b": (VISION, VICUNA, {}),
    "llava-next-7b": (VISION, VICUNA, NEXT),
    "0.5b": (VISION, HALF_BILLION, {}),  # a decoder of Qwen2-0.5B's shape, half as deep, with grouped queries
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

    def spelling(self) -> str:
        return ""

    def without_piece(self, vocabulary: int) -> list[int]:
        return []


def config_of(shape: str, *, context: int = CONTEXT) -> M3VideoConfig:
    """The config of one of `SHAPES`."""
    vision, text, more = SHAPES[shape]
    return M3VideoConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, **vision),
        text_config=LlamaConfig(max_position_embeddings=MOST_POSITIONS, **text),
        image_token_index=text["vocab_size"] - 1,
        max_context=context,
        prompt_style="vicuna_v1",
        origin=f"random {shape}",
        **more,
    )


def write_config(shape: str, folder: Path) -> Path:
    """A new folder with the config.json of one of `SHAPES`, and no weights; its context is `MOST_POSITIONS`."""
    config_of(shape, context=MOST_POSITIONS).save_pretrained(folder)
    return folder


def random_model(shape: str, *, device: torch.device, dtype: torch.dtype, context: int = CONTEXT) -> LoadedModel:
    """The model with random weights, drawn where they will lie: nothing of a GPU's passes through the CPU."""
    config = config_of(shape, context=context)
    config._attn_implementation = "sdpa"
    if device.type == "cpu":
        return_freed_memory()  # as a checkpoint that is loaded
    with torch.device("meta"):
        model = M3VideoForConditionalGeneration(config)
    random = torch.Generator(device).manual_seed(0)
    for name, empty in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        numbers = torch.empty(empty.shape, dtype=dtype, device=device).normal_(std=0.02, generator=random)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(numbers, requires_grad=False))
    restore_buffers(model, device)
    return LoadedModel(model.eval(), HashedWords(config.text_config.vocab_size), shape, Path(), context)
