"""Quantize the language model's layers to 8 or 4 bits a weight, through transformers' `quantization_config`.

int8 is torchao's weight-only format, one factor for each output row; int4 is bitsandbytes' nf4 with double
quantization. Both run on CPU and on CUDA and compute in the model's number format.

Vision tower and projector stay as they are: they are under a twentieth of a 7B model, every visual token passes
through them, and cached frame features are keyed by their weights. So does the output layer, where rounding could
change the chosen token.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from m3video.errors import CheckpointError, UsageError
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration, without_progress_bars
from m3video.utils.text import first_line

UNTOUCHED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
PACKAGES = {"int8": ("torchao", "accelerate"), "int4": ("bitsandbytes", "accelerate")}


def check_installed(kind: str) -> None:
    """Raise UsageError when a package that `kind` needs is not installed."""
    missing = [name for name in PACKAGES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--quantize {kind} needs {' and '.join(missing)}: pip install 'm3video[quantize]'")


def quantization_config(kind: str, dtype: torch.dtype) -> Any:
    """Return the quantization settings for transformers.

    Args:
        kind: "int8" or "int4".
        dtype: number format of all other weights and of the computation.

    Raises:
        UsageError: a package it needs is not installed.
    """
    check_installed(kind)
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return TorchAoConfig(quant_type=Int8WeightOnlyConfig(), modules_to_not_convert=UNTOUCHED)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=UNTOUCHED,
    )


def fill_quantized(
    config: M3VideoConfig, tensors: dict[str, Tensor], *, kind: str, device: torch.device, dtype: torch.dtype, attn: str
) -> M3VideoForConditionalGeneration:
    """Return the model, its layers quantized one after the other.

    Args:
        config: the model's config.
        tensors: every parameter by its name in the model; memory-mapped files are read as they are needed.
        kind: "int8" or "int4".
        device, dtype, attn: as for `checkpoint.load`.

    Raises:
        CheckpointError: a layer cannot be quantized.
    """
    settings = quantization_config(kind, dtype)
    try:
        with without_progress_bars():
            model = M3VideoForConditionalGeneration.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                quantization_config=settings,
                dtype=dtype,
                device_map={"": device},
                attn_implementation=attn,
            )
    except (RuntimeError, ValueError, ImportError) as error:
        raise CheckpointError(
            f"{config.origin or 'model'} cannot be quantized to {kind}: {first_line(error)}"
        ) from None
    return model.requires_grad_(False).eval()
