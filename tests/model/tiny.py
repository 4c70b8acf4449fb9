"""Random checkpoints of a few kilobytes, in every layout, for tests that need no outside data."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from m3video.model.m3.checkpoint import LoadedModel, load
from m3video.model.m3.conv_tower import EfficientNetLiteConfig
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "frame", "question", "answer", "what", "is", "it", "red"]
WORDS += [str(n) for n in range(1, 9)] + [f"0:{n:02d}" for n in range(60)]


def tiny_config(**more: object) -> M3VideoConfig:
    vision = CLIPVisionConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=336, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        vocab_size=len(WORDS),
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    settings = {"vision_config": vision, "prompt_style": "rendered", "max_context": 256, **more}
    return M3VideoConfig(text_config=text, image_token_index=4, **settings)


def conv_settings(**more: object) -> dict[str, object]:
    """Settings of `tiny_config` for a convolutional tower of 2,000 weights; `more` are of its own config."""
    groups = [[1, 3, 2, 1, 4, 4], [1, 3, 2, 2, 4, 6], [2, 5, 2, 2, 6, 8], [1, 3, 2, 2, 8, 12]]
    return {
        "vision_config": EfficientNetLiteConfig(**{"stem_width": 4, "blocks": groups, **more}),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "projector_width": 24,
    }


def tiny_model(**more: object) -> M3VideoForConditionalGeneration:
    torch.manual_seed(3)
    return M3VideoForConditionalGeneration(tiny_config(**more)).eval()


def save_words(folder: Path) -> None:
    """The word-level tokenizer of the rendered model, with fewer words."""
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("?", " ")])
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)


def save_tiny(folder: Path, **more: object) -> Path:
    """A folder as `save_pretrained` writes it."""
    tiny_model(**more).save_pretrained(folder)
    save_words(folder)
    return folder


def save_original(folder: Path, *, inside: bool = False, as_bin: bool = False) -> Path:
    """The original LLaVA layout; the tower in `folder`/../tower unless it is inside."""
    model = tiny_model(prompt_style="vicuna_v1")
    folder.mkdir(parents=True)
    old, tower = {}, {}
    for name, tensor in model.named_parameters():
        tensor = tensor.detach().clone()
        if name.startswith("model.vision_tower."):
            tail = name.removeprefix("model.vision_tower.").removeprefix("vision_model.")
            tower[f"vision_model.{tail}"] = tensor
            continue
        name = name.replace("model.language_model.", "model.")
        name = name.replace("model.multi_modal_projector.linear_1", "model.mm_projector.0")
        old[name.replace("model.multi_modal_projector.linear_2", "model.mm_projector.2")] = tensor
    if inside:
        old |= {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in tower.items()}
    else:
        place = folder.parent / "tower"
        place.mkdir()
        save_file(tower, place / "model.safetensors")
        vision = model.config.vision_config.to_dict()
        (place / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    if as_bin:
        torch.save(old, folder / "pytorch_model.bin")
    else:
        save_file(old, folder / "model.safetensors")
    text = model.config.text_config
    config = {
        "model_type": "llava_llama",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": text.vocab_size,
        "rope_theta": 10000.0,
        "rms_norm_eps": text.rms_norm_eps,
        "max_position_embeddings": 256,
        "tokenizer_model_max_length": 200,
        "mm_hidden_size": 16,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "tower",
        "image_aspect_ratio": "pad",
        "unfreeze_mm_vision_tower": inside,
        "matryoshka_vis_token_scale": [1, 9, 36, 144, 576],
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_words(folder)
    return folder


def load_tiny(folder: Path, **more: object) -> LoadedModel:
    return load(str(save_tiny(folder, **more)), device="cpu", dtype="float32")
