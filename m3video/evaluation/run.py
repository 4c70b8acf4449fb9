"""The one loop of every benchmark: for each clip the frames are decoded and encoded once, then every method, budget
and question reads them.

Methods that decide alike (the same frames with the same tokens) are answered once and share the answer. What fails is
kept by name, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from m3video.config import Settings
from m3video.errors import EXIT_INTERRUPTED, M3VideoError
from m3video.evaluation.clip_runner import ClipRunner
from m3video.evaluation.deadline import DeadlineError, deadline
from m3video.evaluation.records import Record, prompt_text
from m3video.evaluation.run_settings import MethodBudget, RunSettings, method_budgets, tokens_for
from m3video.evaluation.samples import RunFolder
from m3video.evaluation.subtitles import Cue
from m3video.evaluation.view import ClipView
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.utils.progress import Progress, silent
from m3video.utils.text import first_line


class InterruptedRunError(M3VideoError):
    """Ctrl-C; the answers so far stay in the run folder."""

    exit_code = EXIT_INTERRUPTED


Subtitles = Mapping[str, Sequence[Cue]]
"""Video -> its cues."""


def identity(
    loaded: LoadedModel, records: Sequence[Record], settings: RunSettings, subtitles: Subtitles | None = None
) -> dict[str, Any]:
    """Return what all answers in one folder must share."""
    # Footage is named by its content: other pictures under the same questions must not mix.
    words = "".join(f"{record.hash} {Path(record.video).name}\n" for record in records)
    questions = hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
    return {
        "model": loaded.name,
        "weights": weights_hash(loaded),
        "dtype": str(loaded.model.dtype),
        "questions": questions,
        "num_questions": len(records),
        "max_frames": settings.max_frames,
        "reference": settings.reference,
        "max_new_tokens": settings.max_new_tokens,
        "per_second": settings.per_second,
        "subtitles": _hash_of({Path(video).name: cues for video, cues in (subtitles or {}).items()}),
    }


def _hash_of(value: Any) -> str | None:
    words = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(words, digest_size=16).hexdigest() if value else None


def weights_hash(loaded: LoadedModel) -> str:
    """Hash the sizes and a sample of every parameter: tells checkpoints apart without reading 14 GB."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(loaded.model.state_dict().items()):
        flat = value.reshape(-1)
        picked = flat[:: max(1, flat.numel() // 256)].float().cpu().numpy()
        digest.update(f"{name} {tuple(value.shape)}".encode() + picked.tobytes())
    return digest.hexdigest()


def run_evaluation(
    records: Sequence[Record],
    loaded: LoadedModel,
    settings: RunSettings,
    out: Path,
    *,
    subtitles: Subtitles | None = None,
    progress: Progress = silent,
) -> RunFolder:
    """Answer every record with every method and budget, resuming from an earlier run in `out`.

    A video, or a question, that fails for a reason that a user can mend is kept in `failures.jsonl` and tried again by
    the next run; the others go on.

    Args:
        records: questions; those about one video are worked on together.
        loaded: the model.
        settings: methods, budgets, and how questions are put.
        out: folder of the run.
        subtitles: video -> cues; those of the shown frames stand before the question.
        progress: draws a bar over the answers.

    Returns:
        The folder, complete but for what failed.

    Raises:
        InterruptedRunError: Ctrl-C.
        UsageError: `out` holds answers made with something else.
        DoesNotFitError: a budget that the model's context cannot hold.
    """
    todo = method_budgets(settings)
    _check_context(records, loaded, settings)
    folder = RunFolder(out, identity(loaded, records, settings, subtitles))
    folder.forget_failures()
    total = len(todo) * len(records)
    ordered = sorted(records, key=lambda record: record.video)
    wanted = {(method.name, budget, record.id) for method, budget in todo for record in records}
    try:
        with progress("evaluate", total) as bar:
            bar(len(folder.done & wanted))
            for video, group in groupby(ordered, key=lambda record: record.video):
                asked = list(group)
                missing = [
                    (job, open_)
                    for job in todo
                    if (open_ := [r for r in asked if (job[0].name, job[1], r.id) not in folder.done])
                ]
                if missing:
                    cues = (subtitles or {}).get(video, ())
                    for _ in _run_clip(video, asked, missing, loaded, settings, folder, cues):
                        bar(len(folder.done & wanted))
    except KeyboardInterrupt:
        done = len(folder.done & wanted)
        raise InterruptedRunError(
            f"interrupted: {done} of {total} answers are in {out}; the same command goes on from there"
        ) from None
    return folder


def _check_context(records: Sequence[Record], loaded: LoadedModel, settings: RunSettings) -> None:
    """Refuse, before anything runs, a budget that the context cannot hold beside all frames' times and a question."""
    budgets = [budget for method, budget in method_budgets(settings) if method.has_budget]
    if not budgets:
        return
    most = max(budgets)
    if settings.per_second:
        for video in {record.video for record in records}:
            with open_for(video, Settings()) as reader:
                most = max(most, tokens_for(max(budgets), reader.info, settings))
    longest = max((prompt_text(record) for record in records), key=len)
    text = inputs.text_tokens(loaded, longest, num_frames=min(settings.max_frames, most))
    inputs.refuse_beyond(loaded, visual=most, text=text, answer=settings.max_new_tokens)


def _run_clip(
    video: str,
    asked: Sequence[Record],
    missing: Sequence[tuple[MethodBudget, list[Record]]],
    loaded: LoadedModel,
    settings: RunSettings,
    folder: RunFolder,
    cues: Sequence[Cue],
) -> Iterable[None]:
    """Answer everything that is missing about one video; yields after each method and budget."""
    moments = [record.moment for record in asked if record.moment is not None]
    everything = [(job, record) for job, records in missing for record in records]
    try:
        reader = open_for(video, Settings())
    except M3VideoError as error:
        _fail(folder, everything, error)
        return
    with reader:
        start = time.perf_counter()
        try:
            with deadline(settings.deadline, f"the first pass over {Path(video).name}"):
                stats = analyze_video(reader)
        except M3VideoError as error:
            _fail(folder, everything, error)
            return
        view = ClipView(reader.info, stats, max_frames=settings.max_frames, model=loaded.name, moments=moments)
        clip = ClipRunner(view, reader, loaded, settings, cues)
        clip.seconds["analyze"] = time.perf_counter() - start
        try:
            for job, records in missing:
                _answer(clip, job, records, folder)
                yield
        finally:
            folder.add_clip({"clip": asked[0].clip, "video_seconds": reader.info.duration_seconds, **clip.cost()})


def _answer(clip: ClipRunner, job: MethodBudget, records: Sequence[Record], folder: RunFolder) -> None:
    """Answer questions together; where that fails and they are several, one by one."""
    method, budget = job
    try:
        with deadline(clip.settings.deadline, f"{method.name} at {budget}"):
            rows = clip.answer(method, budget, records)
    except M3VideoError as error:
        if len(records) == 1 or isinstance(error, DeadlineError):
            _fail(folder, [(job, record) for record in records], error)
            return
        for record in records:
            _answer(clip, job, [record], folder)
        return
    for name, plan in clip.new_plans():
        folder.add_plan(name, plan)
    folder.add_samples(rows)


def _fail(folder: RunFolder, what: Sequence[tuple[MethodBudget, Record]], error: M3VideoError) -> None:
    folder.add_failures(
        [
            {"method": method.name, "budget": budget, "doc_id": record.id, "error": first_line(error)}
            for (method, budget), record in what
        ]
    )
