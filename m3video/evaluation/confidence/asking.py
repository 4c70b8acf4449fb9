"""Answers with how likely the model found each of their tokens, and whether they are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from m3video.config import Settings
from m3video.evaluation.records import Record, is_right, prompt_text
from m3video.inference.session import VideoSession
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.prefix import Prefix
from m3video.types import TokenPlan
from m3video.utils.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer.

    Attributes:
        clip: what answers are not independent within.
        family: kind of question.
        budget: visual tokens for the whole video.
        text: the answer.
        logs_A: log-likelihood of each of its tokens, as of `generation.Decoded`.
        odds_A: nats between each and the next likeliest token.
        is_right: whether it is the truth.
    """

    clip: str
    family: str
    budget: int
    text: str
    logs_A: tuple[float, ...]
    odds_A: tuple[float, ...]
    is_right: bool


def ask_all(
    records: Sequence[Record],
    loaded: LoadedModel,
    settings: Settings,
    budgets: Sequence[int],
    *,
    progress: Progress = silent,
) -> list[Judged]:
    """Answer every question at every budget, as `ask` does.

    Args:
        records: questions; those about one video are worked on together.
        loaded: the model.
        settings: of the plans and answers; each budget takes the place of theirs.
        budgets: visual tokens for a whole video.
        progress: draws a bar over the answers.

    Raises:
        VideoError: a video that cannot be read.
        DoesNotFitError: a budget that the model's context cannot hold.
    """
    found: list[Judged] = []
    ordered = sorted(records, key=lambda record: record.video)
    with progress("answer", len(records) * len(budgets)) as bar:
        for video, group in groupby(ordered, key=lambda record: record.video):
            asked = list(group)
            with VideoSession(video, settings, loaded=loaded, keeps_looking=False) as session:
                for budget in budgets:
                    for one in _of_plan(session, session.plan(budget=budget), asked, budget):
                        found.append(one)
                        bar(len(found))
    return found


def _of_plan(session: VideoSession, plan: TokenPlan, asked: Sequence[Record], budget: int) -> Iterator[Judged]:
    visual, _ = session.tokens(plan)
    prefix = Prefix(
        session.loaded,
        visual,
        times_seconds=[plan.video.pts_seconds(frame.pts) for frame in plan.frames],
        shots_seconds=plan.shots_seconds,
    )
    for record in asked:
        answer = prefix.answer(prompt_text(record), max_new_tokens=session.settings.max_new_tokens)
        right = is_right(record, answer.text)
        yield Judged(record.clip, record.family, budget, answer.text, answer.logs_A, answer.odds_A, right)
