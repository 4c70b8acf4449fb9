"""Options that verbs share, and the flags for `Settings`: each is declared here once.

A new setting needs a field in `Settings`, which has its help and default, and its name in one of the groups below.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from m3video.config import PLAN_SETTINGS, Settings, load_settings
from m3video.errors import UsageError
from m3video.utils.text import json_object_text, printable, read_text

SPENDING = ("budget", "memory", "max_frames", "detail")
PLANNING = (*SPENDING, "sampling", "start", "end", "fps", "num_frames", "every_shot", "max_gap", "at")
MODEL = ("model", "vision_tower", "device", "dtype", "quantize", "vision_batch")
ANSWERING = ("timestamps", *MODEL, "max_new_tokens")
VIDEO = ("scan", "scan_frames", "backend", "max_pixels")

BUDGET_OF_SUMMARY = f"most visual tokens for each video, for each chapter of a summary (default {Settings().budget})"

Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings (see configs/)")]
Evidence = Annotated[bool, typer.Option("--evidence/--no-evidence", help="test which frames the answer rests on")]
Json = Annotated[bool, typer.Option("--json", help="print data as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, no notes")]
SavedPlan = Annotated[Path | None, typer.Option("--plan", help="show exactly the frames of this plan")]
Schema = Annotated[Path | None, typer.Option("--schema", help="file of a JSON schema that the answer obeys")]
Video = Annotated[str, typer.Argument(help="a local video file", show_default=False)]

_FLAG_TYPES = {"at": list[str], "start": str, "end": str, "max_frames": str}
"""Types of the flags that are text for `Settings` to parse; `--at` may be repeated."""


@dataclass(frozen=True)
class GivenSettings:
    """Settings as the command line gave them.

    Attributes:
        flags: setting -> value, only for flags that were given.
        config: the YAML file of `--config`.
    """

    flags: Mapping[str, Any]
    config: Path | None = None

    def resolve(self, *, schema: Path | None = None) -> Settings:
        """Return the settings, with what was not given from the YAML file, the environment and the defaults.

        Args:
            schema: file of the setting `answer_schema`.

        Raises:
            UsageError: a value is wrong, settings contradict each other, or the schema cannot be obeyed.
        """
        flags = self.flags if schema is None else {**self.flags, "answer_schema": _read_schema(schema)}
        settings = load_settings(flags, config=self.config)
        if settings.answer_schema is not None:
            from m3video.model.json_answers import check_schema

            check_schema(settings.answer_schema)
        return settings


def setting_option(name: str, help: str | None = None) -> Any:
    """Return the typer option of one setting, with its choices and its default in the help text.

    Args:
        name: a field of `Settings`.
        help: text instead of that of the field.
    """
    if help is not None:
        return typer.Option(help=help)
    field = Settings.model_fields[name]
    choices = [str(value) for value in get_args(field.annotation) if isinstance(value, str)]
    text = field.description or ""
    if choices:
        text += f": {', '.join(choices)}"
    if field.default is not None:
        text += f" (default {field.default})"
    return typer.Option(help=text)


def with_settings(
    *settings: str | tuple[str, ...], help: Mapping[str, str] | None = None, config: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb a flag for each setting, in this order, in the place of its parameter `given`.

    Args:
        settings: names of settings, and groups of them.
        help: setting -> help text instead of the usual one.
        config: whether the verb has `--config` after them.

    Returns:
        A decorator for a function with a keyword-only parameter `given`, which receives `GivenSettings`.
    """
    names = [name for part in settings for name in ((part,) if isinstance(part, str) else part)]
    options = {name: setting_option(name, (help or {}).get(name)) for name in names}
    added = [_parameter(name, Annotated[_flag_type(name) | None, option]) for name, option in options.items()]
    if config:
        added.append(_parameter("config", Config))

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            parameters += added if name == "given" else [parameter]

        @functools.wraps(verb)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in names}
            file = arguments.pop("config") if config else None
            verb(**arguments, given=GivenSettings(_given_flags(values), file))

        # Typer reads the signature, and some versions of it the annotations.
        run.__dict__["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def refuse_decided(plan: Path | None, given: GivenSettings) -> None:
    """Raise UsageError when a flag asks for something that a saved plan has already decided."""
    decided = [name for name in given.flags if name in PLAN_SETTINGS]
    if plan is not None and decided:
        raise UsageError(f"--plan {plan} already decides --{decided[0].replace('_', '-')}: give one of the two")


def _read_schema(path: Path) -> str:
    try:
        return json_object_text(read_text(path))
    except OSError as error:
        raise UsageError(f"--schema {printable(path)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--schema {printable(path)}: {error}") from None


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag_type(name: str) -> Any:
    """Return the type that typer parses a flag to; `Settings` checks its value."""
    if name in _FLAG_TYPES:
        return _FLAG_TYPES[name]
    annotation = Settings.model_fields[name].annotation
    if get_origin(annotation) is Literal:
        return str
    return next((part for part in get_args(annotation) if part is not NoneType), annotation)


def _given_flags(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, in the order of `Settings`."""
    # An option that may be repeated is an empty list when it was not given.
    flags = {name: values[name] for name in Settings.model_fields if values.get(name) not in (None, [])}
    if "at" in flags:
        flags["at"] = ", ".join(flags["at"])
    return flags
