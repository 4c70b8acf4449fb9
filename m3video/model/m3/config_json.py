"""Read a model's config.json and other JSON files, checked the same way for every use of a model. Loads no torch.

A wrong value is reported with its key and its rule before a weight is read. Unchecked, it would cause a traceback deep
within transformers, or silently another model.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.model.m3.config_rules import (
    ABOVE,
    ADAPTER,
    CLIP,
    CLIP_L_336,
    CONV_TOWER,
    CONVERTED,
    CONVERTED_ONLY,
    DECODER,
    FOLDED,
    FULL_STRATEGY,
    HUGGING_FACE,
    IMAGE_SIDE,
    LLAMA,
    OBJECT,
    OF_ANY,
    ORIGINAL,
    REFERENCE,
    ROPE,
    TOKENIZER,
    TOWER,
    TOWER_KINDS,
    Rule,
    against,
    broken,
    needed,
    one_of,
    or_null,
    shown,
)
from m3video.model.m3.conv_sizes import (
    EFFICIENTNET_LITE,
    LITE0,
    STEM_STRIDE,
    conv_blocks,
    feature_blocks,
    reading_blocks,
)
from m3video.model.safetensors_headers import read_json


def is_original(config: Mapping[str, Any]) -> bool:
    """Return whether a config has the original LLaVA / M3 layout."""
    kind = config.get("model_type")
    return kind == ORIGINAL or (kind == "llava" and "mm_hidden_size" in config)


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read a checkpoint folder's config.json; every key that is used is checked.

    Raises:
        CheckpointError: there is no such file, it is no JSON object, or a value is against its rule.
    """
    path = folder / "config.json"
    raw = read_json(path)
    for problem in _problems(raw):
        raise CheckpointError(f"{path}: {problem}")
    return raw


def read_tower_json(folder: Path) -> dict[str, Any]:
    """Read the config of a vision tower in a folder of its own; errors as for `read_config_json`."""
    path = folder / "config.json"
    raw = read_json(path)
    inner = raw.get("vision_config", raw)
    where = "vision_config" if "vision_config" in raw else ""
    for problem in _tower_problems(inner, where) if isinstance(inner, dict) else [against(where, inner, OBJECT)]:
        raise CheckpointError(f"{path}: {problem}")
    assert isinstance(inner, dict)
    return inner


def read_adapter_json(folder: Path) -> dict[str, Any]:
    """Read a LoRA folder's adapter_config.json, checked where a merge uses it; errors as for `read_config_json`."""
    path = folder / "adapter_config.json"
    raw = read_json(path)
    for problem in broken(raw, ADAPTER):
        raise CheckpointError(f"{path}: {problem}")
    return raw


def read_text_json(folder: Path) -> dict[str, Any]:
    """Read a tokenizer_config.json, empty where there is none; errors as for `read_config_json`."""
    path = folder / "tokenizer_config.json"
    raw = read_json(path) if path.is_file() else {}
    for problem in broken(raw, TOKENIZER):
        raise CheckpointError(f"{path}: {problem}")
    return raw


def check_tower(folder: Path, raw: Mapping[str, Any], vision: Mapping[str, Any]) -> None:
    """Raise CheckpointError where an original config does not fit the vision tower that was found for it.

    Args:
        folder: the config's folder.
        raw: the config.
        vision: the tower's config.
    """
    tower = {**CLIP, **vision}
    layers, width = tower["num_hidden_layers"], tower["hidden_size"]
    for problem in _layer_problems("mm_vision_select_layer", raw, layers):
        raise CheckpointError(f"{folder / 'config.json'}: {problem}")
    if raw["mm_hidden_size"] != width:
        rule = f"{width}, the width of its vision tower; --vision-tower FOLDER names another one"
        raise CheckpointError(f"{folder / 'config.json'}: mm_hidden_size ({raw['mm_hidden_size']}) must be {rule}")


def _problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a config, one line each."""
    kind = raw.get("model_type")
    if not is_original(raw) and kind not in (CONVERTED, *HUGGING_FACE):
        known = f"{CONVERTED}, {ORIGINAL} (original layout), {' or '.join(HUGGING_FACE)}"
        yield f"model_type ({kind if isinstance(kind, str) else shown(kind)}) must be {known}"
        return
    yield from broken(raw, OF_ANY)
    if is_original(raw):
        yield from broken(raw, {**DECODER, **REFERENCE})
        yield from _decoder_problems(raw, "")
        if type(layer := raw.get("mm_vision_select_layer", -2)) is not int:
            yield f"mm_vision_select_layer ({shown(layer)}) must be a whole number"  # `check_tower` checks the range
        if raw.get("image_aspect_ratio") == "anyres":
            merge = raw.get("mm_patch_merge_type", "flat")
            if merge != "spatial_unpad":
                yield f'mm_patch_merge_type ({shown(merge)}) must be "spatial_unpad" where pictures are anyres'
            yield from _pinpoint_problems(raw)
        return
    text, vision = raw.get("text_config") or {}, raw.get("vision_config")
    is_conv = kind == CONVERTED and isinstance(vision, dict) and vision.get("model_type") == EFFICIENTNET_LITE
    if kind == CONVERTED and isinstance(vision, dict):
        yield from broken(vision, TOWER_KINDS, "vision_config")
    yield from broken(raw, {**FOLDED, "vision_feature_select_strategy": FULL_STRATEGY} if is_conv else FOLDED)
    yield from broken(raw, CONVERTED_ONLY if kind == CONVERTED else {})
    yield from broken(text, {**DECODER, "model_type": one_of("llama", "mistral", "qwen2")}, "text_config")
    yield from _decoder_problems(text, "text_config")
    if is_conv:
        yield from _conv_problems(raw)
        return
    yield from _tower_problems(CLIP_L_336 if vision is None else vision, "vision_config")
    layers = {**CLIP, **(CLIP_L_336 if vision is None else vision)}["num_hidden_layers"]
    yield from _layer_problems("vision_feature_layer", raw, layers)
    if kind == "llava_next" and raw.get("image_grid_pinpoints"):
        yield from _pinpoint_problems(raw)
    elif kind == CONVERTED and raw.get("image_aspect_ratio") == "anyres":
        yield from _pinpoint_problems(raw)
        if raw.get("use_image_newline") is not True:
            yield f"use_image_newline ({shown(raw.get('use_image_newline'))}) must be true where pictures are anyres"


def _decoder_problems(raw: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield sizes of the decoder that do not fit together."""
    before = f"{where}." if where else ""
    text = {**LLAMA, **raw}
    width, heads, vocab = text["hidden_size"], text["num_attention_heads"], text["vocab_size"]
    kv_heads, pad = text.get("num_key_value_heads") or heads, text.get("pad_token_id")
    if width % heads:
        yield f"{before}num_attention_heads ({heads}) must divide {before}hidden_size ({width})"
    elif (size := text.get("head_dim") or width // heads) % 2:
        yield f"{before}num_attention_heads ({heads}) must leave each head an even number of channels, not {size}"
    if heads % kv_heads:
        yield f"{before}num_key_value_heads ({kv_heads}) must divide {before}num_attention_heads ({heads})"
    if pad is not None and not (type(pad) is int and -vocab <= pad < vocab):
        yield f"{before}pad_token_id ({shown(pad)}) must be a token below {before}vocab_size ({vocab}), or null"
    for key in ("rope_parameters", "rope_scaling"):
        yield from _rope_problems(text.get(key), f"{before}{key}")


def _rope_problems(value: object, name: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield against(name, value, or_null(OBJECT))
        return
    kind_key = "rope_type" if "rope_type" in value else "type"
    kind = value.get(kind_key, "default")
    if not isinstance(kind, str) or kind not in ROPE:
        yield against(f"{name}.{kind_key}", kind, one_of(*ROPE))
        return
    numbers = {key: needed(ABOVE) for key in ROPE[kind]}
    if "factor" in numbers:
        numbers["factor"] = Rule("a number from 1 on", lambda v: type(v) in (int, float) and 1 <= v < math.inf, True)
    yield from broken(value, {"rope_theta": ABOVE, **numbers}, name)


def _tower_problems(raw: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from broken(raw, TOWER, where)
    vision, before = {**CLIP, **raw}, f"{where}." if where else ""
    width, heads = vision["hidden_size"], vision["num_attention_heads"]
    if width % heads:
        yield f"{before}num_attention_heads ({heads}) must divide {before}hidden_size ({width})"


def _conv_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a config whose vision tower is an EfficientNet-Lite."""
    yield from broken(raw["vision_config"], CONV_TOWER, "vision_config")
    vision = {**LITE0, **raw["vision_config"]}
    width = vision["stem_width"]
    for group in vision["blocks"]:
        _, kernel, stride, _, width_in, width_out = group
        if width_in != width or kernel % 2 == 0 or stride > kernel:
            rule = f"begin with the {width} channels before it, have an odd kernel, and no larger stride"
            yield f"vision_config.blocks: group {shown(group)} must {rule}"
            return
        width = width_out
    try:
        feature_blocks(vision)
        reading_blocks(vision)
    except ValueError as error:
        yield f"vision_config.{error}"
    total = conv_blocks(vision["blocks"])[-1].total_stride
    if vision["image_size"] % total:
        rule = f"with the stem's {STEM_STRIDE} must divide {vision['image_size']} pixels"
        yield f"vision_config.blocks: the product of their strides ({total}) {rule}"
    if raw.get("vision_feature_layer") != -1:
        yield f"vision_feature_layer ({shown(raw.get('vision_feature_layer'))}) must be -1, the only one of this tower"
    if raw.get("image_aspect_ratio", "pad") != "pad" or raw.get("use_image_newline"):
        yield 'image_aspect_ratio and use_image_newline must be "pad" and false: tiles are cut for CLIP only'


def _layer_problems(key: str, raw: Mapping[str, Any], layers: int) -> Iterator[str]:
    """Yield what is wrong with a layer number: the last is `layers` or -1; 0 would be the tower's inputs."""
    value = raw.get(key, -2)
    if type(value) is not int or not 1 <= abs(value) <= layers:
        rule = f"a whole number from {-layers} to {layers}, the layers of its vision tower, and not 0"
        yield f"{key} ({shown(value)}) must be {rule}"


def read_pinpoints(stored: object) -> list[list[int]] | None:
    """Return the grids of anyres, each with its two sides in the file's order; None for anything else.

    The reference also stores them as text, `"[(336, 672), ...]"`.
    """
    try:
        pairs: Any = ast.literal_eval(stored) if isinstance(stored, str) else stored
        found = [[first, second] for first, second in pairs]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    sides = [side for pair in found for side in pair]
    good = all(type(side) is int and 0 < side <= 2**16 and side % IMAGE_SIDE == 0 for side in sides)
    return found if found and good else None


def _pinpoint_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    stored = raw.get("image_grid_pinpoints")
    if read_pinpoints(stored) is None:
        yield f"image_grid_pinpoints ({shown(stored)}) must be pairs of sides that are multiples of {IMAGE_SIDE}"
