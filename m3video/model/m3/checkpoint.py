"""Load a model by name or path: find its files, read its config, fill its parameters shard by shard."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import CLIPVisionConfig

from m3video.config import Settings
from m3video.errors import CheckpointError, UsageError
from m3video.model import quantize as quantizing
from m3video.model.m3.config_json import check_tower, is_original, read_config_json, read_tower_json
from m3video.model.m3.config_rules import TOWER, UNREAD
from m3video.model.m3.default_model import RENDERED, decide_model
from m3video.model.m3.merge import FINAL_NORM, Merged, Plain, Weights, find_merge, is_difference
from m3video.model.m3.model_paths import find_model, find_tower, tower_beside
from m3video.model.m3.modeling import MODEL_TYPE, M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.m3.state_dict import (
    hf_config,
    original_config,
    our_config,
    our_name,
    read_tensors,
    tower_name,
    vision_config_of,
)
from m3video.model.out_of_memory import within_memory
from m3video.model.safetensors_headers import weight_files
from m3video.model.tokenizer import TextCodec, load_text
from m3video.utils.system import return_freed_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOWER = "model.vision_tower."


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to answer.

    Attributes:
        model: on its device, in evaluation mode.
        codec: its tokenizer.
        name: the name or path that the user gave, or that was decided for "auto".
        folder: the folder of its files.
        context: most positions of prompt and answer combined.
        warnings: lines that every answer carries, e.g. that the weights were never trained on nested tokens.
        tower: the folder of a separate vision tower.
    """

    model: M3VideoForConditionalGeneration
    codec: TextCodec
    name: str
    folder: Path
    context: int
    warnings: tuple[str, ...] = ()
    tower: Path | None = None

    @property
    def is_rendered(self) -> bool:
        """Whether it is the model of rendered clips inside the package."""
        return self.name == RENDERED

    @property
    def config(self) -> M3VideoConfig:
        return self.model.config


def load(
    name_or_path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    vision_tower: str | None = None,
    revision: str | None = None,
    attn: str = "sdpa",
    quantize: str = "none",
    base: str | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        name_or_path: "small", "rendered", "auto" (see `decide_model`), a folder (original M3/LLaVA layout, converted,
            or transformers llava / llava_next), or a hub name. HF_HOME and HF_HUB_OFFLINE are respected.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:N".
        dtype: "auto" (float32 on CPU, the stored half precision on CUDA), "float32", "bfloat16" or "float16".
        vision_tower: folder of a separate vision tower, where the checkpoint does not name it or it has moved.
        revision: branch, tag or commit of a hub model.
        attn: attention implementation of transformers.
        quantize: "none", "int8" or "int4", for the language model's layers.
        base: folder or hub name of the model that a LoRA, a projector or a delta in `name_or_path` is merged into.

    Raises:
        CheckpointError: files missing, damaged, or of an unknown layout.
        OutOfMemoryError: the weights do not fit.
        UsageError: there is no such device, or a package is not installed.
    """
    if quantize != "none":
        quantizing.check_installed(quantize)
    decided = decide_model(name_or_path)
    name_or_path = decided.name
    place = find_device(device)
    if place.type == "cpu":
        return_freed_memory()
    if base is None:
        weights: Weights = Plain(find_model(name_or_path, revision=revision, vision_tower=vision_tower))
    else:
        weights = find_merge(name_or_path, base, revision=revision)
    raw = read_config_json(weights.config_folder)
    config, tower = read_config(weights, raw, name=name_or_path, vision_tower=vision_tower)
    config.m3_trained |= isinstance(weights, Merged) and weights.was_trained_on_scales
    number_type = find_dtype(dtype, raw, place)
    with within_memory(f"the model {name_or_path}", "use a smaller --dtype or --quantize", step="load"):
        model = fill(config, weights, tower, device=place, dtype=number_type, attn=attn, quantize=quantize)
    text_config: Any = config.text_config
    context = min(config.max_context, int(text_config.max_position_embeddings))
    notes = (*decided.notes, *_notes(name_or_path, config, raw))
    folder = weights.text_folder
    return LoadedModel(model, load_text(folder), name_or_path, folder, context, notes, tower)


def _notes(name: str, config: M3VideoConfig, raw: dict[str, Any]) -> tuple[str, ...]:
    """Return the warnings that every answer of this model carries."""
    notes = []
    if not config.m3_trained:
        notes.append(f"{name} was not trained on nested tokens: expect poor answers below 576 tokens a frame")
    if is_original(raw) and raw.get("image_aspect_ratio") not in ("pad", "anyres"):
        notes.append(f"{name} was trained on pictures cut to their middle square; frames are shown whole, with borders")
    return tuple(notes)


def load_for(settings: Settings) -> LoadedModel:
    """Load the model that `settings` name, on their device and in their number format."""
    return load(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        vision_tower=settings.vision_tower,
        quantize=settings.quantize,
    )


def find_device(name: str) -> torch.device:
    """Return the device that `name` means: `auto` is CUDA when there is one.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device ({name}) must be auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device ({name}): torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device ({name}) must be auto, cpu, cuda or cuda:N")
    return device


def find_dtype(name: str, raw: dict[str, Any], device: torch.device) -> torch.dtype:
    """Return the number format: `auto` is float32 on CPU, on CUDA the stored half precision, else bfloat16."""
    if name != "auto":
        return DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    stored = str(raw.get("dtype") or raw.get("torch_dtype") or "")
    return torch.float16 if stored.endswith("float16") and "b" not in stored else torch.bfloat16


def read_config(
    weights: Weights, raw: dict[str, Any], *, name: str, vision_tower: str | None
) -> tuple[M3VideoConfig, Path | None]:
    """Return the model's config, and the folder of a separate vision tower (None where it is in the checkpoint)."""
    try:
        return _read_config(weights, raw, name=name, vision_tower=vision_tower)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, StrictDataclassError) as error:
        # transformers checks further fields, each in its own way.
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointError(f"{weights.config_folder / 'config.json'} is no config of a model: {what}") from None


def _read_config(
    weights: Weights, raw: dict[str, Any], *, name: str, vision_tower: str | None
) -> tuple[M3VideoConfig, Path | None]:
    folder = weights.config_folder
    if not is_original(raw):
        return our_config(folder) if raw["model_type"] == MODEL_TYPE else hf_config(raw, origin=name), None
    # The reference ignores tower weights in the checkpoint unless this flag says that they were trained.
    is_inside = bool(raw.get("unfreeze_mm_vision_tower"))
    tower = None if is_inside else find_tower(folder, raw, vision_tower)
    vision = _tower_inside(weights, raw, vision_tower) if tower is None else _tower_config(tower)
    check_tower(folder, raw, vision.to_dict())
    return original_config(raw, vision, origin=name), tower


def _tower_config(tower: Path) -> CLIPVisionConfig:
    # Only keys that are checked: a whole CLIP has more.
    known = {key: value for key, value in read_tower_json(tower).items() if key in TOWER.keys() - UNREAD}
    return CLIPVisionConfig(**known)


def _tower_inside(weights: Weights, raw: dict[str, Any], explicit: str | None) -> CLIPVisionConfig:
    folder = weights.config_folder
    found = {our_name(name) or name: tensor for name, tensor in weights.read(lambda name: "vision_tower." in name)}
    if f"{_TOWER}embeddings.patch_embedding.weight" not in found:
        raise CheckpointError(f"{folder}: unfreeze_mm_vision_tower is set, but the weights hold no vision tower")
    config = vision_config_of(found)
    # The number of heads cannot be read off tensors. A tower folder gives it; CLIP has one for every 64 channels, and a
    # width that 64 does not divide is refused.
    beside = tower_beside(folder, raw) if explicit is None else find_tower(folder, raw, explicit)
    if beside is not None:
        config.num_attention_heads = _tower_config(beside).num_attention_heads
    if config.hidden_size % (64 if beside is None else config.num_attention_heads):
        raise CheckpointError(
            f"{folder}: the heads of its vision tower are not known; name its CLIP with --vision-tower"
        )
    return config


def _tensors(weights: Weights, config: M3VideoConfig, tower: Path | None) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.read(lambda name: True):
        renamed = our_name(name)
        if renamed is None or (tower is not None and renamed.startswith(_TOWER)):
            continue
        if renamed == "model.image_newline" and not config.use_image_newline:
            continue
        yield renamed, tensor
    if tower is not None:
        for file in weight_files(tower):
            for name, tensor in read_tensors(file):
                found = tower_name(name)
                if found is not None:
                    yield found, tensor


def fill(
    config: M3VideoConfig,
    weights: Weights,
    tower: Path | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attn: str,
    quantize: str = "none",
) -> M3VideoForConditionalGeneration:
    """Build the model on the meta device, then fill in one tensor after the other.

    Raises:
        CheckpointError: a parameter is missing, unknown, or of another shape.
    """
    config._attn_implementation = attn
    with torch.device("meta"):
        model = M3VideoForConditionalGeneration(config)
    tensors = _for_model(model, weights, tower)
    if quantize != "none":
        return quantizing.fill_quantized(config, dict(tensors), kind=quantize, device=device, dtype=dtype, attn=attn)
    for key, tensor in tensors:
        _set(model, key, nn.Parameter(tensor.to(device=device, dtype=dtype), requires_grad=False))
    if _is_tied(config):
        model.tie_weights()
    restore_buffers(model, device)
    return model.eval()


def _is_tied(config: M3VideoConfig) -> bool:
    text_config: Any = config.text_config
    return bool(config.tie_word_embeddings or text_config.tie_word_embeddings)


def _for_model(
    model: M3VideoForConditionalGeneration, weights: Weights, tower: Path | None
) -> Iterator[tuple[str, Tensor]]:
    """Yield the checkpoint's tensors under `model`'s names; CheckpointError unless they are exactly its parameters."""
    folder = weights.folder
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    # Before transformers 5.20 the tower's parameters are one level deeper.
    deeper = any(name.startswith(f"{_TOWER}vision_model.") for name in expected)
    missing = set(expected)
    for name, tensor in _tensors(weights, model.config, tower):
        key = name.replace(_TOWER, f"{_TOWER}vision_model.", 1) if deeper and name.startswith(_TOWER) else name
        if key not in expected:
            raise CheckpointError(f"{folder}: tensor {name} belongs to no part of an M3 model")
        if tensor.shape != expected[key]:
            shape, asked = list(tensor.shape), list(expected[key])
            raise CheckpointError(f"{folder}: tensor {name} has shape {shape}, the config asks for {asked}")
        if name == FINAL_NORM and is_difference(tensor):
            raise CheckpointError(
                f"{folder} holds differences to another model (a delta), no whole one; add them to their base first: "
                f"m3video convert {shlex.quote(str(folder))} NEW_FOLDER --base BASE"
            )
        missing.discard(key)
        yield key, tensor
    if _is_tied(model.config):
        missing.discard("lm_head.weight")
    if missing:
        way_out = "; LLaVA keeps a projector apart in mm_projector.bin: put it into the folder"
        where = way_out if any("projector" in name for name in missing) else ""
        raise CheckpointError(f"{folder} lacks {len(missing)} tensors, e.g. {min(missing)}{where}")


def _set(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, parameter)


def restore_buffers(model: M3VideoForConditionalGeneration, device: torch.device) -> None:
    """Make the buffers that no checkpoint stores: positions, and the angles of rotary embeddings."""
    for module in model.modules():
        if any(buffer.is_meta for buffer in module._buffers.values() if buffer is not None):
            if "position_ids" in module._buffers:
                count = module._buffers["position_ids"].shape[-1]
                module.register_buffer("position_ids", torch.arange(count, device=device)[None], persistent=False)
            else:
                with device:
                    fresh = type(module)(config=model.config.text_config)
                for name, buffer in fresh._buffers.items():
                    module.register_buffer(name, buffer, persistent=False)
    assert not any(buffer.is_meta for buffer in model.buffers())
