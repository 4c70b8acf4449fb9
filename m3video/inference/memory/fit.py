"""From a memory to settings: which budget, frames and vision batch fit, before anything is opened or loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from m3video.config import DETAIL, Settings
from m3video.errors import DoesNotFitError, UsageError
from m3video.inference.memory.measured import kept_correction
from m3video.inference.memory.model import (
    QUANTIZE,
    DeviceSpec,
    MemoryEstimate,
    MemoryFit,
    MemoryRequest,
    Shape,
    largest_fit,
    need,
)
from m3video.model.m3.size import read_size
from m3video.model.m3.text_count import text_around
from m3video.model.size import ModelSize
from m3video.utils.system import free_host_memory, has_nvidia
from m3video.utils.units import parse_size, size_text

QUESTION_TOKENS = 64
"""Kept for a question that is not known yet."""

TOKENS_A_FRAME, TOKENS_BESIDE = 16, 96
"""Text around frames where the model's tokenizer is not on this machine; its own templates need 9 to 14, and 60."""

LONGEST_CLOCK_SECONDS = 35999.9
"""No clock text is longer."""


@dataclass(frozen=True, slots=True)
class FittedSettings:
    """What fits, and the settings that ask for just that.

    Attributes:
        settings: with budget, max_frames and vision_batch as they fit.
        wanted: the settings as they came.
        size: the model's numbers.
        place: the memory and how the model is held in it.
        fit: the largest question.
    """

    settings: Settings
    wanted: Settings
    size: ModelSize
    place: DeviceSpec
    fit: MemoryFit

    @property
    def notes(self) -> tuple[str, ...]:
        """What an answer should carry: the budget that came out, why, and whatever is smaller than was wished."""
        return (f"memory: {budget_text(self)}", *shrunk(self), *self.size.notes)


def fit_settings(settings: Settings) -> FittedSettings | None:
    """The largest budget that fits in `settings.memory`; None where no memory is named.

    Args:
        settings: resolved settings. A budget that was given is a ceiling.

    Raises:
        DoesNotFitError: not even one frame at one token fits; with the numbers and what to change.
        UsageError: a device that is not there.
        CheckpointError: no such model.
    """
    if settings.memory is None:
        return None
    size = read_size(settings.model, vision_tower=settings.vision_tower)
    place = find_place(settings, size)
    place = replace(place, correction=kept_correction(size, place))
    wish = _wish(settings, size)
    fit = largest_fit(size, place, wish)
    if fit is None:
        raise DoesNotFitError(_refusal(size, place, wish))
    # Where all frames fit that the tokens can pay, more may still compete for them.
    is_enough = fit.shape.frames >= min(wish.frames, fit.shape.visual)
    frames = settings.max_frames if is_enough else min(settings.max_frames, fit.shape.frames)
    found = settings.model_copy(
        update={
            "budget": fit.shape.visual,
            "max_frames": frames,
            "vision_batch": min(settings.vision_batch, max(fit.shape.vision_batch, 1)),
            "memory": f"{place.memory}B",
        }
    )
    return FittedSettings(found, settings, size, place, fit)


def find_place(settings: Settings, size: ModelSize) -> DeviceSpec:
    """Where `settings` let the model run, and how much memory is there."""
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
    """What is free on a GPU now, whoever holds the rest."""
    import torch

    from m3video.model.m3.checkpoint import find_device

    if not torch.cuda.is_available():
        raise UsageError(f"--memory auto: torch sees no CUDA device for --device {device}; name a size, e.g. 8GiB")
    return int(torch.cuda.mem_get_info(find_device(device))[0])


def _wish(settings: Settings, size: ModelSize) -> MemoryRequest:
    """Most frames and tokens that are wanted or of use."""
    frames = min(settings.max_frames, settings.num_frames or settings.max_frames)
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


def budget_text(fitted: FittedSettings) -> str:
    """The budget and what binds it, in words."""
    fit, place, wanted = fitted.fit, fitted.place, fitted.wanted
    shape = fit.shape
    why = {
        "memory": "what the memory allows",
        "context": f"what the model's context of {fitted.size.context} leaves beside {shape.text} of text and answer",
        "wish": "all that so many frames can use",
    }[fit.binds]
    if fit.binds == "wish" and "budget" in wanted.model_fields_set and shape.visual == wanted.budget:
        why = "--budget"
    more = f"; the memory would allow {fit.by_memory:,}" if fit.binds != "memory" and fit.by_memory < 2**40 else ""
    return (
        f"{shape.visual:,} tokens, up to {shape.frames} frames, {shape.streams} such prompt"
        f"{'' if shape.streams == 1 else 's'} at a time in {size_text(place.memory)}: {why}{more}"
    )


def need_text(fitted: FittedSettings) -> str:
    """Where the memory goes, in words."""
    found, place = fitted.fit.need, fitted.place
    measured = " (corrected by a measured peak)" if place.correction else ""
    return (
        f"{parts_text(found, place)}, together {size_text(found.total)}{measured}; {size_text(place.margin)} kept free"
    )


def parts_text(found: MemoryEstimate, place: DeviceSpec) -> str:
    """The parts of a need."""
    held = place.dtype if place.quantize == "none" else f"{place.dtype}, layers in {place.quantize}"
    phase, work = max(("vision tower", found.vision), ("prompt and KV cache", found.answer), key=lambda part: part[1])
    return f"weights {size_text(found.weights)} ({held}), {phase} {size_text(work)}, runtime {size_text(found.runtime)}"


def shrunk(fitted: FittedSettings) -> tuple[str, ...]:
    """A line for each wish that was made smaller to fit."""
    lines = []
    if fitted.settings.vision_batch < min(fitted.wanted.vision_batch, fitted.fit.shape.frames):
        lines.append(
            f"vision batch {fitted.settings.vision_batch} instead of {fitted.wanted.vision_batch}: the larger "
            "one does not fit in the memory"
        )
    wished = min(fitted.wanted.max_frames, fitted.wanted.num_frames or fitted.wanted.max_frames, fitted.wanted.budget)
    if fitted.fit.shape.frames < wished:
        lines.append(f"at most {fitted.fit.shape.frames} frames instead of {wished}: more do not fit")
    return tuple(lines)


def _refusal(size: ModelSize, place: DeviceSpec, wish: MemoryRequest) -> str:
    """Why nothing fits, and the nearest changes that help."""
    text = wish.text(1)
    if size.context <= text:
        return (
            f"{size.name} has a context of {size.context}, and text and answer alone take {text}: "
            "use a smaller --max-new-tokens"
        )
    least = Shape(1, 1, text, 1)
    found = need(size, place, least)
    return (
        f"one frame at one token of {size.name} needs {size_text(found.total)} ({parts_text(found, place)}) and "
        f"{size_text(place.margin)} to spare, more than the {size_text(place.memory)} there are: "
        f"{ways_out(size, place, least)}"
    )


def ways_out(size: ModelSize, place: DeviceSpec, least: Shape) -> str:
    """What would help: the least change that does, or how much memory it takes."""
    helps = []
    for dtype, quantize in _smaller(place):
        other = replace(place, dtype=dtype, quantize=quantize)
        total = need(size, other, least).total + other.margin
        flags = [f"--dtype {dtype}"] if dtype != place.dtype else []
        flags += [f"--quantize {quantize}"] if quantize != place.quantize else []
        helps.append((total, " ".join(flags)))
        if total <= place.memory:
            return f"use {helps[-1][1]}"
    here = need(size, place, least).total + place.margin
    total, flags_text = min(helps, default=(here, ""))
    other_way = f", or {size_text(total)} with {flags_text}" if total < 0.95 * here else ""
    return f"it takes {size_text(here)}{other_way}; or use a smaller model"


def least_text(settings: Settings) -> str:
    """What the smallest question to a model takes and what there is now, in words."""
    size = read_size(settings.model, vision_tower=settings.vision_tower)
    place = find_place(settings.model_copy(update={"memory": None}), size)
    least = Shape(1, 1, _wish(settings, size).text(1), 1)
    return f"it takes about {size_text(need(size, place, least).total)}, {size_text(place.memory)} are free now"


def _smaller(place: DeviceSpec) -> Sequence[tuple[str, str]]:
    """Ways of holding the same model in less, the least change first."""
    half = "bfloat16" if place.dtype == "float32" else place.dtype
    kinds = QUANTIZE[QUANTIZE.index(place.quantize) :]
    return [
        (dtype, kind)
        for kind in kinds
        for dtype in dict.fromkeys((place.dtype, half))
        if (dtype, kind) != (place.dtype, place.quantize)
    ]
