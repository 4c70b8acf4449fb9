"""The bundled model at the recipe's sizes, in the same classes as a 7B checkpoint."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.training.recipe import Recipe
from m3video.training.words import BOS, EOS, IMAGE, PAD, vocabulary


def build_model(recipe: Recipe) -> M3VideoForConditionalGeneration:
    """A model with random weights, fixed by the recipe's seed."""
    words, sizes = vocabulary(), recipe.sizes
    ids = {word: words.index(word) for word in (BOS, EOS, PAD, IMAGE)}
    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        intermediate_size=sizes.vision_mlp,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=sizes.decoder_width,
        num_hidden_layers=sizes.decoder_layers,
        num_attention_heads=sizes.decoder_heads,
        num_key_value_heads=sizes.decoder_heads,
        intermediate_size=sizes.decoder_mlp,
        vocab_size=len(words),
        max_position_embeddings=sizes.max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
    )
    config = M3VideoConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids[IMAGE],
        prompt_style="bundled",
        max_context=sizes.max_context,
        origin="trained from nothing on clips rendered by m3video",
    )
    torch.manual_seed(recipe.seed)
    model = M3VideoForConditionalGeneration(config)
    with torch.no_grad():
        # As loud as the frames' tokens: a word of the default size would drown among them.
        model.get_input_embeddings().weight.normal_(std=0.1)
    return model


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16, but on processors with AVX2 and no more, where a joint step's forward pass takes 3.2 times as long in
    it as in float32."""
    is_slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=not is_slow)
