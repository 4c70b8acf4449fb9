"""Convert any checkpoint that loads into a folder that `from_pretrained` and `checkpoint.load` both read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from transformers import GenerationConfig

from m3video.errors import CheckpointError, NotFiniteError
from m3video.model.m3 import checkpoint
from m3video.model.m3.finite import damage
from m3video.model.m3.model_paths import find_source
from m3video.model.m3.modeling import without_progress_bars
from m3video.model.safetensors_headers import read_json
from m3video.model.tokenizer import TEXT_FILES
from m3video.utils.files import new_folder

_SHIPPED = (*TEXT_FILES, "added_tokens.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    dtype: str | None = None,
    vision_tower: str | None = None,
    base: str | None = None,
    max_shard_size: str = "5GB",
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Path:
    """Write `source` as a converted folder, completely or not at all.

    Args:
        source: a folder or hub name that `checkpoint.load` accepts.
        target: a folder that does not exist yet, or is empty.
        dtype: "float32", "bfloat16" or "float16"; None keeps the stored one.
        vision_tower: folder of a separate vision tower.
        base: folder or hub name of the model that `source`, a LoRA, a projector or a delta, is merged into.
        max_shard_size: size of the largest weight file, e.g. "5GB".
        stage: context manager around each long step, "load model" and "write model"; shows progress.

    Returns:
        `target`.

    Raises:
        CheckpointError: the source cannot be loaded, or the target is not empty or cannot be written.
        NotFiniteError: a weight is NaN or infinite, or would be as `dtype`.
    """
    out = Path(target)
    _refuse_full(out)
    dtype = dtype or stored_dtype(find_source(str(source), base, vision_tower=vision_tower))
    with stage("load model"):
        loaded = checkpoint.load(str(source), device="cpu", dtype=dtype, vision_tower=vision_tower, base=base)
    try:
        with new_folder(out) as work, stage("write model"):
            write(loaded, work, max_shard_size=max_shard_size)
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror or error}") from None
    return out


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} is not an empty folder: name a new one")


def stored_dtype(folder: Path) -> str:
    """Return the number format that a checkpoint's config states; float32 where it states none."""
    raw = read_json(folder / "config.json")
    name = str(raw.get("dtype") or raw.get("torch_dtype") or "float32").removeprefix("torch.")
    return name if name in checkpoint.DTYPES else "float32"


def write(loaded: checkpoint.LoadedModel, folder: Path, *, max_shard_size: str = "5GB") -> None:
    """Write weights, config, generation settings, tokenizer and processor of `loaded` to an existing folder.

    Raises:
        NotFiniteError: a weight is NaN or infinite.
    """
    from m3video.model.m3.processor import write_processor

    if wrong := damage(loaded):
        raise NotFiniteError(f"the model's numbers are not finite: {wrong}")
    model, codec = loaded.model, loaded.codec
    config = loaded.config
    config.dtype = next(model.parameters()).dtype
    config.architectures = [type(model).__name__]
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=codec.bos_id, eos_token_id=codec.eos_id, pad_token_id=codec.pad_id
    )
    with torch.inference_mode(), without_progress_bars():
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    for name in _SHIPPED:
        if (loaded.folder / name).is_file():
            shutil.copyfile(loaded.folder / name, folder / name)
    write_processor(folder)
    if not json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"):
        raise AssertionError("save_pretrained wrote a config without model_type")
