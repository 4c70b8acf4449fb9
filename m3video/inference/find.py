"""Where in a video something is seen: the model is asked about single frames, at few tokens each.

    candidates -> yes or no? -> frames between a yes and a no -> ranges, best first

Every candidate of the plan is asked about alone. Where the answer changes within a shot, the frame half way is asked
about too, as long as the budget lasts. So a range begins and ends where the answer changes, not at a candidate.
"""

from __future__ import annotations

import bisect
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m3video.errors import UsageError
from m3video.inference.evidence import rendered_note
from m3video.inference.session import VideoSession
from m3video.types import SCALES, TokenPlan, VideoInfo

FINE_SECONDS = 0.5
"""A border is not sought any closer."""

_SHARE_OF_CANDIDATES = 0.75
"""Of the budget; the rest is for borders."""


@dataclass(frozen=True, slots=True)
class AskedFrame:
    """A frame that the model was asked about; `nats`: by how much yes is likelier than no."""

    pts: int
    seconds: float
    shot: int
    nats: float


@dataclass(frozen=True, slots=True)
class FoundRange:
    """A time range in which it is seen.

    Attributes:
        start_seconds, end_seconds: as a player shows them.
        score: how sure the model is at its surest frame, 0.5 to 1; not calibrated.
        best_seconds: the time of that frame.
        frames: how many frames of the range were asked about.
    """

    start_seconds: float
    end_seconds: float
    score: float
    best_seconds: float
    frames: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found, and what it looked at.

    Attributes:
        video: what the file says.
        query: as it was given.
        question: what the model was asked.
        model: its name.
        ranges: best first; empty where it is seen nowhere.
        asked: every frame that was asked about, in order.
        widest_gap_seconds: the longest time between two of them: what is shorter may have been missed.
        scale: tokens of each frame.
        visual_tokens: of all of them together.
        seconds: what the search took.
        warnings: what to know of it.
    """

    video: VideoInfo
    query: str
    question: str
    model: str
    ranges: tuple[FoundRange, ...]
    asked: tuple[AskedFrame, ...]
    widest_gap_seconds: float
    scale: int
    visual_tokens: int
    seconds: float
    warnings: tuple[str, ...]


def find(session: VideoSession, query: str, **changes: Any) -> Found:
    """Search an open video; another query decodes nothing again but frames at borders.

    Args:
        session: the video.
        query: what is seen, as a noun phrase ("a red car"), or a question that ends with a question mark.
        changes: settings of the plan, as for `VideoSession.plan_details`; `budget` is for all frames together.

    Raises:
        UsageError: an empty query, or the model has no word for yes.
        VideoError: a frame cannot be decoded.
        DoesNotFitError: a prompt exceeds the context.
        M3VideoError: as for `VideoSession.plan_details`.
    """
    from m3video.model.m3.inputs import unknown_words_warning

    question = question_of(query)
    session.check_model()  # before the video is decoded
    began = time.perf_counter()
    details = session.plan_details(**changes)
    plan, budget = details.plan, details.plan.budget
    pts = [int(value) for value in details.selection.pts_N][:budget]
    scale = _scale(budget, len(pts))
    search = _Search(session, plan, question, scale)
    search.ask(pts)
    known = [int(value) for value in details.stats.pts_N]
    spare = budget // scale - len(pts)
    while spare > 0 and (borders := search.borders(known)[:spare]):
        search.ask(borders)
        spare -= len(borders)
    asked = search.asked
    times = [frame.seconds for frame in asked]
    ends = [plan.shots_seconds[0], *times, plan.shots_seconds[-1]]
    left_out = len(details.selection.pts_N) - len(pts)
    notes = (f"{left_out} candidates were not looked at: use a larger --budget",) if left_out else ()
    return Found(
        video=session.info,
        query=query,
        question=question,
        model=session.loaded.name,
        ranges=tuple(sorted(_ranges(asked, plan), key=lambda one: -one.score)),
        asked=tuple(asked),
        widest_gap_seconds=max(later - earlier for earlier, later in itertools.pairwise(ends)),
        scale=scale,
        visual_tokens=scale * len(asked),
        seconds=time.perf_counter() - began,
        warnings=(
            *plan.warnings,
            *session.loaded.warnings,
            *rendered_note(session.loaded, session.path),
            *unknown_words_warning(session.loaded, question),
            *notes,
        ),
    )


def question_of(query: str) -> str:
    """Return the yes/no question for what is sought.

    Raises:
        UsageError: an empty query.
    """
    text = " ".join(query.split())
    if not text.strip(" .?"):
        raise UsageError('the query is empty: say what is seen, e.g. "a red car"')
    return text if text.endswith("?") else f"Is there {text.rstrip('.')}?"


def _scale(budget: int, count: int) -> int:
    """Return the greatest scale at which the candidates leave something for borders; 1 where they leave nothing."""
    able = [scale for scale in SCALES if scale * count <= _SHARE_OF_CANDIDATES * budget]
    return max(able, default=SCALES[0])


class _Search:
    """The frames that were asked about so far."""

    def __init__(self, session: VideoSession, plan: TokenPlan, question: str, scale: int) -> None:
        self._session, self._plan, self._question, self._scale = session, plan, question, scale
        self._starts = [start for start, _ in plan.shots]
        self.asked: list[AskedFrame] = []

    def ask(self, pts: Sequence[int]) -> None:
        """Ask about more frames, each alone."""
        from m3video.model.m3 import pooling, yes_no

        wanted = sorted(pts)
        blocks = [pooling.pool(grid[None], self._scale)[0].clone() for grid in self._session.grids(wanted)]
        nats = yes_no.yes_nats(self._session.loaded, blocks, self._question)
        for one, value in zip(wanted, nats, strict=True):
            shot = max(0, bisect.bisect_right(self._starts, one) - 1)
            self.asked.append(AskedFrame(one, self._plan.video.pts_seconds(one), shot, value))
        self.asked.sort(key=lambda frame: frame.pts)

    def borders(self, known: Sequence[int]) -> list[int]:
        """Return the analyzed frames half way between a yes and a no of one shot, the surest yes first.

        Args:
            known: pts of the analyzed frames, increasing.
        """
        found: list[tuple[float, int]] = []
        for before, after in itertools.pairwise(self.asked):
            if before.shot != after.shot or (before.nats > 0) == (after.nats > 0):
                continue
            if after.seconds - before.seconds <= FINE_SECONDS:
                continue
            between = known[bisect.bisect_right(known, before.pts) : bisect.bisect_left(known, after.pts)]
            if between:
                middle = (before.pts + after.pts) / 2
                found.append((max(before.nats, after.nats), min(between, key=lambda pts: abs(pts - middle))))
        return [pts for _, pts in sorted(found, reverse=True)]


def _ranges(asked: Sequence[AskedFrame], plan: TokenPlan) -> Iterator[FoundRange]:
    """Yield the ranges of frames that follow each other and are a yes, in order of time.

    A range goes up to half way to a no of the same shot, and up to the border of its shot where the next frame is of
    another one.
    """
    edges = plan.shots_seconds
    start = 0
    while start < len(asked):
        if asked[start].nats <= 0:
            start += 1
            continue
        stop = start + 1
        while stop < len(asked) and asked[stop].nats > 0 and asked[stop].shot - asked[stop - 1].shot <= 1:
            stop += 1
        first, last = asked[start], asked[stop - 1]
        begin, end = edges[first.shot], edges[last.shot + 1]
        if start and asked[start - 1].shot == first.shot:
            begin = (asked[start - 1].seconds + first.seconds) / 2
        if stop < len(asked) and asked[stop].shot == last.shot:
            end = (asked[stop].seconds + last.seconds) / 2
        best = max(asked[start:stop], key=lambda frame: frame.nats)
        score = 1 / (1 + math.exp(-best.nats))
        yield FoundRange(min(begin, first.seconds), max(end, last.seconds), score, best.seconds, stop - start)
        start = stop
