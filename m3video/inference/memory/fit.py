"""From a memory size to settings: the budget, frames and vision batch that fit, before anything is opened or loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from m3video.config import DETAIL, Settings
from m3video.errors import DoesNotFitError, UsageError
from m3video.inference.memory.measured import stored_correction
from m3video.inference.memory.model import (
    QUANTIZE,
    DeviceSpec,
    MemoryEstimate,
    MemoryFit,
    MemoryRequest,
    Shape,
    estimate_memory,
    largest_fit,
    with_evidence,
)
from m3video.model.m3.size import read_size
from m3video.model.m3.text_count import text_around
from m3video.model.size import ModelSize
from m3video.types import TokenPlan
from m3video.utils.system import free_host_memory, has_nvidia
from m3video.utils.units import parse_size, size_text

QUESTION_TOKENS = 64
"""Reserved for a question that is not known yet."""

TOKENS_A_FRAME, TOKENS_BESIDE = 16, 96
"""Assumed text around frames if the model's tokenizer is not on this machine; real templates need 9 to 14, and 60."""

LONGEST_CLOCK_SECONDS = 35999.9
"""A time whose text is as long as any."""


@dataclass(frozen=True, slots=True)
class FittedSettings:
    """Settings reduced to what fits in the memory they name.

    Attributes:
        settings: with budget, max_frames and vision_batch as they fit.
        wanted: the settings before.
        size: parameters and widths of the model.
        device: the memory, and the number formats in it.
        fit: the largest question that fits.
    """

    settings: Settings
    wanted: Settings
    size: ModelSize
    device: DeviceSpec
    fit: MemoryFit

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for an answer: the budget found, what limits it, and every reduction."""
        return (f"memory: {budget_text(self)}", *reductions(self), *self.size.notes)


def fit_settings(settings: Settings) -> FittedSettings | None:
    """Return settings with the largest budget that fits in `settings.memory`; None where no memory is named.

    Args:
        settings: resolved settings. A budget that was given is a ceiling.

    Raises:
        DoesNotFitError: not even one frame at one token fits.
        UsageError: the device does not exist.
        CheckpointError: the model does not exist.
    """
    if settings.memory is None:
        return None
    size = read_size(settings.model, vision_tower=settings.vision_tower)
    device = find_device_spec(settings, size)
    device = replace(device, correction=stored_correction(size, device))
    request = _request(settings, size)
    fit = largest_fit(size, device, request)
    if fit is None:
        raise DoesNotFitError(_refusal(size, device, request))
    # Where all frames fit that the tokens can pay, more may still compete for them.
    is_enough = fit.shape.frames >= min(request.frames, fit.shape.visual)
    frames = settings.surely_frames if is_enough else min(settings.surely_frames, fit.shape.frames)
    found = settings.model_copy(
        update={
            "budget": fit.shape.visual,
            "max_frames": frames,
            "vision_batch": min(settings.vision_batch, max(fit.shape.vision_batch, 1)),
            "memory": f"{device.memory}B",
        }
    )
    return FittedSettings(found, settings, size, device, fit)


def plan_memory(settings: Settings, *, frames: int, visual: int) -> MemoryEstimate:
    """Return the peak memory of a short question about a plan, the model's weights included.

    Args:
        settings: resolved settings; they name the model, the device and the number formats.
        frames: frames of the plan.
        visual: visual tokens of the plan.

    Raises:
        UsageError: the device does not exist.
        CheckpointError: the model does not exist.
    """
    size = read_size(settings.model, vision_tower=settings.vision_tower)
    device = find_device_spec(settings, size)
    device = replace(device, correction=stored_correction(size, device))
    text = _request(settings, size).text(frames)
    return estimate_memory(size, device, Shape(frames, visual, text, min(settings.vision_batch, max(1, frames))))


def find_device_spec(settings: Settings, size: ModelSize) -> DeviceSpec:
    """Return the device that `settings` choose, with the memory to use there."""
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and _has_cuda())
    dtype = settings.dtype
    if dtype == "auto":
        dtype = ("float16" if size.stored_dtype == "float16" else "bfloat16") if on_gpu else "float32"
    if settings.memory not in (None, "auto"):
        memory = parse_size(str(settings.memory))
    else:
        memory = _free_on_gpu(settings.device) if on_gpu else free_host_memory()
    return DeviceSpec(memory, on_gpu, dtype, settings.quantize)


def _has_cuda() -> bool:
    if not has_nvidia():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _free_on_gpu(device: str) -> int:
    """Return the bytes free on a GPU now, also beside other processes."""
    import torch

    from m3video.model.m3.checkpoint import find_device

    if not torch.cuda.is_available():
        raise UsageError(f"--memory auto: torch sees no CUDA device for --device {device}; name a size, e.g. 8GiB")
    return int(torch.cuda.mem_get_info(find_device(device))[0])


def _request(settings: Settings, size: ModelSize) -> MemoryRequest:
    """Return the most frames and tokens that are wanted, or that can be used."""
    frames = min(settings.surely_frames, settings.num_frames or settings.surely_frames)
    detail = DETAIL[settings.detail]
    useful = frames * detail + sum(max(0, (scale or 0) - detail) for _, scale in settings.pins)
    most = min(useful, settings.budget) if "budget" in settings.model_fields_set else useful

    def text(frames: int) -> int:
        around = text_around(
            settings.model, times_seconds=[LONGEST_CLOCK_SECONDS] * frames, timestamps=settings.timestamps
        )
        if around is None:
            around = TOKENS_BESIDE + frames * (TOKENS_A_FRAME if settings.timestamps else 2) + frames * size.newlines
        return around + QUESTION_TOKENS + settings.max_new_tokens

    return MemoryRequest(min(frames, most), most, settings.vision_batch, text)


def refuse_evidence(fitted: FittedSettings | None, plan: TokenPlan) -> None:
    """Raise DoesNotFitError where the test of an answer does not fit in the memory that its settings name.

    The budget is not reduced for the test: where both do not fit, the answer comes without it.
    """
    if fitted is None:
        return
    device = fitted.device
    shape = replace(fitted.fit.shape, frames=len(plan.frames), visual=plan.total_tokens, streams=1)
    found = with_evidence(fitted.size, device, shape)
    if found.total > device.memory - device.margin:
        raise DoesNotFitError(
            f"a second KV cache would take {size_text(found.total)} together, and {size_text(device.margin)} are kept "
            f"free of {size_text(device.memory)}: use a smaller --budget, or --no-evidence"
        )


def budget_text(fitted: FittedSettings) -> str:
    """Describe the budget and what limits it."""
    fit, device, wanted = fitted.fit, fitted.device, fitted.wanted
    shape = fit.shape
    why = {
        "memory": "what the memory allows",
        "context": f"what the model's context of {fitted.size.context} leaves beside {shape.text} of text and answer",
        "request": "all that so many frames can use",
    }[fit.binds]
    if fit.binds == "request" and "budget" in wanted.model_fields_set and shape.visual == wanted.budget:
        why = "--budget"
    more = f"; the memory would allow {fit.by_memory:,}" if fit.binds != "memory" and fit.by_memory < 2**40 else ""
    return (
        f"{shape.visual:,} tokens, up to {shape.frames} frames, {shape.streams} such prompt"
        f"{'' if shape.streams == 1 else 's'} at a time in {size_text(device.memory)}: {why}{more}"
    )


def memory_text(fitted: FittedSettings) -> str:
    """Describe what the memory is used for."""
    found, device = fitted.fit.estimate, fitted.device
    measured = " (corrected by a measured peak)" if device.correction else ""
    parts, total = parts_text(found, device), size_text(found.total)
    return f"{parts}, together {total}{measured}; {size_text(device.margin)} kept free"


def parts_text(found: MemoryEstimate, device: DeviceSpec) -> str:
    """Describe the parts of an estimate."""
    formats = device.dtype if device.quantize == "none" else f"{device.dtype}, layers in {device.quantize}"
    phase, work = max(("vision tower", found.vision), ("prompt and KV cache", found.answer), key=lambda part: part[1])
    return (
        f"weights {size_text(found.weights)} ({formats}), {phase} {size_text(work)}, runtime {size_text(found.runtime)}"
    )


def reductions(fitted: FittedSettings) -> tuple[str, ...]:
    """Return a note for each setting that was reduced to fit."""
    lines = []
    if fitted.settings.vision_batch < min(fitted.wanted.vision_batch, fitted.fit.shape.frames):
        lines.append(
            f"vision batch {fitted.settings.vision_batch} instead of {fitted.wanted.vision_batch}: the larger "
            "one does not fit in the memory"
        )
    requested = min(
        fitted.wanted.surely_frames, fitted.wanted.num_frames or fitted.wanted.surely_frames, fitted.wanted.budget
    )
    if fitted.fit.shape.frames < requested:
        lines.append(f"at most {fitted.fit.shape.frames} frames instead of {requested}: more do not fit")
    return tuple(lines)


def _refusal(size: ModelSize, device: DeviceSpec, request: MemoryRequest) -> str:
    """Say why nothing fits, and which changes help."""
    text = request.text(1)
    if size.context <= text:
        return (
            f"{size.name} has a context of {size.context}, and text and answer alone take {text}: "
            "use a smaller --max-new-tokens"
        )
    least = Shape(1, 1, text, 1)
    found = estimate_memory(size, device, least)
    return (
        f"one frame at one token of {size.name} needs {size_text(found.total)} ({parts_text(found, device)}) and "
        f"{size_text(device.margin)} to spare, more than the {size_text(device.memory)} there are: "
        f"{remedy(size, device, least)}"
    )


def remedy(size: ModelSize, device: DeviceSpec, least: Shape) -> str:
    """Name the smallest change of settings that makes it fit, or the memory needed."""
    helps = []
    for dtype, quantize in _smaller(device):
        other = replace(device, dtype=dtype, quantize=quantize)
        total = estimate_memory(size, other, least).total + other.margin
        flags = [f"--dtype {dtype}"] if dtype != device.dtype else []
        flags += [f"--quantize {quantize}"] if quantize != device.quantize else []
        helps.append((total, " ".join(flags)))
        if total <= device.memory:
            return f"use {helps[-1][1]}"
    here = estimate_memory(size, device, least).total + device.margin
    total, flags_text = min(helps, default=(here, ""))
    other_way = f", or {size_text(total)} with {flags_text}" if total < 0.95 * here else ""
    return f"it takes {size_text(here)}{other_way}; or use a smaller model"


def least_text(settings: Settings) -> str:
    """Describe what the smallest question to a model needs, and what is free now."""
    size = read_size(settings.model, vision_tower=settings.vision_tower)
    device = find_device_spec(settings.model_copy(update={"memory": None}), size)
    least = Shape(1, 1, _request(settings, size).text(1), 1)
    total = estimate_memory(size, device, least).total
    return f"it takes about {size_text(total)}, {size_text(device.memory)} are free now"


def _smaller(device: DeviceSpec) -> Sequence[tuple[str, str]]:
    """Return smaller (dtype, quantize) of the same model, the least change first."""
    half = "bfloat16" if device.dtype == "float32" else device.dtype
    kinds = QUANTIZE[QUANTIZE.index(device.quantize) :]
    return [
        (dtype, kind)
        for kind in kinds
        for dtype in dict.fromkeys((device.dtype, half))
        if (dtype, kind) != (device.dtype, device.quantize)
    ]
