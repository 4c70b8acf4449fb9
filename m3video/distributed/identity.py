"""Digests of what changes the outcome of a task: its settings, and the weights of the model that answers."""

from __future__ import annotations

from m3video.config import PLAN_SETTINGS, Settings
from m3video.distributed.items import digest
from m3video.model.m3.config_json import read_config_json
from m3video.model.m3.model_paths import find_folder, find_here, find_model
from m3video.model.safetensors_headers import weights_digest

WHERE_IT_RUNS = frozenset({"device", "vision_batch", "cache", "cache_gib", "memory"})
"""Settings that change how fast an answer comes, not the answer."""

OF_ANSWERS = frozenset({"vision_tower", "dtype", "quantize", "max_new_tokens", "answer_schema"})
OF_PLANS = frozenset({*PLAN_SETTINGS, "timestamps", "model"} - {"scan"})
"""Settings that change an answer only, and those that change a plan too; every other one may change all outcomes."""


def config_of(name: str, settings: Settings, *, fetch: bool = True) -> str:
    """Return a digest of the task, the settings that change its outcome, and the model where one answers.

    Args:
        name: of the task.
        settings: resolved.
        fetch: whether a hub model may be downloaded to see which weights it has.

    Raises:
        CheckpointError: there is no such model.
    """
    values = settings.model_dump()
    without = WHERE_IT_RUNS
    if name in ("analyze", "plan"):
        without |= OF_ANSWERS
    if name == "analyze":
        without |= OF_PLANS
    weights = "" if name in ("analyze", "plan") else weights_sample(settings, fetch=fetch)
    if settings.answer_schema is None:
        without |= {"answer_schema"}  # what was done before there was this setting stays done
    if settings.abstain is None or name != "ask":
        without |= {"abstain"}
    return digest(name, {key: value for key, value in values.items() if key not in without}, weights)


def weights_sample(settings: Settings, *, fetch: bool) -> str:
    """Return a digest of a checkpoint's config and of samples of its weights: reads a megabyte, not 14 GB.

    Empty where the model is not on this machine and must not be downloaded.
    """
    model = settings.model
    if not fetch and find_here(model, whole=True) is None:
        return ""
    folder = find_model(model, vision_tower=settings.vision_tower) if fetch else find_folder(model)
    read_config_json(folder)
    return weights_digest(folder)
