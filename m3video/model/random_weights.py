"""A model of any real size with random weights: what it says is noise, what it holds and takes is true."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.model.checkpoint import LoadedModel, restore_buffers
from m3video.model.heap import give_back_at_once
from m3video.model.layouts import our_config
from m3video.model.m3 import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.places import BUNDLED_FOLDER
from m3video.model.text import load_text

CONTEXT = 16384

CONFIGS = {
    # name: decoder width, MLP width, layers, heads, KV heads
    "0.5b": (896, 4864, 12, 14, 2),
    "7b": (4096, 11008, 32, 32, 32),
}
"""0.5b: a decoder of Qwen2-0.5B's shape, half as deep, with grouped queries; 7b: LLaVA-1.5-7B. Both under CLIP-L/14."""


def write_config(name: str, folder: Path, *, anyres: bool = False) -> Path:
    """A folder with the config.json of one of `CONFIGS`, and no weights.

    Args:
        name: key of `CONFIGS`.
        folder: is made.
        anyres: as LLaVA-NeXT, whose frames end in a learned token.
    """
    width, inner, layers, heads, kv_heads = CONFIGS[name]
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=32000, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    config = M3VideoConfig(
        vision_config=vision, text_config=text, image_token_index=32000, max_context=CONTEXT, prompt_style="vicuna_v1",
        use_image_newline=anyres, origin=f"random {name}",
    )  # fmt: skip
    config.save_pretrained(folder)
    return folder


def load_random(folder: Path, *, device: str, dtype: torch.dtype) -> LoadedModel:
    """The model of a config with random weights, and the bundled model's tokenizer.

    Args:
        folder: holds a config.json as `write_config` makes it.
        device: "cpu" or "cuda".
        dtype: of all weights.
    """
    config, place = our_config(folder), torch.device(device)
    if place.type == "cpu":
        give_back_at_once()
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = M3VideoForConditionalGeneration(config)
    random = torch.Generator(place).manual_seed(0)
    for name, empty in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        numbers = torch.empty(empty.shape, dtype=dtype, device=place).normal_(std=0.02, generator=random)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(numbers, requires_grad=False))
    restore_buffers(model, place)
    return LoadedModel(model.eval(), load_text(BUNDLED_FOLDER), config.origin, folder, CONTEXT)
