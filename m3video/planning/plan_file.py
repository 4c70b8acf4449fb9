"""A token plan as JSON, `m3video.plan/2`: integers are authoritative, seconds are for readers.

A plan file is validated strictly. It may have been edited by hand, and a plan that shows other frames than it says is
worse than none. In files of `m3video.plan/1` seconds count from pts 0, not from the start of the earliest stream: they
are read as such, and `for_video` converts them to the clock of the file.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from m3video.config import parse_pins, pins_text
from m3video.errors import PlanError
from m3video.types import Focus, PlannedFrame, TokenPlan, VideoInfo, gap_between
from m3video.utils.clock import FROM_ZERO
from m3video.utils.files import replacing
from m3video.utils.text import each_key_once, printable, read_text

SCHEMA, PREVIOUS_SCHEMA = "m3video.plan/2", "m3video.plan/1"


def to_json(plan: TokenPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    video = asdict(plan.video)
    backend = video.pop("backend")
    video["notes"] = list(plan.video.notes)
    video["time_base"], video["origin"] = list(plan.video.time_base), list(plan.video.origin)
    return {
        "schema": SCHEMA,
        "video": video,
        "backend": backend,
        "budget": plan.budget,
        "total_tokens": plan.total_tokens,
        "utility": plan.utility,
        "bound": plan.bound,
        "gap": plan.gap,
        "method": plan.method,
        "text_tokens": plan.text_tokens,
        "scan": plan.scan,
        "num_analyzed": plan.num_analyzed,
        "num_candidates": plan.num_candidates,
        "num_repeats": plan.num_repeats,
        "candidates_why": plan.candidates_why,
        "estimate": plan.estimate,
        "config": dict(plan.config),
        "warnings": list(plan.warnings),
        "focus": _focus_json(plan.focus),
        "shots": [list(shot) for shot in plan.shots],
        "frames": [
            {
                "pts": frame.pts,
                "pts_seconds": round(plan.video.pts_seconds(frame.pts), 6),
                "scale": frame.scale,
                "shot": frame.shot,
                "reason": frame.reason,
            }
            for frame in plan.frames
        ],
    }


def from_json(data: Any) -> TokenPlan:
    """Read a plan from the JSON values of `to_json`, or of a file of `m3video.plan/1`.

    Raises:
        PlanError: another schema, a field that is missing, of the wrong kind, or contradicts another, or the plan of
            an image grid, which cannot be replayed.
    """
    top = _FieldReader(data, "plan")
    schema = top.take("schema", str)
    if schema not in (SCHEMA, PREVIOUS_SCHEMA):
        raise PlanError(f"plan schema ({schema}) is not {SCHEMA}: write the plan again with this version of m3video")
    video = _video(top.take("video", dict), top.take("backend", str), has_origin=schema == SCHEMA)
    shots = _shots(top.take("shots", list))
    frames = tuple(_frame(item, i, video, len(shots)) for i, item in enumerate(top.take("frames", list)))
    total, config = top.take("total_tokens", int), top.take("config", dict)
    if schema == PREVIOUS_SCHEMA and isinstance(config.get("at"), str):
        # In that schema a comma always separated two times, also where it can now be a decimal sign.
        config["at"] = ", ".join(part.strip() for part in config["at"].split(","))
    if config.get("layout") == "grid":
        raise PlanError("the plan of an image grid cannot be replayed: ask with --layout grid again")
    spent = sum(frame.scale for frame in frames)
    if total != spent:
        raise PlanError(f"plan.total_tokens ({total}) is not the sum of the frames' scales ({spent})")
    utility, bound = top.take("utility", float), top.take("bound", float)
    # Older plans lack these fields.
    stated = top.take("gap", float) if "gap" in top.left else gap_between(utility, bound)
    if abs(stated - gap_between(utility, bound)) > 1e-9:
        raise PlanError(f"plan.gap ({stated:g}) is not that of its utility and bound ({gap_between(utility, bound):g})")
    method = top.take("method", str) if "method" in top.left else ""
    text_tokens = top.take("text_tokens", int, optional=True) if "text_tokens" in top.left else None
    scan = top.take("scan", str) if "scan" in top.left else "full"
    if config.get("scan", scan) not in (scan, "auto"):
        raise PlanError(f"plan.scan ({scan}) is not that of its config ({_kind(config['scan'])})")
    estimate = top.take("estimate", str) if "estimate" in top.left else ""
    num_analyzed = top.take("num_analyzed", int, optional=True) if "num_analyzed" in top.left else None
    num_repeats = top.take("num_repeats", int, optional=True) if "num_repeats" in top.left else None
    candidates_why = top.take("candidates_why", str) if "candidates_why" in top.left else ""
    focus = _focus(top.take("focus", dict, optional=True)) if "focus" in top.left else None
    plan: TokenPlan = _build(
        TokenPlan,
        "plan",
        video=video,
        budget=top.take("budget", int),
        frames=frames,
        utility=utility,
        bound=bound,
        method=method,
        text_tokens=text_tokens,
        num_candidates=top.take("num_candidates", int),
        shots=shots,
        scan=scan,
        num_analyzed=num_analyzed,
        estimate=estimate,
        focus=focus,
        config=config,
        num_repeats=num_repeats,
        candidates_why=candidates_why,
        warnings=_texts(top.take("warnings", list), "plan.warnings"),
    )
    top.finish()
    return plan


def _focus_json(focus: Focus | None) -> dict[str, Any] | None:
    if focus is None:
        return None
    weights = [{"pts": pts, "share": share} for pts, share in focus.weights]
    return {
        "question": focus.question,
        "measure": focus.measure,
        "first_tokens": focus.first_tokens,
        "weights": weights,
    }


def _focus(data: dict[str, Any] | None) -> Focus | None:
    if data is None:
        return None
    reader = _FieldReader(data, "plan.focus")
    values = {
        field: reader.take(field, kind) for field, kind in (("question", str), ("measure", str), ("first_tokens", int))
    }
    weights = []
    for i, item in enumerate(reader.take("weights", list)):
        weight = _FieldReader(item, f"plan.focus.weights[{i}]")
        weights.append((weight.take("pts", int), weight.take("share", float)))
        weight.finish()
    reader.finish()
    focus: Focus = _build(Focus, "plan.focus", weights=tuple(weights), **values)
    return focus


def save_plan(plan: TokenPlan, path: str | Path) -> None:
    """Write the plan, atomically.

    Raises:
        PlanError: the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(to_json(plan), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with replacing(path) as part:
            # A file name that is not UTF-8 contains lone surrogates, for which JSON has the same escapes.
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    except BrokenPipeError:
        raise  # stdout without a reader is no error
    except OSError as error:
        raise PlanError(f"plan file {path} cannot be written: {error.strerror}") from None


def load_plan(path: str | Path) -> TokenPlan:
    """Read a plan file.

    Raises:
        PlanError: the file cannot be read, is not JSON, or holds no valid plan; one line that names the field.
    """
    try:
        data = json.loads(read_text(Path(path)), object_pairs_hook=each_key_once)
    except OSError as error:
        raise PlanError(f"plan file {printable(path)} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PlanError(f"plan file {printable(path)} is not JSON: {' '.join(str(error).split())}") from None
    try:
        return from_json(data)
    except PlanError as error:
        raise PlanError(f"plan file {printable(path)}: {' '.join(str(error).split())}") from None


def check_matches(plan: TokenPlan, info: VideoInfo) -> None:
    """Check that a plan was made for this video.

    Raises:
        PlanError: the content fingerprints differ, or the plan counts time in other ticks than the file.
    """
    if plan.video.fingerprint != info.fingerprint:
        raise PlanError(
            f"the plan was made for {plan.video.path}, and the content of {info.path} is not the same: plan it anew"
        )
    if plan.video.time_base != info.time_base:
        stated, true = (f"{base[0]}/{base[1]}" for base in (plan.video.time_base, info.time_base))
        raise PlanError(f"the plan counts time in ticks of {stated} s, but those of {info.path} are {true} s")


def for_video(plan: TokenPlan, info: VideoInfo) -> TokenPlan:
    """Return the plan for this file, on its clock.

    Frames and shots stay. Where the plan counted seconds from another origin, as plans of `m3video.plan/1` did, the
    seconds of its settings are shifted, and a warning says so.

    Raises:
        PlanError: as for `check_matches`.
    """
    check_matches(plan, info)
    shift = float(Fraction(*info.origin) - Fraction(*plan.video.origin))
    if shift == 0:
        return plan
    config = dict(plan.config)
    for name in ("start", "end"):
        if isinstance(config.get(name), float):
            config[name] -= shift
    if isinstance(config.get("at"), str):
        with contextlib.suppress(ValueError):  # it may have been edited by hand
            config["at"] = pins_text((time - shift, scale) for time, scale in parse_pins(config["at"]))
    note = (
        f"the plan was written by another clock: as players count, its frames are {abs(shift):.3f} s "
        f"{'earlier' if shift > 0 else 'later'} than it says; they are the same frames"
    )
    return replace(plan, video=replace(plan.video, origin=info.origin), config=config, warnings=(*plan.warnings, note))


class _FieldReader:
    """A reader that takes fields out of a JSON object, checks each, and accepts no others."""

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, dict):
            raise PlanError(f"{name} must be a JSON object, not {_kind(data)}")
        self.left, self.name = dict(data), name

    def take(self, field: str, kind: type, *, optional: bool = False) -> Any:
        """Remove a field and return its value, checked to be of `kind`."""
        if field not in self.left:
            raise PlanError(f"{self.name}.{field} is missing")
        return _checked(self.left.pop(field), kind, f"{self.name}.{field}", optional=optional)

    def finish(self) -> None:
        """Check that no field is left."""
        if self.left:
            raise PlanError(f"{self.name}.{min(self.left)} is not a field of {SCHEMA}")


def _checked(value: Any, kind: type, name: str, *, optional: bool = False) -> Any:
    if optional and value is None:
        return None
    if isinstance(value, int) and abs(value) >= 2**63:
        raise PlanError(f"{name} ({_kind(value)}) must fit in 64 bits")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PlanError(f"{name} must be {_NAMES[kind]}, not {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise PlanError(f"{name} ({value}) must be a finite number")
    return value


_NAMES: Mapping[type, str] = {int: "an integer", float: "a number", str: "a text", list: "a list", dict: "an object"}


def _kind(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _frame(item: Any, index: int, video: VideoInfo, num_shots: int) -> PlannedFrame:
    name = f"plan.frames[{index}]"
    reader = _FieldReader(item, name)
    stated = reader.take("pts_seconds", float) if "pts_seconds" in reader.left else None
    values = {
        field: reader.take(field, kind)
        for field, kind in (("pts", int), ("scale", int), ("shot", int), ("reason", str))
    }
    reader.finish()
    frame: PlannedFrame = _build(PlannedFrame, name, **values)
    if not video.start_pts <= frame.pts <= video.end_pts:
        raise PlanError(f"{name}.pts ({frame.pts}) is outside the video, {video.start_pts} to {video.end_pts}")
    true = video.pts_seconds(frame.pts)
    # Seconds are for readers, but a plan in which only they were edited would show other frames than it says.
    if stated is not None and abs(stated - true) > 1e-6 * max(1.0, abs(true)):
        raise PlanError(f"{name}.pts_seconds ({stated:g}) is not the time of its pts ({true:.6f}): edit pts as well")
    if not 0 <= frame.shot < num_shots:
        raise PlanError(f"{name}.shot ({frame.shot}) must be one of the plan's {num_shots} shots, counted from 0")
    return frame


def _video(data: Any, backend: str, *, has_origin: bool) -> VideoInfo:
    reader = _FieldReader(data, "plan.video")
    values: dict[str, Any] = {"backend": backend, "origin": FROM_ZERO}
    for field in fields(VideoInfo):
        if field.name == "backend" or (field.name == "origin" and not has_origin):
            continue
        if field.name in ("time_base", "origin"):
            values[field.name] = _pair(reader.take(field.name, list), f"plan.video.{field.name}")
        elif field.name == "notes":
            values["notes"] = _texts(reader.take("notes", list), "plan.video.notes")
        elif field.name == "partial":
            values["partial"] = _flag(reader.left.pop("partial", False), "plan.video.partial")
        else:
            kind = next(k for n, k in (("str", str), ("int", int), ("float", float)) if str(field.type).startswith(n))
            values[field.name] = reader.take(field.name, kind, optional="None" in str(field.type))
    reader.finish()
    return _build(VideoInfo, "plan.video", **values)


def _shots(items: list[Any]) -> tuple[tuple[int, int], ...]:
    return tuple(_pair(item, f"plan.shots[{i}]") for i, item in enumerate(items))


def _pair(item: Any, name: str) -> tuple[int, int]:
    if not isinstance(item, list) or len(item) != 2:
        raise PlanError(f"{name} must be a list of two integers, not {_kind(item)}")
    return _checked(item[0], int, name), _checked(item[1], int, name)


def _texts(items: list[Any], name: str) -> tuple[str, ...]:
    return tuple(_checked(item, str, f"{name}[{i}]") for i, item in enumerate(items))


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{name} must be true or false, not {_kind(value)}")
    return value


def _build(kind: Any, name: str, **values: Any) -> Any:
    """Make a value of `kind`; what it rejects is an error of the file."""
    try:
        return kind(**values)
    except ValueError as error:
        raise PlanError(f"{name}: {error}") from None
