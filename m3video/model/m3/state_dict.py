"""The layouts of checkpoints, and their names and configs in our form.

Three are known: the original LLaVA / M3 layout (`model_type` llava_llama), transformers' llava and llava_next, and our
own converted folders (m3video).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import projector_beside
from m3video.model.m3.config_json import read_pinpoints
from m3video.model.m3.config_rules import DECODER, UNREAD
from m3video.model.m3.modeling import MODEL_TYPE, M3VideoConfig
from m3video.model.safetensors_headers import weight_files
from m3video.utils.text import first_line

NEXT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]

# Old name -> new name; the first rule that matches is applied. An empty name drops the tensor.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r".*(position_ids|rotary_emb\.inv_freq)$", ""),
        (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
        (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
        (r"^model\.vision_tower\.vision_tower\.(vision_model\.)?", "model.vision_tower."),
        (r"^(model\.)?vision_tower\.(vision_model\.)?", "model.vision_tower."),
        (r"^(model\.)?language_model\.model\.", "model.language_model."),
        (r"^(model\.)?language_model\.lm_head\.", "lm_head."),
        (r"^(model\.)?multi_modal_projector\.", "model.multi_modal_projector."),
        (r"^(model\.)?image_newline$", "model.image_newline"),
        (r"^model\.language_model\.", "model.language_model."),
        (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
        (r"^lm_head\.", "lm_head."),
    )
)


def our_name(name: str) -> str | None:
    """Return a parameter's name in `M3VideoForConditionalGeneration`; None for a tensor that is not a parameter."""
    for pattern, replacement in _RULES:
        if pattern.match(name):
            renamed = pattern.sub(replacement, name, count=1)
            return renamed or None
    return name


def tower_name(name: str) -> str | None:
    """Return the same for a tensor of a separate vision tower; None for those of CLIP's text half."""
    if not name.startswith("vision_model.") or name.endswith("position_ids"):
        return None
    return "model.vision_tower." + name.removeprefix("vision_model.")


def read_tensors(path: Path, *, keep: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of everything in one file that `keep` accepts; code in bin files is never run."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                for name in filter(keep, file.keys()):
                    yield name, file.get_tensor(name)
        else:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
            for name in filter(keep, tensors):
                if not isinstance(tensors[name], Tensor):
                    raise TypeError(f"{name} in it is no tensor")
                yield name, tensors[name]
    except (SafetensorError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or cut off: {first_line(error)}") from None
    except Exception as error:
        # torch.load raises RuntimeError, UnpicklingError, KeyError and more for damaged or unsafe files.
        if path.suffix == ".safetensors":
            raise
        raise CheckpointError(
            f"{path} is no plain weights file (code in it is never run): {first_line(error)}"
        ) from None


def read_folder(folder: Path, *, keep: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of all weights of a folder that `keep` accepts; the projector may be in a separate file.

    Source: `mm_projector.bin` of the reference, which its own loader reads where it names a base.
    """
    has_projector = False
    for file in weight_files(folder):
        for name, tensor in read_tensors(file, keep=lambda name: keep(name) or "projector." in name):
            has_projector |= "projector." in name
            if keep(name):
                yield name, tensor
    beside = projector_beside(folder)
    if beside is not None and not has_projector:
        yield from ((plain_name(name), tensor) for name, tensor in read_tensors(beside, keep=keep))


def plain_name(name: str) -> str:
    """Return a name without the prefixes of peft and LLaVA's savers: `base_model.model.lm_head.weight`."""
    name = name.removeprefix("module.").removeprefix("base_model.model.")
    return f"model.{name}" if name.startswith("mm_projector.") else name


def vision_config_of(tensors: Mapping[str, Tensor], prefix: str = "model.vision_tower.") -> CLIPVisionConfig:
    """Return a tower's config, read off its tensors (for a tower that is only in the checkpoint)."""
    patches = tensors[f"{prefix}embeddings.patch_embedding.weight"]
    width, _, patch, _ = patches.shape
    layers = 1 + max(
        int(name.split(".layers.")[1].split(".")[0])
        for name in tensors
        if name.startswith(prefix) and ".layers." in name
    )
    grid = round((len(tensors[f"{prefix}embeddings.position_embedding.weight"]) - 1) ** 0.5)
    return CLIPVisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        patch_size=patch,
        intermediate_size=len(tensors[f"{prefix}encoder.layers.0.mlp.fc1.weight"]),
        image_size=grid * patch,
    )


def original_config(config: Mapping[str, Any], vision: CLIPVisionConfig, *, origin: str) -> M3VideoConfig:
    """Return the config of an original checkpoint as `M3VideoConfig`.

    Source: `llava_arch.py`, `builder.py` of the reference. Its scales are in `matryoshka_vis_token_scale`; a plain
    LLaVA has none.
    """
    wanted = {*DECODER, "pad_token_id", "rope_scaling", "rope_parameters"} - UNREAD
    text = {key: value for key, value in config.items() if key in wanted}
    scaling = text.pop("rope_scaling", None) or {"rope_type": "default"}
    if text.get("rope_parameters") is None:
        text["rope_parameters"] = {"rope_theta": text.pop("rope_theta", 10000.0), **scaling}
    anyres = config.get("image_aspect_ratio") == "anyres"
    return M3VideoConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text),
        image_token_index=int(config["vocab_size"]),
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        image_aspect_ratio="anyres" if anyres else "pad",
        # (width, height), in the reference's order.
        image_grid_pinpoints=read_pinpoints(config["image_grid_pinpoints"]) if anyres else None,
        use_image_newline=anyres,
        prompt_style="vicuna_v1",
        m3_trained="matryoshka_vis_token_scale" in config or "m3" in origin.lower(),
        max_context=int(config.get("tokenizer_model_max_length") or config.get("max_position_embeddings") or 2048),
        origin=origin,
    )


def hf_config(config: dict[str, Any], *, origin: str) -> M3VideoConfig:
    """Return the config of a transformers llava or llava_next checkpoint as `M3VideoConfig`."""
    anyres = config["model_type"] == "llava_next"
    pinpoints = read_pinpoints(config.get("image_grid_pinpoints")) or NEXT_PINPOINTS
    fields = {key: value for key, value in config.items() if key in HF_FIELDS}
    made = M3VideoConfig(
        **fields,
        image_aspect_ratio="anyres" if anyres else "pad",
        # transformers writes (height, width), the reference (width, height).
        image_grid_pinpoints=[[w, h] for h, w in pinpoints] if anyres else None,
        use_image_newline=anyres,
        prompt_style="vicuna_v1",
        m3_trained=False,
        origin=origin,
    )
    text_config: Any = made.text_config
    made.max_context = int(text_config.max_position_embeddings)
    return made


HF_FIELDS = (
    "vision_config",
    "text_config",
    "image_token_index",
    "projector_hidden_act",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "multimodal_projector_bias",
    "tie_word_embeddings",
)


def our_config(folder: Path) -> M3VideoConfig:
    """Return the config of a converted folder."""
    try:
        return M3VideoConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is no {MODEL_TYPE} config: {first_line(error)}") from None
