"""A model's size, from config.json and safetensors headers alone: no weight is read. Loads no torch."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import refuse_part
from m3video.model.m3.config_json import check_tower, is_original, read_config_json, read_tower_json
from m3video.model.m3.config_rules import CLIP, CLIP_L_336, LLAMA
from m3video.model.m3.conv_sizes import EFFICIENTNET_LITE, LITE0, conv_blocks, count_weights, feature_width, peak_values
from m3video.model.m3.model_paths import find_config, local_path, tower_beside
from m3video.model.m3.picture_format import picture_format
from m3video.model.safetensors_headers import read_header, weight_files
from m3video.model.size import ModelSize
from m3video.types import FULL_SCALE
from m3video.utils.text import first_line

_LINEAR = re.compile(r"\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight$")
_NO_PARAMETER = re.compile(r"(position_ids|rotary_emb\.inv_freq)$")
_IN_TOWER = re.compile(r"(^|\.)vision_tower\.|^vision_model\.")
_IN_PROJECTOR = re.compile(r"mm_projector|multi_modal_projector")


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of weights by part; `linear` are those that quantization makes smaller."""

    linear: int
    linear_rows: int
    largest_linear: int
    other: int
    tower: int
    projector: int


def read_size(name: str, *, vision_tower: str | None = None) -> ModelSize:
    """Read the numbers that a model's memory depends on.

    Args:
        name: "small", "rendered", a checkpoint folder of any layout that loads, or a hub name; of one that is not on
            this machine only config.json is fetched.
        vision_tower: folder of a separate vision tower, as for loading.

    Raises:
        CheckpointError: there is no such model, or its config is wrong.
    """
    folder = find_config(name)
    refuse_part(folder, name)
    raw = read_config_json(folder)
    try:
        return _size(name, folder, raw, vision_tower)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is no config of a model: {first_line(error)}") from None


def _size(name: str, folder: Path, raw: Mapping[str, Any], vision_tower: str | None) -> ModelSize:
    original = is_original(raw)
    text = {**LLAMA, **(raw if original else raw.get("text_config") or {})}
    is_inside = not original or bool(raw.get("unfreeze_mm_vision_tower"))
    shapes, notes = _shapes(folder)
    # The sizes of a tower in a bin file are known only from a copy beside it.
    apart = _tower_folder(folder, raw, vision_tower) if original and not (is_inside and shapes) else None
    if not original:
        vision = raw.get("vision_config") or CLIP_L_336
        vision = {**(LITE0 if _is_conv(vision) else CLIP), **vision}
    elif apart is not None:
        vision = {**CLIP, **read_tower_json(apart)}
    elif is_inside and (inside := _vision_of(shapes)):
        vision = inside
    else:
        vision, notes = CLIP_L_336, (*notes, "its vision tower is taken to be CLIP-L/14 at 336 pixels")
        if raw["mm_hidden_size"] != vision["hidden_size"]:
            raise CheckpointError(f"{folder} keeps its vision tower apart; --vision-tower FOLDER names it")
    if original:
        check_tower(folder, raw, vision)
    projector_width = raw.get("projector_width") or text["hidden_size"]
    formula = _by_config(text, vision, projector_width)
    counts = _by_shapes(shapes, apart, is_inside=is_inside, by_config=formula) if shapes else formula
    newlines = (
        bool(raw.get("use_image_newline"))
        or raw.get("model_type") == "llava_next"
        or (original and raw.get("image_aspect_ratio") == "anyres")
    )
    heads, width, positions = text["num_attention_heads"], text["hidden_size"], int(text["max_position_embeddings"])
    stated = raw.get("tokenizer_model_max_length") or positions if original else raw.get("max_context") or positions
    return ModelSize(
        name=name,
        linear_params=counts.linear,
        linear_rows=counts.linear_rows,
        largest_linear=counts.largest_linear,
        other_params=counts.other,
        tower_params=counts.tower,
        projector_params=counts.projector,
        layers=text["num_hidden_layers"],
        width=width,
        inner=text["intermediate_size"],
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or width // heads,
        vocab=text["vocab_size"],
        **(_conv_numbers(vision) if _is_conv(vision) else _clip_numbers(vision)),
        projector_width=projector_width,
        picture_side=picture_format(vision).side,
        context=min(int(stated), positions),
        stored_dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "").removeprefix("torch."),
        newlines=newlines,
        notes=notes,
    )


def _is_conv(vision: Mapping[str, Any]) -> bool:
    return vision.get("model_type") == EFFICIENTNET_LITE


def _clip_numbers(vision: Mapping[str, Any]) -> dict[str, int]:
    return {
        "tower_layers": vision["num_hidden_layers"],
        "tower_width": vision["hidden_size"],
        "tower_inner": vision["intermediate_size"],
        "tower_places": _places(vision),
        "tower_states": 4 if _keeps_one_state() else vision["num_hidden_layers"] + 2,
        "tower_copies": 3 if vision["hidden_act"] == "quick_gelu" else 2,
    }


def _conv_numbers(vision: Mapping[str, Any]) -> dict[str, int]:
    return {
        "tower_layers": len(conv_blocks(vision["blocks"])),
        "tower_width": feature_width(vision),
        "tower_inner": 0,
        "tower_places": FULL_SCALE,
        "tower_states": 1,
        "tower_copies": 0,
        "conv_peak": peak_values(vision),
    }


def _keeps_one_state() -> bool:
    """Return whether transformers keeps only the requested layer's output: known for 5.24 and later only."""
    major, minor = importlib.metadata.version("transformers").split(".")[:2]
    return (int(major), int(minor)) >= (5, 24)


def _shapes(folder: Path) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Return names and shapes of the weights; none, with a note, where only config.json gives sizes."""
    try:
        files = weight_files(folder)
    except CheckpointError:
        return {}, ("its weights are not on this machine: they are counted from config.json",)
    if files[0].suffix != ".safetensors":
        return {}, (f"{files[0].name} has no header: weights are counted from config.json",)
    return {name: shape for file in files for name, shape in read_header(file).items()}, ()


def _tower_folder(folder: Path, raw: Mapping[str, Any], explicit: str | None) -> Path | None:
    """Return the folder of a separate vision tower, if it is on this machine."""
    if explicit is not None:
        path = local_path(explicit)
        if path is not None and not (path / "config.json").is_file():
            raise CheckpointError(f"--vision-tower ({explicit}) is no folder with a config.json")
        return path or find_config(explicit)
    return tower_beside(folder, dict(raw))


def _places(vision: Mapping[str, Any]) -> int:
    return int(vision["image_size"] // vision["patch_size"]) ** 2 + 1


def _vision_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Return the config of a tower inside the checkpoint, read off its shapes."""
    tower = {name.rpartition("vision_model.")[2]: shape for name, shape in shapes.items() if _IN_TOWER.search(name)}
    patches = tower.get("embeddings.patch_embedding.weight")
    if patches is None:
        return None
    layers = {name.split(".layers.")[1].split(".")[0] for name in tower if ".layers." in name}
    grid = math.isqrt(tower["embeddings.position_embedding.weight"][0] - 1)
    return {
        **CLIP,
        "hidden_size": patches[0],
        "patch_size": patches[2],
        "image_size": grid * patches[2],
        "num_hidden_layers": len(layers),
        "intermediate_size": tower["encoder.layers.0.mlp.fc1.weight"][0],
    }


def _by_shapes(
    shapes: Mapping[str, tuple[int, ...]], apart: Path | None, *, is_inside: bool, by_config: _Counts
) -> _Counts:
    """Count weights by the headers; those of a tower that is not on this machine by its config."""
    inside = {name: shape for name, shape in shapes.items() if not _NO_PARAMETER.search(name)}
    tower = _sum(shape for name, shape in inside.items() if _IN_TOWER.search(name)) if is_inside else by_config.tower
    if apart is not None and (stored := _shapes(apart)[0]):
        tower = _sum(s for name, s in stored.items() if _IN_TOWER.search(name) and not _NO_PARAMETER.search(name))
    rest = {name: shape for name, shape in inside.items() if not _IN_TOWER.search(name)}
    linear = [shape for name, shape in rest.items() if _LINEAR.search(name)]
    projector = _sum(shape for name, shape in rest.items() if _IN_PROJECTOR.search(name))
    return _Counts(
        _sum(linear),
        sum(shape[0] for shape in linear),
        max(map(math.prod, linear), default=0),
        _sum(rest.values()) - _sum(linear) - projector,
        tower,
        projector or by_config.projector,  # a separate mm_projector.bin has no header
    )


def _sum(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _by_config(text: Mapping[str, Any], vision: Mapping[str, Any], projector_width: int) -> _Counts:
    """Count weights by arithmetic: Llama's layers, the tower (biases and all), the two projector layers."""
    width, inner, heads, layers = (
        text[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    )
    head_dim = text.get("head_dim") or width // heads
    kv = (text.get("num_key_value_heads") or heads) * head_dim
    linear = layers * (2 * width * heads * head_dim + 2 * width * kv + 3 * width * inner)
    rows = layers * (heads * head_dim + 2 * kv + 2 * inner + 2 * width)
    tables = text["vocab_size"] * width * (1 if text.get("tie_word_embeddings") else 2)
    seen = feature_width(vision) if _is_conv(vision) else vision["hidden_size"]
    return _Counts(
        linear,
        rows,
        max(width * inner, width * heads * head_dim),
        tables + (2 * layers + 1) * width,
        count_weights(vision) if _is_conv(vision) else _count_clip(vision),
        seen * projector_width + projector_width + projector_width * width + width,
    )


def _count_clip(vision: Mapping[str, Any]) -> int:
    w, i, depth = vision["hidden_size"], vision["intermediate_size"], vision["num_hidden_layers"]
    layer = 4 * (w * w + w) + 2 * w * i + i + w + 4 * w
    return 3 * vision["patch_size"] ** 2 * w + w + _places(vision) * w + depth * layer + 4 * w
