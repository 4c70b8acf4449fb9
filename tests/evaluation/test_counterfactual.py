"""Evidence can be falsified: the answer follows the cited frames, and does not mind what others show."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from m3video.config import Settings
from m3video.evaluation.counterfactual import Swapped, swap_frames
from m3video.evaluation.footage_set import FootageSpec, make_footage_records
from m3video.evaluation.records import Record, is_right
from m3video.inference.session import VideoSession
from m3video.model.m3.checkpoint import LoadedModel

SPEC = FootageSpec(seed=11, clips=4, questions=14, lengths=((5, 8, 6),))
LEAST = 16


class Pair(NamedTuple):
    answer: str
    cited: Swapped
    others: Swapped


@pytest.fixture(scope="module")
def pairs(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Right answers to questions that name a moment, with cited frames replaced, and as many others."""
    folder: Path = tmp_path_factory.mktemp("clips")
    records = make_footage_records(SPEC, folder=folder)
    videos, found = sorted({record.video for record in records}), []
    for number, video in enumerate(videos):
        of_clip = [one for one in records if one.video == video and one.moment is not None]
        found += of_one(video, videos[number - 1], of_clip, loaded)
    return found


def of_one(video: str, other: str, records: list[Record], loaded: LoadedModel) -> list[Pair]:
    settings, found = Settings(model="rendered", budget=720, max_frames=16, cache=False), []
    with (
        VideoSession(video, settings, loaded=loaded) as session,
        VideoSession(other, settings, loaded=loaded) as strange,
    ):
        for record in records:
            answer = session.ask(record.question)
            evidence = answer.evidence
            assert evidence is not None
            if evidence.verdict != "cited" or not is_right(record, answer.text):
                continue
            cited = {pts for one in evidence.ranges for pts in one.pts}
            rest = [frame.pts for frame in answer.plan.frames if frame.pts not in cited]
            others = rest[:: max(1, len(rest) // len(cited))][: len(cited)]
            found.append(
                Pair(
                    answer.text,
                    swap_frames(session, answer, cited, strange),
                    swap_frames(session, answer, others, strange),
                )
            )
    return found


def test_the_answer_follows_the_cited_frames(pairs: list[Pair]) -> None:
    other_shown = [one for one in pairs if one.cited.foreign != one.answer]
    assert len(other_shown) >= LEAST
    changed = sum(one.cited.text != one.answer for one in other_shown)
    assert changed >= 0.8 * len(other_shown)


def test_the_answer_does_not_mind_other_frames(pairs: list[Pair]) -> None:
    assert len(pairs) >= LEAST
    assert sum(one.others.text != one.answer for one in pairs) <= 0.05 * len(pairs)


def test_where_both_clips_show_the_same_nothing_changes(pairs: list[Pair]) -> None:
    alike = [one for one in pairs if one.cited.foreign == one.answer]
    assert all(one.cited.text == one.answer for one in alike)
