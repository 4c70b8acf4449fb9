"""Summarize a video: chapters, a caption for each under its own budget, then one summary of the captions.

Three steps, so that they can run in different places: `chapters` needs the file but no model; `captions` and `conclude`
need the model but no file.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.inference.first_pass import Wish, analyze_video, scan_notes
from m3video.inference.offload import FrameBatch, Generation, ask_batches, fetch_batch
from m3video.inference.pipeline import open_for, plan_details
from m3video.inference.summary.chapters import TOKENS_PER_SHOT, find_spans
from m3video.inference.summary.reduce import Caption, Line, reduce_lines
from m3video.inference.summary.values import Chapter, Sentence, Summary
from m3video.model.m3.default_model import with_model
from m3video.types import TokenPlan, VideoInfo
from m3video.utils.clock import clock, whole_clock
from m3video.utils.progress import Meter, Progress, silent

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel

SUMMARY_LENGTH = 4
"""A summary may be this many times as long as a caption (`max_new_tokens`)."""

RENDERED_NOTE = (
    "the model rendered answers closed questions and writes no captions: a caption is its answers to two of them for "
    "each shot, and the summary is these captions; --model small writes both"
)
SHOT_NOTE = (
    "the model small describes one shot at a time and does not merge captions: the summary is what it says of each shot"
)
_CLOSED = ("what is shown", "is it day or night")


@dataclass(frozen=True, slots=True, eq=False)
class ChapterFrames:
    """The frames of one chapter that go to the model."""

    start_seconds: float
    end_seconds: float
    shot_pts: tuple[int, ...]
    batch: FrameBatch


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What the summary says of the video itself; known once all chapters are decoded."""

    info: VideoInfo
    warnings: tuple[str, ...]
    stage_seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Captioned:
    """A chapter, the caption that the model generated for it, and its parts with their times.

    `lines` has one part for each shot where shots are described one by one, else the caption as a whole.
    """

    chapter: Chapter
    generated: Caption
    lines: tuple[Line, ...]
    seconds: float


def refuse_ranges(settings: Settings) -> None:
    """Raise UsageError for settings that choose frames by hand: a summary plans every chapter by the same rule."""
    for name in ("start", "end", "fps", "num_frames", "max_gap", "at"):
        if getattr(settings, name) is not None:
            raise UsageError(f"{name} ({getattr(settings, name)}) is for single questions: leave it out of a summary")
    if settings.layout != "frames":
        raise UsageError("layout grid is for single questions: leave it out of a summary")
    if settings.saliency != "off":
        raise UsageError(f"saliency ({settings.saliency}) plans for single questions: leave it out of a summary")


def chapters(
    path: str | Path, settings: Settings, *, progress: Progress = silent, on_frame: Callable[[], object] = int
) -> Iterator[ChapterFrames | VideoFacts]:
    """Yield the frames of a video's chapters one by one, then the facts of the video.

    Args:
        path: a local video file.
        settings: resolved settings; `budget` and `max_frames` are for each chapter.
        progress: draws bars.
        on_frame: called after each full-size frame.

    Raises:
        VideoError: the file is no readable video.
        UsageError: settings that choose frames by hand.
    """
    refuse_ranges(settings)
    meter, notes = Meter(), []
    each = settings.model_copy(update={"every_shot": True, "max_frames": settings.surely_frames})
    with open_for(path, settings) as reader:
        info = reader.info
        with meter.stage("analyze"):
            stats = analyze_video(reader, Wish.of(settings), progress=progress)
        notes += [
            *scan_notes(reader, stats, scan=settings.scan),
            *([reader.damage.message] if reader.damage.message else []),
        ]
        spans = find_spans(
            stats,
            end_pts=info.until_pts,
            most_shots=max(1, min(settings.surely_frames, settings.budget // TOKENS_PER_SHOT)),
        )
        fetching = 0.0
        with progress("chapters", len(spans)) as bar:
            for number, span in enumerate(spans, 1):
                start = time.perf_counter()
                details = plan_details(info, each, stats=span.stats)
                where = f"{clock(span.start_seconds)} - {clock(span.end_seconds)}"
                notes += [f"{where}: {warning}" for warning in details.plan.warnings]
                batch = fetch_batch(reader, details, on_frame=on_frame)
                fetching += time.perf_counter() - start
                yield ChapterFrames(span.start_seconds, span.end_seconds, span.shot_pts, batch)
                bar(number)
    meter.stage_seconds["fetch"] = fetching
    yield VideoFacts(reader.info_with_damage, (*info.notes, *notes), dict(meter.stage_seconds))


def captions(loaded: LoadedModel, found: Sequence[ChapterFrames], settings: Settings) -> list[Captioned]:
    """Caption chapters, of one video or of several, in one run of the model.

    Raises:
        DoesNotFitError: a chapter's tokens and the answer exceed the context.
    """
    start = time.perf_counter()
    asked = [(chapter.batch, partial(_questions, loaded, chapter)) for chapter in found]
    generations = ask_batches(loaded, asked, settings)
    each = (time.perf_counter() - start) / len(found)
    return [_captioned(loaded, *pair, settings, each) for pair in zip(found, generations, strict=True)]


def _captioned(
    loaded: LoadedModel, frames: ChapterFrames, generation: Generation, settings: Settings, seconds: float
) -> Captioned:
    answers = []
    for answer in generation.answers:
        if isinstance(answer, M3VideoError):
            raise answer
        answers.append(answer)
    warnings = tuple(dict.fromkeys(warning for answer in answers for warning in answer.warnings))
    where = f"{clock(frames.start_seconds)} - {clock(frames.end_seconds)}"
    warnings += tuple(f"{where}: {note}" for note in generation.notes)
    if any(answer.answer_tokens >= settings.max_new_tokens for answer in answers):
        warnings += (f"{where}: the caption was cut off at --max-new-tokens ({settings.max_new_tokens})",)
    texts, plan = [answer.text for answer in answers], generation.plan
    lines: tuple[Line, ...] = (Line(frames.start_seconds, frames.end_seconds, _caption(texts), ()),)
    if describes_shots(loaded):
        lines = tuple(shot_lines(frames, plan, texts))
    generated = Caption(
        _timed(lines) if describes_shots(loaded) else lines[0].text,
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.visual_tokens for answer in answers),
        sum(answer.answer_tokens for answer in answers),
        warnings,
    )
    chapter = Chapter(
        frames.start_seconds,
        frames.end_seconds,
        generated.text,
        len(frames.shot_pts) + 1,
        len(plan.frames),
        plan.total_tokens,
    )
    return Captioned(chapter, generated, lines, seconds)


def _questions(loaded: LoadedModel, frames: ChapterFrames, plan: TokenPlan) -> list[str]:
    if describes_shots(loaded):  # each time is written as before its frame
        times = [plan.video.pts_seconds(plan.frames[number].pts) for number in _finest(plan, frames.shot_pts)]
        return [f"What is shown at {clock(round(time, 1))}?" for time in times]
    if not is_captioner(loaded):
        return [
            f"{question} in frame {number + 1}" for number in _finest(plan, frames.shot_pts) for question in _CLOSED
        ]
    return [
        f"This is the part of a longer video from {clock(round(frames.start_seconds))} to "
        f"{clock(round(frames.end_seconds))}. Describe in one or two sentences what is seen and what happens."
    ]


def shot_lines(frames: ChapterFrames, plan: TokenPlan, texts: Sequence[str]) -> list[Line]:
    """Return what was said of each shot with the seconds in which it is seen; equal texts in a row are one line.

    Args:
        frames: the chapter.
        plan: what was shown of it.
        texts: for each shot that is shown, in order.
    """
    edges = [frames.start_seconds, *map(plan.video.pts_seconds, frames.shot_pts), frames.end_seconds]
    lines: list[Line] = []
    for number, text in zip(_finest(plan, frames.shot_pts), texts, strict=True):
        shot = bisect.bisect_right(frames.shot_pts, plan.frames[number].pts)
        if lines and lines[-1].text == text:
            lines[-1] = replace(lines[-1], end_seconds=edges[shot + 1])
        else:
            lines.append(Line(edges[shot], edges[shot + 1], text, ()))
    return lines


def _timed(lines: Sequence[Line]) -> str:
    """Return `0:00 A dog runs. 0:12 A cat sleeps.`"""
    return " ".join(f"{whole_clock(line.start_seconds)} {line.text}" for line in lines if line.text)


def _finest(plan: TokenPlan, shot_pts: Sequence[int]) -> list[int]:
    """Return the number of the frame with the most tokens in each shot, in order.

    The shots are those of the whole video: a part of it alone might be divided otherwise.
    """
    best: dict[int, int] = {}
    for number, frame in enumerate(plan.frames):
        shot = bisect.bisect_right(shot_pts, frame.pts)
        if frame.scale > plan.frames[best.setdefault(shot, number)].scale:
            best[shot] = number
    return list(best.values())


def _caption(texts: Sequence[str]) -> str:
    """Join the answers about each shot; equal ones in a row appear once."""
    shots = (", ".join(texts[first : first + len(_CLOSED)]) for first in range(0, len(texts), len(_CLOSED)))
    return "; ".join(text for text, _ in itertools.groupby(shots))


def is_captioner(loaded: LoadedModel) -> bool:
    """Return whether the model describes several shots and merges texts; `rendered` only answers closed questions."""
    return loaded.config.prompt_style not in ("rendered", "chatml")


def describes_shots(loaded: LoadedModel) -> bool:
    """Return whether the model is `small` or trained like it: one sentence about one shot is what it can write."""
    return loaded.config.prompt_style == "chatml"


def conclude(loaded: LoadedModel, facts: VideoFacts, captioned: Sequence[Captioned], settings: Settings) -> Summary:
    """Merge the captions into a summary.

    Raises:
        DoesNotFitError: not even two captions fit in the context.
    """
    start = time.perf_counter()
    lines = [
        replace(line, chapters=(number,))
        for number, part in enumerate(captioned, 1)
        for line in part.lines
        if line.text
    ]
    generated = [part.generated for part in captioned]
    notes: tuple[str, ...] = loaded.warnings
    if is_captioner(loaded):
        model = _TextModel(loaded, settings)
        reduced = reduce_lines(lines, generate=model.generate, fits=model.fits)
        sentences, depth = reduced.sentences, reduced.depth
        generated += reduced.generated
    else:
        sentences = [Sentence(s.text, s.start_seconds, s.end_seconds, s.chapters, True) for s in lines]
        depth, notes = 0, (*notes, SHOT_NOTE if describes_shots(loaded) else RENDERED_NOTE)
    notes += tuple(dict.fromkeys(warning for one in generated for warning in one.warnings))
    if not sentences:
        notes += (f"{loaded.name} generated no text",)
    return Summary(
        video=facts.info.path,
        model=loaded.name,
        chapters=tuple(part.chapter for part in captioned),
        sentences=tuple(sentences),
        depth=depth,
        tokens={
            "visual": sum(one.visual_tokens for one in generated),
            "prompt": sum(one.prompt_tokens for one in generated),
            "answer": sum(one.answer_tokens for one in generated),
        },
        stage_seconds={
            **facts.stage_seconds,
            "captions": sum(part.seconds for part in captioned),
            "summary": time.perf_counter() - start,
        },
        warnings=(*facts.warnings, *notes),
        config=settings.model_dump(),
        partial=facts.info.partial,
    )


class _TextModel:
    """The model on prompts without frames."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self.loaded, self.most = loaded, SUMMARY_LENGTH * settings.max_new_tokens

    def generate(self, text: str) -> Caption:
        from m3video.model.m3.answer import answer_prompt

        answer = answer_prompt(self.loaded, self._prompt(text), [], max_new_tokens=self.most)
        cut = () if answer.answer_tokens < self.most else (f"the summary was cut off at {self.most} tokens",)
        return Caption(answer.text, answer.prompt_tokens, 0, answer.answer_tokens, (*answer.warnings, *cut))

    def fits(self, text: str) -> bool:
        from m3video.model.tokenizer import prompt_ids

        return len(prompt_ids(self.loaded.codec, self._prompt(text))) + self.most <= self.loaded.context

    def _prompt(self, text: str) -> str:
        from m3video.model.m3.prompt import build_prompt

        # A caption is generated text: an image mark in it would stand for a frame.
        clean = text.replace("<image>", "")
        return build_prompt(self.loaded.config.prompt_style, clean, num_frames=0, times_seconds=None)


def summarize(
    path: str | Path, settings: Settings, *, loaded: LoadedModel | None = None, progress: Progress = silent
) -> Summary:
    """Divide a video into chapters, caption them, and merge the captions into one summary.

    Args:
        path: a local video file.
        settings: resolved settings; `budget`, `max_frames` and `max_new_tokens` are for each chapter.
        loaded: a model that is already in memory; else `settings.model` is loaded.
        progress: draws bars.

    Raises:
        VideoError: the file is no readable video.
        UsageError: settings that choose frames by hand.
        DoesNotFitError: a chapter, or two captions, exceed the model's context.
    """
    from m3video.model.m3 import checkpoint

    refuse_ranges(settings)
    settings, decided = with_model(settings, loaded=None if loaded is None else loaded.name)
    captioned: list[Captioned] = []
    for part in chapters(path, settings, progress=progress):
        if isinstance(part, VideoFacts):
            assert loaded is not None
            made = conclude(loaded, part, captioned, settings)
            return replace(made, warnings=tuple(dict.fromkeys((*decided.notes, *made.warnings))))
        loaded = loaded or checkpoint.load_for(settings)
        captioned += captions(loaded, [part], settings)
    raise AssertionError("chapters yields the facts last")
