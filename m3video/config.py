"""The settings of a run, from flags, then `M3VIDEO_*` variables, then a YAML file, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from m3video.errors import UsageError
from m3video.types import SCALES
from m3video.utils.text import fault_of, json_object_text, nearest, printable, read_text
from m3video.utils.units import parse_size

ENV_PREFIX = "M3VIDEO_"

# Read elsewhere: the cache folder, the base of the model `small`, the key of a server, folders of test data that the
# repository lacks.
_OTHER_VARIABLES = frozenset({"CACHE_DIR", "SMALL_BASE", "API_KEY", "PARITY_DIR", "VIDEOS_DIR", "ANNOTATIONS_DIR"})


PLAN_SETTINGS = (
    "scan",
    "scan_frames",
    "scan_seconds",
    "budget",
    "memory",
    "max_frames",
    "sampling",
    "start",
    "end",
    "fps",
    "num_frames",
    "layout",
    "detail",
    "every_shot",
    "max_gap",
    "at",
    "saliency",
)
"""Settings that a saved plan already fixes."""

ANY_MODEL = "auto"
"""Leaves the model to `m3video.model.m3.default_model`; plans and results name the one that was decided."""

UNSEEN_FRAMES = 16
"""Most candidate frames of a video that was not seen yet, where the setting is `auto`: memory is planned for these."""

DETAIL: dict[str, int] = {"low": 36, "medium": 144, "high": 576}
"""Greatest scale of a frame for each value of `--detail`."""


class Settings(BaseModel):
    """Everything that changes a plan or an answer; the resolved settings are stored in both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["pyav", "decord", "torchcodec", "opencv"] = Field("pyav", description="video decoder")
    max_pixels: int = Field(8192 * 8192, ge=1, description="refuse frames with more pixels than this")

    scan: Literal["auto", "full", "nonref", "keyframes"] = Field(
        "auto",
        description="frames analyzed before planning: keyframes and what hides between them (in a short video all), "
        "all, those that other frames refer to, or keyframes only",
    )

    scan_frames: int | None = Field(None, ge=1, description="most frames that --scan auto decodes of a long video")
    scan_seconds: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="most seconds that --scan auto takes, turned into --scan-frames by a short test of this machine",
    )

    budget: int = Field(720, ge=1, description="most visual tokens for the whole video")
    memory: str | None = Field(
        None, description="take the largest budget that fits in this memory, e.g. 8GiB, or in what is free now (auto)"
    )
    max_frames: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="most candidate frames: a number, or by what the video shows"
    )
    sampling: Literal["shots", "uniform"] = Field("shots", description="how candidates are chosen")
    start: float | None = Field(
        None,
        description="start of the range: seconds or h:mm:ss, as a player shows them (0 is where sound or picture "
        "starts, whichever is first)",
    )
    end: float | None = Field(None, description="end of the range, not included: as for --start")
    fps: float | None = Field(None, gt=0, description="candidates per second of video")
    num_frames: int | None = Field(None, ge=1, description="number of candidates, spread evenly")
    detail: Literal["low", "medium", "high"] = Field("high", description="most tokens per frame (36, 144, 576)")
    every_shot: bool = Field(False, description="show at least one frame of every shot, while the budget allows")
    max_gap: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="show frames at most this many seconds apart"
    )
    at: str | None = Field(
        None,
        description="always show the frame at this time, at a scale if one is given: 12:31=576; for several, repeat "
        "it, or separate them by a comma and a space",
    )

    saliency: Literal["off", "times", "attention"] = Field(
        "off",
        description="spend the budget on what the question is about: times it names, else where the model attends",
    )

    model: str = Field(
        ANY_MODEL,
        description="small (natural video), rendered (rendered clips), a checkpoint folder, or a hub name; auto is "
        "small where that needs no download, else rendered",
    )
    vision_tower: str | None = Field(None, description="vision tower folder, where it is separate from the checkpoint")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="number format")
    quantize: Literal["none", "int8", "int4"] = Field(
        "none", description="store the language model's layers with 8 or 4 bits a weight"
    )
    layout: Literal["frames", "grid"] = Field("frames", description="a frame sequence, or six frames in one image grid")
    timestamps: bool = Field(True, description="tell the model each frame's time")
    vision_batch: int = Field(8, ge=1, description="frames in one run of the vision tower")
    max_new_tokens: int = Field(64, ge=1, description="longest answer, in tokens")
    abstain: float | None = Field(None, gt=0, lt=1, description="answer 'cannot tell' where confidence is less")
    answer_schema: str | None = Field(None, description="JSON schema that an answer obeys")

    cache: bool = Field(True, description="cache scans and frames' visual features on disk")
    cache_gib: float = Field(4.0, gt=0, description="size limit of the cache folder, in GiB")

    @field_validator("start", "end", mode="before")
    @classmethod
    def _in_seconds(cls, value: Any) -> Any:
        return parse_clock(value) if isinstance(value, str) else value

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> str | None:
        return None if value is None else json_object_text(value)

    @field_validator("saliency", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """Accept false, as which YAML reads `off`."""
        return "off" if value is False else value

    @field_validator("memory")
    @classmethod
    def _is_a_size(cls, value: str | None) -> str | None:
        if value is not None and value != "auto":
            parse_size(value)
        return value

    @field_validator("at", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """Accept a list, or a time that YAML reads as a number."""
        parts = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(part, bool) or not isinstance(part, (str, int, float)) for part in parts):
            return value  # None, or something that pydantic rejects
        text = ", ".join(str(part) for part in parts)
        parse_pins(text)
        return text

    @field_validator("*", mode="before")  # the last one is the first to run
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Reject what cannot be written as UTF-8, because it could not be stored in a plan."""
        if isinstance(value, str) and (wrong := fault_of(value)):
            raise ValueError(f"it {wrong}")
        return value

    @property
    def surely_frames(self) -> int:
        """Most candidate frames, as far as that is known without the video."""
        return UNSEEN_FRAMES if self.max_frames == "auto" else self.max_frames

    @property
    def pins(self) -> tuple[tuple[float, int | None], ...]:
        """Times of `at` in seconds, each with its scale or None."""
        return () if self.at is None else parse_pins(self.at)

    @model_validator(mode="after")
    def _one_layout(self) -> Settings:
        if self.layout == "grid":
            for name in (
                "at",
                "every_shot",
                "max_gap",
                "detail",
                "scan",
                "scan_frames",
                "scan_seconds",
                "memory",
                "saliency",
                "max_frames",
                "num_frames",
                "fps",
                "sampling",
            ):
                if getattr(self, name) != type(self).model_fields[name].default:
                    flag = "--" + name.replace("_", "-")
                    raise ValueError(f"{flag} says which frames stand in a sequence: leave it out with --layout grid")
            if self.answer_schema is not None:
                raise ValueError("--schema is for a sequence of frames: leave it out with --layout grid")
            if not self.timestamps:
                raise ValueError("--no-timestamps is for a sequence of frames, a grid shows no times: leave it out")
        return self

    @model_validator(mode="after")
    def _pins_are_seen(self) -> Settings:
        if self.scan not in ("auto", "full") and self.at is not None:
            raise ValueError(f"--at names a frame that --scan {self.scan} may skip: use --scan full")
        return self

    @field_validator("max_frames", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "auto" and not value.strip().lstrip("-").isdecimal():
            raise ValueError("must be a number from 1 to 4096, or auto")
        return value

    @model_validator(mode="after")
    def _one_limit_of_the_scan(self) -> Settings:
        limits = [name for name in ("scan_frames", "scan_seconds") if getattr(self, name) is not None]
        flags = " and ".join("--" + name.replace("_", "-") for name in limits)
        if limits and self.scan != "auto":
            raise ValueError(f"{flags} limits --scan auto: leave it out with --scan {self.scan}")
        if len(limits) > 1:
            raise ValueError(f"{flags} contradict each other: give one of them")
        return self

    @model_validator(mode="after")
    def _one_rate(self) -> Settings:
        if self.fps is not None and self.num_frames is not None:
            raise ValueError("--fps and --num-frames contradict each other: give one of them")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"--end ({self.end:g} s) must be after --start ({self.start:g} s)")
        return self


def parse_clock(text: str) -> float:
    """Parse `"75.5"`, `"1:15.5"`, `"1:02:03"` or, as in subtitles, `"00:01:15,500"` to seconds.

    Raises:
        ValueError: anything else.
    """
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text)
    parts = body.split(":")
    if len(parts) > 1:  # 1,500 alone may also be 1500
        parts[-1] = parts[-1].replace(",", ".", 1)
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or any(not 0 <= value < (60 if i else float("inf")) for i, value in enumerate(values)):
        raise ValueError(f"time ({text}) must be seconds or h:mm:ss, e.g. 75.5, 1:15.5, 1:02:03 or 00:01:15,500")
    total = 0.0
    for value in values:
        total = total * 60 + value
    return sign * total


def parse_pins(text: str) -> tuple[tuple[float, int | None], ...]:
    """Parse `"12:31=576, 14:02"` to `((751.0, 576), (842.0, None))`.

    A comma separates times, but in `00:00:03,500` it is a decimal sign, as in subtitles.

    Raises:
        ValueError: anything else, or a comma that may be either.
    """
    pins: list[tuple[float, int | None]] = []
    for part in _split_times(text):
        time, equals, scale = (piece.strip() for piece in part.partition("="))
        if equals and scale not in map(str, SCALES):
            raise ValueError(f"scale ({scale}) must be one of {', '.join(map(str, SCALES))}")
        pins.append((parse_clock(time), int(scale) if equals else None))
    return tuple(pins)


def _split_times(text: str) -> list[str]:
    """Split at commas, but not at the decimal sign of a subtitle's time."""
    parts: list[str] = []
    for part in text.split(","):
        before = parts[-1] if parts else ""
        if not _DIGITS.fullmatch(part) or not _WHOLE_SECONDS.fullmatch(before):
            parts.append(part)
        elif _WHOLE_CLOCK.fullmatch(before.strip()) and len(part.partition("=")[0].rstrip()) == 3:
            parts[-1] += "." + part
        else:
            one = f"{before.strip()},{part.strip()}"
            raise ValueError(
                f"{one} may be one time or two: write '{one.replace(',', '.', 1)}' for one, "
                f"'{one.replace(',', ', ', 1)}' for two"
            )
    return parts


_DIGITS = re.compile(r"\d+\s*(=.*)?")
_WHOLE_SECONDS = re.compile(r"\s*-?[\d:]*\d")
_WHOLE_CLOCK = re.compile(r"-?\d+:\d\d:\d\d")


def pins_text(pins: Iterable[tuple[float, int | None]]) -> str:
    """Format `pins` for `parse_pins`, to the microsecond."""
    return ", ".join(f"{time:.6f}" + ("" if scale is None else f"={scale}") for time, scale in pins)


def load_settings(flags: Mapping[str, Any], *, config: Path | None = None) -> Settings:
    """Resolve the settings of one run.

    Args:
        flags: values of the command line; None means "not given".
        config: a YAML file with keys of `Settings`.

    Raises:
        UsageError: an unknown key (the nearest one is named), a wrong value, or settings that contradict each other.
    """
    known = Settings.model_fields
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, value in (read_yaml(config) if config is not None else {}).items():
        if key not in known:
            raise UsageError(f"{config}: unknown key '{printable(key)}'{_did_you_mean(nearest(key, known))}")
        values[key], origin[key] = value, f"{config}: {key}"
    for variable, value in sorted(os.environ.items()):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in _OTHER_VARIABLES:
            continue
        key = name.lower()
        if key not in known:
            near = nearest(key, known)
            raise UsageError(
                f"unknown variable {printable(variable)}{_did_you_mean(near and ENV_PREFIX + near.upper())}"
            )
        values[key], origin[key] = value, variable
    for key, value in flags.items():
        if value is not None:
            values[key], origin[key] = value, "--" + key.replace("_", "-")
    try:
        return Settings(**values)
    except ValidationError as error:
        raise UsageError(_first_problem(error, origin)) from None


def changed_settings(settings: Settings | None, changes: Mapping[str, Any]) -> Settings:
    """Return `settings`, or the defaults, with some of them changed.

    Args:
        settings: None for the defaults.
        changes: values by the names of `Settings`.

    Raises:
        UsageError: unknown name (the nearest one is named), wrong value, or settings that contradict each other.
    """
    known = Settings.model_fields
    for name in changes:
        if name not in known:
            raise UsageError(f"unknown setting '{printable(name)}'{_did_you_mean(nearest(name, known))}")
    given = {} if settings is None else settings.model_dump(exclude_unset=True)
    if settings is not None and not changes:
        return settings
    try:
        return Settings(**{**given, **changes})
    except ValidationError as error:
        raise UsageError(_first_problem(error, {})) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from a file.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(read_text(path))
    except OSError as error:
        raise UsageError(f"config file {printable(path)} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"config file {printable(path)} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"config file {printable(path)} must hold 'key: value' lines")
    return values


def _did_you_mean(near: str) -> str:
    return f"; did you mean {near}?" if near else ""


def _first_problem(error: ValidationError, origin: Mapping[str, str]) -> str:
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    return f"{origin.get(name, name)} ({printable(str(problem['input']))}): {message[0].lower()}{message[1:]}"
