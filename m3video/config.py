"""One settings model for the whole product: flags > `M3VIDEO_*` environment > YAML file > defaults."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from m3video.errors import UsageError

ENV_PREFIX = "M3VIDEO_"

# Read elsewhere: where the tests look for data that no clone has.
_OTHER_VARIABLES = frozenset({"PARITY_DIR", "VIDEOS_DIR", "ANNOTATIONS_DIR"})


PLAN_SETTINGS = ("budget", "max_frames", "sampling", "start", "end", "fps", "num_frames", "layout")
"""Settings that a saved plan has already decided."""


class Settings(BaseModel):
    """Everything that changes a plan or an answer. It travels, resolved, inside both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["pyav", "decord", "torchcodec", "opencv"] = Field("pyav", description="video decoder")
    max_pixels: int = Field(8192 * 8192, ge=1, description="refuse frames with more pixels than this")

    budget: int = Field(720, ge=1, description="most visual tokens for the whole video")
    max_frames: int = Field(16, ge=1, le=4096, description="most candidate frames")
    sampling: Literal["shots", "uniform"] = Field("shots", description="how candidates are chosen")
    start: float | None = Field(None, description="look from here on: seconds or h:mm:ss, as probe shows them")
    end: float | None = Field(None, description="look until here: seconds or h:mm:ss, as probe shows them")
    fps: float | None = Field(None, gt=0, description="candidates per second of video")
    num_frames: int | None = Field(None, ge=1, description="number of candidates, spread evenly")

    model: str = Field("bundled", description="'bundled', a checkpoint folder, or a hub name")
    vision_tower: str | None = Field(None, description="vision tower folder, when kept apart from the checkpoint")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="number format")
    layout: Literal["frames", "grid"] = Field("frames", description="a frame sequence, or six frames in one image grid")
    timestamps: bool = Field(True, description="tell the model each frame's time")
    vision_batch: int = Field(8, ge=1, description="frames in one run of the vision tower")
    max_new_tokens: int = Field(64, ge=1, description="longest answer, in tokens")

    @model_validator(mode="after")
    def _one_rate(self) -> Settings:
        if self.fps is not None and self.num_frames is not None:
            raise ValueError("--fps and --num-frames contradict each other: give one of them")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"--end ({self.end:g} s) must be after --start ({self.start:g} s)")
        return self


def load_settings(flags: Mapping[str, Any], *, config: Path | None = None) -> Settings:
    """Resolve the settings of one run.

    Args:
        flags: what the command line set; None means "not given".
        config: a YAML file with keys of `Settings`.

    Raises:
        UsageError: unknown key (the nearest one is named), wrong value, or settings that contradict each other.
    """
    known = Settings.model_fields
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, value in (read_yaml(config) if config is not None else {}).items():
        if key not in known:
            raise UsageError(f"{config}: unknown key '{key}'{_did_you_mean(nearest(key, known))}")
        values[key], origin[key] = value, f"{config}: {key}"
    for variable, value in sorted(os.environ.items()):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in _OTHER_VARIABLES:
            continue
        key = name.lower()
        if key not in known:
            near = nearest(key, known)
            raise UsageError(f"unknown variable {variable}{_did_you_mean(near and ENV_PREFIX + near.upper())}")
        values[key], origin[key] = value, variable
    for key, value in flags.items():
        if value is not None:
            values[key], origin[key] = value, "--" + key.replace("_", "-")
    try:
        return Settings(**values)
    except ValidationError as error:
        raise UsageError(_first_problem(error, origin)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file; UsageError in one line when it is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"config file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"config file {path} must hold 'key: value' lines")
    return values


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` most likely meant, or ''."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def _did_you_mean(near: str) -> str:
    return f"; did you mean {near}?" if near else ""


def _first_problem(error: ValidationError, origin: Mapping[str, str]) -> str:
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    return f"{origin.get(name, name)} ({problem['input']}): {message[0].lower()}{message[1:]}"
