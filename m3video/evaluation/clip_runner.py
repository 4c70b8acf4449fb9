"""One clip of a run: each frame is encoded once, each plan read once, whatever methods and questions want it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from m3video.evaluation.asking import Reply, answer_many
from m3video.evaluation.frame_tokens import REDUCTIONS, FrameTokens, encode_frames
from m3video.evaluation.methods import COARSE, Method, ShownFrame, ShownFrames, read_by_answer, tokens_spent
from m3video.evaluation.records import Record, is_right, prompt_text
from m3video.evaluation.run_settings import Reference, RunSettings, tokens_for
from m3video.evaluation.samples import SampleRow
from m3video.evaluation.subtitles import Cue, with_subtitles
from m3video.evaluation.view import ClipView
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack
from m3video.model.m3.saliency import CoarseAttention, QuestionAttention
from m3video.utils.clock import clock, clock_times
from m3video.utils.progress import peak_memory_bytes
from m3video.video.reader import VideoReader


class ClipRunner:
    """One open clip: frames are fetched and encoded when first wanted, plans answered when first made."""

    def __init__(
        self,
        view: ClipView,
        reader: VideoReader,
        loaded: LoadedModel,
        settings: RunSettings,
        cues: Sequence[Cue] = (),
    ) -> None:
        self.view, self.reader, self.loaded, self.settings, self.cues = view, reader, loaded, settings, cues
        self.seconds: dict[str, float] = {"fetch": 0.0, "vision tower": 0.0, "prefill": 0.0, "decode": 0.0}
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
        self.seconds["prefill"] += sum(reply.prefill_seconds for reply in generations)
        self.seconds["decode"] += sum(reply.decode_seconds for reply in generations)
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
        named = refer(record, plan, self.view, self.settings.reference, style=self.loaded.config.prompt_style)
        text = prompt_text(record, named)
        return with_subtitles(text, self.cues, self._clock(plan)) if self.cues else text

    def _clock(self, plan: ShownFrames) -> list[float]:
        """Return when each frame stands, in seconds as players count."""
        info = self.view.info
        return [float(x) for x in clock_times(np.asarray([p.pts for p in plan], np.int64), info.time_base, info.origin)]

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
            "prefill_seconds": generation.prefill_seconds,
            "decode_seconds": generation.decode_seconds,
            **self._evidence(record, plan),
        }

    def _evidence(self, record: Record, plan: ShownFrames) -> SampleRow:
        """Return the share of the evidence's seconds in which a frame is shown, and the tokens spent inside it."""
        if record.evidence is None:
            return {}
        first, last = record.evidence
        shown = [(second, piece) for second, piece in zip(self._clock(plan), plan, strict=True) if piece.how != COARSE]
        inside = [(second, piece.tokens) for second, piece in shown if first <= second <= last]
        steps = max(1, math.ceil(last - first))
        seen = {min(steps - 1, int(second - first)) for second, _ in inside}
        return {"evidence_share": len(seen) / steps, "evidence_tokens": sum(tokens for _, tokens in inside)}

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
