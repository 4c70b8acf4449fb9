"""The one loop of every benchmark: for each clip the frames are decoded and encoded once, then every method, budget
and question reads them.

Methods that decide alike (the same frames with the same tokens) are answered once and share the answer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch

from m3video.config import Settings
from m3video.errors import EXIT_INTERRUPTED, M3VideoError
from m3video.evaluation.asking import Reply, answer_many
from m3video.evaluation.frame_tokens import REDUCTIONS, FrameTokens, encode_frames
from m3video.evaluation.methods import COARSE, Method, ShownFrame, ShownFrames, read_by_answer, tokens_spent
from m3video.evaluation.records import Record, is_right, prompt_text
from m3video.evaluation.samples import RunFolder, SampleRow
from m3video.evaluation.view import ClipView
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack
from m3video.model.m3.saliency import CoarseAttention, QuestionAttention
from m3video.types import VideoInfo
from m3video.utils.clock import clock
from m3video.utils.progress import Progress, peak_memory_bytes, silent
from m3video.video.reader import VideoReader

Reference = Literal["shot", "nearest", "asked"]
"""How a question names its moment to the model. "shot": as the frame with most tokens in the detected shot around the
moment, else the nearest frame. "nearest": as the nearest frame. "asked": in the question's own words."""


class InterruptedRunError(M3VideoError):
    """Ctrl-C; the answers so far stay in the run folder."""

    exit_code = EXIT_INTERRUPTED


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What one run does. Budgets and methods may grow from run to run in one folder, the rest may not change.

    `budgets` are visual tokens for a whole video, or for each second of it when `per_second`.
    """

    methods: tuple[Method, ...]
    budgets: tuple[int, ...]
    max_frames: int
    per_second: bool = False
    reference: Reference = "shot"
    max_new_tokens: int = 32
    vision_batch: int = 16


MethodBudget = tuple[Method, int]


def method_budgets(settings: RunSettings) -> list[MethodBudget]:
    """Return every method with every budget; a method without one counts as budget 0."""
    return [
        (method, budget)
        for method in settings.methods
        for budget in (sorted(set(settings.budgets)) if method.has_budget else (0,))
    ]


def identity(loaded: LoadedModel, records: Sequence[Record], settings: RunSettings) -> dict[str, Any]:
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
    }


def tokens_for(budget: int, info: VideoInfo, settings: RunSettings) -> int:
    """Return the visual tokens that `budget` means for one video; 0 for methods without a budget."""
    return max(1, round(budget * info.duration_seconds)) if settings.per_second and budget else budget


def weights_hash(loaded: LoadedModel) -> str:
    """Hash the sizes and a sample of every parameter: tells checkpoints apart without reading 14 GB."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(loaded.model.state_dict().items()):
        flat = value.reshape(-1)
        picked = flat[:: max(1, flat.numel() // 256)].float().cpu().numpy()
        digest.update(f"{name} {tuple(value.shape)}".encode() + picked.tobytes())
    return digest.hexdigest()


def run_evaluation(
    records: Sequence[Record], loaded: LoadedModel, settings: RunSettings, out: Path, *, progress: Progress = silent
) -> RunFolder:
    """Answer every record with every method and budget, resuming from an earlier run in `out`.

    Args:
        records: questions; those about one video are worked on together.
        loaded: the model.
        settings: methods, budgets, and how questions are put.
        out: folder of the run.
        progress: draws a bar over the answers.

    Returns:
        The folder, complete.

    Raises:
        InterruptedRunError: Ctrl-C.
        UsageError: `out` holds answers made with something else.
        DoesNotFitError: a budget that the model's context cannot hold.
        VideoError: a video that cannot be read.
    """
    todo = method_budgets(settings)
    _check_context(records, loaded, settings)
    folder = RunFolder(out, identity(loaded, records, settings))
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
                    for _ in _run_clip(video, asked, missing, loaded, settings, folder):
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
) -> Iterable[None]:
    """Answer everything that is missing about one video; yields after each method and budget."""
    moments = [record.moment for record in asked if record.moment is not None]
    with open_for(video, Settings()) as reader:
        start = time.perf_counter()
        stats = analyze_video(reader)
        view = ClipView(reader.info, stats, max_frames=settings.max_frames, model=loaded.name, moments=moments)
        clip = ClipRunner(view, reader, loaded, settings)
        clip.seconds["analyze"] = time.perf_counter() - start
        try:
            for (method, budget), records in missing:
                rows = clip.answer(method, budget, records)
                for name, plan in clip.new_plans():
                    folder.add_plan(name, plan)
                folder.add_samples(rows)
                yield
        finally:
            folder.add_clip({"clip": asked[0].clip, "video_seconds": reader.info.duration_seconds, **clip.cost()})


class ClipRunner:
    """One open clip: frames are fetched and encoded when first wanted, plans answered when first made."""

    def __init__(self, view: ClipView, reader: VideoReader, loaded: LoadedModel, settings: RunSettings) -> None:
        self.view, self.reader, self.loaded, self.settings = view, reader, loaded, settings
        self.seconds: dict[str, float] = {"fetch": 0.0, "vision tower": 0.0, "answer": 0.0}
        self.frames: dict[int, FrameTokens] = {}
        self._answers: dict[tuple[ShownFrames, str], tuple[Reply, float]] = {}
        self._plan_names: dict[ShownFrames, str] = {}
        self._new: list[tuple[str, ShownFrames]] = []
        self._coarse: tuple[ShownFrames, CoarseAttention] | None = None
        view.attend = self.attend

    def answer(self, method: Method, budget: int, records: Sequence[Record]) -> list[SampleRow]:
        """Return rows for `records`, in order."""
        start = time.perf_counter()
        tokens = tokens_for(budget, self.view.info, self.settings)
        if method.is_of_question:
            plans = [method.plan(self.view, tokens, record) for record in records]
        else:
            plans = [method.plan(self.view, tokens, records[0])] * len(records)
        plan_seconds = (time.perf_counter() - start) / len(records)
        for plan in set(plans):
            assert not method.has_budget or tokens_spent(plan) <= tokens, (
                f"{method.name} spends {tokens_spent(plan)} of {tokens}"
            )
            if plan:
                self._ask(plan, [r for r, own in zip(records, plans, strict=True) if own == plan])
        return [
            self._row(method, budget, record, plan, plan_seconds) for record, plan in zip(records, plans, strict=True)
        ]

    def attend(self, record: Record, pts: Sequence[int], scales: Sequence[int]) -> QuestionAttention:
        """Return the attention of a question over frames that the model reads coarsely."""
        plan = tuple(ShownFrame(p, "pool", scale) for p, scale in zip(pts, scales, strict=True))
        if self._coarse is None or self._coarse[0] != plan:
            self._encode(pts)
            visual = pack(torch.stack([self.frames[p].grid_SD for p in pts]), scales)
            self._coarse = plan, CoarseAttention(self.loaded, visual, times_seconds=self.view.seconds(pts))
        return self._coarse[1].attend(self.worded(record, plan))

    def _ask(self, plan: ShownFrames, records: Sequence[Record]) -> None:
        """Answer the questions that have no answer yet for the frames of this plan."""
        plan = read_by_answer(plan)
        questions = {r.id: self.worded(r, plan) for r in records}
        open_ids = [name for name, text in questions.items() if (plan, text) not in self._answers]
        if not open_ids:
            return
        self._encode([piece.pts for piece in plan])
        start = time.perf_counter()
        tokens = [REDUCTIONS[piece.how](self.frames[piece.pts], piece.tokens) for piece in plan]
        texts = list(dict.fromkeys(questions[name] for name in open_ids))
        generations = answer_many(
            self.loaded,
            tokens,
            texts,
            times_seconds=self.view.seconds(piece.pts for piece in plan),
            max_new_tokens=self.settings.max_new_tokens,
        )
        passed = time.perf_counter() - start
        self.seconds["answer"] += passed
        for text, answer in zip(texts, generations, strict=True):
            self._answers[plan, text] = (answer, passed / len(texts))

    def _encode(self, pts: Iterable[int]) -> None:
        new = sorted(set(pts) - self.frames.keys())
        if not new:
            return
        start = time.perf_counter()
        pictures = [frame.rgb_HW3 for frame in self.reader.fetch(new)]
        fetched = time.perf_counter()
        encoded = encode_frames(self.loaded, pictures, vision_batch=self.settings.vision_batch)
        self.seconds["fetch"] += fetched - start
        self.seconds["vision tower"] += time.perf_counter() - fetched
        self.frames |= dict(zip(new, encoded, strict=True))

    def worded(self, record: Record, plan: ShownFrames) -> str:
        """Return the prompt's question, its moment named as `reference` says and in the way of this model's prompt."""
        return prompt_text(
            record, refer(record, plan, self.view, self.settings.reference, style=self.loaded.config.prompt_style)
        )

    def _row(self, method: Method, budget: int, record: Record, plan: ShownFrames, plan_seconds: float) -> SampleRow:
        row: SampleRow = {
            "doc_id": record.id,
            "doc_hash": record.hash,
            "clip": record.clip,
            "method": method.name,
            "shown_as": method.family,
            "budget": budget,
            "family": record.family,
            "group": record.group,
            "localised": record.localised,
            "target": record.answer,
        }
        if not plan:
            return {**row, "skipped": "the budget holds no frame"}
        text = self.worded(record, read_by_answer(plan))
        generation, seconds = self._answers[read_by_answer(plan), text]
        visual = generation.visual_tokens + sum(piece.tokens for piece in plan if piece.how == COARSE)
        return {
            **row,
            "input": text,
            "filtered_resps": [generation.text],
            "acc": float(is_right(record, generation.text)),
            "token_counts": {
                "input_tokens": visual + generation.text_tokens,
                "output_tokens": generation.answer_tokens,
                "visual_tokens": visual,
                "text_tokens": generation.text_tokens,
            },
            "frames": len(read_by_answer(plan)),
            "plan": self._name(plan),
            "plan_seconds": plan_seconds,
            "answer_seconds": seconds,
        }

    def _name(self, plan: ShownFrames) -> str:
        if plan not in self._plan_names:
            words = f"{self.view.info.fingerprint} {[tuple(piece) for piece in plan]}"
            self._plan_names[plan] = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
            self._new.append((self._plan_names[plan], plan))
        return self._plan_names[plan]

    def new_plans(self) -> list[tuple[str, ShownFrames]]:
        """Return the plans named since the last call."""
        new, self._new = self._new, []
        return new

    def cost(self) -> Mapping[str, Any]:
        """Return the seconds of each stage, the frames encoded, and the process's peak memory."""
        return {
            "stage_seconds": self.seconds,
            "frames_encoded": len(self.frames),
            "peak_memory_bytes": peak_memory_bytes(),
        }


def refer(record: Record, plan: ShownFrames, view: ClipView, reference: Reference, *, style: str) -> str:
    """Return the question with its moment named as a shown frame: no method is asked about a frame it did not show.

    The rule knows the moment that the question names and what a method shows, never the answer.
    """
    if reference == "asked" or not record.reference or record.moment is None:
        return record.question
    near = view.nearest(record.moment, among=[piece.pts for piece in plan])
    if reference == "shot":
        shot = view.shot_of(view.nearest(record.moment))
        inside = [piece for piece in plan if view.shot_of(piece.pts) == shot]
        if inside:
            most = max(piece.tokens for piece in inside)
            near = view.nearest(record.moment, among=[piece.pts for piece in inside if piece.tokens == most])
    if style == "rendered":
        name = f"in frame {[piece.pts for piece in plan].index(near) + 1}"
    else:
        name = f"at {clock(round(view.info.pts_seconds(near), 1))}"
    return record.question.replace(record.reference, name)
