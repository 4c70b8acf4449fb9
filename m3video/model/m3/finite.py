"""NaN and infinity in a model: detected in its results, then traced to a damaged weight or an overflow.

Detection is one pass over results, which are small beside what they are computed from. The search, which runs the
vision tower again and reads weights, runs only after a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from m3video.errors import CheckpointError, NotFiniteError
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.state_dict import our_name, read_tensors, tower_name
from m3video.model.safetensors_headers import weight_files

DECODER = "language model"
_KNOWN: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""What is wrong with a model's weights ("" for nothing), cached since each item of a batch may ask."""


def is_finite(numbers: Tensor) -> Tensor:
    """Return whether all numbers are finite, as a bool tensor on their device, without waiting for it.

    aminmax returns NaN where there is any. It is one pass without a copy: `isfinite` takes 20 times as long.
    """
    if not numbers.numel():
        return torch.ones((), dtype=torch.bool, device=numbers.device)
    least, greatest = torch.aminmax(numbers)
    return least.isfinite() & greatest.isfinite()


def check_features(loaded: LoadedModel, features: Tensor, pixels_N3HW: Tensor) -> None:
    """Refuse projected features that hold NaN or infinity.

    Args:
        loaded: the model.
        features: what tower and projector made of the pixels.
        pixels_N3HW: [N, 3, H, W], normalised.

    Raises:
        NotFiniteError: it names the damaged tensor, or the part whose sums exceed the number format.
    """
    if not is_finite(features):
        raise not_finite_features(loaded, pixels_N3HW)


def not_finite_features(loaded: LoadedModel, pixels_N3HW: Tensor) -> NotFiniteError:
    """Return why these pixels' features are not finite; the tower runs again, to tell it from the projector."""
    seen: list[bool] = []
    projector = loaded.model.model.multi_modal_projector
    hook = projector.register_forward_pre_hook(lambda _, inputs: seen.append(bool(is_finite(inputs[0]))))
    try:
        with torch.inference_mode():
            loaded.model.visual_grids(pixels_N3HW, batch_size=len(pixels_N3HW))
    finally:
        hook.remove()
    return not_finite(loaded, "projector" if all(seen) else "vision tower")


def not_finite(loaded: LoadedModel, part: str) -> NotFiniteError:
    """Return the error that says why numbers of a model are not finite.

    Args:
        loaded: the model.
        part: the part that computed the first of them: "vision tower", "projector" or `DECODER`.
    """
    if loaded.model not in _KNOWN:
        _KNOWN[loaded.model] = damage(loaded)
    return NotFiniteError(f"the model's numbers are not finite: {_KNOWN[loaded.model] or _overflow(loaded, part)}")


def _overflow(loaded: LoadedModel, part: str) -> str:
    dtype = _dtype(loaded.model)
    what = f"sums in the {part} of {loaded.name} exceed {dtype}"
    if dtype == "float16":
        return f"{what}: use bfloat16 or float32 (--dtype)"
    way_out = "use --quantize none" if _is_quantized(loaded) else "fetch or make them again"
    return f"{what}, so its weights are damaged, though each is finite: {way_out}"


def damage(loaded: LoadedModel) -> str:
    """Return which weight of a model is not finite and what to do; "" where all are finite."""
    for key, parameter in loaded.model.named_parameters():
        # Quantized layers have no plain numbers: their files are checked below.
        if type(parameter.data) is Tensor and parameter.is_floating_point() and not is_finite(parameter):
            key = key.replace(".base_layer.", ".")  # peft's name for a layer that a LoRA is added to
            stored = next(_stored(loaded, key), None)
            if stored is not None and is_finite(stored[2]) and not parameter.isnan().any():
                return f"tensor {stored[0]} of {stored[1]} exceeds {_dtype(parameter)}: use bfloat16 or float32"
            name, where = (key, loaded.name) if stored is None else stored[:2]
            return _damaged(name, where)
    if _is_quantized(loaded):
        for name, where, tensor in _stored(loaded, None):
            if tensor.is_floating_point() and not is_finite(tensor):
                return _damaged(name, where)
    return ""


def _damaged(tensor: str, where: object) -> str:
    return f"the weights are damaged (tensor {tensor} of {where} holds NaN or infinity): fetch or make them again"


def _stored(loaded: LoadedModel, key: str | None) -> Iterator[tuple[str, Path, Tensor]]:
    """Yield name, file and numbers of stored weights: of the parameter `key`, or of the decoder."""

    def is_wanted(name: str) -> bool:
        if key is None:
            return (our_name(name) or "").startswith("model.language_model.")
        return our_name(key) in (our_name(name), tower_name(name))

    try:
        # A separate tower replaces the one in the checkpoint.
        for folder in (loaded.tower, loaded.folder):
            for file in [] if folder is None else weight_files(folder):
                for name, tensor in read_tensors(file, keep=is_wanted):
                    yield name, file, tensor
    except CheckpointError:
        return  # the files are gone: what is in memory has to do


def _dtype(numbers: Tensor | M3VideoForConditionalGeneration) -> str:
    return str(numbers.dtype).removeprefix("torch.")


def _is_quantized(loaded: LoadedModel) -> bool:
    return getattr(loaded.model.config, "quantization_config", None) is not None
